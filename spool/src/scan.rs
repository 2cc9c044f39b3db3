//! Walking the queues: names only, streaming, never the files themselves.

use crate::id::{QueueId, is_folder_name};
use crate::layout::{Queue, Spool, parse_deferred_name};
use common::time::Timestamp;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Something found in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A message; `due` only in `deferred/`.
    Message {
        /// Its name.
        id: QueueId,
        /// When its next attempt is due.
        due: Option<Timestamp>,
        /// Its file.
        path: PathBuf,
    },
    /// A name that is no message's.
    Stray {
        /// The name.
        name: OsString,
        /// Where it lies.
        path: PathBuf,
    },
}

/// Everything in a queue, in the folders' own order. A queue without folder is empty; other errors are handed out and end that folder.
pub fn scan(spool: &Spool, queue: Queue) -> Box<dyn Iterator<Item = io::Result<Found>> + Send> {
    let folder = spool.directory(queue);
    if queue != Queue::Deferred {
        return entries(folder, false);
    }
    // Only the sub-folders that exist are looked into: most of the 2,704 never come about on a quiet machine.
    match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Box::new(std::iter::empty()),
        Err(error) => Box::new(std::iter::once(Err(error))),
        Ok(folders) => Box::new(folders.flat_map(|entry| match entry {
            Ok(entry) if entry.file_name().to_str().is_some_and(is_folder_name) => {
                entries(entry.path(), true)
            }
            other => {
                Box::new(std::iter::once(other.map(|e| Found::Stray { name: e.file_name(), path: e.path() })))
            }
        })),
    }
}

fn entries(folder: PathBuf, deferred: bool) -> Box<dyn Iterator<Item = io::Result<Found>> + Send> {
    match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Box::new(std::iter::empty()),
        Err(error) => Box::new(std::iter::once(Err(error))),
        Ok(entries) => {
            Box::new(entries.map(move |entry| entry.map(|e| found(e.file_name(), e.path(), deferred))))
        }
    }
}

fn found(name: OsString, path: PathBuf, deferred: bool) -> Found {
    let text = name.to_str().unwrap_or("");
    let parsed = if deferred {
        parse_deferred_name(text).map(|(id, due)| (id, Some(due)))
    } else {
        text.parse().ok().map(|id| (id, None))
    };
    match parsed {
        Some((id, due)) => Found::Message { id, due, path },
        None => Found::Stray { name, path },
    }
}
