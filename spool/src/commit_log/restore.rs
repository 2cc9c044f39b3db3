//! After a boot: every message in the log has a whole file, or has left the queue, or gets its file back.
//!
//! In two steps. [`Restore::begin`] holds each record against the queue, while nobody works on that. [`Restore::go_on`] brings back what is missing and
//! empties the log. It can be tried again later, when the disk was full, with the queue at work: what is missing has no file that anybody else could
//! touch. Nothing that fails here keeps queued from starting; as long as something is left to do the log stays as it is, and closed.
//!
//! What has to go is gone for good before anything comes, so that no message is ever there twice; and all of it is on stable storage before
//! the log, which could do it again, is emptied. Cut short, it can be begun again.

use super::super::folder;
use super::super::record::{HEADER, records};
use super::{boot, completions, remove_if_there};
use crate::id::QueueId;
use crate::layout::{OWN_MODE, Queue, Spool, parse_deferred_name};
use crate::queue_file::{QueueFile, QueueFileError};
use crate::storage::Folder;
use nix::errno::Errno;
use rustix::fs::OFlags;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CHUNK: usize = 64 * 1024;
/// Names tried for one file in `corrupt/`.
const TRIES: u32 = 1000;
/// Most messages of which a log line says that they have to wait for the next start.
const SHOWN: usize = 20;
/// So much of the file system, in octets, is left to queued, which has to write down what has left the queue.
const RESERVE: u64 = 8 << 20;
/// Between two tries to bring back what is missing.
const PAUSE: Duration = Duration::from_secs(30);

/// What is left to do.
#[derive(Debug, Default)]
pub(super) struct Restore {
    /// Records.
    seen: usize,
    /// Those that had no whole file.
    wanted: usize,
    /// Those that have none yet.
    missing: HashSet<QueueId>,
    /// What cannot be decided or done before the next start.
    unsettled: usize,
    /// Nothing more can be done before the next start.
    halted: bool,
    tried: Option<Instant>,
    said: String,
}

impl Restore {
    /// Nothing can be done: what the log is cannot be known.
    pub(super) fn none(error: &io::Error) -> Self {
        let mut none = Self::default();
        none.halt(error);
        none
    }

    /// Compares the log with the queue. `again`: an earlier restore in this boot was broken off. What it wrote may never have come to the disk, and still be read from memory as if
    /// it had; the error was told to whoever asked first, and a sync now would not see it. So what seems whole is written once more, and the sync is one of that.
    pub(super) fn begin(spool: &Spool, root: &File, boot: &str, again: bool) -> Self {
        let mut restore = Self::default();
        let compared = boot::restoring(spool, boot)
            .and_then(|()| restore.compare(spool, again))
            .and_then(|()| spool.storage().sync_all(root));
        if let Err(error) = compared {
            restore.halt(&error);
        }
        restore
    }

    fn compare(&mut self, spool: &Spool, again: bool) -> io::Result<()> {
        let done = completions::all(spool)?;
        let mut void = HashSet::new();
        for path in segments(spool)? {
            let (bytes, readable) = read(&path);
            if let Err(error) = readable {
                self.leave(&format!("commit/segments/{}", name(&path)), &error);
            }
            for (id, image) in records(&bytes) {
                if image.is_empty() {
                    void.insert(id);
                    continue;
                }
                self.seen += 1;
                match settle(spool, id, done.contains(&id), again) {
                    Ok(true) => drop(self.missing.insert(id)),
                    Ok(false) => {}
                    Err(error) => self.leave(id.as_str(), &error),
                }
            }
        }
        self.missing.retain(|id| !void.contains(id));
        self.wanted = self.missing.len();
        Ok(())
    }

    /// Does what is left, if it is time for that. `true`: the log is empty, and open.
    pub(super) fn go_on(&mut self, spool: &Spool, root: &File) -> bool {
        let now = Instant::now();
        if self.halted || self.tried.is_some_and(|tried| now.duration_since(tried) < PAUSE) {
            return false;
        }
        let first = self.tried.replace(now).is_none() || !self.missing.is_empty();
        if let Err(error) = self.bring_back(spool) {
            let left = self.missing.len();
            self.say(format!(
                "{left} messages of an earlier boot are not back in the queue: {error}. They are safe in the log, new ones commit as files; \
                 tried again every half minute"
            ));
            return false;
        }
        if self.seen > 0 && first {
            let (seen, wanted) = (self.seen, self.wanted);
            common::info!("commit log: {seen} messages of an earlier boot, {wanted} of them restored");
        }
        if self.unsettled > 0 {
            self.halted = true;
            return false;
        }
        if let Err(error) = spool.storage().sync_all(root) {
            self.halt(&error);
            return false;
        }
        if let Err(error) = empty(spool).and_then(|()| boot::open(spool)) {
            self.say(format!(
                "cannot be emptied: {error}. New messages commit as files; tried again every half minute"
            ));
            return false;
        }
        true
    }

