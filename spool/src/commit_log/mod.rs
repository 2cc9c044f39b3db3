//! The commit log: it keeps fresh messages durable until their files are, or are gone.
//!
//! smtpd appends small messages, whole, to a segment of the log; one data sync makes a whole group of them durable, and then each gets its queue
//! file, which nobody syncs: most are delivered and removed before the kernel would have written them. queued keeps the segments: it makes
//! them, gives them back for use when what they protect is durable otherwise, and after a power cut makes good from them what is missing.
//! A message is one file all the same; the log is read after a power cut only.
//!
//! ```text
//! commit/               queued:smtpd 2710
//!   segments/N          queued:smtpd 0620   preallocated, SIZE octets; smtpd writes and cannot read
//!   claims/N            smtpd        2730   segment N is in use; locked (flock) by the smtpd that writes to it
//!   done/K              queued       0600   16 octets for each message that has left the queue
//!   boot                queued       0640   the boot for which the log is open …
//!   restoring                               … for which it is being restored …
//!   frozen                                  … in which a sync of the file system failed: the same file under another name
//! ```
//!
//! | step | who | on stable storage by |
//! | --- | --- | --- |
//! | restore: `restoring` names this boot | queued, before it makes good what an earlier boot left | sync of file and folder |
//! | open the log: renamed to `boot` | queued, after that | nothing: after a cut it is another boot |
//! | claim: a locked file is linked as `claims/N` | smtpd, when `boot` names this boot | nothing: after a cut all segments are read |
//! | append a group, sync, link each file, `250` | smtpd ([`Committer`]) | data sync of the segment |
//! | a file cannot be linked: a record takes the message back, then it is refused | smtpd | data sync of the segment |
//! | rest: the claim is unlocked | smtpd, 30 seconds after its last group has its names | |
//! | message leaves the queue: its ID goes to `done/K` | queued ([`Keeper`]) | data sync, each second at the latest |
//! | give back a claimed segment that is not locked | queued: sync of the whole file system, first record erased, claim removed | sync of the segment before the claim goes |
//!
//! A failed data sync is never tried again: the segment is left alone, and its group commits as files. A failed sync of the file system closes the log until the
//! next boot (smtpd gets no more segments, none is given back), because what was not written may look written until then. For the same reason a restore that is broken off
//! believes nothing that it finds when it is begun again in the same boot. While no segment can be had, messages commit as files.

mod committer;
mod keeper;
mod kernel;
pub mod record;
mod segment;
#[cfg(test)]
mod tests;

pub use committer::{Commit, Committer};
pub use keeper::{Keeper, boot_id};
pub use kernel::silent_sync;

use crate::layout::Spool;
use std::path::PathBuf;

/// How large the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Octets of a segment.
    pub size: usize,
    /// Most segments.
    pub segments: usize,
}

impl Default for Geometry {
    /// 64 MiB at most, made as they are needed.
    fn default() -> Self {
        Self { size: 4 << 20, segments: 16 }
    }
}

fn folder(spool: &Spool, name: &str) -> PathBuf {
    spool.root().join("commit").join(name)
}

fn segment_path(spool: &Spool, number: usize) -> PathBuf {
    folder(spool, "segments").join(number.to_string())
}

fn claim_path(spool: &Spool, number: usize) -> PathBuf {
    folder(spool, "claims").join(number.to_string())
}

fn boot_path(spool: &Spool) -> PathBuf {
    folder(spool, "boot")
}
