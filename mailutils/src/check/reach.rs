//! Whether an identity can get at a path, by owners and modes alone (access control lists are not looked at).

use nix::unistd::{Gid, Uid};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Who wants to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// For messages.
    pub name: String,
    /// User; `None`: any ordinary user of the system.
    pub uid: Option<Uid>,
    /// All groups.
    pub groups: Vec<Gid>,
}

/// What is in the way.
#[derive(Debug)]
pub enum Obstacle {
    /// This folder cannot be passed (execute permission).
    Folder(PathBuf),
    /// This file cannot be read.
    File(PathBuf),
    /// This socket cannot be connected to.
    Socket(PathBuf),
    /// This is not there.
    Missing(PathBuf),
    /// This cannot be looked at.
    Unknown(PathBuf, io::Error),
}

impl Who {
    /// The bits (1 execute, 2 write, 4 read) that this identity has on a file of this owner, group and mode.
    fn bits(&self, uid: u32, gid: u32, mode: u32) -> u32 {
        match self.uid {
            Some(own) if own.is_root() => 7,
            Some(own) if own.as_raw() == uid => (mode >> 6) & 7,
            _ if self.groups.iter().any(|group| group.as_raw() == gid) => (mode >> 3) & 7,
            _ => mode & 7,
        }
    }

    fn may(&self, meta: &fs::Metadata, wanted: u32) -> bool {
        self.bits(meta.uid(), meta.gid(), meta.mode()) & wanted == wanted
    }

    /// Can every folder above `path` be passed? Missing ones end the way.
    pub fn pass(&self, path: &Path) -> Result<(), Obstacle> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for folder in above {
            let meta = look(folder)?;
            if !self.may(&meta, 1) {
                return Err(Obstacle::Folder(folder.to_owned()));
            }
        }
        Ok(())
    }

    /// Can the folder itself, and every one above it, be passed?
    pub fn enter(&self, folder: &Path) -> Result<(), Obstacle> {
        self.pass(&folder.join("x"))
    }

    /// Can the file be read?
    pub fn read(&self, path: &Path) -> Result<(), Obstacle> {
        self.pass(path)?;
        if self.may(&look(path)?, 4) { Ok(()) } else { Err(Obstacle::File(path.to_owned())) }
    }

    /// Can the socket be connected to (unix(7): that is writing)?
    pub fn connect(&self, path: &Path) -> Result<(), Obstacle> {
        self.pass(path)?;
        if self.may(&look(path)?, 2) { Ok(()) } else { Err(Obstacle::Socket(path.to_owned())) }
    }
}

fn look(path: &Path) -> Result<fs::Metadata, Obstacle> {
    fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Obstacle::Missing(path.to_owned()),
        _ => Obstacle::Unknown(path.to_owned(), error),
    })
}

impl Obstacle {
    /// Says what to do about it. `None` for what is merely missing: whoever needs it decides whether that is
    /// bad.
    pub fn text(&self, who: &Who) -> Option<String> {
        match self {
            Self::Missing(_) => None,
            Self::Folder(path) => {
                Some(format!("{} cannot be passed by {}: chmod a+x it", path.display(), who.name))
            }
            Self::File(path) => {
                Some(format!("{} cannot be read by {}: chmod a+r it", path.display(), who.name))
            }
            Self::Socket(path) => Some(format!(
                "{} cannot be connected to by {}: whoever makes this socket has to give it to this user",
                path.display(),
                who.name
            )),
            Self::Unknown(path, error) => Some(format!("{} cannot be looked at: {error}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn who(uid: u32, groups: &[u32]) -> Who {
        let groups = groups.iter().map(|g| Gid::from_raw(*g)).collect();
        Who { name: "them".into(), uid: Some(Uid::from_raw(uid)), groups }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        for (uid, groups, mode, bits) in [
            (1, &[2][..], 0o741, 7),
            (5, &[2], 0o741, 4),
            (5, &[9, 2], 0o741, 4),
            (5, &[9], 0o741, 1),
            // The owner is not helped by what everyone may do (POSIX).
            (1, &[2], 0o077, 0),
            (0, &[], 0o000, 7),
        ] {
            assert_eq!(who(uid, groups).bits(1, 2, mode), bits, "{uid} {groups:?} {mode:o}");
        }
        let anyone = Who { uid: None, ..who(1, &[]) };
        assert_eq!(anyone.bits(1, 2, 0o701), 1);
    }

    #[test]
    fn the_folder_that_bars_the_way_is_named() {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let barred = temp.path().join("barred");
        let file = barred.join("inner").join("file");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let stranger = who(61_999, &[]);
        let named = |result: Result<(), Obstacle>| match result {
            Err(
                Obstacle::Folder(path)
                | Obstacle::File(path)
                | Obstacle::Socket(path)
                | Obstacle::Missing(path),
            ) => Some(path),
            _ => None,
        };
        assert_eq!(named(stranger.read(&file)), Some(file.clone()));
        assert!(stranger.pass(&file).is_ok());
        assert_eq!(named(stranger.connect(&file)), Some(file.clone()));
        fs::set_permissions(&barred, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(named(stranger.connect(&file)), Some(barred.clone()));
        assert_eq!(named(stranger.read(&file)), Some(barred.clone()));
        assert_eq!(named(stranger.enter(&barred)), Some(barred.clone()));
        let own = fs::metadata(&file).unwrap().uid();
        assert!(who(own, &[]).read(&file).is_ok());
        assert_eq!(named(who(own, &[]).enter(&temp.path().join("no"))), Some(temp.path().join("no")));
    }
}
