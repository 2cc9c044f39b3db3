//! The two locks of an mbox: the dotlock (`MAILBOX.lock`) and the fcntl(2) lock, with bounded waiting for
//! either.
//!
//! Mail readers use one or the other or both; holding both keeps all of them out. A lock that is not had in
//! time defers the delivery; nothing is written without both.

use super::failure::Failure;
use super::folder::Folder;
use common::time::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// A dotlock older than this was left behind by a process that died (Postfix's `stale_lock_time`).
pub const STALE: Duration = Duration::from_secs(500);
/// How long a delivery waits for its locks (Postfix: 20 attempts, a second between them).
pub const WAIT: Duration = Duration::from_secs(20);

/// How long a delivery may wait for locks, all in all.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    until: Instant,
}

impl Patience {
    /// Until then. The first attempt is made in any case.
    pub fn until(until: Instant) -> Self {
        Self { until }
    }

    /// Asks again and again, with growing gaps, until there is an answer or the time is over (`None`).
    /// Nothing tells when a lock becomes free, so this is one of the few places that have to sleep.
    fn ask<T>(self, mut question: impl FnMut() -> Result<Option<T>, Failure>) -> Result<Option<T>, Failure> {
        let mut gap = Duration::from_millis(5);
        loop {
            if let Some(answer) = question()? {
                return Ok(Some(answer));
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(gap.min(left));
            gap = (gap * 2).min(Duration::from_secs(1));
        }
    }
}

/// A dotlock; dropping it removes it.
#[derive(Debug)]
pub struct DotLock<'a> {
    folder: &'a Folder,
    name: String,
}

impl<'a> DotLock<'a> {
    /// Locks the mbox `mailbox` in `folder`, if nobody else has. A lock older than [`STALE`] is broken.
    fn take(folder: &'a Folder, mailbox: &str) -> Result<Option<Self>, Failure> {
        let name = format!("{mailbox}.lock");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(folder, name.as_str(), flags, Mode::empty()) {
            Ok(_) => Ok(Some(Self { folder, name })),
            Err(Errno::EEXIST) => {
                break_if_stale(folder, &name)?;
                Ok(None)
            }
            Err(errno) => Err(Failure::call("create lock file", &folder.path().join(&name), errno)),
        }
    }
}

impl Drop for DotLock<'_> {
    fn drop(&mut self) {
        let _ = unlinkat(self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

fn break_if_stale(folder: &Folder, name: &str) -> Result<(), Failure> {
    let stale = |stat: FileStat| is_stale(Timestamp::from_seconds(stat.st_ctime), Timestamp::now());
    if !folder.look(name)?.is_some_and(stale) {
        return Ok(());
    }
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Failure::call("remove stale lock file", &folder.path().join(name), errno)),
    }
}

/// A lock file that was changed in the future (the clock went back) is not stale.
fn is_stale(changed: Timestamp, now: Timestamp) -> bool {
    now.since(changed) > STALE
}

/// Takes both locks of the mbox `mailbox` in `folder`, which is open as `file`. Nobody waits for the one with the other in hand: a process that is killed
/// while it waits leaves nothing behind, and readers that know one of them only are not kept out for nothing. The fcntl lock goes when the file is
/// closed.
pub fn take_both<'a>(
    folder: &'a Folder,
    mailbox: &str,
    (file, path): (impl AsFd, &Path),
    patience: Patience,
) -> Result<DotLock<'a>, Failure> {
    let mut locked = false;
    let taken = patience.ask(|| {
        let Some(dotlock) = DotLock::take(folder, mailbox)? else {
            locked = false;
            return Ok(None);
        };
        locked = true;
        Ok(lock(&file, path)?.then_some(dotlock))
    })?;
    taken.ok_or_else(|| {
        Failure::locked(if locked {
            format!("{} is locked by another program", path.display())
        } else {
            format!("{}.lock exists: another program has the mailbox", path.display())
        })
    })
}

/// An exclusive fcntl(2) lock on the whole file, if it is to be had.
fn lock(file: impl AsFd, path: &Path) -> Result<bool, Failure> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file.as_fd(), FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(Failure::call("lock", path, errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader has the file: while the delivery waits for it, it does not keep the dotlock.
    #[test]
    fn nobody_waits_with_the_dotlock_in_hand() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let (path, dotlock) = (place.path().join("joe"), place.path().join("joe.lock"));
        std::fs::write(&path, "").unwrap();
        let open = || std::fs::File::options().write(true).open(&path).unwrap();
        // Locks of open files keep those of this process out, too.
        let (holder, ours) = (open(), open());
        let whole = |kind: i32| libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&holder, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))).unwrap();
        let refused = take_both(&folder, "joe", (&ours, &path), Patience::until(Instant::now()));
        assert!(refused.unwrap_err().text.contains("is locked by another program"));
        assert!(!dotlock.exists());
        let patience = Patience::until(Instant::now() + WAIT);
        std::thread::scope(|scope| {
            let delivery = scope.spawn(|| take_both(&folder, "joe", (&ours, &path), patience).map(drop));
            // Another program gets it meanwhile.
            while std::fs::File::create_new(&dotlock).is_err() {
                assert!(!delivery.is_finished(), "it waited with the dotlock in hand");
                std::thread::yield_now();
            }
            fcntl(&holder, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK))).unwrap();
            std::fs::remove_file(&dotlock).unwrap();
            delivery.join().unwrap().unwrap();
        });
        assert!(!dotlock.exists());
    }

    #[test]
    fn a_dotlock_is_stale_after_500_seconds() {
        let now = Timestamp::from_seconds(1_800_000_000);
        for (age, stale) in
            [(0, false), (499, false), (500, false), (501, true), (100_000, true), (-1000, false)]
        {
            assert_eq!(is_stale(Timestamp::from_seconds(now.seconds() - age), now), stale, "{age}");
        }
    }
}
