//! File work: a few threads that load, settle, pick up and change messages, and report back.
//!
//! The thread that owns the queue gives out [`Task`]s and never touches a file itself; it gives out at most one task for a message at a time, so that tasks never
//! meet at a file. Each task ends in exactly one [`Done`], also when it panics. No error of the file system ends anything but its task.

mod corrupt;
mod deliver_here;
mod load;
mod notify;
mod one_each;
mod pickup;
mod pool;
mod rename;
mod settle;
mod submission;
mod turns;
mod writable;

pub use load::{Loaded, Ready};
use one_each::OneEach;
pub use pool::Pool;
pub use settle::{Settle, Settled};

use crate::bounce::Texts;
use crate::message::{Lifetimes, Step};
use crate::scheduler::Source;
use common::address::Domain;
use common::config::Config;
use common::tables::Tables;
use common::time::Timestamp;
use spool::commit_log::Keeper;
use spool::control::Verb;
use spool::group_sync::GroupSync;
use spool::id::QueueId;
use spool::journal::Entry;
use spool::layout::{OWN_MODE, Queue, Spool};
use spool::queue_file::{QueueFile, QueueFileError};
use spool::storage::Folder;
use spool::writer::Spooler;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use writable::Writable;

/// Where the file of a message in memory lies, and which it is.
///
/// In `incoming/` smtpd has a hand, too: had somebody broken into it, he could put another file there after ours has been read, such as another message, to
/// have that sent to him. So before a file is used again it is looked at whether it is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// `active/`, or still `incoming/`.
    pub queue: Queue,
    /// As it was when it was read.
    pub inode: u64,
}

impl Place {
    /// `InvalidData` when it is another file than the one that was read.
    pub fn check(self, file: &Metadata) -> io::Result<()> {
        if file.is_file() && file.ino() == self.inode {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "another file lies where the message was"))
    }
}

/// What can be asked for.
#[derive(Debug)]
pub enum Task {
    /// Bring a message into memory: read it, expand and route it.
    Load(QueueId, Source),
    /// An attempt is over: write down what came of it and move the file on.
    Settle(Box<Settle>),
    /// Append these facts, if any, to a message in memory, without waiting for the disk. If it lies in `incoming/` still, it goes to `active/` first.
    Journal(QueueId, Place, Vec<Entry>),
    /// Copy a local submission out of `maildrop/`.
    PickUp(QueueId),
    /// Do what an admin asked for. The message is not in memory any more.
    Change(QueueId, Verb),
    /// An outcome of a message that is not in memory any more: write it down where the message lies now, if anywhere.
    Late(QueueId, Vec<Entry>),
    /// A name that belongs to no message: out of the way.
    SetAside(PathBuf),
}

/// What came of a task.
#[derive(Debug)]
pub enum Done {
    /// Of [`Task::Load`].
    Load(QueueId, Source, Loaded),
    /// Of [`Task::Settle`].
    Settle(QueueId, Settled),
    /// Of [`Task::Journal`]: where it lies now; the entries come back when they could not be written.
    Journal(QueueId, Place, Vec<Entry>),
    /// Of [`Task::PickUp`].
    PickUp(QueueId, Picked),
    /// Of [`Task::Change`]: was the message there, and where does it lie now?
    Change(QueueId, Changed),
    /// Of the others: nothing that the queue needs to know.
    Other,
}

/// What came of a local submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picked {
    /// It lies in `incoming/` under this ID, and no longer in `maildrop/`.
    Taken(QueueId),
    /// It was not there, or is out of the way now.
    Gone,
    /// To be tried again later.
    Later,
}

/// What came of an admin's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Done; nothing is left to do.
    Done,
    /// Done; the message lies in `active/` and wants to be tried.
    Active,
    /// There is no such message (or, for a release, none in `hold/`).
    NotFound,
    /// The file system did not let us.
    Failed,
}

/// What tasks work with; replaced as a whole on reload.
#[derive(Debug)]
pub struct Settings {
    /// This machine.
    pub hostname: Domain,
    /// Where the postmaster is.
    pub mail_name: Domain,
    /// How long mail is tried.
    pub lifetimes: Lifetimes,
    /// When the sender is told that mail is late; zero: never.
    pub delay_warning: Duration,
    /// Largest message that comes back whole, in octets.
    pub bounce_size_limit: u64,
    /// Largest local submission, in octets; 0 for no limit.
    pub message_size_limit: u64,
    /// The words of notifications.
    pub texts: Texts,
    /// For expansion and routing.
    pub tables: Tables,
}

impl Settings {
    /// Those of a configuration.
    pub fn new(config: &Config, tables: Tables, texts: Texts) -> Self {
        Self {
            hostname: config.hostname.clone(),
            mail_name: config.mail_name.clone(),
            lifetimes: Lifetimes {
                lifetime: config.queued.lifetime.0,
                bounce_lifetime: config.queued.bounce_lifetime.0,
            },
            delay_warning: config.queued.delay_warning.0,
            bounce_size_limit: config.queued.bounce_size_limit.0,
            message_size_limit: config.smtpd.message_size_limit.0,
            texts,
            tables,
        }
    }
}

/// The spool and how to work with it.
#[derive(Debug)]
pub struct Disk {
    spool: Spool,
    incoming: Spooler,
    /// Shares the syncs of `active/`.
    active: GroupSync,
    log: Keeper,
    /// Messages whose journals are being written.
    written: OneEach,
    writable: Writable,
    settings: RwLock<Arc<Settings>>,
}

