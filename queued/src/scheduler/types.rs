//! What goes into the scheduler and what comes out of it.

use super::WorkerId;
use super::backoff::Backoff;
use super::destinations::{JobId, Lane};
use common::status::Status;
use common::time::Timestamp;
use spool::id::QueueId;
use std::time::Duration;

/// What the administrator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// Most jobs at once for a lane.
    pub concurrency: u32,
    /// Most recipients in a job; at most [`spool::dispatch::MAX_RECIPIENTS`] are used.
    pub recipients: u32,
    /// Most messages in memory.
    pub active_limit: usize,
    /// Most recipients in memory, all messages together; passed by at most [`super::MAX_LOADING`] messages.
    pub recipient_limit: usize,
}

impl Settings {
    /// How long a lane is throttled: as long as the shortest retry, so that the message that met the failure can be the probe.
    pub(super) fn throttle_pause(&self) -> Duration {
        self.backoff.first_retry / 10 * 9
    }
}

/// Where a message's file lies while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `incoming/`: nobody has looked at it yet.
    Incoming,
    /// `active/`: left there by an earlier process, or just released.
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

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bring this message into `active/` and read it; then say `loaded`, `postpone` or `forget`.
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
        lane: Lane,
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
    /// Every job of this attempt has ended; then say `defer` or `forget`.
    Attempted(QueueId),
}
