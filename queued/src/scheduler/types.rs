//! What goes into the scheduler and what comes out of it.

use super::backoff::Backoff;
use super::destinations::{Lane, Pauses};
use super::limits::Limits;
use super::{JobId, WorkerId};
use crate::message::Lifetimes;
use common::status::Status;
use common::time::Timestamp;
use spool::id::QueueId;
use std::sync::Arc;
use std::time::Duration;

/// What the administrator chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// How long mail is tried.
    pub lifetimes: Lifetimes,
    /// What destinations may have.
    pub limits: Limits,
    /// Most messages in memory.
    pub active_limit: usize,
    /// Most recipients in memory, all messages together: half of it for messages of up to [`super::LARGE`] recipients (passed by
    /// at most [`super::MAX_LOADING`] messages), half of it for larger ones (passed by one).
    pub recipient_limit: usize,
}

/// A probe of a destination that is down comes after a minute at first.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

impl Settings {
    /// How long lanes are throttled: a tenth shorter than the retries, so that the message that met the failure can be the probe.
    pub(super) fn pauses(&self) -> Pauses {
        let first = FIRST_PAUSE.min(self.backoff.first_retry / 10 * 9);
        Pauses {
            first,
            longest: (self.backoff.max_retry / 10 * 9).max(first),
            memory: self.backoff.max_retry.saturating_mul(2),
        }
    }
}

/// What the scheduler has to know of a message that was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// When it was accepted.
    pub arrived: Timestamp,
    /// Is it from the null sender?
    pub null_sender: bool,
    /// How many recipients it has, all states counted: they are in memory.
    pub recipients: usize,
}

/// Where a message's file lies while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `incoming/`: new.
    Incoming,
    /// `active/`: left there by an earlier process, or just released; or let go when there was no room, then perhaps in `incoming/` still.
    Active,
    /// `deferred/`: tried before. The time stands in the file's name.
    Deferred(Timestamp),
}

/// A message's recipients for one lane, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Where they go.
    pub lane: Lane,
    /// Who they are.
    pub recipients: Vec<u32>,
}

/// A job that has come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The message.
    pub id: QueueId,
    /// Where to.
    pub lane: Arc<Lane>,
    /// For whom.
    pub recipients: Vec<u32>,
    /// Was the message forgotten while the job was out? What is known under its ID by now, if anything, is another attempt, with jobs of its own.
    pub orphan: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bring this message into memory; then say `loaded`, `postpone` or `forget`.
    Load(QueueId, Source),
    /// Hand this job to this worker.
    Dispatch {
        /// To whom.
        worker: WorkerId,
        /// Its number, to be repeated in `answered`.
        job: JobId,
        /// The message.
        id: QueueId,
        /// Where to.
        lane: Arc<Lane>,
        /// For whom.
        recipients: Vec<u32>,
    },
    /// These recipients are deferred without an attempt.
    Suspend {
        /// The message.
        id: QueueId,
        /// Who.
        recipients: Vec<u32>,
        /// Why.
        reason: Status,
    },
    /// This worker need not go on with this job.
    Cancel(WorkerId, JobId),
    /// Every job of this attempt has ended; then say `postpone` or `forget`.
    Attempted(QueueId),
}
