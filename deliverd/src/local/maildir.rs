//! Delivery into a Maildir: written in `tmp/`, synced, renamed into `new/`, and `new/` synced. Only then is
//! a message delivered.
//!
//! Whatever goes wrong, no part of the message is left in `new/`, and none in `tmp/` unless this process is
//! killed. No lock is needed: names are unique, and a name that exists is never overwritten.

use super::failure::Failure;
use super::folder::Folder;
use super::message::{CopyError, Message};
use super::template::{Kind, MailboxPath};
use common::time::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::fs::File;

/// Makes names for messages, unique among all processes of all hosts that deliver into a Maildir.
#[derive(Debug)]
pub struct Names {
    host: String,
    process: u32,
    count: u64,
}

impl Names {
    /// For this host's name and this process's number. `/` and `:`, which mean something in a Maildir, are
    /// replaced.
    pub fn new(hostname: &str, process: u32) -> Self {
        Self { host: hostname.replace('/', "\\057").replace(':', "\\072"), process, count: 0 }
    }

    /// `SECONDS.MmicrosPpid_count.host`
    pub fn next(&mut self, now: Timestamp) -> String {
        self.count += 1;
        let (seconds, micros) = (now.seconds(), now.0.rem_euclid(1_000_000));
        format!("{seconds}.M{micros}P{}_{}.{}", self.process, self.count, self.host)
    }
}

/// Delivers into the Maildir at `mailbox`, made when it is missing, under `name`.
pub fn deliver(mailbox: &MailboxPath, name: &str, top: &str, message: &Message) -> Result<(), Failure> {
    let mut folder = Folder::open(&mailbox.folder)?;
    for step in &mailbox.steps {
        folder = folder.enter(step)?;
    }
    let (tmp, new) = (folder.enter("tmp")?, folder.enter("new")?);
    folder.enter("cur")?;
    let draft = Draft::create(&tmp, name)?;
    let path = tmp.path().join(name);
    let mut file = &draft.file;
    message.copy(top, Kind::Maildir, &mut file).map_err(|error| match error {
        CopyError::Message(failure) => failure,
        CopyError::Write(error) => Failure::io("write", &path, &error),
    })?;
    file.sync_all().map_err(|error| Failure::io("write", &path, &error))?;
    draft.publish(&new)
}

/// A file in `tmp/` that goes away unless it is published.
struct Draft<'a> {
    tmp: &'a Folder,
    name: &'a str,
    file: File,
}

impl<'a> Draft<'a> {
    fn create(tmp: &'a Folder, name: &'a str) -> Result<Self, Failure> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(tmp, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| Failure::call("create", &tmp.path().join(name), errno))?;
        Ok(Self { tmp, name, file: File::from(fd) })
    }

    fn publish(self, new: &Folder) -> Result<(), Failure> {
        let (tmp, name) = (self.tmp, self.name);
        let renamed = match renameat2(tmp, name, new, name, RenameFlags::RENAME_NOREPLACE) {
            // A file system that does not know the flag. A link never replaces either.
            Err(Errno::EINVAL | Errno::ENOSYS) => linkat(tmp, name, new, name, AtFlags::empty()),
            other => other,
        };
        renamed.map_err(|errno| Failure::call("create", &new.path().join(name), errno))?;
        new.sync().inspect_err(|_| {
            // It will be delivered again: do not leave this copy.
            let _ = unlinkat(new, name, UnlinkatFlags::NoRemoveDir);
        })
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After a rename nothing of that name is left in tmp/; after a link, or a failure, it is removed
        // here.
        let _ = unlinkat(self.tmp, self.name, UnlinkatFlags::NoRemoveDir);
    }
}
