//! The connection to queued: made again, with growing pauses, whenever it is lost.
//!
//! Neither reading nor writing ever waits; answers queue up here until the socket takes them (there are
//! never more than jobs in hand). Only a queued that runs as the user configured for it, as root or as
//! ourselves is listened to.

use common::codec;
use common::destination::Transport;
use common::packet::PacketSocket;
use spool::dispatch::{FromWorker, MAX_FRAME, ToWorker, VERSION};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The connection, or the wait for one.
#[derive(Debug)]
pub struct Link {
    path: PathBuf,
    /// Users that queued may run as.
    trusted: Vec<u32>,
    capacity: u32,
    socket: Option<PacketSocket>,
    outbox: VecDeque<Vec<u8>>,
    /// Counts connections.
    number: u64,
    pause: Duration,
    again: Instant,
    complained: bool,
}

/// What queued sent.
#[derive(Debug)]
pub enum Event {
    /// Nothing (any more) for now.
    Nothing,
    /// A frame, with the file attached to it.
    Frame(ToWorker, Option<OwnedFd>),
    /// The connection is lost; its jobs went back to queued.
    Lost(String),
}

impl Link {
    /// To the socket at `path`, offering to hold `capacity` jobs.
    pub fn new(path: PathBuf, trusted: Vec<u32>, capacity: u32, now: Instant) -> Self {
        Self {
            path,
            trusted,
            capacity,
            socket: None,
            outbox: VecDeque::new(),
            number: 0,
            pause: FIRST_PAUSE,
            again: now,
            complained: false,
        }
    }

    /// Connects when there is no connection and it is time. True: there is a new one.
    pub fn connect(&mut self, now: Instant) -> bool {
        if self.socket.is_some() || now < self.again {
            return false;
        }
        match self.open() {
            Ok(socket) => {
                self.socket = Some(socket);
                self.number += 1;
                self.pause = FIRST_PAUSE;
                self.complained = false;
                true
            }
            Err(error) => {
                // One that is just being started is nothing to complain of.
                if self.pause == LONGEST_PAUSE && !self.complained {
                    self.complained = true;
                    common::warn!(
                        "cannot reach the queue manager at {}: {error}; trying on",
                        self.path.display()
                    );
                }
                self.again = now + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                false
            }
        }
    }

    fn open(&self) -> io::Result<PacketSocket> {
        let socket = PacketSocket::connect(&self.path)?;
        let uid = socket.peer()?.uid();
        if !self.trusted.contains(&uid) {
            return Err(io::Error::other(format!("it runs as uid {uid}, which is not queued's user")));
        }
        let hello =
            FromWorker::Hello { version: VERSION, transport: Transport::Local, capacity: self.capacity };
        socket.send(&codec::encode(&hello).map_err(io::Error::other)?, &[])?;
        socket.set_nonblocking()?;
        Ok(socket)
    }

    /// What queued says next. Never waits.
    pub fn receive(&mut self, now: Instant) -> Event {
        let Some(socket) = &self.socket else { return Event::Nothing };
        let why = match socket.receive() {
            Ok(Some(packet)) => match codec::decode::<_, MAX_FRAME>(&packet.bytes) {
                Ok(frame) => return Event::Frame(frame, packet.files.into_iter().next()),
                Err(error) => format!("it sent what is not understood: {error}"),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Event::Nothing,
            Ok(None) => "it closed the connection".into(),
            Err(error) => error.to_string(),
        };
        self.drop_connection(now);
        Event::Lost(why)
    }

    /// Ends the connection; it is made again later.
    pub fn drop_connection(&mut self, now: Instant) {
        self.socket = None;
        self.outbox.clear();
        self.again = now + self.pause;
    }

    /// Sends an answer to a job of this connection; one of an earlier connection is not sent.
    pub fn answer(&mut self, connection: u64, answer: &FromWorker) {
        if connection != self.number || self.socket.is_none() {
            return;
        }
        match codec::encode(answer) {
            Ok(bytes) => self.outbox.push_back(bytes),
            // Cannot happen with answers within their limits; queued takes the job back when we stop.
            Err(error) => common::error!("bug: cannot encode an answer: {error}"),
        }
        self.flush();
    }

    /// Writes what the socket takes. A broken connection shows when it is read.
    pub fn flush(&mut self) {
        let Some(socket) = &self.socket else { return };
        while let Some(bytes) = self.outbox.front() {
            match socket.send(bytes, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                _ => {
                    self.outbox.pop_front();
                }
            }
        }
    }

    /// Is there something that the socket did not take yet?
    pub fn wants_to_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The number of the connection; 0: there was none yet.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// When to call [`Self::connect`] again; `None`: there is a connection.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.socket.is_none().then_some(self.again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::packet::PacketListener;

    #[test]
    fn only_a_queued_of_the_right_user_is_listened_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dispatch");
        let _listener = PacketListener::bind(&path, 0o600).unwrap();
        let me = nix::unistd::geteuid().as_raw();
        let now = Instant::now();
        for (trusted, connects) in [(vec![me.wrapping_add(1)], false), (vec![], false), (vec![0, me], true)] {
            let mut link = Link::new(path.clone(), trusted, 1, now);
            assert_eq!((link.connect(now), link.number()), (connects, u64::from(connects)));
        }
    }

    #[test]
    fn pauses_grow_while_nobody_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut now = Instant::now();
        let mut link = Link::new(folder.path().join("none"), vec![], 1, now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(!link.connect(now));
            let next = link.next_attempt().unwrap();
            pauses.push((next - now).as_millis());
            assert!(!link.connect(next - Duration::from_millis(1)));
            assert_eq!(link.next_attempt(), Some(next), "asked too early");
            now = next;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }
}
