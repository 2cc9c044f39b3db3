//! Where everything lies in the spool, who owns it and with which mode. The only file that knows these names.
//!
//! | folder | owner:group, started as root | mode | why |
//! | --- | --- | --- | --- |
//! | `incoming/` | queued:smtpd | 2730 | smtpd adds names but cannot list; its files (mode 060) are readable for queued by their group, not for smtpd |
//! | `maildrop/` | queued:maildrop | 3730 | a setgid `sendmail` adds names, cannot list, cannot remove those of others |
//! | `active/`, `deferred/`, `hold/`, `corrupt/` | queued:queued | 0700 | nobody else |
//! | `commit/`, `commit/segments/` | queued:smtpd | 2710 | smtpd reaches the segments by name; their mode (0620) lets it write, not read |
//! | `commit/claims/` | queued:smtpd | 2730 | smtpd adds names |
//! | `commit/done/` | queued:queued | 0700 | nobody else |
//! | `private/` | queued:deliverd | 2710 | delivery agents reach its sockets by name |
//! | `smtpd/` | smtpd:smtpd | 0700 | what smtpd remembers from one start to the next: the greylist |
//! | `deliverd/` | deliverd:deliverd | 0700 | what deliverd remembers from one start to the next: refresh tokens that a provider has replaced |
//! | `public/` | queued:queued | 0755 | users' commands; peer credentials decide |
//!
//! Started by anyone else, all of it belongs to that user with mode 0700 (`public/` included).

use crate::id::QueueId;
use crate::storage::{Disk, Storage};
use common::identity::{Identities, is_root};
use common::reload::Daemon;
use common::time::Timestamp;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The queues, with Postfix's meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Queue {
    /// Submitted by programs of this machine, not yet taken in.
    Maildrop,
    /// Just accepted; most are delivered from here.
    Incoming,
    /// Being delivered, for longer than a moment, or about to be.
    Active,
    /// Waiting for a retry.
    Deferred,
    /// Kept until released.
    Hold,
    /// Unreadable.
    Corrupt,
}

impl Queue {
    /// All of them, in the order of a message's life.
    pub const ALL: [Self; 6] =
        [Self::Maildrop, Self::Incoming, Self::Active, Self::Deferred, Self::Hold, Self::Corrupt];

    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Maildrop => "maildrop",
            Self::Incoming => "incoming",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Hold => "hold",
            Self::Corrupt => "corrupt",
        }
    }

    /// The queue of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|queue| queue.name() == name)
    }
}

/// The spool directory.
#[derive(Debug, Clone)]
pub struct Spool {
    root: PathBuf,
    storage: Arc<dyn Storage>,
}

impl Spool {
    /// The spool at this path, which need not exist yet.
    pub fn new(root: &Path) -> Self {
        Self::on(root, Disk::shared())
    }

    /// The same, changed through another [`Storage`].
    pub fn on(root: &Path, storage: Arc<dyn Storage>) -> Self {
        Self { root: root.to_owned(), storage }
    }

    /// What changes the files in it.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The spool directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A queue's folder.
    pub fn directory(&self, queue: Queue) -> PathBuf {
        self.root.join(queue.name())
    }

    /// A message's file in any queue but `deferred/`.
    pub fn path(&self, queue: Queue, id: QueueId) -> PathBuf {
        debug_assert!(queue != Queue::Deferred);
        self.directory(queue).join(id.as_str())
    }

    /// A message's file in `deferred/`: its name says when the next attempt is due, so that a million files are known from their names alone.
    pub fn deferred_path(&self, id: QueueId, due: Timestamp) -> PathBuf {
        self.directory(Queue::Deferred).join(id.folder()).join(deferred_name(id, due))
    }

    /// Looks for a message in all queues. A file may move meanwhile, so `None` is certain only for the process that owns the queue.
    pub fn find(&self, id: QueueId) -> Option<(Queue, PathBuf)> {
        for queue in Queue::ALL {
            if queue == Queue::Deferred {
                let folder = self.directory(queue).join(id.folder());
                let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
                if let Some(entry) = entries
                    .find(|e| e.file_name().to_str().and_then(parse_deferred_name).is_some_and(|n| n.0 == id))
                {
                    return Some((queue, entry.path()));
                }
            } else if fs::symlink_metadata(self.path(queue, id)).is_ok() {
                return Some((queue, self.path(queue, id)));
            }
        }
        None
    }

    /// Where queued meets its delivery agents.
    pub fn dispatch_socket(&self) -> PathBuf {
        self.root.join("private/dispatch")
    }

    /// Where queued meets users' commands.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("public/control")
    }

    /// Where a daemon is asked to read everything anew.
    pub fn reload_socket(&self, daemon: Daemon) -> PathBuf {
        self.root.join("private").join(daemon.socket())
    }

    /// Kept by smtpd.
    pub fn greylist(&self) -> PathBuf {
        self.root.join("smtpd/greylist")
    }

    /// Kept by deliverd.
    pub fn deliverd_folder(&self) -> PathBuf {
        self.root.join("deliverd")
    }

    /// Held (flock) by the one queued of this spool.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("private/queued.lock")
    }
}

/// `ID.SECONDS`: the name of a file in `deferred/`.
pub fn deferred_name(id: QueueId, due: Timestamp) -> String {
    format!("{id}.{}", due.seconds().max(0))
}

