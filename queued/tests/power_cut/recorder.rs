//! A [`Storage`] that does everything for real and notes it.

use crate::states::Op;
use spool::storage::{Disk, Folder, Storage};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Which syncs are only pretended: the broken variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// The code as it is.
    Nothing,
    /// Files' data is never synced.
    FileSync,
    /// Folders are never synced.
    FolderSync,
    /// The file system as a whole is never synced.
    SyncAll,
}

/// Notes operations, and what the scenario says meanwhile.
#[derive(Debug)]
pub struct Recorder {
    without: Without,
    /// Syncs of everything that go well before one fails.
    good: Mutex<Option<usize>>,
    /// Is there no room for more messages?
    full: Mutex<bool>,
    ops: Mutex<Vec<Op>>,
    /// Kept open, so that no inode number is used twice.
    files: Mutex<Vec<File>>,
}

impl Recorder {
    pub fn new(without: Without) -> Self {
        Self {
            without,
            good: Mutex::default(),
            full: Mutex::default(),
            ops: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// The sync of everything after so many good ones will fail, once.
    pub fn fail_after(&self, good: usize) {
        *self.good.lock().unwrap() = Some(good);
    }

    /// From now on there is no room for more messages.
    pub fn fill(&self) {
        *self.full.lock().unwrap() = true;
    }

    pub fn note(&self, op: Op) {
        self.ops.lock().unwrap().push(op);
    }

    pub fn take(&self) -> Vec<Op> {
        std::mem::take(&mut self.ops.lock().unwrap())
    }

    /// Does it and, when that went well, notes it; both at once, so that the record has the order of what happened.
    fn noted<T>(&self, op: Op, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut ops = self.ops.lock().unwrap();
        let done = act()?;
        ops.push(op);
        Ok(done)
    }
}

fn inode(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}

/// `…/spool/QUEUE/NAME` as `QUEUE/NAME`.
fn relative(path: &Path) -> PathBuf {
    let parts: Vec<_> = path.iter().collect();
    let spool = parts.iter().rposition(|part| *part == "spool").expect("a path in the spool");
    parts[spool + 1..].iter().collect()
}

impl Storage for Recorder {
    fn create_unnamed(&self, folder: &Folder, mode: u32) -> io::Result<File> {
        if *self.full.lock().unwrap() && folder.path().ends_with("incoming") {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = Disk.create_unnamed(folder, mode)?;
        self.files.lock().unwrap().push(file.try_clone()?);
        Ok(file)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let op = Op::Write { file: inode(file), offset, bytes: bytes.to_vec() };
        self.noted(op, || Disk.write_at(file, bytes, offset))
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.noted(Op::Truncate { file: inode(file), length }, || Disk.truncate(file, length))
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        match self.without {
            Without::FileSync => Ok(()),
            _ => self.noted(Op::SyncFile { file: inode(file) }, || Ok(())),
        }
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        match self.without {
            Without::FolderSync => Ok(()),
            _ => self.noted(Op::SyncFolder { folder: relative(folder.path()) }, || Ok(())),
        }
    }

    fn sync_all(&self, _: &File) -> io::Result<()> {
        let mut good = self.good.lock().unwrap();
        if *good == Some(0) {
            *good = None;
            self.note(Op::SyncAllFailed);
            return Err(io::Error::other("a sync that fails"));
        }
        *good = good.map(|good| good - 1);
        match self.without {
            Without::SyncAll => Ok(()),
            _ => self.noted(Op::SyncAll, || Ok(())),
        }
    }

    fn link(&self, file: &File, folder: &Folder, name: &str) -> io::Result<()> {
        let op = Op::Link { file: inode(file), path: relative(&folder.path().join(name)) };
        self.noted(op, || Disk.link(file, folder, name))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let op = Op::Rename { from: relative(from), to: relative(to) };
        self.noted(op, || Disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let op = Op::Remove { path: relative(path) };
        self.noted(op, || {
            // Held open, so that its inode number stays its own.
            self.files.lock().unwrap().push(File::open(path)?);
            Disk.remove(path)
        })
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.noted(Op::MakeFolder { path: relative(path) }, || Disk.make_folder(path))
    }
}
