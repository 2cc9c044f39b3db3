//! A message between DATA and its commit: content goes into a queue file, in `incoming/`, on threads that may
//! block.
//!
//! Small messages are committed together through the commit log, on a thread that all share; without it, each costs one visit to a thread
//! where its file is made, written and committed. Larger ones are written as they come, a buffer at a time: while one is written the next one fills, and then
//! waits for it, so memory is bounded. An error on the way is kept and becomes the answer after the end of data. A message that is dropped leaves nothing behind.

use crate::mend::{Mender, Missing};
use crate::policy::room_to_write;
use crate::received::{Way, received};
use crate::session::reply::{NO_SPACE, Reply, WRITE_ERROR};
use crate::session::{Client, MessageStart};
use common::address::{Domain, ReversePath};
use common::time::Timestamp;
use nix::errno::Errno;
use spool::commit_log::{Commit, Committer};
use spool::envelope::{Envelope, Origin};
use spool::id::QueueId;
use spool::layout::Spool;
use spool::pressure::{self, Pressure};
use spool::writer::{MessageWriter, Spooler};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};

/// Messages whose files are worked on at the same time. A thread each, mostly waiting for a shared sync; who
/// comes later waits for a turn, and its client with it.
pub const WRITERS: usize = 64;

/// The file system is asked for its free space no more often than this: many messages come within it, and the reserve is far larger than
/// what others write meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// When so many octets more are in the file it is synced, while others come.
const SYNC_EVERY: u64 = 2 << 20;

/// Content is passed on to the file in portions of this many octets …
const PORTION: usize = spool::writer::IN_MEMORY;
/// … and of so many once it is a large message, as long as no more than [`LARGE`] have come to that at the same time: each is a hand-over to another
/// thread.
const LARGE_PORTION: usize = 4 * PORTION;
/// See there: for 16 MiB, as one portion is written while the next one comes.
const LARGE: usize = 32;

/// A message that is coming in.
#[derive(Debug)]
pub struct Incoming {
    origin: Arc<Begin>,
    state: State,
    mender: Option<Mender>,
    pending: Vec<u8>,
    /// Room that is not needed at the moment.
    spare: Vec<u8>,
    /// Of a large message, what is in the file already goes to stable storage while the rest comes.
    syncing: Option<Work<()>>,
    /// So many octets are there, or on their way there.
    synced: u64,
    /// Its portions are large.
    large: Option<OwnedSemaphorePermit>,
}

/// How messages of a session are written down; what is not for clients that have logged in is for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// Is what their header lacks added?
    pub mend: bool,
    /// Does `Received` keep to itself from where they have come?
    pub hide_client: bool,
    /// Does it name who has logged in?
    pub show_login: bool,
}

/// What is needed to begin the file.
#[derive(Debug)]
struct Begin {
    start: MessageStart,
    client: Client,
    hostname: Domain,
    manner: Manner,
    store: Arc<Store>,
    /// Set when the file is begun.
    id: OnceLock<QueueId>,
}

/// Where messages go: one for the process.
#[derive(Debug)]
pub struct Store {
    spooler: Spooler,
    spool: PathBuf,
    turns: Arc<Semaphore>,
    large: Arc<Semaphore>,
    pressure: Pressure,
    log: Option<Committer>,
    room: Mutex<Room>,
}

/// What the file system had free when it was last asked, less what has been written since.
#[derive(Debug, Default)]
struct Room {
    seen: Option<Instant>,
    free: Option<u64>,
}

fn free_in(folder: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(folder).ok()?;
    if stat.files() > 0 && stat.files_available() == 0 {
        return Some(0);
    }
    stat.blocks_available().checked_mul(stat.fragment_size())
}

impl Store {
    /// Puts messages into a folder of `spool`; small ones through the commit log, if there is one.
    pub fn new(spooler: Spooler, spool: &Spool, log: Option<Committer>) -> Self {
        Self {
            spooler,
            spool: spool.root().to_owned(),
            turns: Arc::new(Semaphore::new(WRITERS)),
            large: Arc::new(Semaphore::new(LARGE)),
            pressure: Pressure::new(spool),
            log,
            room: Mutex::default(),
        }
    }

    /// What may still be written, in octets; `None` when it cannot be told. A file system without free inodes
    /// has no room. What others have written in the last moment may be missing.
    pub fn free(&self) -> Option<u64> {
        self.room().free
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if room.seen.is_none_or(|seen| seen.elapsed() >= LOOK_EVERY) {
            *room = Room { seen: Some(Instant::now()), free: free_in(&self.spool) };
        }
        room
    }

    /// Messages leave a reserve: on a disk that is full to the brim queued could not even write what has
    /// become of them.
    fn check_room(&self, length: usize) -> io::Result<()> {
        let mut room = self.room();
        if !room_to_write(length, room.free) {
            return Err(Errno::ENOSPC.into());
        }
        let taken = u64::try_from(length).unwrap_or(u64::MAX);
        room.free = room.free.map(|free| free.saturating_sub(taken));
        Ok(())
    }

