//! One delivery agent: its greeting, its jobs, its answers.

use super::{HELLO_TIME, Peers, set_timeout};
use crate::manager::{Answered, Event};
use crate::scheduler::{JobId, WorkerId};
use common::codec;
use common::destination::Transport;
use common::packet::PacketSocket;
use nix::sys::socket::{Shutdown, shutdown};
use spool::dispatch::{FromWorker, Job, MAX_FRAME, ToWorker, VERSION};
use spool::layout::{Queue, Spool};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

/// Most jobs that any worker is given at once, whatever it says.
const MAX_CAPACITY: usize = 10_000;

/// For the thread that writes to a worker.
#[derive(Debug)]
pub enum Outgoing {
    /// Open the message and hand it over.
    Job(Box<Job>),
    /// Tell it to stop working on this.
    Cancel(JobId),
}

/// A connected worker, as the owner of the queue sees it.
#[derive(Debug)]
pub struct Worker {
    socket: Arc<PacketSocket>,
    outgoing: SyncSender<Outgoing>,
}

impl Worker {
    /// Hands something over without waiting; `false` when the worker takes nothing any more.
    pub fn send(&self, outgoing: Outgoing) -> bool {
        self.outgoing.try_send(outgoing).is_ok()
    }

    /// Ends the connection; its threads notice, and its jobs come back.
    pub fn close(&self) {
        let _ = shutdown(self.socket.as_fd().as_raw_fd(), Shutdown::Both);
    }
}

/// Runs until the worker is gone.
pub(super) fn run(
    id: WorkerId,
    socket: Arc<PacketSocket>,
    peers: Peers,
    spool: &Spool,
    events: &Sender<Event>,
) {
    let (transport, capacity) = match greet(&socket, peers) {
        Ok(greeting) => greeting,
        Err(why) => {
            common::warn!("delivery agent refused: {why}");
            return;
        }
    };
    // Jobs and their cancellations: more can never be on the way.
    let (outgoing, jobs) = sync_channel(2 * capacity + 1);
    let worker = Worker { socket: socket.clone(), outgoing };
    if events.send(Event::WorkerCame { id, worker, transport, capacity }).is_err() {
        return;
    }
    let (writer_socket, writer_events, writer_spool) = (socket.clone(), events.clone(), spool.clone());
    let writer = std::thread::Builder::new()
        .name(format!("worker-{id}-out"))
        .spawn(move || write(id, &writer_socket, &writer_spool, &jobs, &writer_events));
    match &writer {
        Ok(_) => read(id, &socket, events),
        Err(error) => common::error!("cannot start a thread for a delivery agent: {error}"),
    }
    let _ = shutdown(socket.as_fd().as_raw_fd(), Shutdown::Both);
    // The owner of the queue lets go of the writer's channel now, which ends that thread.
    let _ = events.send(Event::WorkerWent(id));
    if let Ok(writer) = writer {
        let _ = writer.join();
    }
}

fn greet(socket: &PacketSocket, peers: Peers) -> Result<(Transport, usize), String> {
    let uid = socket.peer().map_err(|error| error.to_string())?.uid();
    set_timeout(socket, Some(HELLO_TIME)).map_err(|error| error.to_string())?;
    let packet = socket.receive().map_err(|error| error.to_string())?.ok_or("gone without a word")?;
    let frame = codec::decode::<FromWorker, MAX_FRAME>(&packet.bytes).map_err(|error| error.to_string())?;
    let FromWorker::Hello { version, transport, capacity } = frame else {
        return Err("it did not say hello".into());
    };
    if version != VERSION {
        return Err(format!("it speaks version {version}, this program speaks {VERSION}: install one build"));
    }
    if !peers.may(uid, transport) {
        return Err(format!("uid {uid} may not deliver by {}", transport.name()));
    }
    set_timeout(socket, None).map_err(|error| error.to_string())?;
    Ok((transport, usize::try_from(capacity).unwrap_or(MAX_CAPACITY).clamp(1, MAX_CAPACITY)))
}

fn read(id: WorkerId, socket: &PacketSocket, events: &Sender<Event>) {
    loop {
        let packet = match socket.receive() {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            Err(error) => {
                common::warn!("delivery agent {id}: {error}");
                return;
            }
        };
        match codec::decode::<FromWorker, MAX_FRAME>(&packet.bytes) {
            Ok(FromWorker::Done { number, results, reached, handed_over }) => {
                let answer = Answered { results, reached, handed_over };
                if events.send(Event::Answer { worker: id, job: number, answer }).is_err() {
                    return;
                }
            }
            Ok(FromWorker::Hello { .. }) => {
                common::warn!("delivery agent {id}: a second hello");
                return;
            }
            Err(error) => {
                common::warn!("delivery agent {id}: {error}");
                return;
            }
        }
    }
}

fn write(
    id: WorkerId,
    socket: &PacketSocket,
    spool: &Spool,
    jobs: &Receiver<Outgoing>,
    events: &Sender<Event>,
) {
    for outgoing in jobs {
        let sent = match outgoing {
            Outgoing::Cancel(number) => send(socket, &ToWorker::Cancel(number), None),
            Outgoing::Job(job) => {
                let number = job.number;
                // Opened afresh for reading only: workers share neither an offset nor the right to write.
                match open(spool, &job) {
                    Ok(file) => send(socket, &ToWorker::Job(*job), Some(&file)),
                    Err(error) => {
                        let _ = events.send(Event::Unsent { worker: id, job: number, error });
                        continue;
                    }
                }
            }
        };
        if let Err(error) = sent {
            if error.kind() != io::ErrorKind::BrokenPipe {
                common::warn!("delivery agent {id}: {error}");
            }
            // The reader notices as well, and gives the jobs back.
            let _ = shutdown(socket.as_fd().as_raw_fd(), Shutdown::Both);
            return;
        }
    }
}

fn open(spool: &Spool, job: &Job) -> io::Result<File> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    File::options().read(true).custom_flags(flags).open(spool.path(Queue::Active, job.queue_id))
}

fn send(socket: &PacketSocket, frame: &ToWorker, file: Option<&File>) -> io::Result<()> {
    let bytes = codec::encode(frame).map_err(io::Error::other)?;
    let files: Vec<_> = file.into_iter().map(AsFd::as_fd).collect();
    socket.send(&bytes, &files)
}
