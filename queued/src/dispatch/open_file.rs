//! A message opened for a delivery agent before it is known which: so that handing it over needs no other thread.
//!
//! Opened afresh for reading only: agents share neither an offset nor the right to write. Of the descriptors of this process these take [`MOST`]
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
    /// Opens the message that lies there; `None` when there are enough, or it cannot be opened now.
    pub fn new(path: &Path) -> Option<Self> {
        let fits = |open: usize| (open < MOST).then_some(open + 1);
        OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        match open(path) {
            Ok(file) => Some(Self(file)),
            Err(_) => {
                OPEN.fetch_sub(1, Ordering::Relaxed);
                None
            }
        }
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

/// Opens a message for reading, and nothing else that may have been put there.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits()).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert!(OpenFile::new(&path).is_none());
        std::fs::write(&path, "").unwrap();
        let mut files: Vec<_> = (0..2 * MOST).filter_map(|_| OpenFile::new(&path)).collect();
        // Other tests of this process may hold some.
        assert!(!files.is_empty() && files.len() <= MOST, "{}", files.len());
        assert!(OpenFile::new(&path).is_none());
        files.pop();
        assert!(OpenFile::new(&path).is_some());
    }
}
