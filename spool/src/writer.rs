//! Writing a message: begin, envelope, content, commit.
//!
//! The file has no name until it is complete and on stable storage (`O_TMPFILE`), so a message that is not committed vanishes with its
//! process, whatever happens. [`MessageWriter::commit`] returns only when the data, the name and the folder's entry are on stable storage; after
//! an error nothing was promised and the writer is spent: a failed sync is never tried again on the same file.
//! Small messages ([`IN_MEMORY`]) are kept in memory until the commit and go out in one write.

use crate::envelope::{ContentFacts, Envelope, MAX_ENVELOPE};
use crate::facts::FactsBuilder;
use crate::group_sync::GroupSync;
use crate::id::QueueId;
use crate::prologue::{PROLOGUE, Prologue, VERSION};
use crate::storage::{Disk, Folder, Storage, look};
use common::codec;
use common::time::Timestamp;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Messages up to this size, in octets, stay in memory until they are committed.
pub const IN_MEMORY: usize = 64 * 1024;

/// Adds messages to one folder. One for a process: its threads share the folder's syncs.
#[derive(Debug, Clone)]
pub struct Spooler {
    storage: Arc<dyn Storage>,
    folder: Arc<Folder>,
    /// Absent where the folder may be added to but not read: a descriptor for syncing it cannot be had there.
    group: Option<Arc<GroupSync>>,
    mode: u32,
}

impl Spooler {
    /// Opens the folder. Files get `mode`.
    ///
    /// With read permission (smtpd opens it while it still is root) commits share folder syncs; with write and search permission alone (`sendmail`)
    /// each commit syncs the whole file system, which is slower and just as safe.
    pub fn open(folder: &Path, mode: u32) -> io::Result<Self> {
        Self::open_on(Disk::shared(), folder, mode)
    }

    /// The same, on another [`Storage`].
    pub fn open_on(storage: Arc<dyn Storage>, folder: &Path, mode: u32) -> io::Result<Self> {
        let folder = Arc::new(Folder::open(folder)?);
        let group = folder.is_readable().then(|| Arc::new(GroupSync::new(storage.clone(), folder.clone())));
        Ok(Self { storage, folder, group, mode })
    }

    /// Begins a message that arrives at `now`.
    pub fn begin(&self, now: Timestamp) -> io::Result<MessageWriter> {
        let file = self.storage.create_unnamed(&self.folder, self.mode)?;
        let id = QueueId::new(now, look(&file)?.inode);
        Ok(MessageWriter::new(self.clone(), file, id))
    }

    /// Begins a message under an ID that it already has (a copy out of `maildrop/` keeps its name).
    pub fn begin_with_id(&self, id: QueueId) -> io::Result<MessageWriter> {
        Ok(MessageWriter::new(self.clone(), self.storage.create_unnamed(&self.folder, self.mode)?, id))
    }
}

/// A message that is being written. Dropped without commit, nothing of it remains.
#[derive(Debug)]
pub struct MessageWriter {
    spooler: Spooler,
    file: File,
    id: QueueId,
    /// Octets not yet in the file: they belong at `flushed`.
    buffer: Vec<u8>,
    flushed: u64,
    prologue: Option<Prologue>,
    facts: FactsBuilder,
}

impl MessageWriter {
    fn new(spooler: Spooler, file: File, id: QueueId) -> Self {
        Self { spooler, file, id, buffer: Vec::new(), flushed: 0, prologue: None, facts: FactsBuilder::new() }
    }

