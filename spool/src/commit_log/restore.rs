//! After a boot: every message in the log has a whole file, or has left the queue, or gets its file back.

use super::super::folder;
use super::super::record::{HEADER, records};
use super::{completions, remove_if_there};
use crate::id::QueueId;
use crate::layout::{OWN_MODE, Queue, Spool};
use crate::queue_file::{QueueFile, QueueFileError};
use crate::storage::Folder;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Restores, then empties the log. Cut short, it can be begun again.
///
/// What has to go is gone for good before anything comes, so that no message is ever there twice; and all of it is on stable storage before
/// the log, which could do it again, is emptied.
pub(super) fn restore(spool: &Spool) -> io::Result<()> {
    let root = File::open(spool.root())?;
    let segments = segments(spool)?;
    let done = completions::all(spool)?;
    let (mut seen, mut missing) = (0_usize, HashSet::new());
    for path in &segments {
        for (id, _) in records(&fs::read(path)?) {
            seen += 1;
            let found = find(spool, id);
            let whole = match &found {
                Some(path) => !done.contains(&id) && is_whole(path)?,
                None => false,
            };
            if !whole && let Some(path) = found {
                spool.storage().remove(&path)?;
            }
            if !whole && !done.contains(&id) {
                missing.insert(id);
            }
        }
    }
    spool.storage().sync_all(&root)?;
    if seen > 0 {
        common::info!("commit log: {seen} messages of an earlier boot, {} of them restored", missing.len());
    }
    let incoming = Folder::open(&spool.directory(Queue::Incoming))?;
    for path in &segments {
        for (id, image) in records(&fs::read(path)?).filter(|(id, _)| missing.contains(id)) {
            let file = spool.storage().create_unnamed(&incoming, OWN_MODE)?;
            spool.storage().write_at(&file, image, 0)?;
            spool.storage().link(&file, &incoming, id.as_str())?;
        }
    }
    spool.storage().sync_all(&root)?;
    segments.iter().try_for_each(|path| erase(spool, path))?;
    for entry in fs::read_dir(folder(spool, "claims"))? {
        remove_if_there(spool, &entry?.path())?;
    }
    completions::clear(spool)
}

/// Makes a segment one without records.
pub(super) fn erase(spool: &Spool, path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    spool.storage().write_at(&file, &[0; HEADER], 0)?;
    spool.storage().sync_file(&file)
}

/// All of them, those under way to their name too.
fn segments(spool: &Spool) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder(spool, "segments"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// What was set aside as damaged does not count.
fn find(spool: &Spool, id: QueueId) -> Option<PathBuf> {
    spool.find(id).filter(|(queue, _)| *queue != Queue::Corrupt).map(|(_, path)| path)
}

fn is_whole(path: &Path) -> io::Result<bool> {
    let read = QueueFile::open(path).and_then(|file| Ok(io::copy(&mut file.content()?, &mut io::sink())?));
    match read {
        Ok(_) => Ok(true),
        Err(QueueFileError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => Err(error),
        Err(_) => Ok(false),
    }
}
