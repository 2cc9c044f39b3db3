//! The scheduler: which message is loaded when, which job goes to which worker, and when a message is tried again.
//!
//! A pure data structure: events go in with the time at which they happened, actions come out, and [`Scheduler::deadline`] says when it wants to be asked
//! again. It does no I/O, starts no thread, reads no clock and draws no randomness but from the seed it was given, so that days of queue life are
//! a unit test. It knows messages by their queue ID and recipients by their number, nothing of their content.
//!
//! It promises: at most `active_limit` messages are in memory, deferred ones at most half of it, and about `recipient_limit` recipients; every job that was queued ends in
//! exactly one of answered, suspended or dropped; when a message's last job has ended, [`Action::Attempted`] comes once.
//!
//! | question | file |
//! | --- | --- |
//! | how is the retry time chosen | [`backoff`] |
//! | how many jobs at once for a destination, and what when it is down | [`destinations`] |
//! | which message is due when | [`waiting`] |
//! | who has which job, and what when workers die | `jobs`, `workers` |

pub mod backoff;
pub mod destinations;
mod jobs;
mod types;
pub mod waiting;
mod workers;

pub use destinations::JobId;
pub use types::{Action, Settings, Share, Source};

use backoff::Jitter;
use common::destination::Transport;
use common::time::Timestamp;
use destinations::Destinations;
use jobs::{no_worker, suspended};
use spool::dispatch::MAX_RECIPIENTS;
use spool::id::QueueId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;
use waiting::Waiting;
use workers::{TRANSPORTS, Workers};

/// Names a worker's connection.
pub type WorkerId = u64;

/// How long jobs wait for a worker when their transport has none, before they are deferred.
pub const TRANSPORT_GRACE: Duration = Duration::from_secs(60);
/// Most messages that are being read at once: the rest of the file work must not wait behind them.
pub const MAX_LOADING: usize = 32;

/// See the head of the file.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    jitter: Jitter,
    fresh: VecDeque<(QueueId, Source)>,
    fresh_ids: HashSet<QueueId>,
    waiting: Waiting,
    active: HashMap<QueueId, Active>,
    active_deferred: usize,
    active_recipients: usize,
    loading: usize,
    fresh_turn: bool,
    destinations: Destinations,
    jobs: HashMap<JobId, Job>,
    next_job: JobId,
    workers: Workers,
    actions: VecDeque<Action>,
    stopped: bool,
}

#[derive(Debug)]
struct Active {
    source: Source,
    jobs: HashSet<JobId>,
    /// How many recipients it has in memory, once it is loaded.
    loaded: Option<usize>,
    /// Earliest next attempt: the end of the pause of a throttled lane that it met.
    not_before: Option<Timestamp>,
}

#[derive(Debug)]
struct Job {
    id: QueueId,
    lane: u64,
    recipients: Vec<u32>,
    worker: Option<WorkerId>,
    returns: u8,
    orphan: bool,
}

impl Scheduler {
    /// An empty one. `seed` decides the jitter.
    pub fn new(settings: Settings, seed: u64, now: Timestamp) -> Self {
        Self {
            settings,
            jitter: Jitter::new(seed),
            fresh: VecDeque::new(),
            fresh_ids: HashSet::new(),
            waiting: Waiting::default(),
            active: HashMap::new(),
            active_deferred: 0,
            active_recipients: 0,
            loading: 0,
            fresh_turn: true,
            destinations: Destinations::new(
                settings.concurrency,
                settings.throttle_pause(),
                settings.backoff.max_retry,
            ),
            jobs: HashMap::new(),
            next_job: 1,
            workers: Workers::new(now),
            actions: VecDeque::new(),
            stopped: false,
        }
    }

