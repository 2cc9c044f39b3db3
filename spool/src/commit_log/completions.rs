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
    pub(super) fn open(spool: &Spool, live: BTreeSet<Use>) -> io::Result<Self> {
        let old: Vec<_> = numbers(spool)?.into_iter().map(|number| (number, live.clone())).collect();
        let next = old.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
        Ok(Self { current: None, next, old })
    }

    /// Writes these down; on return they are on stable storage.
    pub(super) fn note(&mut self, spool: &Spool, left: &[QueueId]) -> io::Result<()> {
        if left.is_empty() {
            return Ok(());
        }
        let storage = spool.storage();
        if self.current.is_none() {
            let done = Folder::open(&folder(spool, "done"))?;
            let file = storage.create_unnamed(&done, OWN_MODE)?;
            let number = self.next;
            storage.write_at(&file, b"", 0)?;
            storage.link(&file, &done, &number.to_string())?;
            storage.sync_folder(&done)?;
            self.next += 1;
            self.current = Some(Current { number, file, end: 0 });
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let bytes: Vec<u8> = left.iter().flat_map(|id| id.as_str().bytes()).collect();
        storage.write_at(&current.file, &bytes, current.end)?;
        storage.sync_file(&current.file)?;
        current.end += bytes.len() as u64;
        Ok(())
    }

    /// Segments were given back; `locked` are in use still. `over` says of a use that it has ended.
    pub(super) fn turn(
        &mut self,
        spool: &Spool,
        locked: BTreeSet<Use>,
        over: impl Fn(Use) -> bool,
    ) -> io::Result<()> {
        if let Some(current) = self.current.take() {
            self.old.push((current.number, locked));
        }
        let mut gone = Vec::new();
        self.old.retain(|(number, uses)| {
            let needed = uses.iter().any(|one| !over(*one));
            if !needed {
                gone.push(*number);
            }
            needed
        });
        gone.into_iter().try_for_each(|number| remove(spool, number))
    }

    /// No segment is in use.
    pub(super) fn forget_all(&mut self, spool: &Spool) -> io::Result<()> {
        self.turn(spool, BTreeSet::new(), |_| true)
    }
}

/// All that is noted anywhere.
pub(super) fn all(spool: &Spool) -> io::Result<HashSet<QueueId>> {
    let mut all = HashSet::new();
    for number in numbers(spool)? {
        let bytes = fs::read(folder(spool, "done").join(number.to_string()))?;
        // One that is torn or was never written is passed over: its message is delivered again.
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
