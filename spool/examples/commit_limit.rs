//! The disk's own limit: messages of 4 KiB committed by the real [`Spooler`] with nothing around it, for `bench/`.
//!
//! `commit_limit FOLDER THREADS MESSAGES file|log` prints commits per second, milliseconds a commit takes (mean), CPU seconds per 1,000 messages, of
//! the whole life of a file that is delivered at once: committed, unlinked; and how many were committed as files. `file`: each message is synced
//! by its own thread. `log`: through the commit log, kept as queued keeps it; a commit is then from the hand-over on, the making of the file included.
//! Makes a spool in FOLDER, which must be there. Any error ends it.

use common::identity::{Identities, Identity};
use common::time::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{getegid, geteuid};
use spool::commit_log::{Commit, Committer, Geometry, Keeper, boot_id};
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::layout::{self, OWN_MODE, Queue, Spool};
use spool::writer::{MessageWriter, Spooler};
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const LINE: &[u8; 64] = b"The quick brown fox jumps over the lazy dog, and then once mor\r\n";
const LINES: usize = 64;
/// Between two rounds of the log's keeper.
const PAUSE: Duration = Duration::from_millis(200);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, threads, messages, mode] = arguments.as_slice() else {
        return Err("usage: commit_limit FOLDER THREADS MESSAGES file|log".into());
    };
    let (threads, messages): (usize, usize) = (threads.parse()?, messages.parse()?);
    let spool = Spool::new(Path::new(folder));
    layout::prepare(&spool, &all_me())?;
    let log = match mode.as_str() {
        "file" => None,
        "log" => Some(Log::open(&spool)?),
        _ => return Err("the mode is file or log".into()),
    };
    let spooler = Spooler::open(&spool.directory(Queue::Incoming), OWN_MODE)?;
    let bench = Arc::new(Bench { spool, spooler, log, left: messages.into(), as_files: 0.into() });
    let begin = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let bench = bench.clone();
            std::thread::spawn(move || bench.work().map_err(|e| e.to_string()))
        })
        .collect();
    let mut committing = 0.0;
    for worker in workers {
        committing += worker.join().map_err(|_| "a thread panicked")??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let cpu = (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6;
    let count = messages as f64;
    let as_files = bench.as_files.load(Ordering::Relaxed);
    println!(
        "{:.1} {:.3} {:.4} {as_files}",
        count / seconds,
        committing * 1000.0 / count,
        cpu * 1000.0 / count
    );
    Ok(())
}

/// Nobody is kept apart here.
fn all_me() -> Identities {
    let me = Identity { name: "me".into(), uid: geteuid(), gid: getegid() };
    Identities { smtpd: me.clone(), queued: me.clone(), maildrop: me.gid, deliverd: me }
}

/// Both sides of the commit log: smtpd's and queued's.
struct Log {
    committer: Committer,
    keeper: Arc<Keeper>,
}

impl Log {
    /// With its first segments, and a thread that keeps it until the process ends.
    fn open(spool: &Spool) -> io::Result<Self> {
        let boot = boot_id()?;
        let keeper = Arc::new(Keeper::open(spool, Geometry::default(), &boot, true, OWN_MODE)?);
        keeper.tend()?;
        let tended = keeper.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(PAUSE);
                if let Err(error) = tended.tend() {
                    eprintln!("the commit log cannot be kept: {error}");
                    std::process::exit(1);
                }
            }
        });
        Ok(Self { committer: Committer::start(spool.clone(), Geometry::default(), boot)?, keeper })
    }
}

struct Bench {
    spool: Spool,
    spooler: Spooler,
    log: Option<Log>,
    /// Messages not yet begun.
    left: AtomicUsize,
    /// Messages that were committed as files.
    as_files: AtomicUsize,
}

impl Bench {
    /// Takes messages until none is left: seconds spent in commits.
    fn work(&self) -> Result<f64, Box<dyn Error>> {
        let mut committing = 0.0;
        while self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            let now = Timestamp::now();
            let envelope = Envelope {
                sender: "a@bench.example".parse()?,
                arrived: now,
                origin: Origin::Local { uid: 0 },
                body: Body::SevenBit,
                recipients: vec![Recipient::new("b@sink.example".parse()?)],
                dsn: Default::default(),
            };
            let spooler = self.spooler.clone();
            let make = move || write(&spooler, now, &envelope);
            let (id, seconds) = match &self.log {
                None => self.commit(*make()?)?,
                Some(log) => self.hand_over(log, make)?,
            };
            committing += seconds;
            fs::remove_file(self.spool.path(Queue::Incoming, id))?;
            if let Some(log) = &self.log {
                log.keeper.completed(id);
            }
        }
        Ok(committing)
    }

    fn commit(&self, writer: MessageWriter) -> io::Result<(QueueId, f64)> {
        self.as_files.fetch_add(1, Ordering::Relaxed);
        let begin = Instant::now();
        Ok((writer.commit()?, begin.elapsed().as_secs_f64()))
    }

    fn hand_over(
        &self,
        log: &Log,
        make: impl FnOnce() -> io::Result<Box<MessageWriter>> + Send + 'static,
    ) -> io::Result<(QueueId, f64)> {
        let begin = Instant::now();
        let (told, hear) = mpsc::channel();
        log.committer.commit(make, move |came| {
            let _ = told.send(came);
        });
        let id = match hear.recv().map_err(io::Error::other)? {
            Commit::Done(id) => id,
            // No segment was free.
            Commit::AsFile(writer) => self.commit(*writer)?.0,
            Commit::Failed(error) => return Err(error),
        };
        Ok((id, begin.elapsed().as_secs_f64()))
    }
}

fn write(spooler: &Spooler, now: Timestamp, envelope: &Envelope) -> io::Result<Box<MessageWriter>> {
    let mut writer = spooler.begin(now)?;
    writer.set_envelope(envelope)?;
    for _ in 0..LINES {
        writer.write(LINE)?;
    }
    Ok(Box::new(writer))
}
