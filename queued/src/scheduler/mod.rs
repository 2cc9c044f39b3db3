//! The scheduler: which message is loaded when, which job goes to which worker, and when a message is tried again.
//!
//! A pure data structure: events go in with the time at which they happened, actions come out, and [`Scheduler::deadline`] says when it wants to be asked
//! again. It does no I/O, starts no thread, reads no clock and draws no randomness but from the seed it was given, so that days of queue life are
//! a unit test. It knows messages by their queue ID and recipients by their number, nothing of their content.
//!
//! It promises:
//! - **memory**: at most `active_limit` messages and about `recipient_limit` recipients; of those that wait, an index entry each;
//! - **no wedge**: every job that was queued ends in exactly one of answered, suspended or dropped; when a message's last job has ended,
//!   [`Action::Attempted`] comes once; what waits for its turn longer than it may live is suspended;
//! - **shares**: new and deferred mail are loaded in turn while both wait, deferred mail has at most half of the places in memory; within a
//!   lane new and deferred mail go out in turn; lanes go out in turn; lanes whose last answer was a failure have at most half of the workers' places;
//! - **the bound**: with n messages of new mail before it in its lane a message waits for at most 2n + 1 transactions, however many recipients these
//!   have and however much deferred mail there is;
//! - **slow lanes**: when memory is full, a lane that has more than a quarter of it and in which jobs wait longer than `first_retry` gives the rest back
//!   to the disk; one that has not answered for ten seconds keeps a sixteenth.
//!
//! | question | file |
//! | --- | --- |
//! | how is the retry time chosen | [`backoff`] |
//! | how many jobs at once for a destination | [`window`]; by an admin's word: [`limits`] |
//! | which lane is next, and what when a destination is down | [`destinations`] |
//! | whose turn is it within a lane | `lane` |
//! | which message is loaded next, which given back | `loading` |
//! | which message is due when | [`waiting`] |
//! | and a recipient whose message is still busy with others | `again` |
//! | who has which job, and what when workers die | `jobs`, `workers` |

mod again;
pub mod backoff;
pub mod destinations;
mod jobs;
mod lane;
pub mod limits;
mod loading;
mod types;
pub mod waiting;
pub mod window;
mod workers;

pub use loading::LARGE;
pub use types::{Action, Ended, Facts, Settings, Share, Source};

use again::PutOff;
use backoff::Jitter;
use common::destination::Transport;
use common::time::Timestamp;
use destinations::{Destinations, Lane, Pause};
use jobs::{no_worker, out_of_time};
use loading::Memory;
use spool::id::QueueId;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use waiting::Waiting;
use workers::{TRANSPORTS, Workers};

/// Names a job for as long as the process lives.
pub type JobId = u64;
/// Names a worker's connection.
pub type WorkerId = u64;

/// How long jobs wait for a worker when their transport has none, before they are deferred.
pub const TRANSPORT_GRACE: Duration = Duration::from_secs(60);
/// How long a message that has outlived its time already when it is loaded may wait for its turn.
pub const LAST_CHANCE: Duration = Duration::from_secs(60);
/// Most messages that are being read at once: the rest of the file work must not wait behind them.
pub const MAX_LOADING: usize = 32;

/// See the head of the file.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    jitter: Jitter,
    memory: Memory,
    waiting: Waiting,
    active: HashMap<QueueId, Active>,
    /// When messages have to stop waiting for their turn.
    lives: BTreeSet<(Timestamp, QueueId)>,
    again: Again,
    destinations: Destinations,
    jobs: HashMap<JobId, Job>,
    next_job: JobId,
    workers: Workers,
    actions: VecDeque<Action>,
    jobs_held: bool,
    stopped: bool,
}

/// When recipients of messages in memory are tried again: the keys of [`Active::put_off`].
type Again = BTreeSet<(Timestamp, QueueId)>;

