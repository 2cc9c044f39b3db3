//! `deliverd smtp`.
pub mod client;
pub mod latency;
pub mod random;
pub mod resolve;
