//! The frames of `public/control`: what users' commands ask of `queued`. Who may ask what is decided by the peer's credentials:
//! anyone may list, only root and the spool's owner may change.
//!
//! One request a connection; the answers are zero or more [`Answer::Listed`], then one [`Answer::Done`] or [`Answer::Refused`].

use crate::id::QueueId;
use crate::layout::Queue;
use crate::listing::Listed;
use common::address::{Address, Domain, ReversePath};
use serde::{Deserialize, Serialize};

/// Most IDs in one request; a command with more asks several times.
pub const MAX_IDS: usize = 1000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Which messages are there?
    List(Selection),
    /// Do this to the selected messages.
    Change {
        /// What to do.
        verb: Verb,
        /// To which messages.
        selection: Selection,
    },
    /// Take the queue file attached as a descriptor, written by the peer, as a local submission.
    Submit,
}

/// What an admin does to queued mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// Try it now (a held message stays held).
    Retry,
    /// Remove it without a notification.
    Delete,
    /// Keep it until released.
    Hold,
    /// Let a held message go on.
    Release,
}

/// Which messages: all conditions must hold; none at all selects every message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// One of these; empty: any.
    pub ids: Vec<QueueId>,
    /// From this sender.
    pub sender: Option<ReversePath>,
    /// With this recipient outstanding.
    pub recipient: Option<Address>,
    /// With a recipient in this domain outstanding.
    pub domain: Option<Domain>,
    /// Arrived at least so many seconds ago.
    pub older_than: Option<u64>,
    /// In this queue.
    pub queue: Option<Queue>,
    /// A delay reason contains this text.
    pub reason: Option<String>,
}

/// What queued answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// One message.
    Listed(Box<Listed>),
    /// The end: what became of the selected messages.
    Done {
        /// How many were listed or changed.
        count: u64,
        /// Named but not found.
        missing: Vec<QueueId>,
        /// How many could not be changed, because the file system did not let queued; its log says why.
        failed: u64,
    },
    /// The submission is on stable storage under this ID.
    Submitted(QueueId),
    /// Not done.
    Refused {
        /// A sysexits(3) code.
        exit: u8,
        /// Why; printable.
        text: String,
    },
}
