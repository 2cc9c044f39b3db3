//! queued's side of the log: opens it for a boot, makes good what a power cut took, makes segments and gives them back, notes what has left the queue.

use super::{Geometry, claim_path, folder, segment_path};
use crate::id::QueueId;
use crate::layout::Spool;
use crate::storage::Folder;
use boot::Found;
use completions::Completions;
use restore::Restore;
use rustix::fs::{FlockOperation, OFlags};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[path = "boot.rs"]
mod boot;
#[path = "completions.rs"]
mod completions;
#[path = "restore.rs"]
mod restore;

/// A segment that nobody writes to any more is given back after this time, in use or not …
const LONGEST: Duration = Duration::from_secs(30);
/// … and at once when fewer than this many are free: the sync of the file system takes its time, and what is free has to last so long.
const FREE: usize = 6;
/// Segments that are ready for use, if there may be so many. They have to last from one look to the next: at half a second, 7,000 messages
/// of 4 KiB a second fill four.
const READY: usize = 8;
/// Most messages that have left the queue and cannot be noted that are remembered: more than all segments have room for.
const REMEMBERED: usize = 500_000;
/// A segment is made while there is room for so many of them.
const ROOM: u64 = 32;

/// This boot, for [`Keeper::open`].
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// See the head of the file.
#[derive(Debug)]
pub struct Keeper {
    spool: Spool,
    geometry: Geometry,
    mode: u32,
    /// Syncs of the file system report what went wrong since this was opened.
    root: File,
    completed: Mutex<Vec<QueueId>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    completions: Completions,
    /// How often each segment was given back.
    uses: Vec<u64>,
    /// Since when segments are seen claimed and not locked.
    idle: Vec<Option<Instant>>,
    frozen: bool,
    /// What an earlier boot left and is not back in the queue: until then the log is closed, and all of it is kept.
    restore: Option<Restore>,
}

impl Keeper {
    /// Opens the log for this boot. After another boot it first restores whatever message has neither a whole file nor left the queue; nothing may
    /// work on the queue meanwhile. What cannot be restored yet stays in the log, which is closed then: see [`Self::tend`]. `make`: make segments,
    /// too. `mode`: theirs.
    pub fn open(spool: &Spool, geometry: Geometry, boot: &str, make: bool, mode: u32) -> io::Result<Self> {
        // Before anything is changed: it reports what goes wrong from now on.
        let root = File::open(spool.root())?;
        let found = boot::look(spool, boot);
        let mut restore = match &found {
            Ok(Found::Open | Found::Frozen) => None,
            Ok(found) => Some(Restore::begin(spool, &root, boot, *found == Found::BrokenOff)),
            Err(error) => Some(Restore::none(error)),
        };
        if restore.as_mut().is_some_and(|restore| restore.go_on(spool, &root)) {
            restore = None;
        }
        let claimed = |number: &usize| fs::symlink_metadata(claim_path(spool, *number)).is_ok();
        let live = (0..geometry.segments).filter(claimed).map(|number| (number, 0)).collect();
        let state = State {
            completions: Completions::open(spool, live),
            uses: vec![0; geometry.segments],
            idle: vec![None; geometry.segments],
            frozen: matches!(found, Ok(Found::Frozen)),
            restore,
        };
        let keeper = Self {
            spool: spool.clone(),
            geometry: if make { geometry } else { Geometry { segments: 0, ..geometry } },
            mode,
            root,
            completed: Mutex::default(),
            state: Mutex::new(state),
        };
        Ok(keeper)
    }

