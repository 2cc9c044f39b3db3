//! What the owner of the queue is told, by whom.

use super::Tally;
use super::status::Known;
use crate::disk::Done;
use crate::dispatch::Worker;
use crate::scheduler::{JobId, Source, WorkerId};
use common::destination::Transport;
use common::signals::Signal;
use common::status::Status;
use spool::control::Verb;
use spool::id::QueueId;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

/// What a worker says of a job.
#[derive(Debug)]
pub struct Answered {
    /// What came of it, per recipient.
    pub results: Vec<(u32, Status)>,
    /// Could the destination be reached?
    pub reached: bool,
    /// For whom the next host takes over what NOTIFY asks for.
    pub handed_over: Vec<u32>,
}

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// Messages were found or appeared.
    Arrived(Vec<(QueueId, Source)>),
    /// Files appeared in `maildrop/`.
    Submitted(Vec<QueueId>),
    /// A file with a name that is no message's.
    Stray(PathBuf),
    /// The scan at the start is over.
    Scanned,
    /// A file thread ended a task.
    Done(Done),
    /// A worker said hello.
    WorkerCame {
        /// Its number.
        id: WorkerId,
        /// How to reach it.
        worker: Worker,
        /// What it delivers by.
        transport: Transport,
        /// How many jobs it can hold.
        capacity: usize,
    },
    /// A worker's connection ended.
    WorkerWent(WorkerId),
    /// A worker answered a job.
    Answer {
        /// Who.
        worker: WorkerId,
        /// Which.
        job: JobId,
        /// What came of it.
        answer: Answered,
    },
    /// A job could not be handed over because its file could not be opened.
    Unsent {
        /// To whom.
        worker: WorkerId,
        /// Which.
        job: JobId,
        /// Why.
        error: io::Error,
    },
    /// An admin wants something done to these messages; the answer is what came of it.
    Change {
        /// What.
        verb: Verb,
        /// To which.
        ids: Vec<QueueId>,
        /// Where the answer goes.
        reply: SyncSender<Tally>,
    },
    /// Somebody asks how the queue is.
    Status(SyncSender<Known>),
    /// From the operating system.
    Signal(Signal),
}
