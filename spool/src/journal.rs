//! The journal: what has become of a message's recipients, appended to its queue file in frames.
//!
//! A frame is length (u32), CRC-32 of the payload (u32), payload (a bincode [`Entry`]), little-endian. A torn or damaged frame ends the journal: what
//! stands behind it never happened, and the next append overwrites it. Entries are append-only as types.

use crate::envelope::Recipient;
use crate::envelope::v1::RecipientV1;
use crate::id::QueueId;
use crate::storage::Storage;
use common::codec;
use common::status::{Outcome, Status};
use common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Longest entry, in octets: the longest expansion (10,000 addresses) with all that can be said of a recipient.
pub const MAX_ENTRY: usize = 16 * 1024 * 1024;
/// Longest journal that is read, in octets; more than any sane life of a message writes.
pub const MAX_JOURNAL: u64 = 256 * 1024 * 1024;
const HEADER: usize = 8;
/// Once a journal is longer than this, in octets, why a recipient still waits is written down no more: only what is final, and the next attempt.
/// Days of attempts for thousands of recipients must not fill the disk, nor reach [`MAX_JOURNAL`].
pub const PLENTY: u64 = 4 * 1024 * 1024;
/// Most results in one entry, each of at most some 2,500 octets.
const MAX_RESULTS: usize = 500;

/// One fact. Recipients are numbered: first those of the envelope, from 0, then those added by [`Entry::Expanded`], in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// [`Entry::Expanded`] as format version 1 had it. Only read, and handed out as that.
    ExpandedV1(Vec<(u32, Vec<RecipientV1>)>),
    /// The outcome of an attempt for these recipients (delivered and failed are final).
    Attempted {
        /// When.
        at: Timestamp,
        /// Per recipient.
        results: Vec<(u32, Status)>,
    },
    /// The sender was told that these recipients failed; nothing more is owed for them.
    Notified {
        /// When.
        at: Timestamp,
        /// Which.
        recipients: Vec<u32>,
        /// The notification, `None` where none is due.
        notification: Option<QueueId>,
    },
    /// An admin keeps the message.
    Held {
        /// When.
        at: Timestamp,
    },
    /// An admin lets it go on.
    Released {
        /// When.
        at: Timestamp,
    },
    /// So many attempts have been made (the basis of the backoff); written at each deferral.
    Retry {
        /// Attempts so far.
        attempts: u32,
        /// The next one is due then.
        due: Timestamp,
    },
    /// These recipients were replaced by others, which get the next numbers: `(replaced, by)`.
    Expanded(Vec<(u32, Vec<Recipient>)>),
    /// The sender was told something else than failures about these recipients; nothing more of that kind is owed for them.
    Told {
        /// When.
        at: Timestamp,
        /// What.
        news: News,
        /// About whom.
        recipients: Vec<u32>,
        /// The notification, `None` when it is another system's duty now.
        notification: Option<QueueId>,
    },
}

/// What a notification says that is none of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum News {
    /// Not delivered yet.
    Delayed,
    /// Delivered, relayed or expanded.
    Succeeded,
}

impl Entry {
    /// What an older version wrote, in today's form.
    fn renewed(self) -> Self {
        match self {
            Self::ExpandedV1(replacements) => {
                let renew = |by: Vec<RecipientV1>| by.into_iter().map(Recipient::from).collect();
                Self::Expanded(replacements.into_iter().map(|(number, by)| (number, renew(by))).collect())
            }
            other => other,
        }
    }
}

/// A place to append to.
#[derive(Debug)]
pub struct Journal {
    begin: u64,
    end: u64,
}

impl Journal {
    /// Reads the entries from `offset` on; the result appends behind the last good one.
    pub fn read(file: &File, offset: u64) -> io::Result<(Self, Vec<Entry>)> {
        let length = file.metadata()?.len();
        let size = length.saturating_sub(offset).min(MAX_JOURNAL);
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, offset)?;
        let (entries, used) = parse(&bytes);
        Ok((Self { begin: offset, end: offset + used as u64 }, entries))
    }

    /// Appends, and with `sync` returns only when the entries are on stable storage. After an error the journal ends where it did: what a
    /// failed sync may have left in memory only must not stand before what a later one makes durable, and the first of several expansions that
    /// a full disk had room for must not give out numbers that nobody knows of.
    pub fn append(
        &mut self,
        storage: &dyn Storage,
        file: &File,
        entries: &[Entry],
        sync: bool,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        let plenty = self.end - self.begin > PLENTY;
        for entry in entries
            .iter()
            .filter_map(|entry| if plenty { final_part(entry) } else { Some(Cow::Borrowed(entry)) })
            .flat_map(pieces)
        {
            let payload = codec::encode(&*entry).map_err(io::Error::other)?;
            if payload.len() > MAX_ENTRY {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "journal entry too long"));
            }
            bytes.extend_from_slice(&u32::try_from(payload.len()).map_err(io::Error::other)?.to_le_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
            bytes.extend_from_slice(&payload);
        }
        // What is left of a torn frame must not be read as the continuation of ours.
        if file.metadata()?.len() > self.end {
            storage.truncate(file, self.end)?;
        }
        let written = storage.write_at(file, &bytes, self.end);
        let done = written.and_then(|()| if sync { storage.sync_file(file) } else { Ok(()) });
        match done {
            Ok(()) => self.end += bytes.len() as u64,
            Err(_) => self.cut_off(storage, file),
        }
        done
    }

    /// Makes what stands behind the end unreadable.
    fn cut_off(&self, storage: &dyn Storage, file: &File) {
        // Where the file cannot become shorter its octets can still be others: a frame of no length is none, and needs no room.
        if storage.truncate(file, self.end).is_err()
            && file.metadata().is_ok_and(|metadata| metadata.len() >= self.end + HEADER as u64)
        {
            let _ = storage.write_at(file, &[0; HEADER], self.end);
        }
    }
}