    /// The message's name from now on.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Sets the envelope: once, before the first content.
    pub fn set_envelope(&mut self, envelope: &Envelope) -> io::Result<()> {
        if self.prologue.is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the envelope is already set"));
        }
        let bytes = codec::encode(envelope).map_err(io::Error::other)?;
        if bytes.len() > MAX_ENVELOPE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the envelope is too large"));
        }
        self.prologue = Some(Prologue {
            version: VERSION,
            envelope_length: u32::try_from(bytes.len()).map_err(io::Error::other)?,
            envelope_checksum: crc32fast::hash(&bytes),
            content: ContentFacts::default(),
        });
        self.buffer.resize(PROLOGUE, 0);
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    /// Adds content: CRLF line ends, transparency undone, any split. May write to the file (not sync it).
    pub fn write(&mut self, content: &[u8]) -> io::Result<()> {
        if self.prologue.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "content before the envelope"));
        }
        self.facts.feed(content);
        if self.buffer.len() + content.len() > IN_MEMORY {
            self.flush()?;
        }
        if content.len() >= IN_MEMORY {
            self.spooler.storage.write_at(&self.file, content, self.flushed)?;
            self.flushed += content.len() as u64;
        } else {
            self.buffer.extend_from_slice(content);
        }
        Ok(())
    }

    /// Octets of content so far.
    pub fn content_length(&self) -> u64 {
        self.facts.length()
    }

    /// What the content so far is like.
    pub fn facts(&self) -> ContentFacts {
        self.facts.facts()
    }

    /// What begins to put on stable storage what is in the file so far, while more comes: the commit has less to do then. To be called on a thread that
    /// may block. An error means that the message cannot be committed any more: the commit's own sync may not see it again.
    pub fn early_sync(&self) -> io::Result<impl FnOnce() -> io::Result<()> + Send + 'static> {
        let (storage, file) = (self.spooler.storage.clone(), self.file.try_clone()?);
        Ok(move || storage.sync_file(&file))
    }

    /// Octets that are in the file, not only in memory.
    pub fn written(&self) -> u64 {
        self.flushed
    }

    /// Puts the message on stable storage under its name. Blocks for a sync or two; call it on a thread that may. Concurrent commits share the folder's sync.
    pub fn commit(mut self) -> io::Result<QueueId> {
        self.complete()?;
        let Spooler { storage, folder, group, .. } = &self.spooler;
        storage.sync_file(&self.file)?;
        storage.link(&self.file, folder, self.id.as_str())?;
        let synced = match group {
            Some(group) => group.sync(),
            None => storage.sync_all(&self.file),
        };
        if let Err(error) = synced {
            // Nothing was promised; taking the name away again keeps the client's next try from being a duplicate. The reader may already have it: no harm.
            let _ = storage.remove(&folder.path().join(self.id.as_str()));
            return Err(error);
        }
        Ok(self.id)
    }

    /// Makes the file complete, in memory. `true`: [`Self::image`] is all of it; `false`: some is in the file already, and [`Self::commit`] is the way.
    pub(crate) fn seal(&mut self) -> io::Result<bool> {
        let prologue = self.final_prologue()?;
        if self.flushed > 0 || self.buffer.len() > IN_MEMORY {
            return Ok(false);
        }
        if let Some(start) = self.buffer.get_mut(..PROLOGUE) {
            start.copy_from_slice(&prologue);
        }
        Ok(true)
    }

    /// The whole queue file, once it is sealed.
    pub(crate) fn image(&self) -> &[u8] {
        &self.buffer
    }

    /// Gives the file its name without a sync: the commit log has it.
    pub(crate) fn link_logged(mut self) -> io::Result<QueueId> {
        self.flush()?;
        self.spooler.storage.link(&self.file, &self.spooler.folder, self.id.as_str())?;
        Ok(self.id)
    }

    /// Hands the complete file over without a name (a submission passed as a descriptor). Not synced.
    pub fn into_file(mut self) -> io::Result<File> {
        self.complete()?;
        Ok(self.file)
    }

    /// Writes what is missing: the rest of the content and the prologue, which holds what is only known now.
    fn complete(&mut self) -> io::Result<()> {
        let bytes = self.final_prologue()?;
        if self.flushed == 0 {
            if let Some(start) = self.buffer.get_mut(..PROLOGUE) {
                start.copy_from_slice(&bytes);
            }
            return self.flush();
        }
        self.flush()?;
        self.spooler.storage.write_at(&self.file, &bytes, 0)
    }

    fn final_prologue(&self) -> io::Result<[u8; PROLOGUE]> {
        let mut prologue = self
            .prologue
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a message without envelope"))?;
        prologue.content = self.facts.facts();
        Ok(prologue.encode())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spooler.storage.write_at(&self.file, &self.buffer, self.flushed)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Body, Origin, Recipient};
    use crate::queue_file::QueueFile;
    use common::address::ReversePath;
    use std::io::Read;

    fn envelope() -> Envelope {
        Envelope {
            sender: ReversePath::Null,
            arrived: Timestamp(1),
            origin: Origin::Bounce,
            body: Body::SevenBit,
            recipients: vec![Recipient::new("a@b.example".parse().unwrap())],
            dsn: Default::default(),
        }
    }

    #[test]
    fn what_is_committed_is_read_back_whatever_its_size_and_split() {
        let folder = tempfile::tempdir().unwrap();
        let spooler = Spooler::open(folder.path(), 0o600).unwrap();
        for (size, split) in [
            (0, 1),
            (10, 1),
            (IN_MEMORY - 1, 1000),
            (IN_MEMORY, IN_MEMORY),
            (300_000, 7000),
            (300_000, 300_000),
        ] {
            let content: Vec<u8> =
                (0..size).map(|i| if i % 78 < 76 { b'a' } else { b"\r\n"[i % 78 - 76] }).collect();
            let mut writer = spooler.begin(Timestamp::now()).unwrap();
            writer.set_envelope(&envelope()).unwrap();
            for chunk in content.chunks(split) {
                writer.write(chunk).unwrap();
            }
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no name before the commit");
            let id = writer.commit().unwrap();
            let path = folder.path().join(id.as_str());
            let file = QueueFile::open(&path).unwrap();
            let mut read = Vec::new();
            file.content().unwrap().read_to_end(&mut read).unwrap();
            assert!(read == content && *file.envelope() == envelope(), "{size} octets in pieces of {split}");
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_message_that_is_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let spooler = Spooler::open(folder.path(), 0o600).unwrap();
        let mut writer = spooler.begin(Timestamp::now()).unwrap();
        assert!(writer.write(b"too early").is_err());
        writer.set_envelope(&envelope()).unwrap();
        writer.write(&vec![b'x'; 200_000]).unwrap();
        drop(writer);
        assert!(spooler.begin(Timestamp::now()).unwrap().commit().is_err(), "no envelope");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let spooler = Spooler::open(folder.path(), 0o600).unwrap();
        let mut writer = spooler.begin(Timestamp::now()).unwrap();
        writer.set_envelope(&envelope()).unwrap();
        writer.write(b"Subject: x\r\n\r\nbody\r\n").unwrap();
        let path = folder.path().join(writer.commit().unwrap().as_str());
        let good = std::fs::read(&path).unwrap();
        let envelope_end = usize::try_from(QueueFile::open(&path).unwrap().content_offset()).unwrap();
        for i in 0..envelope_end {
            let mut damaged = good.clone();
            damaged[i] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert!(QueueFile::open(&path).unwrap_err().is_corrupt(), "octet {i}");
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(QueueFile::open(&path).unwrap_err().is_corrupt(), "{length} octets");
        }
    }
}
