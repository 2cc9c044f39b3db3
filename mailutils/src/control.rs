//! Asking queued over `public/control` ([`spool::control`]): one request a connection, bounded waiting,
//! refusals with their exit code.

use crate::exit;
use crate::failure::Failure;
use common::codec;
use common::packet::{MAX_PACKET, PacketSocket};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use spool::control::{Answer, Request};
use spool::layout::Spool;
use std::io;
use std::os::fd::BorrowedFd;

/// So long one answer may take, in seconds.
const PATIENCE: i64 = 120;

/// A request that is under way.
#[derive(Debug)]
pub struct Conversation {
    socket: PacketSocket,
    over: bool,
}

/// Why nobody answers.
#[derive(Debug)]
pub enum Unreachable {
    /// queued does not run.
    Down,
    /// The way to its socket is barred for this user.
    Barred(io::Error),
    /// Something else.
    Other(io::Error),
}

/// Connects to queued.
pub fn connect(spool: &Spool) -> Result<PacketSocket, Unreachable> {
    PacketSocket::connect(&spool.control_socket()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Unreachable::Down,
        io::ErrorKind::PermissionDenied => Unreachable::Barred(error),
        _ => Unreachable::Other(error),
    })
}

impl Unreachable {
    /// For the person at the terminal.
    pub fn failure(self, spool: &Spool) -> Failure {
        let socket = spool.control_socket();
        match self {
            Self::Down => Failure::new(
                exit::UNAVAILABLE,
                format!(
                    "queued does not run (nobody answers at {}): start the mail system and try again",
                    socket.display()
                ),
            ),
            Self::Barred(error) => Failure::new(
                exit::NO_PERMISSION,
                format!(
                    "cannot reach {}: {error}: run this as root or as the owner of the spool",
                    socket.display()
                ),
            ),
            Self::Other(error) => {
                Failure::new(exit::TRY_AGAIN, format!("cannot reach {}: {error}", socket.display()))
            }
        }
    }
}

impl Conversation {
    /// Sends a request with its files.
    pub fn begin(socket: PacketSocket, request: &Request, files: &[BorrowedFd<'_>]) -> Result<Self, Failure> {
        let bytes = codec::encode(request).map_err(|e| Failure::new(exit::USAGE, e.to_string()))?;
        let limit = TimeVal::new(PATIENCE, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)
            .and_then(|()| setsockopt(&socket, sockopt::SendTimeout, &limit))
            .map_err(|e| Failure::new(exit::OS_ERROR, format!("cannot set a time-out: {e}")))?;
        socket.send(&bytes, files).map_err(|e| lost(&e.to_string()))?;
        Ok(Self { socket, over: false })
    }

    fn receive(&mut self) -> Result<Answer, Failure> {
        let packet = self.socket.receive().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => lost("no answer in time"),
            _ => lost(&error.to_string()),
        })?;
        let packet = packet.ok_or_else(|| lost("it hung up"))?;
        let answer = codec::decode::<Answer, MAX_PACKET>(&packet.bytes).map_err(|e| lost(&e.to_string()))?;
        match answer {
            Answer::Refused { exit, text } => Err(Failure::new(exit, common::text::printable(&text, 1000))),
            other => Ok(other),
        }
    }
}

/// The answers up to and including the last one; after an error there is none.
impl Iterator for Conversation {
    type Item = Result<Answer, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let answer = self.receive();
        self.over = !matches!(answer, Ok(Answer::Listed(_)));
        Some(answer)
    }
}

fn lost(what: &str) -> Failure {
    Failure::new(exit::TRY_AGAIN, format!("queued did not answer as it should: {what}: try again"))
}