    fn bring_back(&mut self, spool: &Spool) -> io::Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let incoming = Folder::open(&spool.directory(Queue::Incoming))?;
        for path in segments(spool)? {
            for (id, image) in records(&read(&path).0) {
                if !self.missing.contains(&id) {
                    continue;
                }
                if super::octets_free(spool)? < RESERVE {
                    return Err(Errno::ENOSPC.into());
                }
                let file = spool.storage().create_unnamed(&incoming, OWN_MODE)?;
                spool.storage().write_at(&file, image, 0)?;
                match spool.storage().link(&file, &incoming, id.as_str()) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        self.leave(id.as_str(), &error);
                    }
                    other => other?,
                }
                self.missing.remove(&id);
            }
        }
        if self.missing.is_empty() { Ok(()) } else { Err(io::Error::other("segments cannot be read")) }
    }

    #[cfg(test)]
    pub(super) fn is_due(&mut self) {
        self.tried = None;
    }

    /// Something has to wait for the next start; everything else goes on.
    fn leave(&mut self, what: &str, error: &io::Error) {
        self.unsettled += 1;
        if self.unsettled <= SHOWN {
            self.say(format!(
                "{what}: {error}. It stays in the log, new messages commit as files; mend it, then start queued again"
            ));
        }
    }

    fn halt(&mut self, error: &io::Error) {
        self.halted = true;
        self.say(format!(
            "cannot be restored: {error}. Messages of an earlier boot stay in it, new ones commit as files; mend it, then start queued again"
        ));
    }

    fn say(&mut self, text: String) {
        if self.said != text {
            common::error!("commit log: {text}");
            self.said = text;
        }
    }
}

/// Compares one record with the queue: has its message to be brought back?
fn settle(spool: &Spool, id: QueueId, done: bool, again: bool) -> io::Result<bool> {
    let Some(path) = find(spool, id)? else { return Ok(!done) };
    if !fs::symlink_metadata(&path)?.is_file() {
        set_aside(spool, &path, "not a regular file")?;
        return Ok(!done);
    }
    if done {
        spool.storage().remove(&path)?;
        return Ok(false);
    }
    match is_whole(&path) {
        Ok(true) if again => write_again(spool, &path).map(|()| false),
        Ok(true) => Ok(false),
        // The log has all that can be in it.
        Ok(false) => spool.storage().remove(&path).map(|()| true),
        Err(error) if is_of_the_file(&error) => set_aside(spool, &path, &error.to_string()).map(|()| true),
        Err(error) => Err(error),
    }
}

/// Where the message lies. What was set aside as damaged does not count. Nor does what lies in `maildrop/`: nothing there is ever logged, and its names
/// are chosen by strangers.
fn find(spool: &Spool, id: QueueId) -> io::Result<Option<PathBuf>> {
    for queue in [Queue::Incoming, Queue::Active, Queue::Hold] {
        let path = spool.path(queue, id);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map(|_| Some(path)),
        }
    }
    let entries = match fs::read_dir(spool.directory(Queue::Deferred).join(id.folder())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().and_then(parse_deferred_name).is_some_and(|(other, _)| other == id) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn is_whole(path: &Path) -> io::Result<bool> {
    let read = QueueFile::open(path).and_then(|file| Ok(io::copy(&mut file.content()?, &mut io::sink())?));
    match read {
        Ok(_) => Ok(true),
        Err(QueueFileError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => Err(error),
        Err(_) => Ok(false),
    }
}

/// Is it this file that cannot be read, on a machine that can read others?
fn is_of_the_file(error: &io::Error) -> bool {
    let of_the_file = [Errno::EIO, Errno::EUCLEAN, Errno::EBADMSG];
    error.raw_os_error().is_some_and(|code| of_the_file.contains(&Errno::from_raw(code)))
}

/// To `corrupt/`, under a name that is still free there.
fn set_aside(spool: &Spool, path: &Path, why: &str) -> io::Result<()> {
    for number in 0..TRIES {
        let mut target = name(path);
        if number > 0 {
            target = format!("{target}.{number}");
        }
        match spool.storage().rename(path, &spool.directory(Queue::Corrupt).join(&target)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => {
                other?;
                common::error!("{}: {why}: moved to corrupt/{target}", name(path));
                return Ok(());
            }
        }
    }
    Err(io::Error::other("no free name in corrupt/"))
}

/// Writes a file's own octets over it, journal and all.
fn write_again(spool: &Spool, path: &Path) -> io::Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = File::options().read(true).write(true).custom_flags(flags).open(path)?;
    let (mut bytes, mut at) = (vec![0; CHUNK], 0);
    loop {
        let got = file.read(&mut bytes)?;
        let Some(bytes) = bytes.get(..got).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        spool.storage().write_at(&file, bytes, at)?;
        at += got as u64;
    }
}

/// Everything in the log is durable as a file, or gone.
fn empty(spool: &Spool) -> io::Result<()> {
    segments(spool)?.iter().try_for_each(|path| erase(spool, path))?;
    for entry in fs::read_dir(folder(spool, "claims"))? {
        remove_if_there(spool, &entry?.path())?;
    }
    completions::clear(spool)
}

/// Makes a segment one without records.
pub(super) fn erase(spool: &Spool, path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    spool.storage().write_at(&file, &[0; HEADER], 0)?;
    spool.storage().sync_file(&file)
}

/// All of them, those under way to their name too.
fn segments(spool: &Spool) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder(spool, "segments"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// What can be read of a segment.
fn read(path: &Path) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    (bytes, read.map(drop))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
