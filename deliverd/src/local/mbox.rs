//! Delivery into an mbox: appended under both locks, synced, and taken back whole when anything fails on
//! the way.
//!
//! The file must be a regular one with one name that belongs to the recipient, and is never reached through
//! a symbolic link. A message of up to [`AT_ONCE`] octets is checked before the first octet is written, and
//! written by one call; of a longer one a part can stay behind when this process is killed in the middle.

use super::failure::Failure;
use super::folder::{Folder, check_owner, file_type, is_link};
use super::lock::{Patience, take_both};
use super::message::{CopyError, Message};
use super::template::{Kind, MailboxPath};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Longest message that is formatted in memory.
pub const AT_ONCE: u64 = 1 << 20;

/// Appends to the mbox at `mailbox`, which is made (0600) when it is missing.
pub fn deliver(
    mailbox: &MailboxPath,
    top: &str,
    message: &Message,
    patience: Patience,
) -> Result<(), Failure> {
    let Some((name, steps)) = mailbox.steps.split_last() else {
        return Err(Failure::mailbox("the mailbox has no name".into()));
    };
    let mut folder = Folder::open(&mailbox.folder)?;
    for step in steps {
        folder = folder.enter(step)?;
    }
    let small = if message.length() <= AT_ONCE { Some(format(top, message)?) } else { None };
    // A reader that rewrites the mailbox may put a new file in its place before we have the locks.
    for _ in 0..10 {
        let open = Mbox::open(&folder, name)?;
        // The dotlock outlives the file, so that readers find the file closed when it goes.
        let _dotlock = take_both(&folder, name, (&open.file, &open.path), patience)?;
        if open.is_still(&folder, name)? {
            return open.append(&folder, |file| match &small {
                Some(octets) => file.write_all(octets).map_err(CopyError::Write),
                None => message.copy(top, Kind::Mbox, file),
            });
        }
    }
    Err(Failure::mailbox(format!("{} is replaced again and again", folder.path().join(name).display())))
}

fn format(top: &str, message: &Message) -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    message.copy(top, Kind::Mbox, &mut octets).map_err(|error| match error {
        CopyError::Message(failure) => failure,
        CopyError::Write(error) => Failure::message(&error),
    })?;
    Ok(octets)
}

struct Mbox {
    file: File,
    path: PathBuf,
}

impl Mbox {
    fn open(folder: &Folder, name: &str) -> Result<Self, Failure> {
        let path = folder.path().join(name);
        // Non-blocking, so that a fifo or a device cannot hold us up before it is recognized.
        let flags = OFlag::O_RDWR
            | OFlag::O_APPEND
            | OFlag::O_CREAT
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY
            | OFlag::O_CLOEXEC;
        let open = |flags| openat(folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        // Our look at the last line must not count as a reader's: "new mail" is a file changed after it was
        // last read.
        let opened = match open(flags | OFlag::O_NOATIME) {
            Err(Errno::EPERM) => open(flags),
            other => other,
        };
        let fd = opened.map_err(|errno| match errno {
            Errno::ELOOP => is_link(&path),
            Errno::EISDIR => Failure::mailbox(format!(
                "{} is a folder: a Maildir is configured with a slash at its end",
                path.display()
            )),
            _ => Failure::call("open mailbox", &path, errno),
        })?;
        let open = Self { file: File::from(fd), path };
        open.check()?;
        Ok(open)
    }

    fn check(&self) -> Result<FileStat, Failure> {
        let stat = fstat(&self.file).map_err(|errno| Failure::call("look at", &self.path, errno))?;
        if file_type(&stat) != SFlag::S_IFREG {
            return Err(Failure::mailbox(format!("{} is not a regular file", self.path.display())));
        }
        check_owner(&self.path, &stat, false)?;
        if stat.st_nlink > 1 {
            return Err(Failure::mailbox(format!("{} has more than one name", self.path.display())));
        }
        Ok(stat)
    }

    /// Does the name still stand for the file that we locked?
    fn is_still(&self, folder: &Folder, name: &str) -> Result<bool, Failure> {
        let (ours, named) = (self.check()?, folder.look(name)?);
        Ok(named.is_some_and(|named| (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)))
    }

    fn append(
        mut self,
        folder: &Folder,
        write: impl FnOnce(&mut File) -> Result<(), CopyError>,
    ) -> Result<(), Failure> {
        let failed = |error: &io::Error| Failure::io("write to", &self.path, error);
        let end = self.file.metadata().map_err(|error| failed(&error))?.len();
        let missing = self.missing_newlines(end).map_err(|error| failed(&error))?;
        let written = (&self.file)
            .write_all(missing)
            .map_err(CopyError::Write)
            .and_then(|()| write(&mut self.file))
            .and_then(|()| self.file.sync_all().map_err(CopyError::Write));
        let synced = match written {
            // A mailbox that did not exist needs its name on stable storage, too.
            Ok(()) if end == 0 => folder.sync(),
            Ok(()) => Ok(()),
            Err(CopyError::Message(failure)) => Err(failure),
            Err(CopyError::Write(error)) => Err(Failure::io("write to", &self.path, &error)),
        };
        synced.map_err(|failure| self.take_back(end, failure))
    }

    /// The next `From ` line must stand behind an empty line, whatever another program left at the end.
    fn missing_newlines(&self, end: u64) -> io::Result<&'static [u8]> {
        let mut tail = [b'\n'; 2];
        let known = end.min(2);
        let (_, part) = tail.split_at_mut(2 - usize::try_from(known).unwrap_or(2));
        self.file.read_exact_at(part, end - known)?;
        Ok(match tail {
            [b'\n', b'\n'] => b"",
            [_, b'\n'] => b"\n",
            _ => b"\n\n",
        })
    }

    fn take_back(&self, end: u64, failure: Failure) -> Failure {
        match self.file.set_len(end).and_then(|()| self.file.sync_all()) {
            Ok(()) => failure,
            Err(error) => Failure {
                text: format!(
                    "{}; and cannot cut {} back to {end} octets: {error}",
                    failure.text,
                    self.path.display()
                ),
                alert: true,
                ..failure
            },
        }
    }
}
