//! Group commit: concurrent callers share one sync of a folder.
//!
//! A caller that has changed the folder calls [`GroupSync::sync`], which returns when a sync that *began after* the call has
//! ended. One caller at a time does the sync; whoever comes meanwhile waits for the next one, which then covers all of them.
//! A sync that fails fails for everyone whom it would have covered: nobody is told "stable" on the strength of a later success.

use crate::storage::{Folder, Storage};
use std::io;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

/// Shares the syncs of one folder among threads.
#[derive(Debug)]
pub struct GroupSync {
    storage: Arc<dyn Storage>,
    folder: Arc<Folder>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Is a sync running?
    running: bool,
    /// The sync that will begin next; everyone who waits for it holds a share of its result.
    next: Arc<Round>,
}

/// One sync.
#[derive(Debug, Default)]
struct Round {
    /// Its result, once there is one: `None` for success.
    result: OnceLock<Option<(io::ErrorKind, String)>>,
    /// Those whom it covers wait here, and nobody else is woken for them.
    ended: Condvar,
}

impl GroupSync {
    /// Syncs this folder.
    pub fn new(storage: Arc<dyn Storage>, folder: Arc<Folder>) -> Self {
        Self { storage, folder, state: Mutex::default() }
    }

    /// Returns when everything done to the folder before this call is on stable storage.
    pub fn sync(&self) -> io::Result<()> {
        self.sync_with(|| self.storage.sync_folder(&self.folder))
    }

    fn sync_with(&self, sync: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A running sync may have begun before our change: only the next one counts.
        let mine = state.next.clone();
        loop {
            match mine.result.get() {
                Some(None) => return Ok(()),
                Some(Some((kind, text))) => return Err(io::Error::new(*kind, text.clone())),
                None if state.running => {
                    state = mine.ended.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
                None => {
                    // Nothing runs and ours has not run: it is the next one, and we do it for everyone.
                    let round = std::mem::take(&mut state.next);
                    state.running = true;
                    drop(state);
                    let result = sync();
                    state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.running = false;
                    let _ = round.result.set(result.err().map(|error| (error.kind(), error.to_string())));
                    round.ended.notify_all();
                    // One of those who came meanwhile does theirs.
                    state.next.ended.notify_one();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn group() -> GroupSync {
        GroupSync::new(
            crate::storage::Disk::shared(),
            Arc::new(Folder::open(std::path::Path::new("/")).unwrap()),
        )
    }

    #[test]
    fn callers_share_syncs_and_none_is_covered_by_one_that_began_before_it() {
        let group = Arc::new(group());
        let changes = Arc::new(AtomicU64::new(0));
        let stable = Arc::new(AtomicU64::new(0));
        let syncs = Arc::new(AtomicU64::new(0));
        let barrier = Arc::new(Barrier::new(16));
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let (group, changes, stable, syncs, barrier) =
                    (group.clone(), changes.clone(), stable.clone(), syncs.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    for _ in 0..200 {
                        let mine = changes.fetch_add(1, Ordering::SeqCst) + 1;
                        group
                            .sync_with(|| {
                                // What this sync makes stable is what had been done when it began.
                                let covered = changes.load(Ordering::SeqCst);
                                std::thread::yield_now();
                                syncs.fetch_add(1, Ordering::SeqCst);
                                stable.fetch_max(covered, Ordering::SeqCst);
                                Ok(())
                            })
                            .unwrap();
                        assert!(stable.load(Ordering::SeqCst) >= mine, "told stable too early");
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(syncs.load(Ordering::SeqCst) <= 3200);
    }

    #[test]
    fn a_failed_sync_is_told_and_not_made_good_by_the_next() {
        let group = group();
        let error = group.sync_with(|| Err(io::Error::from(io::ErrorKind::StorageFull))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(group.sync_with(|| Ok(())).is_ok());
    }
}
