//! The frames of `public/control`: what users' commands ask of `queued`. Who may ask what is decided by the peer's credentials:
//! anyone may list and ask how the queue is, only root and the spool's owner may change.
//!
//! One request a connection; the answers are zero or more [`Answer::Listed`], then one [`Answer::Done`], [`Answer::Refused`] or what was asked for.

use crate::id::QueueId;
use crate::layout::{Queue, Spool};
use crate::listing::Listed;
use crate::scan::{Found, scan};
use common::address::{Address, Domain, ReversePath};
use common::destination::Transport;
use common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::io;

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
    /// How is the queue?
    Status,
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
    /// How the queue is.
    Status(Box<QueueStatus>),
}

/// Most paused destinations in an answer.
pub const MAX_PAUSED: usize = 50;

/// How the queue is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Which Ironpost the queue manager is of.
    pub version: String,
    /// Since when it runs.
    pub since: Timestamp,
    /// Files by queue.
    pub counts: Counts,
    /// Deliveries under way.
    pub in_hand: u64,
    /// Which delivery agents are connected.
    pub agents: Vec<Transport>,
    /// Over the last minutes.
    pub lately: Lately,
    /// Destinations that nothing goes to for now, those that are tried first in front; at most [`MAX_PAUSED`].
    pub paused: Vec<Paused>,
    /// How many there are.
    pub paused_total: u64,
}

/// Files by queue, in the order of [`Queue::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts(pub [u64; 6]);

impl Counts {
    /// Counts names; the files are not looked at. Files that move meanwhile may be counted twice or not at all.
    pub fn of(spool: &Spool) -> io::Result<Self> {
        let mut counts = Self::default();
        for (queue, count) in Queue::ALL.into_iter().zip(&mut counts.0) {
            for found in scan(spool, queue) {
                // What is in corrupt/ may have any name.
                if matches!(found?, Found::Message { .. }) || queue == Queue::Corrupt {
                    *count += 1;
                }
            }
        }
        Ok(counts)
    }

    /// By queue.
    pub fn iter(&self) -> impl Iterator<Item = (Queue, u64)> {
        Queue::ALL.into_iter().zip(self.0)
    }
}

/// What happened over the last minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lately {
    /// Over how many minutes.
    pub minutes: u32,
    /// Messages taken in.
    pub received: u64,
    /// Recipients whose delivery was done …
    pub delivered: u64,
    /// … put off …
    pub deferred: u64,
    /// … or failed for good.
    pub failed: u64,
}

/// A destination that nothing goes to for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// How and where to, as `transport:nexthop`, and whose mailbox.
    pub destination: String,
    /// When it is tried next; absent: it is being tried.
    pub until: Option<Timestamp>,
    /// What the last attempt came to; printable.
    pub reason: String,
}
