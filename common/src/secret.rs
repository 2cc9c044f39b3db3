//! A file with secrets: for its owner alone, and perhaps for root alone.
//!
//! It is opened before privileges are dropped and stays open, so that a change within the file can be read afterwards. A new file in its place
//! can be read only where the daemon's own user may; where it may not, that is an error which says what to do. A file that others than
//! its owner may read or write, or that belongs to somebody who has nothing to do with it, is refused.
//!
//! [`Secrets`] are those of one daemon. `ironpost reload`, as root, opens new ones and hands them over ([`crate::reload`]): so a daemon gets what is in
//! them without a right to open them.

use crate::identity::Identity;
use crate::table::TableError;
use nix::unistd::{Uid, geteuid};
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Largest file that is read, in octets.
const MAX_FILE: u64 = 16 << 20;

/// All secret files of a daemon, and those that were just handed to it.
#[derive(Debug)]
pub struct Secrets {
    daemon: Identity,
    /// Started as root, and not root any more later on.
    separated: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Those that somebody keeps.
    open: HashMap<PathBuf, Weak<SecretFile>>,
    handed: HashMap<PathBuf, File>,
}

impl Secrets {
    /// Those of a daemon that is or will be `daemon`. To be made before privileges are dropped.
    pub fn new(daemon: &Identity) -> Arc<Self> {
        let separated = geteuid().is_root() && !daemon.uid.is_root();
        Arc::new(Self { daemon: daemon.clone(), separated, inner: Mutex::default() })
    }

    /// The file at `path`, to be read again and again. It stays open while somebody keeps it, and is the same for all who do; one
    /// that was just handed over takes the place of an older one.
    pub fn file(&self, path: &Path) -> Result<Arc<SecretFile>, TableError> {
        let mut inner = self.inner();
        let handed = inner.handed.get(path).map(File::try_clone).transpose();
        let handed =
            handed.map_err(|e| TableError::file(path, &format!("cannot keep what was handed over: {e}")))?;
        inner.open.retain(|_, file| file.strong_count() > 0);
        let kept = inner.open.get(path).and_then(Weak::upgrade);
        let file = match (kept, handed) {
            (Some(kept), None) => return Ok(kept),
            (Some(kept), Some(new)) => {
                *kept.file.lock().unwrap_or_else(PoisonError::into_inner) = new;
                return Ok(kept);
            }
            (None, Some(new)) => {
                SecretFile { path: path.to_owned(), daemon: self.daemon.clone(), file: Mutex::new(new) }
            }
            (None, None) => SecretFile::open(path, &self.daemon)
                .map_err(|error| self.hint(path).map_or(error, |hint| TableError::file(path, hint)))?,
        };
        let file = Arc::new(file);
        inner.open.insert(path.to_owned(), Arc::downgrade(&file));
        Ok(file)
    }

    /// What a file says, `most` octets at most: the one that was just handed over, else the one at `path`. Nothing is kept open, and the
    /// mode is not looked at.
    pub fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let handed = self.inner().handed.get(path).map(File::try_clone).transpose()?;
        let file = match handed {
            Some(file) => file,
            None => File::open(path).map_err(|error| {
                self.hint(path).map_or(error, |hint| io::Error::new(io::ErrorKind::PermissionDenied, hint))
            })?,
        };
        let length = file.metadata()?.len();
        if length > most {
            return Err(io::Error::other(format!("larger than {most} octets")));
        }
        let mut bytes = Vec::new();
        // From its beginning: the descriptor's own place is shared with others.
        let mut reader = AtPlace { file: &file, place: 0 }.take(most + 1);
        reader.read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("larger than {most} octets")));
        }
        Ok(bytes)
    }

    /// An open file that the caller of `ironpost reload` has found at `path`. Errors: it cannot be used.
    pub fn hand_over(&self, path: &Path, file: File) -> Result<(), &'static str> {
        if !path.is_absolute() {
            return Err("not absolute");
        }
        match file.metadata() {
            Ok(meta) if meta.is_file() => {
                self.inner().handed.insert(path.to_owned(), file);
                Ok(())
            }
            Ok(_) => Err("it is no regular file"),
            Err(_) => Err("cannot be looked at"),
        }
    }

    /// Closes what was handed over, but for what is kept by now.
    pub fn forget(&self) {
        self.inner().handed.clear();
    }

    /// For whom the files are.
    pub fn daemon(&self) -> &Identity {
        &self.daemon
    }

    /// What to do where a file cannot be opened because this process is not root any more.
    fn hint(&self, path: &Path) -> Option<&'static str> {
        let barred = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        let lost = self.separated && !geteuid().is_root() && File::open(path).is_err_and(barred);
        lost.then_some("only root can read it: run \"ironpost reload\", which hands it over")
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a file from a place of its own.
struct AtPlace<'a> {
    file: &'a File,
    place: u64,
}

impl Read for AtPlace<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.place)?;
        self.place += length as u64;
        Ok(length)
    }
}

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
            return Err(wrong("larger than 16 MiB"));
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
                        "a new file is there, which only its owner can read: run \"ironpost reload\", or let it belong to {name} (chown {name})"
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

    #[test]
    fn what_is_handed_over_counts_and_is_kept_only_by_those_who_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let write = |text: &str| {
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            mode(&path, 0o600);
        };
        let secrets = Secrets::new(&me());
        assert!(secrets.file(&path).is_err() && secrets.read(&path, 10).is_err());
        write("one");
        let kept = secrets.file(&path).unwrap();
        assert!(Arc::ptr_eq(&kept, &secrets.file(&path).unwrap()));
        write("two");
        secrets.hand_over(&path, File::open(&path).unwrap()).unwrap();
        fs::remove_file(&path).unwrap();
        // Twice: the place in the descriptor does not matter.
        for _ in 0..2 {
            assert_eq!(secrets.read(&path, 3).unwrap(), b"two");
        }
        assert!(secrets.read(&path, 2).unwrap_err().to_string().contains("larger than 2 octets"));
        let again = secrets.file(&path).unwrap();
        assert!(Arc::ptr_eq(&kept, &again));
        let said = |file: &SecretFile| {
            let file = file.file.lock().unwrap();
            let mut text = String::new();
            AtPlace { file: &file, place: 0 }.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(said(&kept), "two");
        secrets.forget();
        assert!(secrets.read(&path, 10).is_err());
        drop((kept, again));
        assert!(secrets.file(&path).is_err(), "nobody kept it");
        for (path, file) in [("secret", "/dev/null"), ("/x", "/dev/null"), ("/x", "/")] {
            assert!(secrets.hand_over(Path::new(path), File::open(file).unwrap()).is_err());
        }
    }
}
