//! The users file, replaced as a whole: whoever reads it sees the old one or the new one, also after a crash.
//!
//! Changes wait for each other: who writes holds a lock on the folder. A new file is for its owner alone (mode 600); otherwise owner and mode stay.

use crate::exit;
use crate::failure::Failure;
use common::secret;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::fchmod;
use nix::unistd::{Gid, Uid, fchown};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Largest file that is read, in octets: that of the daemon.
const MAX_FILE: u64 = 16 << 20;

/// The file, and the lock.
pub struct UsersFile {
    path: PathBuf,
    folder: Flock<File>,
    old: Option<Metadata>,
    text: String,
}

impl UsersFile {
    /// What it says, without a lock; `None`: it is not there.
    pub fn peek(path: &Path) -> Result<Option<String>, Failure> {
        Ok(read(path)?.map(|(_, text)| text))
    }

    /// Locks it and reads it. A file that is not there is empty.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        // Behind a symbolic link is the file that is meant.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = File::open(parent).map_err(|error| failed(parent, "cannot open", &error))?;
        let folder = Flock::lock(folder, FlockArg::LockExclusive)
            .map_err(|(_, error)| failed(parent, "cannot lock", &error.into()))?;
        let (old, text) = match read(&path)? {
            Some((meta, text)) => (Some(meta), text),
            None => (None, String::new()),
        };
        Ok(Self { path, folder, old, text })
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Says this from now on.
    pub fn replace(&self, text: &str) -> Result<(), Failure> {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(format!(".{}.new", std::process::id()));
        let new = self.path.with_file_name(name);
        let wrong = |what: &str, error: &io::Error| failed(&self.path, what, error);
        // What a crash left behind under the same number; nobody else writes here now.
        let _ = fs::remove_file(&new);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
        let mut file = file.map_err(|error| wrong("cannot make a new file beside it", &error))?;
        let written = self.write(&mut file, text).and_then(|()| fs::rename(&new, &self.path));
        if let Err(error) = written.and_then(|()| self.folder.sync_all()) {
            let _ = fs::remove_file(&new);
            return Err(wrong("cannot replace it", &error));
        }
        Ok(())
    }

    fn write(&self, file: &mut File, text: &str) -> io::Result<()> {
        if let Some(old) = &self.old {
            let new = file.metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                fchown(&*file, Some(Uid::from_raw(old.uid())), Some(Gid::from_raw(old.gid())))?;
            }
            fchmod(&*file, nix::sys::stat::Mode::from_bits_truncate(old.mode() & 0o777))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

fn read(path: &Path) -> Result<Option<(Metadata, String)>, Failure> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "cannot read", &error)),
    };
    let meta = file.metadata().map_err(|error| failed(path, "cannot look at it", &error))?;
    let refuse = |what: &str| Failure::new(exit::CONFIG, format!("{}: {what}", path.display()));
    if !meta.is_file() {
        return Err(refuse("it is no regular file"));
    }
    if meta.len() > MAX_FILE {
        return Err(refuse("larger than 16 MiB"));
    }
    if meta.mode() & 0o077 != 0 {
        let me = common::identity::Identity {
            name: String::new(),
            uid: Uid::from_raw(meta.uid()),
            gid: Gid::from_raw(meta.gid()),
        };
        return Err(refuse(&secret::problem(&meta, &me).unwrap_or_default()));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => refuse("not UTF-8: save the file in this encoding"),
        _ => failed(path, "cannot read", &error),
    })?;
    Ok(Some((meta, text)))
}

fn failed(path: &Path, what: &str, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
        io::ErrorKind::NotFound => exit::NO_INPUT,
        _ => exit::IO_ERROR,
    };
    Failure::new(code, format!("{}: {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_an_old_one_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        assert_eq!(UsersFile::peek(&path).unwrap(), None);
        let file = UsersFile::open(&path).unwrap();
        assert_eq!(file.text(), "");
        file.replace("a:b\n").unwrap();
        drop(file);
        let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!((mode(), fs::read_to_string(&path).unwrap().as_str()), (0o600, "a:b\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        // Through a symbolic link, which stays.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("users", &link).unwrap();
        let file = UsersFile::open(&link).unwrap();
        file.replace("c:d\n").unwrap();
        assert_eq!((mode(), UsersFile::peek(&link).unwrap().unwrap().as_str()), (0o400, "c:d\n"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
        drop(file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = UsersFile::open(&path).err().unwrap();
        assert!(failure.code == exit::CONFIG && failure.text.contains("chmod 600"), "{failure:?}");
    }

    #[test]
    fn writers_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let file = UsersFile::open(path).unwrap();
                    let text = format!("{}user{number}:x\n", file.text());
                    file.replace(&text).unwrap();
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 8);
    }
}
