//! The disk's own limit: messages of 4 KiB committed by the real [`Spooler`] with nothing around it, for `bench/`.
//!
//! `commit_limit FOLDER THREADS MESSAGES` prints commits per second, milliseconds a commit takes (mean) and CPU seconds per 1,000 messages, of
//! the whole life of a file: committed in one folder, renamed to another, unlinked. Leaves two empty folders. Any error ends it.

use common::time::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::writer::Spooler;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const LINE: &[u8; 64] = b"The quick brown fox jumps over the lazy dog, and then once mor\r\n";
const LINES: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, threads, messages] = arguments.as_slice() else {
        return Err("usage: commit_limit FOLDER THREADS MESSAGES".into());
    };
    let (threads, messages): (usize, usize) = (threads.parse()?, messages.parse()?);
    let (incoming, active) = (Path::new(folder).join("incoming"), Path::new(folder).join("active"));
    fs::create_dir(&incoming)?;
    fs::create_dir(&active)?;
    let spooler = Spooler::open(&incoming, 0o600)?;
    let left = Arc::new(AtomicUsize::new(messages));
    let begin = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (spooler, left) = (spooler.clone(), left.clone());
            let (incoming, active) = (incoming.clone(), active.clone());
            std::thread::spawn(move || work(&spooler, &left, &incoming, &active).map_err(|e| e.to_string()))
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
    println!("{:.1} {:.3} {:.4}", count / seconds, committing * 1000.0 / count, cpu * 1000.0 / count);
    Ok(())
}

/// Takes messages until none is left: seconds spent in commits.
fn work(
    spooler: &Spooler,
    left: &AtomicUsize,
    incoming: &Path,
    active: &Path,
) -> Result<f64, Box<dyn Error>> {
    let mut committing = 0.0;
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
        let now = Timestamp::now();
        let mut writer = spooler.begin(now)?;
        writer.set_envelope(&Envelope {
            sender: "a@bench.example".parse()?,
            arrived: now,
            origin: Origin::Local { uid: 0 },
            body: Body::SevenBit,
            recipients: vec![Recipient::new("b@sink.example".parse()?)],
            dsn: Default::default(),
        })?;
        for _ in 0..LINES {
            writer.write(LINE)?;
        }
        let begin = Instant::now();
        let id = writer.commit()?;
        committing += begin.elapsed().as_secs_f64();
        let path = active.join(id.as_str());
        fs::rename(incoming.join(id.as_str()), &path)?;
        fs::remove_file(path)?;
    }
    Ok(committing)
}
