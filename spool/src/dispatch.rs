//! The frames between `queued` and its delivery agents, over `private/dispatch` ([`common::packet`]).
//!
//! A worker connects, says [`FromWorker::Hello`] with its transport and how many jobs it can hold, and is given jobs, each
//! with the message as one open read-only file. It answers each job once, with [`FromWorker::Done`]. A worker that goes away gives all its jobs back.
//! The frames are hints and hand-overs: nothing in them outlives either process.

use crate::envelope::{Body, ContentFacts};
use crate::id::QueueId;
use common::address::{Address, ReversePath};
use common::destination::{Nexthop, Transport};
use common::dsn::{MessageDsn, RecipientDsn};
use common::packet::MAX_PACKET;
use common::status::Status;
use common::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Raised whenever a frame changes: daemons of two builds refuse to talk instead of misunderstanding each other.
pub const VERSION: u32 = 3;
/// Most recipients in a job: with [`common::status::MAX_STATUS_TEXT`] and the longest addresses, job and answer fit into a packet.
pub const MAX_RECIPIENTS: usize = 50;
/// Limit for decoding a frame.
pub const MAX_FRAME: usize = MAX_PACKET;

/// From queued to a worker.
#[allow(clippy::large_enum_variant, reason = "taken apart as soon as it is decoded, never kept")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Deliver this. The message's file is attached to the packet.
    Job(Job),
    /// Stop working on this job as soon as possible and answer it (a message was deleted, or its time is over).
    Cancel(u64),
}

/// A message's share for one destination: one batch of recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Names the job on this connection.
    pub number: u64,
    /// For the log.
    pub queue_id: QueueId,
    /// Sender.
    pub sender: ReversePath,
    /// 1 to [`MAX_RECIPIENTS`].
    pub recipients: Vec<JobRecipient>,
    /// Where to.
    pub nexthop: Nexthop,
    /// What MAIL said about the body.
    pub body: Body,
    /// What MAIL said about notifications; for a next host that offers DSN.
    pub dsn: MessageDsn,
    /// Where in the file the content begins.
    pub content_offset: u64,
    /// What the content is like.
    pub content: ContentFacts,
    /// When the message was accepted.
    pub arrived: Timestamp,
    /// When this attempt began: the message was loaded; with `dispatched` the first two numbers of `delays=`.
    pub activated: Timestamp,
    /// When this job was handed out.
    pub dispatched: Timestamp,
    /// The whole attempt must be over by then.
    pub deadline: Timestamp,
}

/// A recipient in a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecipient {
    /// Its number in the message, repeated in the answer.
    pub index: u32,
    /// Where it goes.
    pub address: Address,
    /// As the client named it, when that differs.
    pub original: Option<Address>,
    /// What RCPT said about notifications.
    pub dsn: RecipientDsn,
}

/// From a worker to queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// First frame of a connection.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// What it delivers by.
        transport: Transport,
        /// How many jobs it can hold at once, 1 to 10,000.
        capacity: u32,
    },
    /// The answer to a job: a status for each of its recipients.
    Done {
        /// The job's number.
        number: u64,
        /// `(index, status)`; a recipient that is missing counts as deferred.
        results: Vec<(u32, Status)>,
        /// False when no connection to the destination could be made: it shrinks the destination's window.
        reached: bool,
        /// Those of the delivered ones for whom the next host takes over what NOTIFY asks for (RFC 3461 5.2.1): it offers DSN.
        handed_over: Vec<u32>,
    },
}
