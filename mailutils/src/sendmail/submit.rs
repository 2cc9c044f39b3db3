//! Handing a message over: as a queue file in `maildrop/` where this user may add one (so it works while the
//! daemons are down), else to queued over `public/control`, as an open file without a name. Either way it is
//! on stable storage when the ID comes back.

use crate::control::{self, Conversation};
use crate::exit;
use crate::failure::Failure;
use common::packet::PacketSocket;
use common::time::Timestamp;
use spool::control::{Answer, Request};
use spool::id::QueueId;
use spool::layout::{MAILDROP_MODE, OWN_MODE, Queue, Spool};
use spool::writer::{MessageWriter, Spooler};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// A way to hand a message over, found to be open.
#[derive(Debug)]
pub enum Way {
    /// It is being written in `maildrop/`.
    Maildrop,
    /// It is being written without a name elsewhere, and will be passed to queued.
    Control(PacketSocket),
}

/// Finds a way, and begins a message there.
pub fn begin(spool: &Spool, now: Timestamp) -> Result<(MessageWriter, Way), Failure> {
    let folder = spool.directory(Queue::Maildrop);
    match Spooler::open(&folder, MAILDROP_MODE).and_then(|spooler| spooler.begin(now)) {
        Ok(writer) => return Ok((writer, Way::Maildrop)),
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => {}
        Err(error) => {
            return Err(Failure::new(
                exit::TRY_AGAIN,
                format!("cannot write to {}: {error}", folder.display()),
            ));
        }
    }
    let socket = control::connect(spool).map_err(|unreachable| {
        let why = unreachable.failure(spool);
        let text = format!("this user may not write to {}, and {}", folder.display(), why.text);
        // The caller keeps the message and may try again: that is what 75 says.
        Failure::new(if why.code == exit::NO_PERMISSION { why.code } else { exit::TRY_AGAIN }, text)
    })?;
    let mut last = None;
    for folder in temporary_folders() {
        match Spooler::open(&folder, OWN_MODE).and_then(|spooler| spooler.begin(now)) {
            Ok(writer) => return Ok((writer, Way::Control(socket))),
            Err(error) => {
                last = Some(format!("cannot make a temporary file in {}: {error}", folder.display()))
            }
        }
    }
    Err(Failure::new(exit::TRY_AGAIN, last.unwrap_or_default()))
}

fn temporary_folders() -> [PathBuf; 3] {
    [std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into()]
}

/// Completes the message; its ID once it is on stable storage.
pub fn finish(writer: MessageWriter, way: Way) -> Result<QueueId, Failure> {
    match way {
        Way::Maildrop => writer.commit().map_err(|error| write_failure(&error)),
        Way::Control(socket) => {
            let file = writer.into_file().map_err(|error| write_failure(&error))?;
            match Conversation::begin(socket, &Request::Submit, &[file.as_fd()])?.next() {
                Some(Ok(Answer::Submitted(id))) => Ok(id),
                Some(Err(failure)) => Err(failure),
                _ => Err(Failure::new(
                    exit::TRY_AGAIN,
                    "queued did not say that it has the message: try again",
                )),
            }
        }
    }
}

/// A message that could not be written.
pub fn write_failure(error: &io::Error) -> Failure {
    Failure::new(exit::TRY_AGAIN, format!("queue file write error: {error}"))
}