/// What of an entry can never be said again by a later attempt.
fn final_part(entry: &Entry) -> Option<Cow<'_, Entry>> {
    let Entry::Attempted { at, results } = entry else { return Some(Cow::Borrowed(entry)) };
    let is_final = |status: &Status| status.outcome != Outcome::Deferred;
    let results: Vec<_> = results.iter().filter(|(_, status)| is_final(status)).cloned().collect();
    (!results.is_empty()).then_some(Cow::Owned(Entry::Attempted { at: *at, results }))
}

/// An entry in parts that are far below [`MAX_ENTRY`], whatever the other side had to say about each of thousands of recipients.
fn pieces(entry: Cow<'_, Entry>) -> Vec<Cow<'_, Entry>> {
    match &*entry {
        Entry::Attempted { at, results } if results.len() > MAX_RESULTS => results
            .chunks(MAX_RESULTS)
            .map(|part| Cow::Owned(Entry::Attempted { at: *at, results: part.to_vec() }))
            .collect(),
        _ => vec![entry],
    }
}

/// The good entries at the start of `bytes`, and how many octets they take.
pub fn parse(bytes: &[u8]) -> (Vec<Entry>, usize) {
    let mut entries = Vec::new();
    let mut used = 0;
    while let Some((entry, length)) = bytes.get(used..).and_then(first_frame) {
        entries.push(entry);
        used += length;
    }
    (entries, used)
}

fn first_frame(bytes: &[u8]) -> Option<(Entry, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let payload = rest.get(..length).filter(|_| length <= MAX_ENTRY)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*checksum) {
        return None;
    }
    Some((codec::decode::<Entry, MAX_ENTRY>(payload).ok()?.renewed(), HEADER + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Disk, Folder};
    use common::status::EnhancedCode;
    use std::path::Path;

    fn entries() -> Vec<Entry> {
        let status =
            Status::local(EnhancedCode::new(4, 4, 1), "connect to x[127.0.0.1]:25: Connection refused");
        vec![
            Entry::Expanded(vec![(0, vec![Recipient::new("a@b".parse().unwrap())])]),
            Entry::Attempted { at: Timestamp(5), results: vec![(1, status)] },
            Entry::Retry { attempts: 1, due: Timestamp(6) },
        ]
    }

    #[test]
    fn a_torn_tail_is_ignored_and_overwritten() {
        let all = entries();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let (mut journal, none) = Journal::read(&file, 10).unwrap();
        assert!(none.is_empty());
        journal.append(&Disk, &file, &all[..2], true).unwrap();
        let whole = file.metadata().unwrap().len();
        let (mut journal, _) = Journal::read(&file, 10).unwrap();
        journal.append(&Disk, &file, &all[2..], false).unwrap();
        let full = file.metadata().unwrap().len();
        for cut in whole..full {
            file.set_len(cut).unwrap();
            let (mut journal, read) = Journal::read(&file, 10).unwrap();
            assert_eq!(read, all[..2], "cut at {cut}");
            journal.append(&Disk, &file, &all[2..], false).unwrap();
            assert_eq!(Journal::read(&file, 10).unwrap().1, all);
        }
    }

    #[test]
    fn a_damaged_frame_ends_the_journal() {
        let file = tempfile::tempfile().unwrap();
        let (mut journal, _) = Journal::read(&file, 0).unwrap();
        journal.append(&Disk, &file, &entries(), false).unwrap();
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 0x10;
            let (read, _) = parse(&damaged);
            assert!(read.len() < 3 && read == entries()[..read.len()], "octet {i}");
        }
        let mut hostile = u32::MAX.to_le_bytes().to_vec();
        hostile.extend([0; 100]);
        assert!(parse(&hostile).0.is_empty());
    }

    /// A disk that is full after so many octets more, whose syncs of files fail, and which perhaps truncates nothing.
    #[derive(Debug)]
    struct Bad {
        room: usize,
        truncates: bool,
    }

    const NO_SYNC: Bad = Bad { room: usize::MAX, truncates: true };

    impl Storage for Bad {
        fn create_unnamed(&self, folder: &Folder, mode: u32) -> io::Result<File> {
            Disk.create_unnamed(folder, mode)
        }
        fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
            let fits = bytes.len().min(self.room);
            // What is there already can be written again.
            if offset + (bytes.len() as u64) <= file.metadata()?.len() || fits == bytes.len() {
                return Disk.write_at(file, bytes, offset);
            }
            Disk.write_at(file, &bytes[..fits], offset)?;
            Err(io::Error::from_raw_os_error(28))
        }
        fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
            if self.truncates { Disk.truncate(file, length) } else { Err(io::Error::from_raw_os_error(5)) }
        }
        fn sync_file(&self, _: &File) -> io::Result<()> {
            Err(io::Error::from_raw_os_error(5))
        }
        fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
            Disk.sync_folder(folder)
        }
        fn sync_all(&self, file: &File) -> io::Result<()> {
            Disk.sync_all(file)
        }
        fn link(&self, file: &File, folder: &Folder, name: &str) -> io::Result<()> {
            Disk.link(file, folder, name)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            Disk.rename(from, to)
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            Disk.remove(path)
        }
        fn make_folder(&self, path: &Path) -> io::Result<()> {
            Disk.make_folder(path)
        }
    }

    #[test]
    fn nothing_of_a_failed_sync_stays() {
        let file = tempfile::tempfile().unwrap();
        let (mut journal, _) = Journal::read(&file, 0).unwrap();
        let all = entries();
        journal.append(&Disk, &file, &all[..1], true).unwrap();
        assert!(journal.append(&NO_SYNC, &file, &all[1..], true).is_err());
        assert_eq!(Journal::read(&file, 0).unwrap().1, all[..1]);
        journal.append(&Disk, &file, &all[1..], true).unwrap();
        assert_eq!(Journal::read(&file, 0).unwrap().1, all);
    }

    #[test]
    fn nothing_of_what_a_full_disk_had_room_for_stays() {
        let all = entries();
        for truncates in [true, false] {
            for room in 0.. {
                let file = tempfile::tempfile().unwrap();
                let (mut journal, _) = Journal::read(&file, 0).unwrap();
                journal.append(&Disk, &file, &all[..1], true).unwrap();
                if journal.append(&Bad { room, truncates }, &file, &all[1..], false).is_ok() {
                    assert!(room > 100);
                    break;
                }
                assert_eq!(Journal::read(&file, 0).unwrap().1, all[..1], "room for {room}");
                journal.append(&Disk, &file, &all[1..], true).unwrap();
                assert_eq!(Journal::read(&file, 0).unwrap().1, all, "room for {room}");
            }
        }
    }

    #[test]
    fn a_long_journal_takes_only_what_is_final() {
        let deferred = Status::local(EnhancedCode::new(4, 4, 1), "x".repeat(1000));
        let failed = Status::local(EnhancedCode::new(5, 1, 1), "no");
        let file = tempfile::tempfile().unwrap();
        let (mut journal, _) = Journal::read(&file, 0).unwrap();
        let all: Vec<_> = (0..1000).map(|number| (number, deferred.clone())).collect();
        let attempted = [Entry::Attempted { at: Timestamp(5), results: all }];
        let length = || file.metadata().unwrap().len();
        while length() <= PLENTY {
            journal.append(&Disk, &file, &attempted, false).unwrap();
        }
        let full = length();
        journal.append(&Disk, &file, &attempted, false).unwrap();
        assert_eq!(length(), full);
        let last = Entry::Attempted { at: Timestamp(6), results: vec![(1, deferred), (2, failed.clone())] };
        let retry = Entry::Retry { attempts: 7, due: Timestamp(8) };
        journal.append(&Disk, &file, &[last, retry.clone()], false).unwrap();
        let read = Journal::read(&file, 0).unwrap().1;
        let kept = Entry::Attempted { at: Timestamp(6), results: vec![(2, failed)] };
        assert_eq!(read[read.len() - 2..], [kept, retry]);
    }

    #[test]
    fn thousands_of_long_results_fit() {
        let mut status = Status::local(EnhancedCode::new(4, 2, 2), "x".repeat(1000));
        status.reply = Some("y".repeat(1000));
        let results: Vec<_> = (0..10_000).map(|number| (number, status.clone())).collect();
        let file = tempfile::tempfile().unwrap();
        let (mut journal, _) = Journal::read(&file, 0).unwrap();
        journal
            .append(&Disk, &file, &[Entry::Attempted { at: Timestamp(5), results: results.clone() }], false)
            .unwrap();
        let read = Journal::read(&file, 0).unwrap().1.into_iter().flat_map(|entry| match entry {
            Entry::Attempted { results, .. } => results,
            other => panic!("{other:?}"),
        });
        assert!(read.eq(results));
    }
}
