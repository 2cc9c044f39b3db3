//! A file that is read anew within seconds of a change: what it said before stays in force when it becomes unreadable or wrong, and that is logged once.
//!
//! [`Watched::get`] looks at the file at most once a second. A change counts when it is a second old, or still the same at the next look, so that
//! no file is read while it is being written.

use crate::table::{MAX_FILE, TableError};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LOOK_EVERY: Duration = Duration::from_secs(1);

type Read<T> = Box<dyn Fn(&Path) -> Result<T, TableError> + Send + Sync>;

/// What a file says.
pub struct Watched<T> {
    path: PathBuf,
    read: Read<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    looked: Instant,
    stamp: Stamp,
    changing: Option<Stamp>,
    failed: Option<Stamp>,
    value: Arc<T>,
}

/// Tells one state of a file from the next: changed time, length, inode. `None`: not there.
type Stamp = Option<(i64, i64, u64, u64)>;

impl<T: 'static> Watched<T> {
    /// Reads it for the first time with `read`, which is given its path.
    pub fn new(
        path: &Path,
        read: impl Fn(&Path) -> Result<T, TableError> + Send + Sync + 'static,
    ) -> Result<Self, TableError> {
        let stamp = stamp(path).unwrap_or_default();
        let value = Arc::new(read(path)?);
        let state = State { looked: Instant::now(), stamp, changing: None, failed: None, value };
        Ok(Self { path: path.to_owned(), read: Box::new(read), state: Mutex::new(state) })
    }

    /// A table: text that `parse` makes something of.
    pub fn table(path: &Path, parse: fn(&Path, &str) -> Result<T, TableError>) -> Result<Self, TableError> {
        Self::new(path, move |path| {
            let text = text(path).map_err(|e| TableError::file(path, &format!("cannot read: {e}")))?;
            parse(path, &text)
        })
    }

    /// What it says now.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            self.look(&mut state);
        }
        state.value.clone()
    }

    /// Reads it now, changed or not, and settled or not. Errors: what it said before stays in force.
    pub fn refresh(&self) -> Result<(), TableError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path);
        state.value = Arc::new((self.read)(&self.path)?);
        state.stamp = now.unwrap_or_default();
        state.failed = None;
        Ok(())
    }

    fn look(&self, state: &mut State<T>) {
        // Where we may not even look, it has not changed for us: a new one is handed over (`ironpost reload`).
        let Some(now) = stamp(&self.path) else { return };
        let settled = state.changing == Some(now) || is_old(now);
        state.changing = Some(now);
        if !settled || now == state.stamp || state.failed == Some(now) {
            return;
        }
        match (self.read)(&self.path) {
            Ok(value) => {
                crate::info!("{}: read anew", self.path.display());
                state.value = Arc::new(value);
                state.stamp = now;
                state.failed = None;
            }
            Err(error) => {
                crate::error!("{error}; what it said before stays in force");
                state.failed = Some(now);
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.path).finish_non_exhaustive()
    }
}

/// Was it changed a while ago, by the clock?
pub(crate) fn is_old(stamp: Stamp) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = |(seconds, nanos, _, _): (i64, i64, u64, u64)| {
        Some(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?))
    };
    stamp.and_then(changed).is_some_and(|changed| changed + LOOK_EVERY < now)
}

/// `None`: the way to it is barred.
fn stamp(path: &Path) -> Option<Stamp> {
    match fs::metadata(path) {
        Ok(m) => Some(Some((m.mtime(), m.mtime_nsec(), m.len(), m.ino()))),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(_) => Some(None),
    }
}

fn text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::other("larger than 256 MiB"));
    }
    fs::read_to_string(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    #[test]
    fn a_changed_file_is_read_and_a_broken_or_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        assert!(Watched::table(&path, Table::parse).is_err(), "it must be there at first");
        fs::write(&path, "a 1\n").unwrap();
        let watched = Watched::table(&path, Table::parse).unwrap();
        let a = || {
            // A change counts at the second look that sees it.
            for _ in 0..2 {
                watched.state.lock().unwrap().looked -= LOOK_EVERY;
                watched.get();
            }
            watched.get().get("a").map(str::to_owned)
        };
        assert_eq!(a().as_deref(), Some("1"));
        fs::write(&path, "a 22\n").unwrap();
        watched.state.lock().unwrap().looked -= LOOK_EVERY;
        assert_eq!(watched.get().get("a"), Some("1"), "not while it may be half written");
        assert_eq!(a().as_deref(), Some("22"));
        // One that is not new any more counts at once.
        fs::write(&path, "a 4444\n").unwrap();
        let before = SystemTime::now() - Duration::from_secs(5);
        fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        watched.state.lock().unwrap().looked -= LOOK_EVERY;
        assert_eq!(watched.get().get("a"), Some("4444"));
        fs::write(&path, "a 22\n").unwrap();
        assert_eq!(a().as_deref(), Some("22"));
        fs::write(&path, "nonsense\n").unwrap();
        assert_eq!(a().as_deref(), Some("22"));
        fs::remove_file(&path).unwrap();
        assert_eq!(a().as_deref(), Some("22"));
        fs::write(&path, "a 333\n").unwrap();
        assert_eq!(a().as_deref(), Some("333"));
    }
}
