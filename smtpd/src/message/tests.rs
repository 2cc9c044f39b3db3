//! Large messages on a disk that fails once: the error must reach the client, wherever it was told first.

use super::*;
use crate::session::Hello;
use spool::envelope::{Body, Recipient};
use spool::storage::{Disk, Folder, Storage};
use std::fs::File;

/// The sync of a file's data with this number fails; those after it do not, as the kernel tells of an error once.
#[derive(Debug)]
struct FailsOnce {
    at: u32,
    syncs: AtomicU32,
}

impl Storage for FailsOnce {
    fn create_unnamed(&self, folder: &Folder, mode: u32) -> io::Result<File> {
        Disk.create_unnamed(folder, mode)
    }
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        Disk.write_at(file, bytes, offset)
    }
    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        Disk.truncate(file, length)
    }
    fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.syncs.fetch_add(1, Ordering::SeqCst) == self.at {
            return Err(Errno::EIO.into());
        }
        Disk.sync_file(file)
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

fn start() -> MessageStart {
    MessageStart {
        sender: ReversePath::Null,
        body: Body::SevenBit,
        dsn: Default::default(),
        recipients: vec![Recipient::new("joe@example".parse().unwrap())],
        hello: Arc::new(Hello { name: "client.example".into(), extended: true }),
        tls: None,
        login: None,
        submitter: None,
    }
}

/// Sends so many octets, then asks for the commit: what came of it, and how many syncs there were.
async fn send(octets: usize, at: u32) -> (Result<QueueId, Reply>, u32, usize) {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(FailsOnce { at, syncs: AtomicU32::new(0) });
    let spooler = Spooler::open_on(storage.clone(), folder.path(), 0o600).unwrap();
    let store = Arc::new(Store::new(spooler, &Spool::new(folder.path()), None));
    let client = Client::new("192.0.2.1".parse().unwrap());
    let hostname = "mail.example".parse().unwrap();
    let mut message = Incoming::new(start(), client, hostname, (Manner::default(), store));
    let line = [b'x'; 1000];
    for _ in 0..octets / line.len() {
        message.add(&line).await;
    }
    let came = message.commit("<id@example>".into()).await;
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    (came, storage.syncs.load(Ordering::SeqCst), left)
}

#[tokio::test]
async fn an_error_that_an_early_sync_is_told_is_the_messages() {
    let (came, syncs, left) = send(10_000_000, u32::MAX).await;
    assert!(came.is_ok() && syncs > 2 && left == 1, "{came:?} {syncs} {left}");
    for at in 0..2 {
        let (came, _, left) = send(10_000_000, at).await;
        assert_eq!((came, left), (Err(WRITE_ERROR), 0), "sync {at}");
    }
    let (came, syncs, left) = send(1_000_000, u32::MAX).await;
    assert!(came.is_ok() && syncs == 1 && left == 1, "{came:?} {syncs} {left}");
    let (came, ..) = send(1_000_000, 0).await;
    assert_eq!(came, Err(WRITE_ERROR));
}

#[tokio::test]
async fn large_portions_are_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let spooler = Spooler::open(folder.path(), 0o600).unwrap();
    let store = Arc::new(Store::new(spooler, &Spool::new(folder.path()), None));
    let new = || {
        let client = Client::new("192.0.2.1".parse().unwrap());
        Incoming::new(start(), client, "mail.example".parse().unwrap(), (Manner::default(), store.clone()))
    };
    let mut messages = Vec::new();
    for _ in 0..LARGE + 3 {
        let mut message = new();
        message.add(&[b'x'; PORTION]).await;
        messages.push(message);
    }
    assert_eq!(messages.iter().filter(|message| message.large.is_some()).count(), LARGE);
    // Whoever got none goes on in small ones.
    messages.last_mut().unwrap().add(&[b'x'; PORTION]).await;
    assert!(messages.pop().unwrap().commit(String::new()).await.is_ok());
    drop(messages);
    assert_eq!(store.large.available_permits(), LARGE);
}
