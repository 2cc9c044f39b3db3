//! Ironpost's queue manager.

pub mod bounce;
pub mod message;
pub mod scheduler;
