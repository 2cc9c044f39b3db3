//! `deliverd smtp`.
pub mod client;
