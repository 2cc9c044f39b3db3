//! After a boot: every message in the log has a whole file, or has left the queue, or gets its file back.

use super::super::folder;
use super::super::record::{HEADER, records};
use super::{completions, remove_if_there};
use crate::id::QueueId;
use crate::layout::{OWN_MODE, Queue, Spool};
use crate::queue_file::{QueueFile, QueueFileError};
use crate::storage::Folder;
use rustix::fs::OFlags;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const CHUNK: usize = 64 * 1024;

/// Restores, then empties the log. Cut short, it can be begun again.
///
/// What has to go is gone for good before anything comes, so that no message is ever there twice; and all of it is on stable storage before
/// the log, which could do it again, is emptied.
///
/// `again`: an earlier restore in this boot was broken off. What it wrote may never have come to the disk, and still be read from memory as if it had; the error
/// was told to whoever asked first, and a sync now would not see it. So what seems whole is written once more, and the sync is one of that.
pub(super) fn restore(spool: &Spool, root: &File, again: bool) -> io::Result<()> {
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
            match found {
                Some(path) if !whole => spool.storage().remove(&path)?,
                Some(path) if again => write_again(spool, &path)?,
                _ => {}
            }
            if !whole && !done.contains(&id) {
                missing.insert(id);
            }
        }
    }
    spool.storage().sync_all(root)?;
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
    spool.storage().sync_all(root)?;
    segments.iter().try_for_each(|path| erase(spool, path))?;
    for entry in fs::read_dir(folder(spool, "claims"))? {
        remove_if_there(spool, &entry?.path())?;
    }
    completions::clear(spool)
}

/// Writes a file's own octets over it, journal and all.
fn write_again(spool: &Spool, path: &Path) -> io::Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = File::options().read(true).write(true).custom_flags(flags).open(path)?;
    let (mut bytes, mut at) = (vec![0; CHUNK], 0);
    loop {
        let got = file.read(&mut bytes)?;
        let Some(bytes) = bytes.get(..got).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        spool.storage().write_at(&file, bytes, at)?;
        at += got as u64;
    }
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
