//! Delivery into mailboxes of this machine: Maildir and mbox, as the receiving user.

pub mod content;
pub mod pool;
pub mod template;
