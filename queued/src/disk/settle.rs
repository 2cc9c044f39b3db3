//! An attempt is over: notifications are committed, the journal is written, and the file goes away or waits.
//!
//! The order is what makes it safe. A notification is on stable storage before the journal says that the sender was told, and before the message is
//! removed. The journal is on stable storage before the file waits in `deferred/`. What was delivered is in the journal before anything else
//! is done that takes time. When a step fails the message stays in memory with all that is known about it and is settled again later: an outcome is never
//! forgotten because the disk was full.

use super::notify::{self, News};
use super::{Disk, Place, corrupt};
use crate::message::{Message, Step};
use common::time::Timestamp;
use spool::id::QueueId;
use spool::journal::Entry;
use spool::layout::{Queue, make_deferred_folder};
use spool::queue_file::{QueueFile, QueueFileError};
use std::fs;
use std::io;
use std::path::Path;

/// A message whose attempt is over.
#[derive(Debug)]
pub struct Settle {
    /// With all outcomes.
    pub message: Message,
    /// Where its file lies.
    pub place: Place,
    /// Facts that are not in the journal yet.
    pub unsaved: Vec<Entry>,
    /// When to try again, should it have to wait.
    pub due: Timestamp,
    /// How often this has failed.
    pub failures: u32,
    /// Could it be that its content is damaged?
    pub suspect: bool,
}

/// A failure is logged the first time, and then every so often.
const LOG_EVERY: u32 = 30;

/// What came of it.
#[derive(Debug)]
pub enum Settled {
    /// Nothing is owed any more; the file is gone.
    Removed,
    /// It lies in `deferred/` under the time when it is due.
    Deferred(Timestamp),
    /// Something failed; this is left to do.
    Unfinished(Box<Settle>),
    /// A bug: what was known is lost, but for the journal.
    Lost,
}

pub(super) fn settle(disk: &Disk, mut work: Settle, now: Timestamp) -> Settled {
    let error = match try_settle(disk, &mut work, now) {
        Ok(settled) => return settled,
        Err(error) => error,
    };
    let id = work.message.id;
    let path = disk.spool.path(work.place.queue, id);
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        common::error!(
            "{id}: its file vanished from {}/: nothing more can be done for it",
            work.place.queue.name()
        );
        return Settled::Removed;
    }
    if error.kind() == io::ErrorKind::InvalidData {
        corrupt::set_aside(disk, &path, &format!("queue file damaged: {error}"));
        return Settled::Removed;
    }
    if work.failures.is_multiple_of(LOG_EVERY) {
        common::error!("{id}: outcome cannot be written down: {error}; tried again until it can");
    }
    work.failures = work.failures.saturating_add(1);
    Settled::Unfinished(Box::new(work))
}

fn try_settle(disk: &Disk, work: &mut Settle, now: Timestamp) -> io::Result<Settled> {
    let (id, settings) = (work.message.id, disk.settings());
    if work.suspect {
        match check_content(&disk.spool.path(work.place.queue, id)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
            // A disk that cannot be read, now or ever: what is known of the message is written down all the same, and its time runs.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                common::error!("{id}: its content cannot be read: {error}; tried again at the next attempt");
            }
            _ => {}
        }
        work.suspect = false;
    }
    let results = work.message.expire(now, &settings.lifetimes);
    if !results.is_empty() {
        common::info!("{id}: from=<{}>, status=expired, returned to sender", work.message.sender);
        work.unsaved.push(Entry::Attempted { at: now, results });
    }
    loop {
        let step = work.message.next_step();
        if !matches!(step, Step::Remove) {
            disk.settle_in(id, &mut work.place)?;
        }
        match step {
            // What fails altogether fails again after a crash: no need to write it down first.
            Step::Notify(failed) => {
                tell(disk, work, News::Failed, &failed, failed.len() < work.message.len(), now)?
            }
            Step::Confirm(done) => tell(disk, work, News::Succeeded, &done, true, now)?,
            Step::Remove => return remove(disk, id, work.place.queue),
            Step::Defer => break,
        }
    }
    let late = work.message.late(now, settings.delay_warning);
    tell(disk, work, News::Delayed, &late, true, now)?;
    let news = !work.unsaved.is_empty();
    work.message.attempts = work.message.attempts.saturating_add(1);
    work.unsaved.push(Entry::Retry { attempts: work.message.attempts, due: work.due });
    // Only outcomes are worth a sync: without the count of attempts nothing goes wrong. But a message that waits is durable as a file
    // from its first deferral on, and not in the commit log alone.
    let first = work.message.attempts == 1;
    let saved =
        save(disk, work, news || first).and_then(|()| if first { disk.active.sync() } else { Ok(()) });
    if saved.is_err() {
        work.unsaved.retain(|entry| !matches!(entry, Entry::Retry { .. }));
        work.message.attempts = work.message.attempts.saturating_sub(1);
    }
    saved?;
    make_deferred_folder(&disk.spool, id)?;
    disk.spool
        .storage()
        .rename(&disk.spool.path(Queue::Active, id), &disk.spool.deferred_path(id, work.due))?;
    Ok(Settled::Deferred(work.due))
}

/// Tells about these recipients, if there are any, with `save_first` after writing down what is known: committing a notification takes its
/// time, and a crash in it must not deliver anything twice. That is not synced, the commit does that soon enough.
fn tell(
    disk: &Disk,
    work: &mut Settle,
    news: News,
    recipients: &[u32],
    save_first: bool,
    now: Timestamp,
) -> io::Result<()> {
    if save_first && !recipients.is_empty() {
        save(disk, work, false)?;
    }
    for part in recipients.chunks(crate::bounce::MAX_REPORTS) {
        let notification = notify::commit(disk, &disk.settings(), &work.message, news, part, now)?;
        let told = news.entry(now, part.to_vec(), notification);
        work.message.apply(told.clone());
        work.unsaved.push(told);
    }
    Ok(())
}

/// Reads the whole content: `InvalidData` when it is damaged.
fn check_content(path: &Path) -> io::Result<()> {
    let file = QueueFile::open(path).map_err(|error| match error {
        QueueFileError::Io(error) => error,
        damaged => io::Error::new(io::ErrorKind::InvalidData, damaged),
    })?;
    io::copy(&mut file.content()?, &mut io::sink()).map(drop)
}

/// Written facts are unsaved no more.
fn save(disk: &Disk, work: &mut Settle, sync: bool) -> io::Result<()> {
    disk.append(work.message.id, &mut work.place, &work.unsaved, sync)?;
    work.unsaved.clear();
    Ok(())
}

fn remove(disk: &Disk, id: QueueId, lies_in: Queue) -> io::Result<Settled> {
    match disk.spool.storage().remove(&disk.spool.path(lies_in, id)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            common::warn!("{id}: done, but its file was gone already");
        }
        other => {
            other?;
            common::info!("{id}: removed");
        }
    }
    disk.log.completed(id);
    Ok(Settled::Removed)
}
