//! Commits small messages of many sessions together: one thread, which takes whatever has come while it was at the disk.
//!
//! A group is appended to the log and synced once; then each message gets its file and its name, and whoever waits for it is told. When the
//! log cannot take them, each message comes back to its session, to be committed as a file.

use super::Geometry;
use super::segment::{Log, QUIET};
use crate::id::QueueId;
use crate::layout::Spool;
use crate::writer::{IN_MEMORY, MessageWriter};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most octets in one group.
const GROUP: usize = 1 << 20;

/// What came of a commit.
#[derive(Debug)]
pub enum Commit {
    /// On stable storage, under this name.
    Done(QueueId),
    /// Not done: commit it as a file, on a thread that may block.
    AsFile(Box<MessageWriter>),
    /// It could not be written.
    Failed(io::Error),
}

type Prepare = Box<dyn FnOnce() -> io::Result<Box<MessageWriter>> + Send>;
type Told = Box<dyn FnOnce(Commit) + Send>;

/// The thread, and what waits for it. It ends with the process.
#[derive(Debug, Clone)]
pub struct Committer {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

#[derive(Default)]
struct Waiting {
    messages: Vec<(Prepare, Told)>,
    idle: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Committer {
    /// Starts the thread. `boot`: this boot's name ([`super::boot_id`]).
    pub fn start(spool: Spool, geometry: Geometry, boot: String) -> io::Result<Self> {
        Self::with(Log::new(spool, geometry, boot, QUIET))
    }

    pub(super) fn with(mut log: Log) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = shared.clone();
        std::thread::Builder::new().name("commit".into()).spawn(move || {
            loop {
                let Some(group) = next_group(&thread, log.patience()) else {
                    log.rest();
                    continue;
                };
                // What a message's own code does is guarded apart; this is for everything else.
                if catch_unwind(AssertUnwindSafe(|| commit(&mut log, group))).is_err() {
                    common::error!("bug: the commit of a group ended by a panic; its messages are refused");
                }
            }
        })?;
        Ok(Self { shared })
    }

    /// Hands a message over. `prepare` makes it, on the thread, and must be quick; `told` hears what came of it and must not block. Dropped without
    /// being called, it has failed.
    pub fn commit(
        &self,
        prepare: impl FnOnce() -> io::Result<Box<MessageWriter>> + Send + 'static,
        told: impl FnOnce(Commit) + Send + 'static,
    ) {
        let mut waiting = self.shared.lock();
        waiting.messages.push((Box::new(prepare), Box::new(told)));
        let wake = std::mem::take(&mut waiting.idle);
        drop(waiting);
        if wake {
            self.shared.more.notify_one();
        }
    }
}

/// `None`: nothing has come for so long.
fn next_group(shared: &Shared, patience: Option<Duration>) -> Option<Vec<(Prepare, Told)>> {
    let mut waiting = shared.lock();
    while waiting.messages.is_empty() {
        waiting.idle = true;
        let Some(patience) = patience else {
            waiting = shared.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let (back, waited) =
            shared.more.wait_timeout(waiting, patience).unwrap_or_else(PoisonError::into_inner);
        waiting = back;
        if waited.timed_out() && waiting.messages.is_empty() {
            return None;
        }
    }
    waiting.idle = false;
    Some(std::mem::take(&mut waiting.messages))
}

fn commit(log: &mut Log, group: Vec<(Prepare, Told)>) {
    let mut ready: Vec<(Box<MessageWriter>, Told)> = Vec::with_capacity(group.len());
    let mut octets = 0;
    for (prepare, told) in group {
        let made = catch_unwind(AssertUnwindSafe(prepare))
            .unwrap_or_else(|_| Err(io::Error::other("ended by a panic")))
            .and_then(|mut writer| writer.seal().map(|small| (writer, small)));
        match made {
            Ok((writer, true)) => {
                octets += writer.image().len();
                ready.push((writer, told));
                if octets >= GROUP {
                    finish(log, std::mem::take(&mut ready));
                    octets = 0;
                }
            }
            Ok((writer, false)) => told(Commit::AsFile(writer)),
            Err(error) => told(Commit::Failed(error)),
        }
    }
    finish(log, ready);
}

fn finish(log: &mut Log, group: Vec<(Box<MessageWriter>, Told)>) {
    if group.is_empty() {
        return;
    }
    let images: Vec<_> = group.iter().map(|(writer, _)| (writer.id(), writer.image())).collect();
    debug_assert!(images.iter().all(|(_, image)| image.len() <= IN_MEMORY));
    let logged = log.append(&images);
    let mut refused = Vec::new();
    for (writer, told) in group {
        let id = writer.id();
        if !logged {
            told(Commit::AsFile(writer));
            continue;
        }
        match writer.link_logged() {
            Ok(id) => told(Commit::Done(id)),
            Err(error) => refused.push((id, error, told)),
        }
    }
    take_back(log, &refused);
    for (_, error, told) in refused {
        told(Commit::Failed(error));
    }
}

/// Who sent these will send them again: before that is said, the log is told not to bring them back after a power cut. A name that is taken is another
/// message's, and that one may need its record.
fn take_back(log: &mut Log, refused: &[(QueueId, io::Error, Told)]) {
    let ours = refused.iter().filter(|(_, error, _)| error.kind() != io::ErrorKind::AlreadyExists);
    let void: Vec<_> = ours.map(|(id, _, _)| (*id, &[][..])).collect();
    if !void.is_empty() && !log.append(&void) {
        common::warn!(
            "commit log: {} messages that are refused may be delivered all the same after a power cut",
            void.len()
        );
    }
}
