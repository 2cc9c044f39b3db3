//! Reading a queue file: prologue, envelope, content, journal. Everything in it is checked; nothing in it is believed.

use crate::content::ContentReader;
use crate::envelope::v1::EnvelopeV1;
use crate::envelope::{ContentFacts, Envelope, MAX_ENVELOPE};
use crate::journal::{Entry, Journal};
use crate::prologue::{PROLOGUE, Prologue, PrologueError};
use common::codec::{self, CodecError};
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Octets that are read at once from the start of a file.
const START: usize = 4096;

/// Why a file cannot be used as a queue file.
#[derive(Debug, thiserror::Error)]
pub enum QueueFileError {
    /// It could not be read at all; it may be fine later.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// Its prologue is wrong.
    #[error("{0}")]
    Prologue(#[from] PrologueError),
    /// Its envelope is wrong.
    #[error("envelope damaged (wrong checksum)")]
    EnvelopeChecksum,
    /// Its envelope cannot be decoded.
    #[error("envelope: {0}")]
    Envelope(#[from] CodecError),
    /// It is shorter than it says.
    #[error("file too short")]
    Truncated,
    /// Not a plain file.
    #[error("not a regular file")]
    NotAFile,
    /// No recipient.
    #[error("no recipients")]
    NoRecipients,
}

impl QueueFileError {
    /// Is the file itself at fault (it goes to `corrupt/`), and not the machine?
    pub fn is_corrupt(&self) -> bool {
        !matches!(self, Self::Io(_))
    }
}

/// An open, checked queue file.
#[derive(Debug)]
pub struct QueueFile {
    file: File,
    inode: u64,
    has_journal: bool,
    prologue: Prologue,
    envelope: Envelope,
}

impl QueueFile {
    /// Opens for reading, never through a symbolic link.
    pub fn open(path: &Path) -> Result<Self, QueueFileError> {
        Self::from_file(options().open(path)?)
    }

    /// Opens for reading and for appending to the journal.
    pub fn open_for_update(path: &Path) -> Result<Self, QueueFileError> {
        Self::from_file(options().write(true).open(path)?)
    }

    /// Checks a file that is already open.
    pub fn from_file(file: File) -> Result<Self, QueueFileError> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(QueueFileError::NotAFile);
        }
        if meta.len() < PROLOGUE as u64 {
            return Err(QueueFileError::Truncated);
        }
        // One read brings prologue and envelope of nearly every message.
        let mut start = [0; START];
        let start = start
            .get_mut(..usize::try_from(meta.len()).unwrap_or(START).min(START))
            .ok_or(QueueFileError::Truncated)?;
        file.read_exact_at(start, 0)?;
        let (head, rest) = start.split_first_chunk::<PROLOGUE>().ok_or(QueueFileError::Truncated)?;
        let prologue = Prologue::decode(head)?;
        if meta.len() < prologue.journal_offset() {
            return Err(QueueFileError::Truncated);
        }
        let length = prologue.envelope_length as usize;
        let bytes = match rest.get(..length) {
            Some(all) => Cow::Borrowed(all),
            None => {
                let mut bytes = rest.to_vec();
                bytes.resize(length, 0);
                file.read_exact_at(bytes.get_mut(rest.len()..).unwrap_or_default(), START as u64)?;
                Cow::Owned(bytes)
            }
        };
        if crc32fast::hash(&bytes) != prologue.envelope_checksum {
            return Err(QueueFileError::EnvelopeChecksum);
        }
        let envelope: Envelope = match prologue.version {
            1 => codec::decode::<EnvelopeV1, MAX_ENVELOPE>(&bytes)?.into(),
            _ => codec::decode::<_, MAX_ENVELOPE>(&bytes)?,
        };
        if envelope.recipients.is_empty() {
            return Err(QueueFileError::NoRecipients);
        }
        let has_journal = meta.len() > prologue.journal_offset();
        Ok(Self { file, inode: meta.ino(), has_journal, prologue, envelope })
    }

    /// The envelope as it was accepted.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Gives the envelope and the file up.
    pub fn into_parts(self) -> (Envelope, File) {
        (self.envelope, self.file)
    }

    /// What the content is like.
    pub fn facts(&self) -> ContentFacts {
        self.prologue.content
    }

    /// Where the content begins.
    pub fn content_offset(&self) -> u64 {
        self.prologue.content_offset()
    }

    /// Reads the content from its beginning, checking its checksum.
    pub fn content(&self) -> io::Result<ContentReader> {
        Ok(ContentReader::new(self.file.try_clone()?, self.content_offset(), &self.facts()))
    }

    /// What the journal says; without one when the file was opened, nothing is read.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        if self.has_journal { Ok(self.journal()?.1) } else { Ok(Vec::new()) }
    }

    /// Reads the journal to append to it.
    pub fn journal(&self) -> io::Result<(Journal, Vec<Entry>)> {
        Journal::read(&self.file, self.prologue.journal_offset())
    }

    /// Which file it is.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn options() -> std::fs::OpenOptions {
    let mut options = File::options();
    // Never follow a link, never hang on a FIFO that somebody put there.
    options
        .read(true)
        .custom_flags((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed());
    options
}
