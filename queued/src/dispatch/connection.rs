//! One delivery agent: its greeting, its jobs, its answers.
//!
//! What the socket takes at once goes out on the thread of the queue's owner, with the descriptor that loading has opened; what would have to
//! wait, or needs a file opened, goes to a thread that writes to this agent alone. The order of frames is kept.

use super::open_file::{OpenFile, open};
use super::{HELLO_TIME, Peers, set_timeout};
use crate::disk::Place;
use crate::manager::{Answered, Event};
use crate::scheduler::{JobId, WorkerId};
use common::codec;
use common::destination::Transport;
use common::packet::PacketSocket;
use nix::sys::socket::{Shutdown, shutdown};
use spool::dispatch::{FromWorker, Job, MAX_FRAME, ToWorker, VERSION};
use spool::id::QueueId;
use spool::layout::{Queue, Spool};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

/// Most jobs that any worker is given at once, whatever it says.
const MAX_CAPACITY: usize = 10_000;

/// For a worker.
#[derive(Debug)]
pub enum Outgoing {
    /// Hand the message over; it is opened if it is not open, where it lies.
    Job(Box<Job>, Option<OpenFile>, Place),
    /// Tell it to stop working on this.
    Cancel(JobId),
}

/// A connected worker, as the owner of the queue sees it.
#[derive(Debug)]
pub struct Worker {
    socket: Arc<PacketSocket>,
    outgoing: SyncSender<Outgoing>,
    /// What the writing thread has not done yet.
    backlog: Arc<AtomicUsize>,
}

impl Worker {
    /// Hands something over without waiting; `false` when the worker takes nothing any more.
    pub fn send(&self, outgoing: Outgoing) -> bool {
        let outgoing = match outgoing {
            Outgoing::Job(job, Some(file), place) if self.backlog.load(Ordering::Acquire) == 0 => {
                match self.send_now(job, file, place) {
                    Ok(None) => return true,
                    Ok(Some(later)) => later,
                    Err(error) => {
                        common::warn!("delivery agent: {error}");
                        return false;
                    }
                }
            }
            other => other,
        };
        self.backlog.fetch_add(1, Ordering::AcqRel);
        self.outgoing.try_send(outgoing).is_ok()
    }

    /// Gives it back when the socket takes nothing now.
    fn send_now(&self, job: Box<Job>, file: OpenFile, place: Place) -> io::Result<Option<Outgoing>> {
        let frame = ToWorker::Job(*job);
        let bytes = codec::encode(&frame).map_err(io::Error::other)?;
        match self.socket.try_send(&bytes, &[file.as_fd()]) {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match frame {
                ToWorker::Job(job) => Ok(Some(Outgoing::Job(Box::new(job), Some(file), place))),
                ToWorker::Cancel(number) => Ok(Some(Outgoing::Cancel(number))),
            },
            // It is gone: its jobs come back when the reader notices.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
            Err(error) => Err(error),
        }
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
    let backlog = Arc::new(AtomicUsize::new(0));
    let worker = Worker { socket: socket.clone(), outgoing, backlog: backlog.clone() };
    if events.send(Event::WorkerCame { id, worker, transport, capacity }).is_err() {
        return;
    }
    let (writer_socket, writer_events, writer_spool) = (socket.clone(), events.clone(), spool.clone());
    let writer = std::thread::Builder::new()
        .name(format!("worker-{id}-out"))
        .spawn(move || write(id, &writer_socket, &writer_spool, (&jobs, &backlog), &writer_events));
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
    (jobs, backlog): (&Receiver<Outgoing>, &AtomicUsize),
    events: &Sender<Event>,
) {
    for outgoing in jobs {
        let sent = match outgoing {
            Outgoing::Cancel(number) => send(socket, &ToWorker::Cancel(number), None),
            Outgoing::Job(job, Some(file), _) => send(socket, &ToWorker::Job(*job), Some(file.as_fd())),
            Outgoing::Job(job, None, place) => match open_message(spool, job.queue_id, place) {
                Ok(file) => send(socket, &ToWorker::Job(*job), Some(file.as_fd())),
                Err(error) => {
                    let _ = events.send(Event::Unsent { worker: id, job: job.number, error });
                    Ok(())
                }
            },
        };
        backlog.fetch_sub(1, Ordering::AcqRel);
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

/// It may go from `incoming/` to `active/` meanwhile.
fn open_message(spool: &Spool, id: QueueId, place: Place) -> io::Result<File> {
    let mut opened = open(&spool.path(Queue::Active, id));
    for queue in [Queue::Incoming, Queue::Active] {
        if matches!(&opened, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            opened = open(&spool.path(queue, id));
        }
    }
    let file = opened?;
    place.check(&file.metadata()?)?;
    Ok(file)
}

fn send(socket: &PacketSocket, frame: &ToWorker, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = codec::encode(frame).map_err(io::Error::other)?;
    let files: Vec<_> = file.into_iter().collect();
    socket.send(&bytes, &files)
}
