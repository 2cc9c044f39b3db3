//! Everything that changes the spool goes through [`Storage`]: a dozen operations, each one system call (or nearly).
//!
//! [`Disk`] does them. Tests put a recorder in its place, which notes each operation with its data, so that every state that a disk may
//! show after a power cut can be built from the record and recovered from (`queued/tests/power_cut/`). Reading does not go through here: it changes nothing.
//!
//! What makes what durable: [`Storage::sync_file`] the data and length of a file, not its name; [`Storage::sync_folder`] the names in a folder, not the
//! files' data; [`Storage::sync_all`] everything. Nothing else is certain, in whatever order it was done.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, linkat, openat, statx, unlinkat};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An open folder, and the path it was opened by.
#[derive(Debug)]
pub struct Folder {
    file: File,
    path: PathBuf,
    readable: bool,
}

impl Folder {
    /// Opens a folder; without read permission (but with that to write and search) as one that cannot be synced by itself.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.to_owned();
        match File::open(&path) {
            Ok(file) => Ok(Self { file, path, readable: true }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
                Ok(Self { file, path, readable: false })
            }
            Err(error) => Err(error),
        }
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Can it be synced by itself?
    pub fn is_readable(&self) -> bool {
        self.readable
    }
}

/// The operations that change a spool.
pub trait Storage: Debug + Send + Sync {
    /// Makes a file without a name, for writing and reading. It vanishes with its last descriptor unless it gets a name.
    fn create_unnamed(&self, folder: &Folder, mode: u32) -> io::Result<File>;
    /// Writes all of the bytes at this offset.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts a file off.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()>;
    /// Puts a file's data and length on stable storage. After an error the file's state is unknown: never try again on it.
    fn sync_file(&self, file: &File) -> io::Result<()>;
    /// Puts the names in a folder on stable storage.
    fn sync_folder(&self, folder: &Folder) -> io::Result<()>;
    /// Puts everything on the file system of this file on stable storage.
    fn sync_all(&self, file: &File) -> io::Result<()>;
    /// Gives a file that has no name one; fails when the name is taken.
    fn link(&self, file: &File, folder: &Folder, name: &str) -> io::Result<()>;
    /// Gives a file another name; fails when that is taken.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name away, and the file with it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder, mode 0700; one that is there already is fine.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
}

/// Has this kernel refused to link a descriptor, and taken its name in /proc?
static NO_EMPTY_PATH: AtomicBool = AtomicBool::new(false);

/// The real thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

/// What is asked about a new file.
pub(crate) struct Look {
    pub(crate) mode: u32,
    pub(crate) inode: u64,
}

/// Mode and number of a file, and nothing else: one whose times somebody has asked for gets finer ones with the next change, which costs a write of its inode
/// (Linux 6.13); one that is made and written within the same tick of the clock needs none.
pub(crate) fn look(file: &File) -> io::Result<Look> {
    match statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MODE | StatxFlags::INO) {
        Ok(found) => Ok(Look { mode: found.stx_mode.into(), inode: found.stx_ino }),
        // An old kernel, or a sandbox that does not know the call.
        Err(_) => file.metadata().map(|found| Look { mode: found.mode(), inode: found.ino() }),
    }
}

impl Disk {
    /// The real thing, to be shared.
    pub fn shared() -> Arc<dyn Storage> {
        Arc::new(Self)
    }
}

impl Storage for Disk {
    fn create_unnamed(&self, folder: &Folder, mode: u32) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd: OwnedFd = openat(&folder.file, ".", flags, Mode::from_raw_mode(mode))?;
        let file = File::from(fd);
        // The umask may have taken bits away that the reader of the file needs. Looking is far cheaper than changing.
        if look(&file)?.mode & 0o7777 != mode {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        Ok(file)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        folder.file.sync_all()
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::syncfs(file)?)
    }

    fn link(&self, file: &File, folder: &Folder, name: &str) -> io::Result<()> {
        // The descriptor itself: from Linux 6.10 on whoever has opened it may, before that it needs a capability. The error is ENOENT then.
        if !NO_EMPTY_PATH.load(Ordering::Relaxed) {
            match linkat(file, "", &folder.file, name, AtFlags::EMPTY_PATH) {
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => {}
                other => return Ok(other?),
            }
        }
        // Its name in /proc, which is looked up for longer.
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, unnamed.as_str(), &folder.file, name, AtFlags::SYMLINK_FOLLOW)?;
        NO_EMPTY_PATH.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
            // A file system that cannot promise it: look first. Only one process renames here.
            Err(Errno::EINVAL | Errno::ENOSYS) => match fs::symlink_metadata(to) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => fs::rename(from, to),
            },
            other => Ok(other?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(unlinkat(CWD, path, AtFlags::empty())?)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Err(_) => Ok(()),
            Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
        }
    }
}
