//! Walking to a mailbox, one component at a time and relative to an open folder, so that nobody can put a
//! symbolic link in the way.
//!
//! The folder that a walk begins at is the admin's (or a home); symbolic links on the way to it are theirs.
//! Below it no symbolic link is followed, and every folder must belong to the recipient or to root, so that
//! another user who made it in advance (in a folder like /tmp) does not get the mail.

use super::failure::Failure;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{fsync, geteuid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// The folder at an absolute path, which must exist.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        match nix::fcntl::open(path, flags(), Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(Errno::ENOENT) => {
                Err(Failure::mailbox(format!("the folder {} does not exist: create it", path.display())))
            }
            Err(Errno::ENOTDIR) => Err(Failure::mailbox(format!("{} is not a folder", path.display()))),
            Err(errno) => Err(Failure::call("open folder", path, errno)),
        }
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder `name` in it, made with mode 0700 when it is missing. `name` is one component.
    pub fn enter(&self, name: &str) -> Result<Self, Failure> {
        let path = self.path.join(name);
        let fd = match self.open_at(name) {
            Err(Errno::ENOENT) => {
                self.make(name)?;
                self.open_at(name)
            }
            other => other,
        };
        let fd = fd.map_err(|errno| self.no_folder(name, errno))?;
        let stat = fstat(&fd).map_err(|errno| Failure::call("look at", &path, errno))?;
        check_owner(&path, &stat, true)?;
        Ok(Self { fd, path })
    }

    /// What `name` in it is, symbolic links not followed; `None`: nothing.
    pub fn look(&self, name: &str) -> Result<Option<FileStat>, Failure> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Failure::call("look at", &self.path.join(name), errno)),
        }
    }

    /// Brings its names to stable storage. A folder that may be written to but not read cannot be synced by
    /// its user; there the sync of the file itself has to do.
    pub fn sync(&self) -> Result<(), Failure> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match openat(&self.fd, ".", flags, Mode::empty()).and_then(fsync) {
            Ok(()) | Err(Errno::EACCES) => Ok(()),
            Err(errno) => Err(Failure::call("sync folder", &self.path, errno)),
        }
    }

    fn open_at(&self, name: &str) -> nix::Result<OwnedFd> {
        openat(&self.fd, name, flags() | OFlag::O_NOFOLLOW, Mode::empty())
    }

    fn make(&self, name: &str) -> Result<(), Failure> {
        match mkdirat(&self.fd, name, Mode::S_IRWXU) {
            // Its name must be as durable as what will be put into it.
            Ok(()) => self.sync(),
            // Somebody else was faster.
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(Failure::call("create folder", &self.path.join(name), errno)),
        }
    }

    fn no_folder(&self, name: &str, errno: Errno) -> Failure {
        let path = self.path.join(name);
        let kind = self.look(name).ok().flatten().map(|stat| file_type(&stat));
        match (errno, kind) {
            (Errno::ENOTDIR | Errno::ELOOP, Some(SFlag::S_IFLNK)) => is_link(&path),
            (Errno::ENOTDIR, _) => Failure::mailbox(format!("{} is not a folder", path.display())),
            _ => Failure::call("open folder", &path, errno),
        }
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// O_PATH: a folder that may be passed but not read will do.
fn flags() -> OFlag {
    OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC
}

/// A symbolic link where none is followed.
pub fn is_link(path: &Path) -> Failure {
    Failure::mailbox(format!("{} is a symbolic link: mail is not delivered through it", path.display()))
}

/// The kind of a file, without its mode.
pub fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// A mailbox must be the recipient's: this process's user's. A folder may also be root's.
pub fn check_owner(path: &Path, stat: &FileStat, root_too: bool) -> Result<(), Failure> {
    let me = geteuid().as_raw();
    if stat.st_uid == me || (root_too && stat.st_uid == 0) {
        return Ok(());
    }
    let (path, owner) = (path.display(), stat.st_uid);
    Err(Failure::mailbox(format!("{path} belongs to uid {owner}, not to the recipient (uid {me})")))
}