    /// When queued has more new mail than it can take, a message takes its time, and a turn meanwhile: so few come in as there are turns, however many
    /// sessions there are.
    async fn give_way(&self) {
        if self.pressure.is_high()
            && let Ok(_turn) = self.turns.acquire().await
        {
            tokio::time::sleep(pressure::DELAY).await;
        }
    }

    /// Commits a small message together with those of other sessions; `Err`: it has to be done another way.
    async fn commit_together(
        log: &Committer,
        prepare: impl FnOnce() -> io::Result<Box<MessageWriter>> + Send + 'static,
    ) -> Result<io::Result<QueueId>, Box<MessageWriter>> {
        let (told, hear) = oneshot::channel();
        log.commit(prepare, move |came| {
            // Whoever asked may have gone; the message stays.
            let _ = told.send(came);
        });
        match hear.await {
            Ok(Commit::Done(id)) => Ok(Ok(id)),
            Ok(Commit::Failed(error)) => Ok(Err(error)),
            Ok(Commit::AsFile(writer)) => Err(writer),
            // The log has the panic as what it is.
            Err(_) => Ok(Err(io::Error::other("commit ended by a panic"))),
        }
    }

    /// Does file work on a thread that may block, when it is its turn; returns when it has begun.
    async fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<Work<T>> {
        let turn = self.turns.clone().acquire_owned().await.map_err(io::Error::other)?;
        Ok(spawn_blocking(move || {
            let _turn = turn;
            work()
        }))
    }

    /// The same; returns when it is done.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        done(&mut self.start(work).await?).await
    }
}

/// File work on another thread.
type Work<T> = JoinHandle<io::Result<T>>;

/// A panic on the other thread is a failed write here; the log has it as what it is.
async fn done<T>(work: &mut Work<T>) -> io::Result<T> {
    work.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[derive(Debug)]
enum State {
    /// No file yet.
    Held,
    /// In the file, but for what is pending.
    Written(Box<MessageWriter>),
    /// The same, and a portion is being written; its room comes back with the file.
    Writing(Work<(Box<MessageWriter>, Vec<u8>)>),
    /// Will be refused.
    Failed(Reply),
}

impl Incoming {
    /// Nothing is written yet.
    pub fn new(
        start: MessageStart,
        client: Client,
        hostname: Domain,
        (manner, store): (Manner, Arc<Store>),
    ) -> Self {
        let mender = start.login.as_ref().filter(|_| manner.mend);
        let mender = mender.map(|_| Mender::new(missing(&start.sender, &hostname)));
        let origin = Arc::new(Begin { start, client, hostname, manner, store, id: OnceLock::new() });
        Self {
            origin,
            state: State::Held,
            mender,
            pending: Vec::new(),
            spare: Vec::new(),
            syncing: None,
            synced: 0,
            large: None,
        }
    }

    /// Takes a piece of content; may wait for the disk.
    pub async fn add(&mut self, content: &[u8]) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        match &mut self.mender {
            Some(mender) => mender.take(content, &mut self.pending),
            None => self.pending.extend_from_slice(content),
        }
        if self.pending.len() >= if self.large.is_some() { LARGE_PORTION } else { PORTION } {
            let written = self.write_pending().await;
            if let Err(error) = written {
                self.state = State::Failed(self.origin.refusal(&error));
            }
        }
    }

    /// Has what is pending written, after what came before it.
    async fn write_pending(&mut self) -> io::Result<()> {
        self.come_to_rest().await?;
        self.sync_early().await?;
        let origin = self.origin.clone();
        let state = std::mem::replace(&mut self.state, State::Failed(WRITE_ERROR));
        let mut portion = std::mem::replace(&mut self.pending, std::mem::take(&mut self.spare));
        let write = move || {
            let mut writer = origin.writer(state)?;
            origin.store.check_room(portion.len())?;
            writer.write(&portion)?;
            portion.clear();
            Ok((writer, portion))
        };
        self.state = State::Writing(self.origin.store.start(write).await?);
        if self.large.is_none() {
            self.large = self.origin.store.large.clone().try_acquire_owned().ok();
        }
        Ok(())
    }

    /// Waits for the portion that is being written, if one is.
    async fn come_to_rest(&mut self) -> io::Result<()> {
        if let State::Writing(work) = &mut self.state {
            let (writer, spare) = done(work).await?;
            self.spare = spare;
            self.state = State::Written(writer);
        }
        Ok(())
    }

    /// Begins to sync what is in the file, when it has become much since the last time and that one is over.
    async fn sync_early(&mut self) -> io::Result<()> {
        if self.syncing.as_ref().is_some_and(|work| !work.is_finished()) {
            return Ok(());
        }
        let sync = match &self.state {
            State::Written(writer) if writer.written() >= self.synced + SYNC_EVERY => {
                self.synced = writer.written();
                writer.early_sync()?
            }
            _ => return Ok(()),
        };
        self.end_sync().await?;
        self.syncing = Some(self.origin.store.start(sync).await?);
        Ok(())
    }

    /// Waits for the sync that was begun, if one was. Its error is the message's: it may not be told again.
    async fn end_sync(&mut self) -> io::Result<()> {
        match self.syncing.take() {
            Some(mut work) => done(&mut work).await,
            None => Ok(()),
        }
    }

    /// Lets go of a message that is not wanted any more. To free what a large one has in memory takes milliseconds, in which a session's thread has others to serve.
    pub fn let_go(self) {
        if let State::Written(writer) = self.state
            && writer.written() >= SYNC_EVERY
        {
            drop(spawn_blocking(move || drop(writer)));
        }
    }

    /// Puts the message on stable storage, or says why not; then nothing of it is left.
    pub async fn commit(mut self, mut message_id: String) -> Result<QueueId, Reply> {
        let written = match self.come_to_rest().await {
            Ok(()) => self.end_sync().await,
            error => error,
        };
        written.map_err(|error| self.origin.refusal(&error))?;
        let Self { origin, state, mender, mut pending, .. } = self;
        if let Some(made) = mender.and_then(|mender| mender.finish(&mut pending)) {
            message_id = made;
        }
        if let State::Failed(reply) = state {
            return Err(reply);
        }
        origin.store.give_way().await;
        let begin = origin.clone();
        let is_small = matches!(state, State::Held);
        let prepare = move || {
            let mut writer = begin.writer(state)?;
            begin.store.check_room(pending.len())?;
            writer.write(&pending)?;
            let message_id = if message_id.is_empty() { "<>" } else { &message_id };
            common::info_as!("cleanup", "{}: message-id={message_id}", writer.id());
            Ok(writer)
        };
        let store = &origin.store;
        let committed = match &store.log {
            Some(log) if is_small => match Store::commit_together(log, prepare).await {
                Ok(committed) => committed,
                Err(writer) => store.work(move || writer.commit()).await,
            },
            _ => store.work(move || prepare()?.commit()).await,
        };
        committed.map_err(|error| origin.refusal(&error))
    }
}

