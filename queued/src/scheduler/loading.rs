//! Which message comes into memory next, and which does not.
//!
//! ```text
//! places       `active_limit` messages; deferred mail has at most half of them
//! turns        new and deferred mail are loaded in turn while both wait
//! recipients   half of `recipient_limit` for messages of up to LARGE recipients, half for larger ones: one that finds no room in its half goes
//!              back to the disk at once and comes again when there is, so that mailings do not keep small messages out
//! slow lanes   when memory is full and something waits for it: a lane with more than a quarter of the places whose next job has waited for first_retry
//!              gives its youngest back to the disk until it has a quarter, one that is silent (a host that hangs) until it has a sixteenth; it takes
//!              no more until it is quicker
//! ```
//!
//! What finds no room lies where it is, in `incoming/` or `deferred/`, and costs an index entry.

use super::again::PutOff;
use super::destinations::{Lane, Room};
use super::jobs::{crowded, no_worker, suspended};
use super::{Action, Active, Facts, Job, LAST_CHANCE, MAX_LOADING, Scheduler, Settings, Share, Source};
use common::time::Timestamp;
use spool::dispatch::MAX_RECIPIENTS;
use spool::id::QueueId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A message with more recipients than this is a large one.
pub const LARGE: usize = 1000;

/// How often a full memory is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What is in memory, and what wants to come in.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// In the order of arrival; some may have been forgotten since, or be there twice.
    fresh: VecDeque<QueueId>,
    /// Where each of them lies now.
    fresh_ids: HashMap<QueueId, Source>,
    /// Large messages that found no room, with their recipients. They are in `fresh_ids`, too.
    large: VecDeque<(QueueId, usize)>,
    deferred_turn: bool,
    deferred: usize,
    loading: usize,
    /// Of these, those from `deferred/`.
    loading_deferred: usize,
    small_recipients: usize,
    large_recipients: usize,
    /// When a full memory is looked at next.
    look: Timestamp,
}

impl Memory {
    pub(super) fn arrived(&mut self, id: QueueId, source: Source) {
        self.fresh_ids.insert(id, source);
        self.fresh.push_back(id);
    }

    pub(super) fn is_fresh(&self, id: QueueId) -> bool {
        self.fresh_ids.contains_key(&id)
    }

    pub(super) fn fresh_len(&self) -> usize {
        self.fresh_ids.len()
    }

    /// A message that waited is not wanted any more. Its place in the row is passed over later.
    pub(super) fn forget(&mut self, id: QueueId) {
        if self.fresh_ids.remove(&id).is_some()
            && self.fresh.len() + self.large.len() > 2 * self.fresh_ids.len() + 64
        {
            let ids = &self.fresh_ids;
            self.fresh.retain(|id| ids.contains_key(id));
            self.large.retain(|(id, _)| ids.contains_key(id));
        }
    }

    /// A message left memory.
    pub(super) fn left(&mut self, source: &Source, facts: Option<&Facts>) {
        if matches!(source, Source::Deferred(_)) {
            self.deferred = self.deferred.saturating_sub(1);
        }
        match facts {
            None => self.loaded(source),
            Some(Facts { recipients, .. }) if *recipients > LARGE => {
                self.large_recipients = self.large_recipients.saturating_sub(*recipients);
            }
            Some(Facts { recipients, .. }) => {
                self.small_recipients = self.small_recipients.saturating_sub(*recipients);
            }
        }
    }

    /// A message has been loaded, or could not be.
    fn loaded(&mut self, source: &Source) {
        self.loading = self.loading.saturating_sub(1);
        if matches!(source, Source::Deferred(_)) {
            self.loading_deferred = self.loading_deferred.saturating_sub(1);
        }
    }

    fn pop_fresh(&mut self) -> Option<(QueueId, Source)> {
        while let Some(id) = self.fresh.pop_front() {
            // Where it lay when it got its place in the row may be another place: it may have been held and released since.
            if let Some(source) = self.fresh_ids.remove(&id) {
                return Some((id, source));
            }
        }
        None
    }

