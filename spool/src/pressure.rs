//! Back-pressure: when new mail comes in faster than it can be brought into memory, acceptance slows down instead of the disk filling up.
//!
//! queued shows it by a file, `public/busy`, which is there while more new messages wait than [`HIGH`], and until they are fewer than [`LOW`]. smtpd looks for it at most
//! once a second and then takes [`DELAY`] for each message, in each of the turns that it has for file work. A hint and nothing more: without the file, or with one that a dead
//! queued left behind, mail is accepted all the same, faster or slower.

use crate::layout::Spool;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// New messages not yet in memory, beyond which acceptance slows down.
pub const HIGH: usize = 10_000;
/// And below which it is quick again.
pub const LOW: usize = 5_000;
/// What a message costs meanwhile (Postfix's `in_flow_delay`).
pub const DELAY: Duration = Duration::from_secs(1);

const LOOK_EVERY: Duration = Duration::from_secs(1);

fn file(spool: &Spool) -> PathBuf {
    spool.root().join("public/busy")
}

/// queued's side.
#[derive(Debug)]
pub struct Gauge {
    file: PathBuf,
    /// `None` until it was shown for the first time: an earlier queued may have left the file.
    high: Option<bool>,
}

impl Gauge {
    /// Nothing is shown yet.
    pub fn new(spool: &Spool) -> Self {
        Self { file: file(spool), high: None }
    }

    /// So many new messages wait. Gives `Some` when that changes what is shown; after an error it is tried again at the next call.
    pub fn show(&mut self, waiting: usize) -> io::Result<Option<bool>> {
        let high = if self.high == Some(true) { waiting >= LOW } else { waiting > HIGH };
        if self.high == Some(high) {
            return Ok(None);
        }
        if high {
            File::create(&self.file)?;
        } else {
            match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let changed = self.high.unwrap_or(false) != high;
        self.high = Some(high);
        Ok(changed.then_some(high))
    }
}

/// smtpd's side.
#[derive(Debug)]
pub struct Pressure {
    file: PathBuf,
    seen: Mutex<Option<(Instant, bool)>>,
}

impl Pressure {
    /// Nobody has looked yet.
    pub fn new(spool: &Spool) -> Self {
        Self { file: file(spool), seen: Mutex::new(None) }
    }

    /// Is there more than can be taken?
    pub fn is_high(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some((looked, high)) if looked.elapsed() < LOOK_EVERY => high,
            _ => {
                let high = fs::symlink_metadata(&self.file).is_ok();
                *seen = Some((Instant::now(), high));
                high
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_with_hysteresis_and_what_a_dead_queued_left_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("public")).unwrap();
        let spool = Spool::new(folder.path());
        fs::write(file(&spool), "").unwrap();
        let mut gauge = Gauge::new(&spool);
        for (waiting, told, high) in [
            (0, None, false),
            (HIGH, None, false),
            (HIGH + 1, Some(true), true),
            (LOW, None, true),
            (LOW - 1, Some(false), false),
            (LOW, None, false),
        ] {
            assert_eq!(gauge.show(waiting).unwrap(), told, "{waiting}");
            assert_eq!(Pressure::new(&spool).is_high(), high, "{waiting}");
        }
    }
}
