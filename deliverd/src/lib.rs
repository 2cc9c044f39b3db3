//! The delivery agents: what takes a message the last step out of this machine or into a mailbox.
//!
//! | module | role |
//! | --- | --- |
//! | [`smtp`] | `deliverd smtp`: finds the next host and speaks SMTP to it |
//! | [`local`] | `deliverd local`: Maildir and mbox, as the receiving user |
//!
//! Both are workers of `queued`: they are handed each message as an open read-only file, answer each job once, and remember
//! nothing that must outlive them.

#![forbid(unsafe_code)]

pub mod local;
pub mod smtp;
