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
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::{Uid, geteuid};
use spool::dispatch::{FromWorker, Job, MAX_FRAME, ToWorker, VERSION};
use std::collections::HashMap;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, watch};
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

    /// Neither side can send any more.
    fn close(&self) {
        let _ = shutdown(self.packets.as_fd().as_raw_fd(), Shutdown::Both);
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

/// What is in hand: jobs, and answers on their way. Each job's task answers for itself, so that nobody has to be woken for it.
#[derive(Default)]
struct InHand {
    state: Mutex<State>,
    empty: Notify,
}

#[derive(Default)]
struct State {
    /// Jobs without answer, by number.
    jobs: HashMap<u64, Stopper>,
    /// Tasks of jobs.
    open: usize,
}

impl InHand {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, number: u64, stopper: Stopper) -> io::Result<()> {
        let mut state = self.lock();
        if state.jobs.contains_key(&number) || state.jobs.len() >= CAPACITY as usize {
            return Err(io::Error::other(format!("job {number} given twice, or too many jobs")));
        }
        state.jobs.insert(number, stopper);
        state.open += 1;
        Ok(())
    }

    /// To be called before the answer is sent: with it queued may give the next.
    fn done(&self, number: u64) {
        self.lock().jobs.remove(&number);
    }

    /// The answer is sent.
    fn answered(&self) {
        let mut state = self.lock();
        state.open -= 1;
        if state.open == 0 {
            self.empty.notify_one();
        }
    }

    fn is_empty(&self) -> bool {
        self.lock().open == 0
    }

    fn cancel(&self, number: u64) {
        if let Some(stopper) = self.lock().jobs.get(&number) {
            stopper.stop();
        }
    }

    fn stop(&self) {
        self.lock().jobs.values().for_each(Stopper::stop);
    }
}

/// One connection: until queued goes away (an error) or we are told to stop and everything in hand is
/// answered.
async fn serve<D: Dns>(socket: Arc<Socket>, inputs: &Inputs<D>) -> io::Result<()> {
    let hello = FromWorker::Hello { version: VERSION, transport: Transport::Smtp, capacity: CAPACITY };
    socket.send(&hello).await?;
    let in_hand = Arc::new(InHand::default());
    // An answer that cannot be sent ends the connection.
    let (failed, mut failure) = mpsc::unbounded_channel::<io::Error>();
    let mut stop = inputs.stop.clone();
    let mut end: Option<Instant> = None;
    let result = loop {
        if end.is_some() && in_hand.is_empty() {
            break Ok(());
        }
        tokio::select! {
            packet = socket.receive(), if end.is_none() => {
                let packet = match packet {
                    Ok(Some(packet)) => packet,
                    Ok(None) => break Err(io::Error::other("closed by queued")),
                    Err(error) => break Err(error),
                };
                if let Err(error) = take(packet, &socket, &in_hand, inputs, &failed) {
                    break Err(error);
                }
            }
            Some(error) = failure.recv() => break Err(error),
            () = in_hand.empty.notified(), if end.is_some() => {}
            _ = stop.wait_for(|stop| *stop), if end.is_none() => end = Some(Instant::now() + GRACE),
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break Ok(()),
        }
    };
    in_hand.stop();
    // What was stopped comes to its end; after a clean stop its answers still count.
    let rest = async {
        while !in_hand.is_empty() {
            tokio::select! {
                () = in_hand.empty.notified() => {}
                _ = failure.recv() => return,
            }
        }
    };
    let _ = timeout(STOPPING, rest).await;
    // Also for what does not come to its end.
    socket.close();
    result
}

/// Handles one packet. Errors end the connection: the two builds do not understand each other.
fn take<D: Dns>(
    packet: Packet,
    socket: &Arc<Socket>,
    in_hand: &Arc<InHand>,
    inputs: &Inputs<D>,
    failed: &mpsc::UnboundedSender<io::Error>,
) -> io::Result<()> {
    let frame = decode::<ToWorker, MAX_FRAME>(&packet.bytes).map_err(io::Error::other)?;
    let job = match frame {
        ToWorker::Job(job) => job,
        ToWorker::Cancel(number) => {
            in_hand.cancel(number);
            return Ok(());
        }
    };
    let left = job.deadline.since(Timestamp::now());
    let (stopper, limit) = deadline(Instant::now() + left);
    in_hand.begin(job.number, stopper)?;
    let context = inputs.context.borrow().clone();
    let (socket, in_hand, failed) = (socket.clone(), in_hand.clone(), failed.clone());
    let file = packet.files.into_iter().next();
    tokio::spawn(async move {
        // Boxed here: it is large, and would be copied from hand to hand on its way into the runtime.
        let work = Box::pin(work(&job, file, &context, limit));
        let report = guarded(work).await.unwrap_or_else(|| {
            let status = Status::local(EnhancedCode::new(4, 3, 0), "mail system: delivery ended by a bug");
            Report::of_all(&job, &status, true)
        });
        report.log(&job);
        in_hand.done(job.number);
        if let Err(error) = socket.send(&report.answer(&job)).await {
            let _ = failed.send(error);
        }
        in_hand.answered();
    });
    Ok(())
}

/// What a future comes to; `None` when it panics (the log has the panic).
async fn guarded<F: Future>(mut future: Pin<Box<F>>) -> Option<F::Output> {
    poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |poll| poll.map(Some))
    })
    .await
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
