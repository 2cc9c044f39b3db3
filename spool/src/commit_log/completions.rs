//! What has left the queue: `done/K`, 16 octets a message. After a power cut these are not restored from the log.
//!
//! A file is needed as long as a segment is in use that was in use while the file was written: so a new one is begun whenever segments are given
//! back, and old ones go with their segments.

use super::super::folder;
use super::remove_if_there;
use crate::id::{LENGTH, QueueId};
use crate::layout::{OWN_MODE, Spool};
use crate::storage::Folder;
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io;

/// A use of a segment: its number, and which use of it.
pub(super) type Use = (usize, u64);

#[derive(Debug)]
pub(super) struct Completions {
    current: Option<Current>,
    next: u64,
    /// Files that are written no more since segments were given back last: what they are kept for is known when that happens again.
    spent: Vec<u64>,
    /// Files that are written no more, and for which uses they are kept.
    old: Vec<(u64, BTreeSet<Use>)>,
}

#[derive(Debug)]
struct Current {
    number: u64,
    file: File,
    end: u64,
}

impl Completions {
    /// What is there already is kept for these.
    pub(super) fn open(spool: &Spool, live: BTreeSet<Use>) -> Self {
        let there = numbers(spool).unwrap_or_else(|error| {
            common::error!("commit log: commit/done cannot be read: {error}; what is in it stays there");
            Vec::new()
        });
        let next = there.last().map_or(0, |last| last.saturating_add(1));
        let old = there.into_iter().map(|number| (number, live.clone())).collect();
        Self { current: None, next, spent: Vec::new(), old }
    }

    /// Writes these down; on return they are on stable storage. After an error they are to be noted again: that goes to another file, since nothing
    /// is certain about one that could not be synced.
    pub(super) fn note(&mut self, spool: &Spool, left: &[QueueId]) -> io::Result<()> {
        if left.is_empty() {
            return Ok(());
        }
        let storage = spool.storage();
        let bytes: Vec<u8> = left.iter().flat_map(|id| id.as_str().bytes()).collect();
        let Some(mut current) = self.current.take() else {
            self.current = Some(self.begin(spool, &bytes)?);
            return Ok(());
        };
        let noted = storage
            .write_at(&current.file, &bytes, current.end)
            .and_then(|()| storage.sync_file(&current.file));
        if noted.is_err() {
            self.spent.push(current.number);
            return noted;
        }
        current.end += bytes.len() as u64;
        self.current = Some(current);
        Ok(())
    }

    /// It gets its name when all is in it, so that a full disk leaves nothing behind.
    fn begin(&mut self, spool: &Spool, bytes: &[u8]) -> io::Result<Current> {
        let storage = spool.storage();
        let done = Folder::open(&folder(spool, "done"))?;
        let file = storage.create_unnamed(&done, OWN_MODE)?;
        storage.write_at(&file, bytes, 0)?;
        storage.sync_file(&file)?;
        // The number is used up whatever comes of it: the name may be taken, by whomever.
        let number = self.next;
        self.next = number.saturating_add(1);
        storage.link(&file, &done, &number.to_string())?;
        if let Err(error) = storage.sync_folder(&done) {
            if remove(spool, number).is_err() {
                self.spent.push(number);
            }
            return Err(error);
        }
        Ok(Current { number, file, end: bytes.len() as u64 })
    }

    /// Segments were given back; `locked` are in use still. `over` says of a use that it has ended.
    pub(super) fn turn(
        &mut self,
        spool: &Spool,
        locked: &BTreeSet<Use>,
        over: impl Fn(Use) -> bool,
    ) -> io::Result<()> {
        let ended = self.spent.drain(..).chain(self.current.take().map(|current| current.number));
        self.old.extend(ended.map(|number| (number, locked.clone())));
        let mut all = Ok(());
        // One that cannot be removed is tried again.
        self.old.retain(|(number, uses)| {
            let needed = uses.iter().any(|one| !over(*one));
            let gone = !needed && remove(spool, *number).map_err(|error| all = Err(error)).is_ok();
            !gone
        });
        all
    }

    /// No segment is in use.
    pub(super) fn forget_all(&mut self, spool: &Spool) -> io::Result<()> {
        self.turn(spool, &BTreeSet::new(), |_| true)
    }
}

/// All that is noted anywhere.
pub(super) fn all(spool: &Spool) -> io::Result<HashSet<QueueId>> {
    let mut all = HashSet::new();
    for number in numbers(spool)? {
        // What cannot be read is passed over, as is what is torn or was never written: its messages are delivered again.
        let bytes = fs::read(folder(spool, "done").join(number.to_string())).unwrap_or_else(|error| {
            common::error!(
                "commit log: commit/done/{number}: {error}; messages in it may be delivered again"
            );
            Vec::new()
        });
        let ids =
            bytes.chunks_exact(LENGTH).filter_map(|id| std::str::from_utf8(id).ok()?.parse::<QueueId>().ok());
        all.extend(ids);
    }
    Ok(all)
}

/// Removes everything.
pub(super) fn clear(spool: &Spool) -> io::Result<()> {
    numbers(spool)?.into_iter().try_for_each(|number| remove(spool, number))
}

fn remove(spool: &Spool, number: u64) -> io::Result<()> {
    remove_if_there(spool, &folder(spool, "done").join(number.to_string()))
}

fn numbers(spool: &Spool) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder(spool, "done"))? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
