//! One message into one mailbox: from a task to a status. Runs in the child, as the receiving user.

use super::content::Top;
use super::failure::Failure;
use super::frames::{Answer, Task};
use super::lock::{Patience, WAIT};
use super::maildir::{self, Names};
use super::mbox;
use super::message::Message;
use super::template::Kind;
use common::status::{EnhancedCode, Status};
use common::time::Timestamp;
use std::fs::File;
use std::time::{Duration, Instant};

/// Time that is left for writing when waiting for locks has taken all there was.
const RESERVE: Duration = Duration::from_secs(2);

/// Delivers, and says what came of it. `now`: the wall clock.
pub fn deliver(task: &Task, file: File, names: &mut Names, now: Timestamp) -> Answer {
    let (status, alert, locked) = match attempt(task, file, names, now) {
        Ok(status) => (status, false, false),
        Err(failure) => {
            let context = match task.kind {
                Kind::Maildir => "maildir delivery failed".to_owned(),
                Kind::Mbox => format!("cannot update mailbox {}", task.mailbox.display().display()),
            };
            let (alert, locked) = (failure.alert, failure.locked);
            (failure.into_status(&context), alert, locked)
        }
    };
    Answer { number: task.number, status, alert, locked }
}

fn attempt(task: &Task, file: File, names: &mut Names, now: Timestamp) -> Result<Status, Failure> {
    // A pipe or a device could make us wait for ever.
    if !file.metadata().map_err(|error| Failure::message(&error))?.is_file() {
        return Err(Failure::message(&std::io::Error::other("not a regular file")));
    }
    let message = Message::new(file, task.content_offset, task.content);
    if message.loops(&task.recipient)? {
        let text = format!("mail forwarding loop for {}", task.recipient);
        return Ok(Status::local(EnhancedCode::new(5, 4, 6), text));
    }
    let top = Top { sender: &task.sender, original: &task.original, recipient: &task.recipient };
    let top = top.lines(task.kind, now);
    match task.kind {
        Kind::Maildir => maildir::deliver(&task.mailbox, &names.next(now), &top, &message)?,
        Kind::Mbox => {
            let wait = task.deadline.since(now).saturating_sub(RESERVE).min(WAIT);
            mbox::deliver(&task.mailbox, &top, &message, Patience::until(Instant::now() + wait))?;
        }
    }
    let place = match task.kind {
        Kind::Maildir => "maildir",
        Kind::Mbox => "mailbox",
    };
    Ok(Status::local(EnhancedCode::new(2, 0, 0), format!("delivered to {place}")))
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
