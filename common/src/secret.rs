//! A file with secrets: for its owner alone, and perhaps for root alone.
//!
//! It is opened before privileges are dropped and stays open, so that a change within the file can be read afterwards. A new file in its place
//! can be read only where the daemon's own user may; where it may not, that is an error which says what to do. A file that others than
//! its owner may read or write, or that belongs to somebody who has nothing to do with it, is refused.

use crate::identity::Identity;
use crate::table::TableError;
use nix::unistd::{Uid, geteuid};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Largest file that is read, in octets.
const MAX_FILE: u64 = 1 << 20;

/// The file, open.
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    daemon: Identity,
    file: Mutex<File>,
}

impl SecretFile {
    /// Opens it for a daemon that is or will be `daemon`.
    pub fn open(path: &Path, daemon: &Identity) -> Result<Self, TableError> {
        let file = File::open(path).map_err(|e| TableError::file(path, &format!("cannot read: {e}")))?;
        Ok(Self { path: path.to_owned(), daemon: daemon.clone(), file: Mutex::new(file) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says now.
    pub fn read(&self) -> Result<String, TableError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(new) = self.replaced(&file)? {
            self.check(&new)?;
            *file = new;
        }
        self.check(&file)?;
        let wrong = |what: &str| TableError::file(&self.path, what);
        let length = file.metadata().map(|m| m.len()).unwrap_or_default();
        if length > MAX_FILE {
            return Err(wrong("larger than 1 MiB"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0).map_err(|e| wrong(&format!("cannot read: {e}")))?;
        // The error would show what is in the file.
        String::from_utf8(bytes).map_err(|_| wrong("not UTF-8: save the file in this encoding"))
    }

    /// The file that lies there now, when it is another one. Where that cannot be looked at, the open one counts.
    fn replaced(&self, open: &File) -> Result<Option<File>, TableError> {
        let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        match (fs::metadata(&self.path), open.metadata()) {
            (Ok(there), Ok(ours)) if same(&there, &ours) => Ok(None),
            (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            (Err(error), _) => Err(TableError::file(&self.path, &format!("cannot read: {error}"))),
            _ => File::open(&self.path).map(Some).map_err(|error| {
                let name = &self.daemon.name;
                let what = match error.kind() {
                    io::ErrorKind::PermissionDenied => format!(
                        "a new file is there, which only its owner can read: restart the daemon, or let it belong to {name} (chown {name})"
                    ),
                    _ => format!("cannot read: {error}"),
                };
                TableError::file(&self.path, &what)
            }),
        }
    }

    fn check(&self, file: &File) -> Result<(), TableError> {
        let wrong = |what: &str| TableError::file(&self.path, what);
        let meta = file.metadata().map_err(|e| wrong(&format!("cannot look at it: {e}")))?;
        problem(&meta, &self.daemon).map_or(Ok(()), |what| Err(wrong(&what)))
    }
}

/// What is wrong with such a file for a daemon that is `daemon`, but that it may be unreadable.
pub fn problem(meta: &Metadata, daemon: &Identity) -> Option<String> {
    if !meta.is_file() {
        return Some("it is no regular file".into());
    }
    if meta.mode() & 0o077 != 0 {
        let mode = meta.mode() & 0o7777;
        return Some(format!("others than its owner may use it (mode {mode:04o}): chmod 600 it"));
    }
    let owner = Uid::from_raw(meta.uid());
    if !owner.is_root() && owner != daemon.uid && owner != geteuid() {
        let name = &daemon.name;
        return Some(format!("it belongs to uid {owner}, neither to root nor to {name}: chown it"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn me() -> Identity {
        Identity { name: "me".into(), uid: geteuid(), gid: nix::unistd::getegid() }
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_for_everybody_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(SecretFile::open(&path, &me()).is_err());
        fs::write(&path, "x y\n").unwrap();
        for (bits, good) in
            [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o601, false)]
        {
            mode(&path, bits);
            let secret = SecretFile::open(&path, &me()).unwrap();
            let read = secret.read();
            assert_eq!(read.is_ok(), good, "{bits:o}");
            if let Err(error) = read {
                assert!(error.to_string().contains("chmod 600"), "{error}");
            }
        }
    }

    #[test]
    fn changes_and_new_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "one").unwrap();
        mode(&path, 0o600);
        let secret = SecretFile::open(&path, &me()).unwrap();
        assert_eq!(secret.read().unwrap(), "one");
        fs::write(&path, "two and more").unwrap();
        assert_eq!(secret.read().unwrap(), "two and more");
        let other = folder.path().join("other");
        fs::write(&other, "three").unwrap();
        mode(&other, 0o644);
        fs::rename(&other, &path).unwrap();
        assert!(secret.read().is_err(), "the new file is checked, too");
        mode(&path, 0o600);
        assert_eq!(secret.read().unwrap(), "three");
        fs::remove_file(&path).unwrap();
        assert!(secret.read().is_err());
        fs::write(&path, b"\xffx").unwrap();
        mode(&path, 0o600);
        assert!(secret.read().unwrap_err().to_string().contains("not UTF-8"));
    }
}
