//! smtpd's side of the log: the segment that it writes to.

use super::{Geometry, boot_path, claim_path, folder, record, segment_path};
use crate::id::QueueId;
use crate::layout::Spool;
use crate::storage::Folder;
use rustix::fs::{FlockOperation, OFlags};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// After a vain search for a segment the next one is after this time.
const PAUSE: Duration = Duration::from_millis(200);
/// When nothing has come for so long, the segment is given up. As long as it is in use, only `done/` keeps what has left the queue from coming
/// back after a power cut: should some of that be lost, it shall not matter for long.
pub(super) const QUIET: Duration = Duration::from_secs(30);
/// Where little comes, but always something, it is given up after this time.
const LONGEST: Duration = Duration::from_secs(300);

/// The log as a writer sees it. One for a process.
#[derive(Debug)]
pub(super) struct Log {
    spool: Spool,
    geometry: Geometry,
    /// Absent until the folder is there.
    claims: Option<Folder>,
    boot: String,
    current: Option<Segment>,
    look: Option<Instant>,
    quiet: Duration,
    /// When the last messages came.
    last: Option<Instant>,
    /// Given up because nothing came. What comes alone is a file then: to take a segment for it, and to give it back, costs the disk more.
    resting: bool,
}

#[derive(Debug)]
struct Segment {
    file: File,
    /// Locked as long as this segment is written to.
    claim: File,
    epoch: u64,
    at: usize,
    since: Instant,
}

/// The keeper sees that nothing more comes. (It would without this, too, once the file is closed everywhere.)
impl Drop for Segment {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.claim, FlockOperation::Unlock);
    }
}

impl Log {
    /// `quiet`: [`QUIET`], but for tests.
    pub(super) fn new(spool: Spool, geometry: Geometry, boot: String, quiet: Duration) -> Self {
        Self {
            spool,
            geometry,
            claims: None,
            boot,
            current: None,
            look: None,
            quiet,
            last: None,
            resting: false,
        }
    }

    /// How long to wait for more before [`Self::rest`]; `None` when there is nothing to give up.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.current.as_ref().map(|_| self.quiet)
    }

    /// Nothing has come for a while: gives the segment up. All that is in it must have its name by now.
    pub(super) fn rest(&mut self) {
        self.resting |= self.current.take().is_some();
    }

    /// Appends these queue files. `true`: all are on stable storage. `false`: none can be said to be, commit them in another way.
    pub(super) fn append(&mut self, images: &[(QueueId, &[u8])]) -> bool {
        let length: usize = images.iter().map(|(_, image)| record::room(image.len())).sum();
        let now = Instant::now();
        let before = self.last.replace(now);
        if self.current.as_ref().is_none_or(|segment| {
            segment.at + length > self.geometry.size || now.duration_since(segment.since) >= LONGEST
        }) {
            self.current = None;
            let alone =
                images.len() == 1 && before.is_none_or(|before| now.duration_since(before) >= self.quiet);
            if length > self.geometry.size || self.resting && alone {
                return false;
            }
            self.resting = false;
            self.current = self.claim(now);
        }
        let Some(segment) = &mut self.current else { return false };
        let mut bytes = Vec::with_capacity(length);
        for (id, image) in images {
            record::encode(segment.epoch, *id, image, &mut bytes);
        }
        let storage = self.spool.storage();
        let written = storage
            .write_at(&segment.file, &bytes, segment.at as u64)
            .and_then(|()| storage.sync_file(&segment.file));
        match written {
            Ok(()) => {
                segment.at += length;
                true
            }
            Err(error) => {
                common::error!("commit log: {error}; this group commits as files");
                // What became of it on the disk cannot be known: it is not touched again.
                self.current = None;
                false
            }
        }
    }

    fn claim(&mut self, now: Instant) -> Option<Segment> {
        if self.look.is_some_and(|look| now < look) {
            return None;
        }
        let found = self.try_claim().unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                common::warn!(
                    "commit log: no segment can be had: {error}; messages commit as files meanwhile"
                );
            }
            None
        });
        self.look = found.is_none().then_some(now + PAUSE);
        found
    }

    fn try_claim(&mut self) -> io::Result<Option<Segment>> {
        // Segments of an earlier boot may be all that is left of some messages.
        if std::fs::read_to_string(boot_path(&self.spool))? != self.boot {
            return Ok(None);
        }
        if self.claims.is_none() {
            self.claims = Some(Folder::open(&folder(&self.spool, "claims"))?);
        }
        let Some(claims) = &self.claims else { return Ok(None) };
        let storage = self.spool.storage();
        let claim = storage.create_unnamed(claims, 0o660)?;
        rustix::fs::flock(&claim, FlockOperation::NonBlockingLockExclusive)?;
        storage.write_at(&claim, format!("{}\n", std::process::id()).as_bytes(), 0)?;
        for number in 0..self.geometry.segments {
            if std::fs::symlink_metadata(claim_path(&self.spool, number)).is_ok() {
                continue;
            }
            let flags = OFlags::NOFOLLOW.bits().cast_signed();
            let file =
                match File::options().write(true).custom_flags(flags).open(segment_path(&self.spool, number))
                {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
            match storage.link(&claim, claims, &number.to_string()) {
                Ok(()) => {
                    let epoch = RandomState::new().hash_one(std::time::SystemTime::now());
                    return Ok(Some(Segment { file, claim, epoch, at: 0, since: Instant::now() }));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
