//! Whether files can be taken away from `incoming/`: asked before a message is delivered from there, since what cannot be removed afterwards would be
//! delivered again after each start. The answer is believed for a moment: asking for each message is a look-up of the whole path.

use rustix::fs::{Access, access};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a yes is believed. When a file system becomes read-only, what is loaded within this time is delivered, and its file is removed as soon as that
/// can be done; should queued be started anew before, it is delivered a second time.
const BELIEVED: Duration = Duration::from_millis(100);

/// When the last yes came.
#[derive(Debug, Default)]
pub(super) struct Writable(Mutex<Option<Instant>>);

impl Writable {
    /// The error says why not.
    pub(super) fn check(&self, folder: &Path, now: Instant) -> io::Result<()> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < BELIEVED) {
            return Ok(());
        }
        *last = None;
        access(folder, Access::WRITE_OK)?;
        *last = Some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_is_believed_for_a_moment_and_a_no_never() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("incoming");
        let (writable, start) = (Writable::default(), Instant::now());
        let at = |millis| writable.check(&folder, start + Duration::from_millis(millis)).is_ok();
        assert!(!at(0));
        std::fs::create_dir(&folder).unwrap();
        assert!(at(1));
        std::fs::remove_dir(&folder).unwrap();
        assert!(at(100) && !at(101) && !at(102));
        std::fs::create_dir(&folder).unwrap();
        assert!(at(103));
    }
}
