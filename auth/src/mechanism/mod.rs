//! The messages of the mechanisms. Pure: octets in, what they say out.

pub mod bearer;
pub mod plain;
pub mod scram;
