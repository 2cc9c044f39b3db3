//! Both sides of the log on a storage that fails when it is told to.

use super::committer::{Commit, Committer};
use super::segment::{Log, QUIET};
use super::{Geometry, Keeper, folder};
use crate::envelope::{Body, Envelope, Origin, Recipient};
use crate::id::QueueId;
use crate::layout::{OWN_MODE, Queue, Spool};
use crate::storage::{Disk, Folder, Storage};
use crate::writer::{MessageWriter, Spooler};
use common::address::ReversePath;
use common::time::Timestamp;
use nix::errno::Errno;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod completions;
mod frozen;
mod refused;
mod restore;

/// Enough for a handful of messages a segment.
const GEOMETRY: Geometry = Geometry { size: 4096, segments: 4 };
const BOOT: &str = "this boot";
/// A time that never passes here.
const HOURS: Duration = Duration::from_secs(36_000);

/// An operation of [`Storage`], a part of the path that it is about, and how it fails.
type Fault = (&'static str, &'static str, Errno);

/// The disk, but for some faults.
#[derive(Debug, Default)]
struct Faulty(Mutex<Vec<Fault>>);

impl Faulty {
    fn check(&self, what: &str, path: &Path) -> io::Result<()> {
        let faults = self.0.lock().unwrap();
        let path = path.to_string_lossy();
        let fault = faults.iter().find(|(operation, part, _)| *operation == what && path.contains(part));
        fault.map_or(Ok(()), |(_, _, errno)| Err((*errno).into()))
    }

    fn check_file(&self, what: &str, file: &File) -> io::Result<()> {
        self.check(what, &fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap())
    }
}

impl Storage for Faulty {
    fn create_unnamed(&self, folder: &Folder, mode: u32) -> io::Result<File> {
        self.check("create_unnamed", folder.path())?;
        Disk.create_unnamed(folder, mode)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_file("write_at", file)?;
        Disk.write_at(file, bytes, offset)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        self.check_file("truncate", file)?;
        Disk.truncate(file, length)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.check_file("sync_file", file)
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        self.check("sync_folder", folder.path())
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.check_file("sync_all", file)
    }

    fn link(&self, file: &File, folder: &Folder, name: &str) -> io::Result<()> {
        self.check("link", &folder.path().join(name))?;
        Disk.link(file, folder, name)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check("rename", to)?;
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check("remove", path)?;
        Disk.remove(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.check("make_folder", path)?;
        Disk.make_folder(path)
    }
}

/// A spool with a commit log.
struct Lab {
    _folder: tempfile::TempDir,
    storage: Arc<Faulty>,
    spool: Spool,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in
            Queue::ALL.map(Queue::name).into_iter().chain(["commit/segments", "commit/claims", "commit/done"])
        {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let storage = Arc::new(Faulty::default());
        let spool = Spool::on(folder.path(), storage.clone() as Arc<dyn Storage>);
        Self { _folder: folder, storage, spool }
    }

    fn fails(&self, faults: &[Fault]) {
        *self.storage.0.lock().unwrap() = faults.to_vec();
    }

    fn heals(&self) {
        self.fails(&[]);
    }

    /// queued's side, started in this boot.
    fn keeper_in(&self, boot: &str) -> Keeper {
        Keeper::open(&self.spool, GEOMETRY, boot, true, OWN_MODE).unwrap()
    }

    /// The same, with segments ready for use.
    fn keeper(&self) -> Keeper {
        let keeper = self.keeper_in(BOOT);
        keeper.tend().unwrap();
        keeper
    }

    fn log(&self, quiet: Duration) -> Log {
        Log::new(self.spool.clone(), GEOMETRY, BOOT.into(), quiet)
    }

    fn committer(&self) -> Committer {
        Committer::with(self.log(QUIET)).unwrap()
    }

    fn writer(&self) -> Box<MessageWriter> {
        let incoming = self.spool.directory(Queue::Incoming);
        let spooler = Spooler::open_on(self.spool.storage().clone(), &incoming, OWN_MODE).unwrap();
        let mut writer = spooler.begin(Timestamp::now()).unwrap();
        writer
            .set_envelope(&Envelope {
                sender: ReversePath::Null,
                arrived: Timestamp(1),
                origin: Origin::Bounce,
                body: Body::SevenBit,
                recipients: vec![Recipient::new("a@b.example".parse().unwrap())],
                dsn: Default::default(),
            })
            .unwrap();
        writer.write(b"Subject: x\r\n\r\nbody\r\n").unwrap();
        Box::new(writer)
    }

    /// Commits a message and says what came of it.
    fn commit(&self, committer: &Committer) -> Commit {
        let (told, hear) = channel();
        let writer = self.writer();
        committer.commit(move || Ok(writer), move |came| told.send(came).unwrap());
        hear.recv().unwrap()
    }

    /// Commits a message through the log.
    fn accept(&self, committer: &Committer) -> QueueId {
        match self.commit(committer) {
            Commit::Done(id) => id,
            other => panic!("not logged: {other:?}"),
        }
    }

    /// What a committer does that ends: its thread lives as long as the process.
    fn release(&self) {
        for name in self.names("claims") {
            let path = folder(&self.spool, "claims").join(name);
            fs::remove_file(&path).unwrap();
            fs::write(&path, "not locked").unwrap();
        }
    }

    fn path(&self, id: QueueId) -> PathBuf {
        self.spool.path(Queue::Incoming, id)
    }

    fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(folder(&self.spool, name)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn append(log: &mut Log, count: usize) -> bool {
    let id = |n| QueueId::new(Timestamp(1_795_358_702_123_456), n);
    let images: Vec<_> = (0..).map(id).map(|id| (id, &b"an image"[..])).take(count).collect();
    log.append(&images)
}

#[test]
fn a_segment_is_given_up_when_nothing_comes() {
    let lab = Lab::new();
    let keeper = lab.keeper();
    let committer = Committer::with(lab.log(Duration::from_millis(20))).unwrap();
    let id = lab.accept(&committer);
    assert!(lab.path(id).exists());
    // queued finds it unlocked sooner or later, and gives it back.
    while !lab.names("claims").is_empty() {
        std::thread::yield_now();
        keeper.tend().unwrap();
    }
    assert!(matches!(lab.commit(&committer), Commit::AsFile(_)), "a segment for one message");
}

#[test]
fn after_a_rest_what_comes_alone_takes_no_segment() {
    let lab = Lab::new();
    let _keeper = lab.keeper();
    let mut log = lab.log(Duration::ZERO);
    assert!(append(&mut log, 1), "the first one of all");
    log.rest();
    assert_eq!(log.patience(), None);
    assert!(!append(&mut log, 1));
    assert!(!append(&mut log, 1), "far behind the other");
    assert!(append(&mut log, 2), "two at once");
    assert!(append(&mut log, 1));

    let mut log = lab.log(HOURS);
    assert!(append(&mut log, 1));
    log.rest();
    assert!(append(&mut log, 1), "close behind the other");
}
