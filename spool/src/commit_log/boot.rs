//! For which boot the log is open: a small file with the kernel's boot ID, under one of three names.
//!
//! | name | with this boot's ID in it |
//! | --- | --- |
//! | `restoring` | a restore has begun in this boot. Found at a start: it was broken off, and what seems to be on the disk since may not be there |
//! | `boot` | the log is open |
//! | `frozen` | a sync of the file system failed: the log is closed until the next boot |
//!
//! With another boot's ID each of them says only that the log has to be restored. From one step to the next the file gets another name and keeps its
//! length, so that a full disk is not in the way.

use super::super::folder;
use super::remove_if_there;
use crate::layout::Spool;
use crate::storage::{Folder, Storage};
use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

const RESTORING: &str = "restoring";
const BOOT: &str = "boot";
const FROZEN: &str = "frozen";
/// smtpd reads it by its group.
const MODE: u32 = 0o640;

/// What the file says at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The log is open for this boot.
    Open,
    /// It is closed until the next one.
    Frozen,
    /// A restore was broken off in this boot.
    BrokenOff,
    /// There was another boot.
    AnotherBoot,
}

/// Looks. An error: it cannot be known.
pub(super) fn look(spool: &Spool, boot: &str) -> io::Result<Found> {
    let names_this = |name| match fs::read(path(spool, name)) {
        Ok(known) => Ok(known == boot.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io::Error::new(error.kind(), format!("commit/{name}: {error}"))),
    };
    Ok(if names_this(FROZEN)? {
        Found::Frozen
    } else if names_this(BOOT)? {
        // Beside `boot` it is of an older build, which said other things in it, and meant the same.
        if fs::symlink_metadata(path(spool, FROZEN)).is_ok() { Found::Frozen } else { Found::Open }
    } else if names_this(RESTORING)? {
        Found::BrokenOff
    } else {
        Found::AnotherBoot
    })
}

/// A restore begins; to be called before it changes anything. On return it is on stable storage.
pub(super) fn restoring(spool: &Spool, boot: &str) -> io::Result<()> {
    let storage = spool.storage();
    let root = Folder::open(&folder(spool, ""))?;
    let marker = path(spool, RESTORING);
    let mut found = [RESTORING, BOOT, FROZEN].into_iter().map(|name| path(spool, name));
    match found.find(|path| fs::symlink_metadata(path).is_ok()) {
        None => {
            let file = storage.create_unnamed(&root, MODE)?;
            write(&**storage, &file, boot)?;
            storage.link(&file, &root, RESTORING)?;
        }
        Some(path) => {
            if path != marker {
                storage.rename(&path, &marker)?;
            }
            found.try_for_each(|path| remove_if_there(spool, &path))?;
            let flags = OFlags::NOFOLLOW.bits().cast_signed();
            write(&**storage, &File::options().write(true).custom_flags(flags).open(&marker)?, boot)?;
        }
    }
    storage.sync_folder(&root)
}

fn write(storage: &dyn Storage, file: &File, boot: &str) -> io::Result<()> {
    storage.write_at(file, boot.as_bytes(), 0)?;
    if file.metadata()?.len() > boot.len() as u64 {
        storage.truncate(file, boot.len() as u64)?;
    }
    storage.sync_file(file)
}

/// All is restored: smtpd may use the log. Not synced: after a power cut it is another boot.
pub(super) fn open(spool: &Spool) -> io::Result<()> {
    spool.storage().rename(&path(spool, RESTORING), &path(spool, BOOT))
}

/// Closes it until the next boot.
pub(super) fn freeze(spool: &Spool) -> io::Result<()> {
    if fs::symlink_metadata(path(spool, BOOT)).is_err() {
        return Ok(());
    }
    remove_if_there(spool, &path(spool, FROZEN))?;
    spool.storage().rename(&path(spool, BOOT), &path(spool, FROZEN))
}

fn path(spool: &Spool, name: &str) -> PathBuf {
    folder(spool, name)
}