    fn has_room_for_large(&self, recipients: usize, limit: usize) -> bool {
        self.large_recipients == 0 || self.large_recipients + recipients <= limit / 2
    }

    fn pop_large(&mut self, limit: usize) -> Option<(QueueId, Source)> {
        while let Some(&(id, recipients)) = self.large.front() {
            if self.is_fresh(id) && !self.has_room_for_large(recipients, limit) {
                return None;
            }
            self.large.pop_front();
            if self.fresh_ids.remove(&id).is_some() {
                return Some((id, Source::Active));
            }
        }
        None
    }
}

impl Settings {
    fn room_for_a_lane(&self) -> Room {
        let places = self.active_limit;
        Room { slow: (places / 4).max(1), silent: (places / 16).max(1), patience: self.backoff.first_retry }
    }
}

impl Scheduler {
    /// A loaded message's recipients that want delivery by workers (none when there is nothing for workers to do). `false`: it is a large one and there is no
    /// room for it; it has to be let go, and is loaded again, from where it lies, when there is.
    #[must_use]
    pub fn loaded(&mut self, id: QueueId, facts: Facts, shares: Vec<Share>, now: Timestamp) -> bool {
        let expires = self.expires(&facts).max(now.after(LAST_CHANCE));
        let Some(active) = self.active.get_mut(&id).filter(|active| active.facts.is_none()) else {
            return true;
        };
        if facts.recipients > LARGE {
            if !self.memory.has_room_for_large(facts.recipients, self.settings.recipient_limit) {
                self.forget(id, now);
                self.memory.fresh_ids.insert(id, Source::Active);
                self.memory.large.push_back((id, facts.recipients));
                return false;
            }
            self.memory.large_recipients += facts.recipients;
        } else {
            self.memory.small_recipients += facts.recipients;
        }
        self.memory.loaded(&active.source);
        active.facts = Some(facts);
        let late = matches!(active.source, Source::Deferred(_));
        let mut put_off = Vec::new();
        for Share { lane, recipients } in shares {
            if !recipients.is_empty() {
                put_off.extend(self.queue(id, Arc::new(lane), recipients, late, now));
            }
        }
        self.limit_waiting(id, expires);
        for (lane, recipients) in put_off {
            self.put_off(id, lane, recipients, now);
        }
        self.check_attempted(id);
        true
    }

    /// Queues jobs for these recipients; `late`: in the row of deferred mail. Gives them back when they are suspended instead.
    pub(super) fn queue(
        &mut self,
        id: QueueId,
        lane: Arc<Lane>,
        recipients: Vec<u32>,
        late: bool,
        now: Timestamp,
    ) -> Option<(Arc<Lane>, Vec<u32>)> {
        let active = self.active.get_mut(&id)?;
        let transport = lane.destination.transport;
        let number = self.destinations.number(&lane);
        let reason = if self.workers.grace_ends(transport).is_some_and(|end| end <= now) {
            no_worker(transport)
        } else if let Some(throttle) = self.destinations.closed(number, now) {
            active.not_before = active.not_before.max(Some(throttle.until));
            suspended(&throttle.reason)
        } else if self.destinations.is_crowded(number, self.settings.room_for_a_lane(), now) {
            crowded()
        } else {
            let most = usize::try_from(self.destinations.recipients(number)).unwrap_or(MAX_RECIPIENTS);
            let mut jobs = Vec::new();
            for batch in recipients.chunks(most.clamp(1, MAX_RECIPIENTS)) {
                let job = self.next_job;
                self.next_job += 1;
                let (to, recipients) = (Arc::clone(&lane), batch.to_vec());
                self.jobs.insert(
                    job,
                    Job { id, lane: number, to, recipients, worker: None, returns: 0, orphan: false },
                );
                active.jobs.insert(job);
                jobs.push(job);
            }
            self.destinations.push(number, jobs, late, now);
            return None;
        };
        self.actions.push_back(Action::Suspend { id, recipients: recipients.clone(), reason });
        Some((lane, recipients))
    }

