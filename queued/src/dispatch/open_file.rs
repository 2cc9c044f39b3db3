//! A message opened for a delivery agent before it is known which: so that handing it over needs no other thread.
//!
//! Opened for each load for reading only: agents share neither an offset nor the right to write. Of the descriptors of this process these take [`MOST`]
//! at most, however many messages are in memory; the others are opened when they are handed over.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there can be.
const MOST: usize = 256;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Open until it is dropped.
#[derive(Debug)]
pub struct OpenFile(File);

impl OpenFile {
    /// Keeps this one, open for reading only and with an offset that nobody has moved; `None` when there are enough.
    pub fn keep(file: File) -> Option<Self> {
        let fits = |open: usize| (open < MOST).then_some(open + 1);
        OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Self(file))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens a message for reading: not through a link, and without waiting for the other end of a FIFO that may have been put there.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    File::options().read(true).custom_flags(flags.bits()).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "").unwrap();
        let new = || OpenFile::keep(open(&path).unwrap());
        let mut files: Vec<_> = (0..2 * MOST).filter_map(|_| new()).collect();
        // Other tests of this process may hold some.
        assert!(!files.is_empty() && files.len() <= MOST, "{}", files.len());
        assert!(new().is_none());
        files.pop();
        assert!(new().is_some());
    }
}