#[derive(Debug)]
struct Active {
    source: Source,
    jobs: HashSet<JobId>,
    /// What is known of it, once it is loaded.
    facts: Option<Facts>,
    /// Earliest next attempt: the end of the pause of a throttled lane that it met.
    not_before: Option<Timestamp>,
    /// Its entry in `lives`.
    ends: Option<Timestamp>,
    /// Recipients that wait for a time of their own. Empty when there are no jobs.
    put_off: PutOff,
}

#[derive(Debug)]
struct Job {
    id: QueueId,
    lane: u64,
    /// The same: the number outlives no lane that is forgotten.
    to: Arc<Lane>,
    recipients: Vec<u32>,
    worker: Option<WorkerId>,
    returns: u8,
    orphan: bool,
}

impl Scheduler {
    /// An empty one. `seed` decides the jitter.
    pub fn new(settings: Settings, seed: u64, now: Timestamp) -> Self {
        Self {
            jitter: Jitter::new(seed),
            memory: Memory::default(),
            waiting: Waiting::default(),
            active: HashMap::new(),
            lives: BTreeSet::new(),
            again: Again::new(),
            destinations: Destinations::new(settings.limits.clone(), settings.pauses()),
            settings,
            jobs: HashMap::new(),
            next_job: 1,
            workers: Workers::new(now),
            actions: VecDeque::new(),
            jobs_held: false,
            stopped: false,
        }
    }

    /// Takes over changed settings; what is under way goes on.
    pub fn set(&mut self, settings: Settings, now: Timestamp) {
        self.destinations.set_limits(settings.limits.clone(), settings.pauses(), now);
        self.settings = settings;
    }

