//! Where the entries of a listing come from.
//!
//! Whoever may read the spool reads it, daemons or not; anyone else asks queued. Both stream: nothing is
//! collected here.

use crate::control::{self, Conversation};
use crate::exit;
use crate::failure::Failure;
use common::time::Timestamp;
use spool::control::{Answer, Request, Selection};
use spool::id::QueueId;
use spool::layout::{Queue, Spool};
use spool::listing::{Listed, list};
use std::fs;
use std::io;

/// What can go wrong with an entry.
#[derive(Debug)]
pub enum Trouble {
    /// This message cannot be read; the others follow.
    Unreadable(QueueId, String),
    /// There are no more entries than those given, and there should be.
    Over(Failure),
}

/// All selected messages.
pub fn entries(
    spool: &Spool,
    selection: Selection,
    now: Timestamp,
) -> Result<Box<dyn Iterator<Item = Result<Listed, Trouble>>>, Failure> {
    if may_read(spool)? {
        let wanted = |(id, error): (QueueId, spool::queue_file::QueueFileError)| {
            Trouble::Unreadable(id, error.to_string())
        };
        return Ok(Box::new(list(spool, selection, now).map(move |entry| entry.map_err(wanted))));
    }
    let socket = control::connect(spool).map_err(|unreachable| unreachable.failure(spool))?;
    let answers = Conversation::begin(socket, &Request::List(selection), &[])?;
    Ok(Box::new(answers.filter_map(|answer| match answer {
        Ok(Answer::Listed(listed)) => Some(Ok(*listed)),
        Ok(_) => None,
        Err(failure) => Some(Err(Trouble::Over(failure))),
    })))
}

/// May this process read the queues? All of them belong to the same owner.
pub fn may_read(spool: &Spool) -> Result<bool, Failure> {
    let folder = spool.directory(Queue::Active);
    match fs::read_dir(&folder) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::new(
            exit::UNAVAILABLE,
            format!(
                "there is no spool at {}: the mail system makes it when it first starts",
                spool.root().display()
            ),
        )),
        Err(error) => Err(Failure::new(exit::OS_ERROR, format!("cannot read {}: {error}", folder.display()))),
    }
}