    /// This message has left the queue. Costs a note in memory; [`Self::tend`] writes it.
    pub fn completed(&self, id: QueueId) {
        self.completed.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// What has to be done now and then, once a second at least: blocks for syncs. Errors are for the
    /// log; it is tried again. Of a restore that is not complete the log hears from here.
    pub fn tend(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // First what has left, then who is in use: the other way round a claim could be missed whose message has left already. Behind the lock, so
        // that whoever tends last finds all that others have taken noted.
        let left = std::mem::take(&mut *self.completed.lock().unwrap_or_else(PoisonError::into_inner));
        let claims = match self.claims(&state) {
            Ok(claims) => claims,
            Err(error) => {
                self.remember(left);
                return Err(error);
            }
        };
        let noted = if claims.is_empty() && state.restore.is_none() {
            state.completions.forget_all(&self.spool)
        } else {
            let noted = state.completions.note(&self.spool, &left);
            if noted.is_err() {
                self.remember(left);
            }
            noted
        };
        if let Some(restore) = &mut state.restore {
            if restore.go_on(&self.spool, &self.root) {
                state.restore = None;
                state.completions = Completions::open(&self.spool, BTreeSet::new());
            }
            return noted;
        }
        // What is given back needs no notes.
        let given_back = self.give_back(&mut state, claims);
        noted.and(given_back)?;
        if state.frozen { Ok(()) } else { self.make_ready() }
    }

    /// Nothing more will leave the queue: notes what has, and does nothing else that could take its time.
    pub fn close(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = std::mem::take(&mut *self.completed.lock().unwrap_or_else(PoisonError::into_inner));
        state.completions.note(&self.spool, &left)
    }

    /// Takes back what could not be noted. The oldest go when there are too many: their segments are the likeliest to have been given back.
    fn remember(&self, mut left: Vec<QueueId>) {
        let mut completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
        left.append(&mut completed);
        let many = left.len().saturating_sub(REMEMBERED);
        if many > 0 {
            common::warn!(
                "commit log: {many} messages that have left the queue are not noted: after a power cut they could be delivered again"
            );
            left.drain(..many);
        }
        *completed = left;
    }

    /// As if the time to try it again had come.
    #[cfg(test)]
    pub(super) fn retry_restore(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.restore.iter_mut().for_each(Restore::is_due);
        drop(state);
        self.tend()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> Vec<QueueId> {
        self.completed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Claimed segments; with the claim's file, locked by us, where nobody else has it locked.
    fn claims(&self, state: &State) -> io::Result<Vec<(usize, Option<File>)>> {
        let mut claims = Vec::new();
        for number in 0..state.uses.len() {
            // Whatever smtpd made of the name.
            let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
            match File::options().read(true).custom_flags(flags).open(claim_path(&self.spool, number)) {
                Ok(file) => {
                    let ours = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
                    claims.push((number, ours.then_some(file)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(claims)
    }

    fn give_back(&self, state: &mut State, claims: Vec<(usize, Option<File>)>) -> io::Result<()> {
        let now = Instant::now();
        let claimed = claims.len();
        let mut locked = BTreeSet::new();
        let mut idle = Vec::new();
        let mut patient = true;
        for (number, claim) in claims {
            let uses = state.uses.get(number).copied().unwrap_or_default();
            let Some(since) = state.idle.get_mut(number) else { continue };
            match claim {
                None => {
                    *since = None;
                    locked.insert((number, uses));
                }
                Some(claim) => {
                    patient &= now.duration_since(*since.get_or_insert(now)) < LONGEST;
                    idle.push((number, claim));
                }
            }
        }
        if state.frozen {
            return boot::freeze(&self.spool);
        }
        let few = claimed + FREE > state.uses.len();
        if idle.is_empty() || (patient && !few) {
            return Ok(());
        }
        let storage = self.spool.storage();
        if let Err(error) = storage.sync_all(&self.root) {
            // From now on what is on the disk and what seems to be there may differ, until the next boot makes it good.
            common::error!(
                "commit log: cannot sync the file system: {error}; the log is closed until the next boot"
            );
            state.frozen = true;
            return boot::freeze(&self.spool);
        }
        let mut all = Ok(());
        for (number, claim) in idle {
            let erased = restore::erase(&self.spool, &segment_path(&self.spool, number))
                .and_then(|()| storage.remove(&claim_path(&self.spool, number)));
            drop(claim);
            let (Some(uses), Some(idle)) = (state.uses.get_mut(number), state.idle.get_mut(number)) else {
                continue;
            };
            // One that fails holds up none of the others, and has its records still.
            if let Err(error) = erased {
                all = Err(error);
                locked.insert((number, *uses));
                continue;
            }
            *uses += 1;
            *idle = None;
        }
        let uses = &state.uses;
        let turned = state
            .completions
            .turn(&self.spool, &locked, |(number, then)| uses.get(number).is_some_and(|now| *now > then));
        all.and(turned)
    }

    /// Makes segments until some are free.
    fn make_ready(&self) -> io::Result<()> {
        let mut free = 0;
        for number in 0..self.geometry.segments {
            if free >= READY {
                return Ok(());
            }
            if fs::symlink_metadata(segment_path(&self.spool, number)).is_err() {
                if octets_free(&self.spool)? < ROOM * self.geometry.size as u64 {
                    return Ok(());
                }
                self.make(number)?;
            }
            free += usize::from(fs::symlink_metadata(claim_path(&self.spool, number)).is_err());
        }
        Ok(())
    }

    /// Written, not only allocated: a sync of it then has no more to do than to write the data.
    fn make(&self, number: usize) -> io::Result<()> {
        let (storage, path) = (self.spool.storage(), segment_path(&self.spool, number));
        let segments = Folder::open(&folder(&self.spool, "segments"))?;
        let name = format!("{number}.new");
        let unfinished = segments.path().join(&name);
        if fs::symlink_metadata(&unfinished).is_ok() {
            storage.remove(&unfinished)?;
        }
        let file = storage.create_unnamed(&segments, self.mode)?;
        let zeros = vec![0; self.geometry.size.min(1 << 20)];
        for at in (0..self.geometry.size).step_by(zeros.len().max(1)) {
            let length = zeros.len().min(self.geometry.size - at);
            storage.write_at(&file, zeros.get(..length).unwrap_or(&zeros), at as u64)?;
        }
        storage.sync_file(&file)?;
        // Under either name it is read after a power cut; smtpd sees it when that is certain.
        storage.link(&file, &segments, &name)?;
        storage.sync_folder(&segments)?;
        storage.rename(&unfinished, &path)
    }
}

/// Room on the file system of the spool, in octets.
fn octets_free(spool: &Spool) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(spool.root())?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

fn remove_if_there(spool: &Spool, path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => spool.storage().remove(path),
        Err(_) => Ok(()),
    }
}