    /// A message that wants to be loaded as soon as there is room. One that is known already is not taken twice.
    pub fn arrived(&mut self, id: QueueId, source: Source) {
        if !self.knows(id) {
            self.memory.arrived(id, source);
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
        self.active.contains_key(&id) || self.memory.is_fresh(id) || self.waiting.contains(id)
    }

    /// Has this message been given out to be loaded?
    pub fn is_loading(&self, id: QueueId) -> bool {
        self.active.get(&id).is_some_and(|active| active.facts.is_none())
    }

    /// Loading failed for a reason that may pass: it is tried again at `due`.
    pub fn postpone(&mut self, id: QueueId, source: Source, due: Timestamp, now: Timestamp) {
        self.forget(id, now);
        self.waiting.insert(id, source, due);
    }

    /// The message's attempt is over, and it goes to `deferred/`: when is it due again? Not later than its lifetime ends.
    pub fn next_attempt(&mut self, id: QueueId, now: Timestamp) -> Timestamp {
        let active = self.active.get(&id);
        let not_before = active.and_then(|active| active.not_before);
        let facts = active.and_then(|active| active.facts);
        let arrived = facts.map_or(now, |facts| facts.arrived);
        let due = self.settings.backoff.next_attempt(arrived, now, &mut self.jitter);
        let due = match not_before {
            // Not all at the same instant: they come back within `first_retry` behind the pause.
            Some(end) if end >= due => end.after(self.jitter.within(self.settings.backoff.first_retry)),
            _ => due,
        };
        match facts.map(|facts| self.expires(&facts)) {
            Some(end) if end > now => due.min(end),
            _ => due,
        }
    }

    fn expires(&self, facts: &Facts) -> Timestamp {
        let lifetimes = &self.settings.lifetimes;
        facts.arrived.after(if facts.null_sender { lifetimes.bounce_lifetime } else { lifetimes.lifetime })
    }

    /// The message is not the scheduler's any more: done, deleted or held. Its jobs in hand are cancelled, the others dropped.
    pub fn forget(&mut self, id: QueueId, now: Timestamp) {
        self.waiting.remove(id);
        self.memory.forget(id);
        let Some(mut active) = self.active.remove(&id) else { return };
        self.memory.left(&active.source, active.facts.as_ref());
        if let Some(end) = active.ends {
            self.lives.remove(&(end, id));
        }
        again::take(&mut self.again, id, &mut active);
        for number in active.jobs {
            match self.jobs.get_mut(&number) {
                Some(Job { worker: Some(worker), orphan, .. }) => {
                    *orphan = true;
                    self.actions.push_back(Action::Cancel(*worker, number));
                }
                _ => {
                    if let Some(job) = self.jobs.remove(&number) {
                        self.destinations.withdraw(job.lane, now);
                    }
                }
            }
        }
    }

    /// An admin wants this message tried now; `false` when none waits under this ID (it is being tried, or is not here).
    pub fn retry(&mut self, id: QueueId, now: Timestamp) -> bool {
        self.waiting.hurry(id, now) || self.hurry_put_off(id, now)
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
        self.load(now).or_else(|| if self.jobs_held { None } else { self.dispatch(now) })
    }

    /// While this is `true` no jobs are handed out: what came of others has to be written down first.
    pub fn hold_jobs(&mut self, hold: bool) {
        self.jobs_held = hold;
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
        let grace = self.waiting_transports().map(|(_, end)| end).min();
        let life = self.lives.first().map(|(end, _)| *end);
        let again = self.again.first().map(|(at, _)| *at);
        [self.load_deadline(), grace, life, again, self.destinations.deadline()].into_iter().flatten().min()
    }

    /// Messages in memory.
    pub fn active_len(&self) -> usize {
        self.active.len()
    }

    /// New messages that wait for their turn to be loaded.
    pub fn fresh_len(&self) -> usize {
        self.memory.fresh_len()
    }

    /// Messages that wait for their time, or for room.
    pub fn waiting_len(&self) -> usize {
        self.waiting.len() + self.memory.fresh_len()
    }

    /// The transports of the workers that are connected, in no order.
    pub fn agents(&self) -> Vec<Transport> {
        self.workers.transports().collect()
    }

    /// Destinations that nothing goes to for now, `most` of them, those that are tried first in front: until when, and why. And how many there are.
    pub fn paused(&self, most: usize) -> (Vec<Pause<'_>>, usize) {
        self.destinations.paused(most)
    }

    /// Jobs in the hands of workers.
    pub fn in_hand(&self) -> usize {
        self.workers.in_hand()
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
                self.suspend(job, no_worker(transport), now);
            }
        }
        while let Some(&(end, id)) = self.lives.first().filter(|(end, _)| *end <= now) {
            self.lives.remove(&(end, id));
            let Some(active) = self.active.get_mut(&id) else { continue };
            active.ends = None;
            let mut queued: Vec<JobId> = active.jobs.iter().copied().collect();
            queued.retain(|job| self.jobs.get(job).is_some_and(|job| job.worker.is_none()));
            queued.sort_unstable();
            for number in queued {
                if let Some(job) = self.jobs.get(&number) {
                    self.destinations.withdraw(job.lane, now);
                }
                self.suspend(number, out_of_time(), now);
            }
        }
        self.come_again(now);
        self.relieve(now);
    }

    /// Transports that have queued jobs but no worker, and when these stop waiting for one.
    fn waiting_transports(&self) -> impl Iterator<Item = (Transport, Timestamp)> {
        TRANSPORTS.into_iter().filter_map(|transport| {
            let end = self.workers.grace_ends(transport)?;
            self.destinations.has_jobs(transport).then_some((transport, end))
        })
    }

    fn check_attempted(&mut self, id: QueueId) {
        let Some(active) = self.active.get_mut(&id) else { return };
        if active.facts.is_some() && active.jobs.is_empty() {
            if let Some(end) = active.ends.take() {
                self.lives.remove(&(end, id));
            }
            again::take(&mut self.again, id, active);
            self.actions.push_back(Action::Attempted(id));
        }
    }
}

#[cfg(test)]
mod tests;
