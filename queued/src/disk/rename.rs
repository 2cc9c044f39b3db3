//! Giving files other names, and taking them away.

use super::{Changed, Disk};
use common::time::Timestamp;
use nix::fcntl::OFlag;
use spool::control::Verb;
use spool::id::QueueId;
use spool::journal::Entry;
use spool::layout::Queue;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Does what an admin asked for, wherever the message lies.
pub(super) fn change(disk: &Disk, id: QueueId, verb: Verb, now: Timestamp) -> Changed {
    let Some((queue, path)) = disk.spool.find(id) else { return Changed::NotFound };
    let hold = disk.spool.path(Queue::Hold, id);
    let storage = disk.spool.storage();
    let result = match (verb, queue) {
        (Verb::Delete, _) => storage.remove(&path).map(|()| {
            disk.log.completed(id);
            common::info!("{id}: removed by an administrator");
            Changed::Done
        }),
        (Verb::Hold, Queue::Hold) | (Verb::Retry, _) => Ok(Changed::Done),
        // A submission is a stranger's file until it is copied.
        (Verb::Hold, Queue::Maildrop | Queue::Corrupt) => Ok(Changed::NotFound),
        (Verb::Hold, _) => sync(disk, &path).and_then(|()| storage.rename(&path, &hold)).map(|()| {
            note(disk, id, &hold, &Entry::Held { at: now });
            common::info!("{id}: held by an administrator");
            Changed::Done
        }),
        (Verb::Release, Queue::Hold) => {
            note(disk, id, &hold, &Entry::Released { at: now });
            storage.rename(&hold, &disk.spool.path(Queue::Active, id)).map(|()| {
                common::info!("{id}: released by an administrator");
                Changed::Active
            })
        }
        (Verb::Release, _) => Ok(Changed::NotFound),
    };
    result.unwrap_or_else(|error| {
        // Is it the message that is not there, or the folder?
        if error.kind() == io::ErrorKind::NotFound && disk.spool.find(id).is_none() {
            return Changed::NotFound;
        }
        common::error!("{id}: cannot be changed: {error}");
        Changed::Failed
    })
}

/// The outcome of a delivery that was under way when its message was held, released or deleted: what was delivered shall not be delivered again.
pub(super) fn note_late(disk: &Disk, id: QueueId, entries: &[Entry]) {
    match disk.spool.find(id).filter(|(queue, _)| !matches!(queue, Queue::Maildrop | Queue::Corrupt)) {
        None => common::info!("{id}: outcome of a delivery dropped: the message was deleted meanwhile"),
        Some((_, path)) => {
            if let Err(error) = disk.append_to(id, &path, entries, false) {
                common::error!("{id}: outcome of a delivery lost: {error}");
            }
        }
    }
}

/// What is kept is durable as a file, and not in the commit log alone.
fn sync(disk: &Disk, path: &Path) -> io::Result<()> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    disk.spool.storage().sync_file(&file)
}

/// For those who read the journal; the name of the folder is what counts.
fn note(disk: &Disk, id: QueueId, path: &Path, entry: &Entry) {
    if let Err(error) = disk.append_to(id, path, std::slice::from_ref(entry), false) {
        common::warn!("{}: journal not written: {error}", path.display());
    }
}