/// Reads a name in `deferred/`.
pub fn parse_deferred_name(name: &str) -> Option<(QueueId, Timestamp)> {
    let (id, seconds) = name.split_once('.')?;
    let canonical = !seconds.is_empty() && seconds.len() <= 12 && seconds.bytes().all(|b| b.is_ascii_digit());
    if !canonical {
        return None;
    }
    Some((id.parse().ok()?, Timestamp::from_seconds(seconds.parse().ok()?)))
}

/// The mode of files that smtpd adds to `incoming/`: see the table above.
pub fn incoming_mode(separated: bool) -> u32 {
    if separated { 0o060 } else { 0o600 }
}

/// The mode of the commit log's segments: smtpd writes to them and cannot read them.
pub fn segment_mode(separated: bool) -> u32 {
    if separated { 0o620 } else { 0o600 }
}

/// The mode of files that `sendmail` adds to `maildrop/`.
pub const MAILDROP_MODE: u32 = 0o640;
/// The mode of files that queued makes for itself.
pub const OWN_MODE: u32 = 0o600;

/// Makes what is missing and mends owners and modes. Every daemon calls it before it drops privileges; running twice, or at once in several daemons,
/// does no harm. Errors name the path.
pub fn prepare(spool: &Spool, ids: &Identities) -> io::Result<()> {
    let separated = is_root();
    if !spool.root.exists() {
        let bits = if separated { 0o755 } else { 0o700 };
        make_root(&spool.root, bits).map_err(|e| named(e, "cannot create", &spool.root))?;
    }
    let queued = &ids.queued;
    let folder = |name: &str, group: Gid, bits: u32| {
        let path = spool.root.join(name);
        make(&path, queued.uid, group, if separated { bits } else { 0o700 })
    };
    folder("incoming", ids.smtpd.gid, 0o2730)?;
    folder("maildrop", ids.maildrop, 0o3730)?;
    for name in ["active", "deferred", "hold", "corrupt"] {
        folder(name, queued.gid, 0o700)?;
    }
    folder("commit", ids.smtpd.gid, 0o2710)?;
    folder("commit/segments", ids.smtpd.gid, 0o2710)?;
    folder("commit/claims", ids.smtpd.gid, 0o2730)?;
    folder("commit/done", queued.gid, 0o700)?;
    folder("private", ids.deliverd.gid, 0o2710)?;
    make(&spool.root.join("smtpd"), ids.smtpd.uid, ids.smtpd.gid, 0o700)?;
    make(&spool.deliverd_folder(), ids.deliverd.uid, ids.deliverd.gid, 0o700)?;
    folder("public", queued.gid, 0o755)
}

/// Makes the sub-folders of `deferred/` on demand, when a message is first deferred into one.
pub fn make_deferred_folder(spool: &Spool, id: QueueId) -> io::Result<()> {
    let path = spool.directory(Queue::Deferred).join(id.folder());
    spool.storage.make_folder(&path).map_err(|e| named(e, "cannot create", &path))
}

/// With its mode from the first moment on, whatever the umask: the daemons start together, and one that finds the folder leaves it as it is and may
/// have to pass it as its own user right away.
fn make_root(path: &Path, bits: u32) -> io::Result<()> {
    let before = umask(Mode::from_bits_truncate(0o777 & !bits));
    let made = fs::DirBuilder::new().recursive(true).mode(bits).create(path);
    umask(before);
    made
}

fn make(path: &Path, uid: Uid, gid: Gid, bits: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(named(error, "cannot create", path));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(path).map_err(|e| named(e, "cannot look at", path))?;
    if !meta.is_dir() {
        return Err(io::Error::other(format!("{} is not a folder: move it away", path.display())));
    }
    if is_root() && (meta.uid(), meta.gid()) != (uid.as_raw(), gid.as_raw()) {
        chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
            .map_err(|e| named(e, "cannot change the owner of", path))?;
    } else if !is_root() && meta.uid() != uid.as_raw() {
        return Err(io::Error::other(format!(
            "{} belongs to uid {}: start the daemon as that user, or as root",
            path.display(),
            meta.uid()
        )));
    }
    if meta.mode() & 0o7777 == bits { Ok(()) } else { mode(path, bits) }
}

fn mode(path: &Path, bits: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(bits))
        .map_err(|e| named(e, "cannot change the mode of", path))
}

fn named(error: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A daemon that came upon the folder between its making and its mode could not pass it, and ended.
    #[test]
    fn the_spool_has_its_mode_from_the_first_moment_on() {
        let folder = tempfile::tempdir().unwrap();
        let before = umask(Mode::from_bits_truncate(0o077));
        let path = folder.path().join("a/spool");
        let made = make_root(&path, 0o755);
        let after = umask(before);
        made.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(after, Mode::from_bits_truncate(0o077), "and the umask is as it was");
    }

    #[test]
    fn deferred_names_are_read_strictly() {
        let id = QueueId::new(Timestamp(1_795_358_702_123_456), 12);
        let due = Timestamp::from_seconds(1_795_358_999);
        assert_eq!(parse_deferred_name(&deferred_name(id, due)), Some((id, due)));
        for bad in [
            format!("{id}"),
            format!("{id}."),
            format!("{id}.-1"),
            format!("{id}.1.2"),
            format!("{id}.1234567890123"),
            "x.1".into(),
        ] {
            assert_eq!(parse_deferred_name(&bad), None, "{bad}");
        }
    }
}