    /// A message with jobs that has no such limit yet waits for their turns until `end` at most.
    pub(super) fn limit_waiting(&mut self, id: QueueId, end: Timestamp) {
        if let Some(active) = self.active.get_mut(&id)
            && active.ends.is_none()
            && !active.jobs.is_empty()
        {
            active.ends = Some(end);
            self.lives.insert((end, id));
        }
    }

    /// The next message to be loaded, if there is room.
    pub(super) fn load(&mut self, now: Timestamp) -> Option<Action> {
        if self.active.len() >= self.settings.active_limit || self.memory.loading >= MAX_LOADING {
            return None;
        }
        let mut next = self.memory.pop_large(self.settings.recipient_limit);
        if next.is_none() && self.room_for_recipients() {
            next = if self.memory.deferred_turn {
                self.pop_due(now).or_else(|| self.memory.pop_fresh())
            } else {
                self.memory.pop_fresh().or_else(|| self.pop_due(now))
            };
            self.memory.deferred_turn ^= next.is_some();
        }
        let (id, source) = next?;
        if matches!(source, Source::Deferred(_)) {
            self.memory.deferred += 1;
            self.memory.loading_deferred += 1;
        }
        self.memory.loading += 1;
        let active = Active {
            source,
            jobs: HashSet::new(),
            facts: None,
            not_before: None,
            ends: None,
            put_off: PutOff::new(),
        };
        self.active.insert(id, active);
        Some(Action::Load(id, source))
    }

    /// When `load` or `relieve` may have something to do although nothing happened.
    pub(super) fn load_deadline(&self) -> Option<Timestamp> {
        let due = self.waiting.first_due();
        if self.is_full() {
            let waits = if self.memory.fresh_ids.is_empty() { due } else { Some(self.memory.look) };
            waits.map(|at| at.max(self.memory.look))
        } else if !self.room_for_deferred() {
            due.map(|due| due.max(self.memory.look))
        } else if self.memory.loading < MAX_LOADING && self.turn_for_deferred() {
            due
        } else {
            None
        }
    }

    /// Memory is full and something waits for it: does a slow lane hold it?
    pub(super) fn relieve(&mut self, now: Timestamp) {
        let due = self.waiting.first_due().is_some_and(|due| due <= now);
        let fresh = !self.memory.fresh_ids.is_empty();
        let wanted = (self.is_full() && (fresh || due)) || (!self.room_for_deferred() && due);
        if !wanted || now < self.memory.look {
            return;
        }
        self.memory.look = now.after(LOOK);
        let room = self.settings.room_for_a_lane();
        let jobs = &self.jobs;
        let wanted = |job| jobs.contains_key(&job);
        for job in self.destinations.relieve(room, now, &wanted) {
            self.suspend(job, crowded(), now);
        }
    }

    fn pop_due(&mut self, now: Timestamp) -> Option<(QueueId, Source)> {
        if self.room_for_deferred() && self.turn_for_deferred() { self.waiting.pop_due(now) } else { None }
    }

    /// To read them may take its time, and new mail does not wait for that.
    fn turn_for_deferred(&self) -> bool {
        self.memory.loading_deferred < MAX_LOADING / 2
    }

    fn room_for_recipients(&self) -> bool {
        self.memory.small_recipients < self.settings.recipient_limit / 2
    }

    fn room_for_deferred(&self) -> bool {
        self.memory.deferred < self.settings.active_limit.div_ceil(2)
    }

    fn is_full(&self) -> bool {
        self.active.len() >= self.settings.active_limit || !self.room_for_recipients()
    }
}