impl Disk {
    /// Opens the spool, whose folders exist and whose commit log is open.
    pub fn open(spool: Spool, log: Keeper, settings: Settings) -> io::Result<Self> {
        let incoming =
            Spooler::open_on(spool.storage().clone(), &spool.directory(Queue::Incoming), OWN_MODE)?;
        let active = Arc::new(Folder::open(&spool.directory(Queue::Active))?);
        let active = GroupSync::new(spool.storage().clone(), active);
        Ok(Self {
            spool,
            incoming,
            active,
            log,
            written: OneEach::default(),
            writable: Writable::default(),
            settings: RwLock::new(Arc::new(settings)),
        })
    }

    /// What the commit log wants now and then.
    pub fn tend_log(&self) -> io::Result<()> {
        self.log.tend()
    }

    /// The last word to it: what has left the queue.
    pub fn close_log(&self) -> io::Result<()> {
        self.log.close()
    }

    /// Where everything lies.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the settings.
    pub fn set(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Does one task.
    pub fn run(&self, task: Task) -> Done {
        match task {
            Task::Load(id, source) => {
                let loaded = guarded(|| load::load(self, id, source, Timestamp::now()));
                Done::Load(id, source, loaded.unwrap_or(Loaded::Later(Source::Active)))
            }
            Task::Settle(work) => {
                let id = work.message.id;
                let settled = guarded(|| settle::settle(self, *work, Timestamp::now()));
                Done::Settle(id, settled.unwrap_or(Settled::Lost))
            }
            Task::Journal(id, mut place, entries) => {
                let written = guarded(|| self.append(id, &mut place, &entries, false));
                if let Some(Err(error)) = &written {
                    common::error!(
                        "{id}: cannot be written to: {error}; tried again when its attempt is over"
                    );
                }
                let left = if matches!(written, Some(Ok(()))) { Vec::new() } else { entries };
                Done::Journal(id, place, left)
            }
            Task::PickUp(id) => {
                let picked = guarded(|| pickup::pick_up(self, id, Timestamp::now()));
                Done::PickUp(id, picked.unwrap_or(Picked::Later))
            }
            Task::Change(id, verb) => {
                let changed = guarded(|| rename::change(self, id, verb, Timestamp::now()));
                Done::Change(id, changed.unwrap_or(Changed::Failed))
            }
            Task::Late(id, entries) => {
                guarded(|| rename::note_late(self, id, &entries));
                Done::Other
            }
            Task::SetAside(path) => {
                guarded(|| corrupt::set_aside(self, &path, "not the name of a message"));
                Done::Other
            }
        }
    }

    /// A message that stays goes from `incoming/`, where it may lie still, to `active/`, where nobody but queued has a hand.
    fn settle_in(&self, id: QueueId, place: &mut Place) -> io::Result<()> {
        if place.queue == Queue::Incoming {
            let to = self.spool.path(Queue::Active, id);
            self.spool.storage().rename(&self.spool.path(Queue::Incoming, id), &to)?;
            place.queue = Queue::Active;
            if let Err(error) = place.check(&fs::symlink_metadata(&to)?) {
                corrupt::set_aside(self, &to, &error.to_string());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Appends to the journal of a message in memory, which stays therefore.
    fn append(&self, id: QueueId, place: &mut Place, entries: &[Entry], sync: bool) -> io::Result<()> {
        self.settle_in(id, place)?;
        if entries.is_empty() {
            return Ok(());
        }
        self.append_to(id, &self.spool.path(Queue::Active, id), entries, sync)
    }

    /// Appends to the journal of this message's file.
    fn append_to(&self, id: QueueId, path: &Path, entries: &[Entry], sync: bool) -> io::Result<()> {
        // An outcome that comes late is written beside whatever else is done with its message. (No lock on the file: agents have it open, and could hold one.)
        let _alone = self.written.begin(id);
        let file = QueueFile::open_for_update(path).map_err(|error| match error {
            QueueFileError::Io(error) => error,
            damaged => io::Error::new(io::ErrorKind::InvalidData, damaged),
        })?;
        let (mut journal, _) = file.journal()?;
        journal.append(&**self.spool.storage(), file.file(), entries, sync)
    }

    /// Takes a submission handed over as an open file, on behalf of this user. On return it is on stable storage.
    pub fn submit(&self, file: File, uid: u32) -> Result<QueueId, NotTaken> {
        pickup::submit(self, file, uid, Timestamp::now())
    }
}

/// Why a submission was not taken.
#[derive(Debug)]
pub struct NotTaken {
    /// Trying again may help.
    pub temporary: bool,
    /// For whoever submitted it.
    pub text: String,
}

/// `None` when it panicked; the panic is in the log then.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

impl Task {
    /// Is it done in microseconds unless the disk is in the way? One thread does all of these; each of the others may
    /// take its time (content is read or copied, something is synced) and holds up nothing.
    fn is_quick(&self) -> bool {
        match self {
            Self::Load(_, Source::Incoming) => true,
            Self::Journal(_, _, entries) => entries.is_empty(),
            Self::Settle(work) => work.failures == 0 && work.message.next_step() == Step::Remove,
            _ => false,
        }
    }
}
