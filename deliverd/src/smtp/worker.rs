//! The worker's side of [`spool::dispatch`]: takes jobs from queued, gives each an answer, whatever happens
//! to it.
//!
//! A job that panics, runs over its time or is called off is answered as deferred. When queued goes away,
//! work in hand is stopped at once: queued will hand it out again, and what was not yet told could only be
//! done twice. It is connected to again with growing pauses.

use super::attempt::{Context, deliver};
use super::content::Content;
use super::deadline::{Stopper, deadline};
use super::report::Report;
use super::resolve::Dns;
use common::codec::{decode, encode};
use common::destination::Transport;
use common::packet::{Packet, PacketSocket};
use common::status::{EnhancedCode, Status};
use common::time::Timestamp;
use nix::unistd::{Uid, geteuid};
use spool::dispatch::{FromWorker, Job, MAX_FRAME, ToWorker, VERSION};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Jobs held at once.
pub const CAPACITY: u32 = 500;
/// After SIGTERM, for jobs in hand.
const GRACE: Duration = Duration::from_secs(15);
/// For jobs that were stopped, to come to their end.
const STOPPING: Duration = Duration::from_secs(3);
/// Pauses between attempts to reach queued, first and longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What the worker is told from outside.
#[derive(Debug)]
pub struct Inputs<D> {
    /// The socket of queued.
    pub socket: PathBuf,
    /// Whom queued may run as; root and ourselves are trusted, too.
    pub queued: Uid,
    /// For jobs that come from now on.
    pub context: watch::Receiver<Arc<Context<D>>>,
    /// Turns true when the process is to end.
    pub stop: watch::Receiver<bool>,
}