    /// Takes over changed settings; what is under way goes on.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
        self.destinations.set_limits(
            settings.concurrency,
            settings.throttle_pause(),
            settings.backoff.max_retry,
        );
    }

    /// A message that wants to be loaded as soon as there is room. One that is known already is not taken twice.
    pub fn arrived(&mut self, id: QueueId, source: Source) {
        if !self.knows(id) {
            self.fresh_ids.insert(id);
            self.fresh.push_back((id, source));
        }
    }

    /// A message that lies in `deferred/` until `due`.
    pub fn deferred(&mut self, id: QueueId, due: Timestamp) {
        if !self.knows(id) {
            self.waiting.insert(id, Source::Deferred(due), due);
        }
    }

    /// Is this message in memory or waiting?
    pub fn knows(&self, id: QueueId) -> bool {
        self.active.contains_key(&id) || self.fresh_ids.contains(&id) || self.waiting.contains(id)
    }

    /// Has this message been given out to be loaded?
    pub fn is_loading(&self, id: QueueId) -> bool {
        self.active.get(&id).is_some_and(|active| active.loaded.is_none())
    }

    /// A loaded message's recipients that want delivery by workers (none when there is nothing for workers to do), and how many it has in all.
    pub fn loaded(&mut self, id: QueueId, recipients: usize, shares: Vec<Share>, now: Timestamp) {
        let Some(active) = self.active.get_mut(&id).filter(|active| active.loaded.is_none()) else { return };
        active.loaded = Some(recipients);
        self.loading = self.loading.saturating_sub(1);
        self.active_recipients += recipients;
        let most =
            usize::try_from(self.settings.recipients).unwrap_or(MAX_RECIPIENTS).clamp(1, MAX_RECIPIENTS);
        for Share { lane, recipients } in shares {
            let transport = lane.destination.transport;
            if recipients.is_empty() {
                continue;
            }
            if self.workers.grace_ends(transport).is_some_and(|end| end <= now) {
                self.actions.push_back(Action::Suspend { id, recipients, reason: no_worker(transport) });
                continue;
            }
            let number = self.destinations.number(lane);
            if let Some(throttle) = self.destinations.throttle(number) {
                let reason = suspended(&throttle.reason);
                active.not_before = active.not_before.max(Some(throttle.until));
                self.actions.push_back(Action::Suspend { id, recipients, reason });
                continue;
            }
            for batch in recipients.chunks(most) {
                let job = self.next_job;
                self.next_job += 1;
                let recipients = batch.to_vec();
                self.jobs.insert(
                    job,
                    Job { id, lane: number, recipients, worker: None, returns: 0, orphan: false },
                );
                active.jobs.insert(job);
                self.destinations.push(number, job);
            }
        }
        self.check_attempted(id);
    }

    /// Loading failed for a reason that may pass: it is tried again at `due`.
    pub fn postpone(&mut self, id: QueueId, source: Source, due: Timestamp) {
        self.forget(id);
        self.waiting.insert(id, source, due);
    }

    /// The message's attempt is over and its file lies in `deferred/`; when is it due again? `arrived` is when it was accepted.
    pub fn next_attempt(&mut self, id: QueueId, arrived: Timestamp, now: Timestamp) -> Timestamp {
        let due = self.settings.backoff.next_attempt(arrived, now, &mut self.jitter);
        match self.active.get(&id).and_then(|active| active.not_before) {
            // Not all at the same instant: within a tenth of the first pause behind it.
            Some(end) if end >= due => {
                let first = self.settings.backoff.first_retry;
                end.after(self.jitter.around(first).saturating_sub(first / 10 * 9) / 2)
            }
            _ => due,
        }
    }

    /// The message is not the scheduler's any more: done, deleted or held. Its jobs in hand are cancelled, the others dropped.
    pub fn forget(&mut self, id: QueueId) {
        self.waiting.remove(id);
        if self.fresh_ids.remove(&id) {
            self.fresh.retain(|(other, _)| *other != id);
        }
        let Some(active) = self.active.remove(&id) else { return };
        if matches!(active.source, Source::Deferred(_)) {
            self.active_deferred = self.active_deferred.saturating_sub(1);
        }
        match active.loaded {
            Some(recipients) => self.active_recipients = self.active_recipients.saturating_sub(recipients),
            None => self.loading = self.loading.saturating_sub(1),
        }
        for job in active.jobs {
            match self.jobs.get_mut(&job) {
                Some(Job { worker: Some(worker), orphan, .. }) => {
                    *orphan = true;
                    self.actions.push_back(Action::Cancel(*worker, job));
                }
                // A queued job's number stays in its lane and is skipped when its turn comes.
                _ => {
                    self.jobs.remove(&job);
                }
            }
        }
    }

    /// An admin wants this message tried now; `false` when none waits under this ID (it is being tried, or is not here).
    pub fn retry(&mut self, id: QueueId, now: Timestamp) -> bool {
        self.waiting.hurry(id, now)
    }

    /// An admin knows better: throttled destinations get their probe now.
    pub fn end_pauses(&mut self, now: Timestamp) {
        self.destinations.end_pauses(now);
    }

    /// The next thing to do now; `None` when nothing is.
    pub fn next_action(&mut self, now: Timestamp) -> Option<Action> {
        self.expire(now);
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if self.stopped {
            return None;
        }
        self.dispatch(now).or_else(|| self.load(now))
    }

    /// From now on nothing new is begun.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// When `next_action` may have something to do although nothing happened.
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.stopped {
            return None;
        }
        let load = if self.room_for_deferred() { self.waiting.first_due() } else { None };
        let grace = self.waiting_transports().map(|(_, end)| end).min();
        [load, grace, self.destinations.deadline()].into_iter().flatten().min()
    }

    /// Messages in memory.
    pub fn active_len(&self) -> usize {
        self.active.len()
    }

    /// Messages that wait for their time, or for room.
    pub fn waiting_len(&self) -> usize {
        self.waiting.len() + self.fresh_ids.len()
    }

    /// Jobs in the hands of workers.
    pub fn in_hand(&self) -> usize {
        self.workers.in_hand()
    }

    /// New mail and deferred mail take turns while both wait.
    fn load(&mut self, now: Timestamp) -> Option<Action> {
        if !self.room() {
            return None;
        }
        let (id, source) = if self.fresh_turn {
            self.pop_fresh().or_else(|| self.pop_due(now))
        } else {
            self.pop_due(now).or_else(|| self.pop_fresh())
        }?;
        self.fresh_turn = !self.fresh_turn;
        if matches!(source, Source::Deferred(_)) {
            self.active_deferred += 1;
        }
        self.loading += 1;
        self.active.insert(id, Active { source, jobs: HashSet::new(), loaded: None, not_before: None });
        Some(Action::Load(id, source))
    }

    fn pop_fresh(&mut self) -> Option<(QueueId, Source)> {
        let (id, source) = self.fresh.pop_front()?;
        self.fresh_ids.remove(&id);
        Some((id, source))
    }

    fn pop_due(&mut self, now: Timestamp) -> Option<(QueueId, Source)> {
        if self.room_for_deferred() { self.waiting.pop_due(now) } else { None }
    }

    fn room(&self) -> bool {
        self.active.len() < self.settings.active_limit
            && self.active_recipients < self.settings.recipient_limit
            && self.loading < MAX_LOADING
    }

    fn room_for_deferred(&self) -> bool {
        self.room() && self.active_deferred < self.settings.active_limit.div_ceil(2)
    }

    fn expire(&mut self, now: Timestamp) {
        self.destinations.expire(now);
        let over: Vec<Transport> = self
            .waiting_transports()
            .filter(|(_, end)| *end <= now)
            .map(|(transport, _)| transport)
            .collect();
        for transport in over {
            for job in self.destinations.drain(transport, now) {
                self.suspend(job, no_worker(transport));
            }
        }
    }

    /// Transports that have queued jobs but no worker, and when these stop waiting for one.
    fn waiting_transports(&self) -> impl Iterator<Item = (Transport, Timestamp)> {
        TRANSPORTS.into_iter().filter_map(|transport| {
            let end = self.workers.grace_ends(transport)?;
            self.destinations.has_jobs(transport).then_some((transport, end))
        })
    }

    fn check_attempted(&mut self, id: QueueId) {
        if self.active.get(&id).is_some_and(|active| active.loaded.is_some() && active.jobs.is_empty()) {
            self.actions.push_back(Action::Attempted(id));
        }
    }
}

#[cfg(test)]
mod tests;
