//! The frames between `deliverd local` and its children, over a socket pair ([`common::packet`]).
//!
//! The first frame makes the child somebody; then it is given one task after another, each with the
//! message's file attached, and answers each. A closed socket ends it. Parent and child are always of one
//! build: the child is the parent's own executable.

use super::template::{Kind, MailboxPath};
use common::address::{Address, ReversePath};
use common::status::Status;
use common::time::Timestamp;
use serde::{Deserialize, Serialize};
use spool::envelope::ContentFacts;

/// Longest frame, in octets: paths and addresses are bounded far below.
pub const MAX_FRAME: usize = 32 * 1024;

/// Who a child becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Another group, which lets it lock mailboxes in a folder that this group may write to; never group 0.
    pub mail_group: Option<u32>,
}

/// From the parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToChild {
    /// First of all. `None`: stay who you are (the parent is not root).
    Become {
        /// Whom.
        owner: Option<Owner>,
        /// This host's name, for the names of messages.
        hostname: String,
    },
    /// Deliver this.
    Deliver(Box<Task>),
}

/// One message for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Repeated in the answer.
    pub number: u64,
    /// Sender.
    pub sender: ReversePath,
    /// As the client named the recipient.
    pub original: Address,
    /// The recipient.
    pub recipient: Address,
    /// Where to.
    pub mailbox: MailboxPath,
    /// As what.
    pub kind: Kind,
    /// Where in the file the content begins.
    pub content_offset: u64,
    /// What the content is like.
    pub content: ContentFacts,
    /// Waiting for locks ends before that.
    pub deadline: Timestamp,
}

/// From the child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromChild {
    /// A task is over.
    Done(Answer),
    /// The child cannot work and ends, with the reason.
    Unable(String),
}

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The task's number.
    pub number: u64,
    /// What came of it.
    pub status: Status,
    /// Should an operator look at this at once?
    pub alert: bool,
    /// Was the mailbox locked by another program for longer than a delivery waits?
    pub locked: bool,
}