/// Works until told to stop.
pub async fn run<D: Dns>(mut inputs: Inputs<D>) {
    let mut pause = PAUSE.0;
    let mut said = false;
    while !*inputs.stop.borrow() {
        match connect(&inputs).await {
            Ok(socket) => {
                if said {
                    common::info!("connected to queued");
                }
                (pause, said) = (PAUSE.0, false);
                match serve(socket, &inputs).await {
                    Ok(()) => {}
                    Err(error) => common::warn!("connection to queued lost: {error}"),
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    let socket = inputs.socket.display();
                    common::info!("waiting for queued at {socket}: {error}");
                }
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = inputs.stop.wait_for(|stop| *stop) => {}
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// A [`PacketSocket`] that tokio can wait for: a second descriptor of the same socket tells when it is
/// ready. (tokio's `AsyncFd` would need `unsafe`.)
struct Socket {
    packets: PacketSocket,
    readiness: UnixStream,
}

impl Socket {
    fn new(packets: PacketSocket) -> io::Result<Self> {
        packets.set_nonblocking()?;
        let second = std::os::unix::net::UnixStream::from(packets.as_fd().try_clone_to_owned()?);
        Ok(Self { packets, readiness: UnixStream::from_std(second)? })
    }

    async fn receive(&self) -> io::Result<Option<Packet>> {
        self.readiness.async_io(Interest::READABLE, || self.packets.receive()).await
    }

    async fn send(&self, frame: &FromWorker) -> io::Result<()> {
        let bytes = encode(frame).map_err(io::Error::other)?;
        self.readiness.async_io(Interest::WRITABLE, || self.packets.send(&bytes, &[])).await
    }
}

async fn connect<D>(inputs: &Inputs<D>) -> io::Result<Arc<Socket>> {
    let path = inputs.socket.clone();
    let socket = tokio::task::spawn_blocking(move || PacketSocket::connect(&path));
    let socket = socket.await.map_err(io::Error::other)??;
    let peer = Uid::from_raw(socket.peer()?.uid());
    if !peer.is_root() && peer != inputs.queued && peer != geteuid() {
        return Err(io::Error::other(format!("uid {peer} answers there, not queued")));
    }
    Ok(Arc::new(Socket::new(socket)?))
}

/// Jobs in hand, by number.
type Jobs = HashMap<u64, Stopper>;

/// One connection: until queued goes away (an error) or we are told to stop and everything in hand is
/// answered.
async fn serve<D: Dns>(socket: Arc<Socket>, inputs: &Inputs<D>) -> io::Result<()> {
    let hello = FromWorker::Hello { version: VERSION, transport: Transport::Smtp, capacity: CAPACITY };
    socket.send(&hello).await?;
    let (answers, mut unsent) = mpsc::channel::<FromWorker>(2 * CAPACITY as usize);
    let mut jobs = Jobs::new();
    // Answers are written by a task of their own, so that neither direction waits for the other.
    let (sent, mut done) = mpsc::unbounded_channel::<io::Result<u64>>();
    let writer = tokio::spawn({
        let socket = socket.clone();
        async move {
            while let Some(frame) = unsent.recv().await {
                let FromWorker::Done { number, .. } = frame else { continue };
                if sent.send(socket.send(&frame).await.map(|()| number)).is_err() {
                    return;
                }
            }
        }
    });
    let mut stop = inputs.stop.clone();
    let mut end: Option<Instant> = None;
    let result = loop {
        if end.is_some() && jobs.is_empty() {
            break Ok(());
        }
        tokio::select! {
            packet = socket.receive(), if end.is_none() => {
                let packet = match packet {
                    Ok(Some(packet)) => packet,
                    Ok(None) => break Err(io::Error::other("closed by queued")),
                    Err(error) => break Err(error),
                };
                if let Err(error) = take(packet, &mut jobs, inputs, &answers) {
                    break Err(error);
                }
            }
            Some(number) = done.recv() => match number {
                Ok(number) => drop(jobs.remove(&number)),
                Err(error) => break Err(error),
            },
            _ = stop.wait_for(|stop| *stop), if end.is_none() => end = Some(Instant::now() + GRACE),
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                jobs.values().for_each(Stopper::stop);
                break Ok(());
            }
        }
    };
    jobs.values().for_each(Stopper::stop);
    // What was stopped comes to its end; after a clean stop its answers still count.
    let rest = async {
        while !jobs.is_empty() {
            match done.recv().await {
                Some(Ok(number)) => drop(jobs.remove(&number)),
                Some(Err(_)) | None => return,
            }
        }
    };
    let _ = timeout(STOPPING, rest).await;
    writer.abort();
    result
}

/// Handles one packet. Errors end the connection: the two builds do not understand each other.
fn take<D: Dns>(
    packet: Packet,
    jobs: &mut Jobs,
    inputs: &Inputs<D>,
    answers: &mpsc::Sender<FromWorker>,
) -> io::Result<()> {
    let frame = decode::<ToWorker, MAX_FRAME>(&packet.bytes).map_err(io::Error::other)?;
    let job = match frame {
        ToWorker::Job(job) => job,
        ToWorker::Cancel(number) => {
            if let Some(stopper) = jobs.get(&number) {
                stopper.stop();
            }
            return Ok(());
        }
    };
    if jobs.contains_key(&job.number) || jobs.len() >= CAPACITY as usize {
        return Err(io::Error::other(format!("job {} given twice, or too many jobs", job.number)));
    }
    let left = job.deadline.since(Timestamp::now());
    let (stopper, limit) = deadline(Instant::now() + left);
    jobs.insert(job.number, stopper);
    let context = inputs.context.borrow().clone();
    let answers = answers.clone();
    let file = packet.files.into_iter().next();
    tokio::spawn(async move {
        let job = Arc::new(job);
        let work = tokio::spawn({
            let job = job.clone();
            async move { work(&job, file, &context, limit).await }
        });
        let report = work.await.unwrap_or_else(|_| {
            let status = Status::local(EnhancedCode::new(4, 3, 0), "mail system: delivery ended by a bug");
            Report::of_all(&job, &status, true)
        });
        report.log(&job);
        // Nobody listens any more when the connection is gone.
        let _ = answers.send(report.answer(&job)).await;
    });
    Ok(())
}

async fn work<D: Dns>(
    job: &Job,
    file: Option<OwnedFd>,
    context: &Context<D>,
    limit: super::deadline::Deadline,
) -> Report {
    let Some(file) = file else {
        let status = Status::local(EnhancedCode::new(4, 3, 0), "mail system: job without its message");
        return Report::of_all(job, &status, true);
    };
    let content = Content::new(File::from(file), job.content_offset, job.content);
    deliver(job, &content, context, limit).await
}

#[cfg(test)]
mod tests;