/// What a submitted message may lack, as it is now.
fn missing(sender: &ReversePath, hostname: &Domain) -> Missing {
    /// Tells messages of one microsecond apart.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = Timestamp::now();
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Missing {
        message_id: format!("<{:x}.{process:x}.{count:x}@{hostname}>", now.0),
        date: now.rfc5322(),
        from: common::header::from(sender, hostname),
    }
}

impl Begin {
    /// The file as far as it is written; begun, with envelope and `Received`, when there is none.
    fn writer(&self, state: State) -> io::Result<Box<MessageWriter>> {
        if let State::Written(writer) = state {
            return Ok(writer);
        }
        let now = Timestamp::now();
        let mut writer = Box::new(self.store.spooler.begin(now)?);
        let _ = self.id.set(writer.id());
        let MessageStart { sender, body, dsn, recipients, hello, tls, login, submitter } = &self.start;
        writer.set_envelope(&Envelope {
            sender: sender.clone(),
            arrived: now,
            origin: Origin::Smtp {
                client: self.client.to_string(),
                helo: hello.name.clone(),
                protocol: self.start.protocol().to_owned(),
            },
            body: *body,
            recipients: recipients.clone(),
            dsn: dsn.clone(),
        })?;
        let only = match recipients.as_slice() {
            // One that is not ASCII would make the header need SMTPUTF8 wherever the message goes.
            [one] => Some(one.original()).filter(|address| address.is_ascii()),
            _ => None,
        };
        let Manner { hide_client, show_login, .. } = self.manner;
        let way = Way {
            protocol: self.start.protocol(),
            tls: tls.as_deref(),
            login: login.as_deref().filter(|_| show_login),
            hidden: hide_client && login.is_some(),
        };
        let field = received(&self.hostname, &self.client, hello, way, writer.id(), only, now);
        writer.write(field.as_bytes())?;
        let mut line = format!("{}: client={}", writer.id(), self.client);
        if let Some(login) = login {
            line.push_str(&format!(", sasl_method={}, sasl_username={}", login.method, login.name));
        }
        if let Some(submitter) = submitter {
            line.push_str(&format!(", sasl_sender={submitter}"));
        }
        common::info!("{line}");
        Ok(writer)
    }

    /// The bland reply for the peer; the cause is for the log.
    fn refusal(&self, error: &io::Error) -> Reply {
        let id = self.id.get().map_or("NOQUEUE", QueueId::as_str);
        common::error!("{id}: queue file write error: {error}");
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => NO_SPACE,
            _ => WRITE_ERROR,
        }
    }
}

#[cfg(test)]
mod tests;
