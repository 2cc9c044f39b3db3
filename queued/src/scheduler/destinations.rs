//! All lanes: which one is next, and what becomes of one whose destination is down.
//!
//! A lane is a destination (transport and nexthop); for mailboxes of this machine each user (whatever the extension) is a lane of its own, so that a locked one does
//! not hold up the others. Between the lanes of a transport it goes round, a job a turn. How many jobs of a lane may be out is in [`super::window`],
//! whose turn it is within a lane in `lane`, what an admin allows in [`super::limits`].
//!
//! ```text
//! throttled   when its window says that the destination is dead; nothing goes out, and its jobs are suspended
//! pause n     min(60 s, 9/10 first_retry) × 2ⁿ, at most 9/10 max_retry; n counts the pauses since the last success
//! probe       when the pause is over one job goes out; a few more may wait for its answer, the others are suspended.
//!             Reached: open, and the window starts anew. Not reached: the next pause.
//! silent      a lane that keeps what it has in hand without an answer for ten seconds, while more waits
//! doubtful    a lane whose last answer was a failure, or that is silent when its next job's turn comes; all doubtful lanes of a transport together get at most half of its workers' places
//! ```
//!
//! The pauses are a tenth shorter than the retries, so that the message that met the failure can be the next probe.
//! An idle lane is forgotten as soon as there is nothing to remember, or after `memory`; idle lanes that are remembered are at most [`MAX_IDLE`].

use super::JobId;
use super::lane::{Health, LaneState};
use super::limits::Limits;
use super::window::Window;
use common::destination::Transport;
use common::status::Status;
use common::time::Timestamp;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use super::lane::{Lane, SILENCE, Throttle};

/// Most idle lanes that are remembered for their failures; beyond that, those whose memory ends first are forgotten.
pub const MAX_IDLE: usize = 20_000;

/// How many jobs may wait for the answer of a probe.
pub const PROBE_QUEUE: usize = 5;

/// A lane that nothing goes out of, or a probe only: until when (`None`: it is being tried), and why.
pub type Pause<'a> = (&'a Lane, Option<Timestamp>, &'a Status);

/// How long lanes are paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// The first pause.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// How long an idle lane's failures are remembered.
    pub memory: Duration,
}

impl Pauses {
    /// Pause number `n`, from 0.
    pub fn pause(&self, n: u32) -> Duration {
        self.first.saturating_mul(1u32.checked_shl(n).unwrap_or(u32::MAX)).min(self.longest)
    }
}

/// How many jobs a lane may keep in memory while others want the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// A lane whose next job has waited for `patience`.
    pub slow: usize,
    /// A lane that has not answered anything for [`SILENCE`].
    pub silent: usize,
    /// See `slow`.
    pub patience: Duration,
}

impl Room {
    /// `None`: as many as there are.
    fn of(&self, lane: &LaneState, now: Timestamp) -> Option<usize> {
        if lane.is_silent(now) {
            return Some(self.silent);
        }
        let slow = lane.waits_since().is_some_and(|since| now.since(since) >= self.patience);
        slow.then_some(self.slow)
    }
}

/// All lanes with their jobs.
#[derive(Debug)]
pub struct Destinations {
    limits: Limits,
    pauses: Pauses,
    numbers: HashMap<Arc<Lane>, u64>,
    lanes: HashMap<u64, LaneState>,
    next_number: u64,
    /// By transport; the doubtful ones apart.
    rings: HashMap<(Transport, bool), VecDeque<(u64, u32)>>,
    /// Jobs of doubtful lanes that are out.
    doubtful: HashMap<Transport, usize>,
    timers: BTreeSet<(Timestamp, u64)>,
}

impl Destinations {
    /// No lanes yet.
    pub fn new(limits: Limits, pauses: Pauses) -> Self {
        Self {
            limits,
            pauses,
            numbers: HashMap::new(),
            lanes: HashMap::new(),
            next_number: 0,
            rings: HashMap::new(),
            doubtful: HashMap::new(),
            timers: BTreeSet::new(),
        }
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: Limits, pauses: Pauses, now: Timestamp) {
        self.limits = limits;
        self.pauses = pauses;
        let mut numbers = Vec::new();
        for (number, state) in &mut self.lanes {
            state.limit = self.limits.get(&state.lane.destination.nexthop);
            state.window.limit(state.limit.concurrency);
            state.pace = state.pace.min(now.after(state.limit.gap));
            numbers.push(*number);
        }
        for number in numbers {
            self.changed(number, now);
        }
    }

    /// The number of a lane, which is made when it is new.
    pub fn number(&mut self, lane: &Arc<Lane>) -> u64 {
        if let Some(number) = self.numbers.get(lane) {
            return *number;
        }
        self.next_number += 1;
        let limit = self.limits.get(&lane.destination.nexthop);
        self.lanes.insert(self.next_number, LaneState::new(Arc::clone(lane), limit));
        self.numbers.insert(Arc::clone(lane), self.next_number);
        self.next_number
    }

    /// Most recipients in a job of this lane.
    pub fn recipients(&self, number: u64) -> u32 {
        self.lanes.get(&number).map_or(1, |state| state.limit.recipients)
    }

    /// Has this lane all the jobs that it may have in memory?
    pub fn is_crowded(&self, number: u64, room: Room, now: Timestamp) -> bool {
        let lane = self.lanes.get(&number);
        lane.is_some_and(|lane| room.of(lane, now).is_some_and(|most| lane.queued() >= most))
    }

    /// Why the lane takes no more jobs, when it does not, and until when.
    pub fn closed(&self, number: u64, now: Timestamp) -> Option<Throttle> {
        let state = self.lanes.get(&number)?;
        match &state.health {
            Health::Open => None,
            Health::Throttled(throttle) => Some(throttle.clone()),
            Health::Probing(_) if state.queued() <= PROBE_QUEUE => None,
            Health::Probing(reason) => Some(Throttle { until: now, reason: reason.clone() }),
        }
    }

    /// Queues the jobs of one message; `late` when it was deferred before.
    pub fn push(&mut self, number: u64, jobs: Vec<JobId>, late: bool, now: Timestamp) {
        if let Some(state) = self.lanes.get_mut(&number) {
            state.push(jobs, late, now);
        }
        self.changed(number, now);
    }

    /// A job comes back undone: it goes before the others.
    pub fn give_back(&mut self, number: u64, job: JobId, now: Timestamp) {
        self.count(number, |state| {
            state.in_hand = state.in_hand.saturating_sub(1);
            state.push_front(job, now);
        });
        self.changed(number, now);
    }

    /// A job that waits is not wanted any more.
    pub fn withdraw(&mut self, number: u64, now: Timestamp) {
        if let Some(state) = self.lanes.get_mut(&number) {
            state.withdraw();
        }
        self.changed(number, now);
    }

    /// Takes the next job of a transport that is still `wanted`, going round its lanes. At most `doubtful` jobs of doubtful lanes are out at once. The
    /// job counts as in hand until `answered`, `give_back` or `dropped`.
    pub fn next_job(
        &mut self,
        transport: Transport,
        doubtful: usize,
        now: Timestamp,
        wanted: &dyn Fn(JobId) -> bool,
    ) -> Option<(u64, JobId)> {
        let held = self.doubtful.get(&transport).copied().unwrap_or(0);
        // Doubtful lanes first: they have their own share, and a probe that comes late delays everybody behind it.
        let rings = [(held < doubtful).then_some(true), Some(false)];
        for ring in rings.into_iter().flatten() {
            while let Some((number, entry)) =
                self.rings.get_mut(&(transport, ring)).and_then(VecDeque::pop_front)
            {
                let found = self.lanes.get_mut(&number).filter(|state| state.in_ring && state.entry == entry);
                let Some(state) = found else { continue };
                state.in_ring = false;
                if !ring && state.keeps_silent(now) {
                    // Many hosts that hang must not have all places.
                    self.count(number, |state| state.doubtful = true);
                    if self.doubtful.get(&transport).is_some_and(|held| *held >= doubtful) {
                        self.changed(number, now);
                        continue;
                    }
                }
                let Some(state) = self.lanes.get(&number) else { continue };
                let mut taken = None;
                if state.has_place() && state.pace <= now {
                    self.count(number, |state| {
                        taken = state.pop(wanted);
                        if taken.is_some() {
                            if state.in_hand == 0 {
                                state.heard = now;
                            }
                            state.in_hand += 1;
                            state.pace = state.limit.next_pace(state.pace, now);
                        }
                    });
                }
                self.changed(number, now);
                if let Some(job) = taken {
                    return Some((number, job));
                }
            }
        }
        None
    }

    /// A job in hand needed no delivery after all (its message is gone): its place is free, nothing was learnt.
    pub fn dropped(&mut self, number: u64, now: Timestamp) {
        self.count(number, |state| state.in_hand = state.in_hand.saturating_sub(1));
        self.changed(number, now);
    }

    /// A job in hand was answered. `failure` is what it came to when the destination was not reached. Gives the jobs that have to be suspended
    /// because the lane is throttled now, and why and until when it is: the lane itself may be forgotten by then.
    pub fn answered(
        &mut self,
        number: u64,
        failure: Option<Status>,
        now: Timestamp,
    ) -> (Vec<JobId>, Option<Throttle>) {
        let pauses = self.pauses;
        let mut suspended = Vec::new();
        self.count(number, |state| {
            let in_hand = state.in_hand;
            state.in_hand = in_hand.saturating_sub(1);
            if state.doubtful != failure.is_some() {
                state.doubtful = failure.is_some();
                // It goes to the other ring.
                state.in_ring = false;
                state.entry = state.entry.wrapping_add(1);
            }
            if failure.is_none() {
                state.heard = now;
            }
            match failure {
                None if state.health == Health::Open => {
                    state.window.success(in_hand, state.limit.concurrency)
                }
                None => {
                    state.health = Health::Open;
                    state.pauses = 0;
                    state.window = Window::new(state.limit.concurrency);
                }
                // A straggler of the cohort that brought the pause about.
                Some(_) if matches!(state.health, Health::Throttled(_)) => {}
                Some(reason) => {
                    if state.window.failure() {
                        let until = now.after(pauses.pause(state.pauses));
                        state.pauses = state.pauses.saturating_add(1);
                        state.health = Health::Throttled(Throttle { until, reason });
                        suspended = state.drain();
                    }
                }
            }
        });
        let closed = self.closed(number, now);
        self.changed(number, now);
        (suspended, closed)
    }

    /// Takes all queued jobs of a transport out (there is nobody to deliver them).
    pub fn drain(&mut self, transport: Transport, now: Timestamp) -> Vec<JobId> {
        let mut jobs = Vec::new();
        let mut numbers = Vec::new();
        for (number, state) in &mut self.lanes {
            if state.lane.destination.transport == transport && state.queued() > 0 {
                jobs.extend(state.drain());
                numbers.push(*number);
            }
        }
        for ring in [(transport, true), (transport, false)] {
            for (number, _) in self.rings.remove(&ring).into_iter().flatten() {
                if let Some(state) = self.lanes.get_mut(&number) {
                    state.in_ring = false;
                }
            }
        }
        for number in numbers {
            self.changed(number, now);
        }
        jobs.sort_unstable();
        jobs
    }

    /// Of the lanes that have more jobs than they may the one with most: gives the youngest of them.
    pub fn relieve(&mut self, room: Room, now: Timestamp, wanted: &dyn Fn(JobId) -> bool) -> Vec<JobId> {
        let crowded = self.lanes.iter().filter_map(|(number, lane)| {
            room.of(lane, now).filter(|most| lane.queued() > *most).map(|most| (lane.queued(), *number, most))
        });
        let Some((_, number, most)) = crowded.max() else { return Vec::new() };
        let jobs = self.lanes.get_mut(&number).map(|state| state.trim(most, wanted)).unwrap_or_default();
        self.changed(number, now);
        jobs
    }

    /// Ends the pauses that are over, lets paced lanes go on, and forgets idle ones.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some(&(at, number)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, number));
            let Some(state) = self.lanes.get_mut(&number) else { continue };
            state.timer = None;
            match &state.health {
                Health::Throttled(throttle) if throttle.until <= now => {
                    state.health = Health::Probing(throttle.reason.clone());
                    state.window = Window::probe();
                }
                Health::Throttled(_) => {}
                // Its memory is over, or there was nothing but its pace.
                _ if state.is_idle() && state.pace <= now => {
                    self.forget(number);
                    continue;
                }
                _ => {}
            }
            self.changed(number, now);
        }
    }

    /// Ends all pauses now.
    pub fn end_pauses(&mut self, now: Timestamp) {
        let mut numbers = Vec::new();
        for (number, state) in &mut self.lanes {
            if let Health::Throttled(throttle) = &mut state.health {
                throttle.until = now;
                numbers.push(*number);
            }
        }
        for number in numbers {
            self.changed(number, now);
        }
        self.expire(now);
    }

    /// Does a lane of this transport want a worker?
    pub fn has_jobs(&self, transport: Transport) -> bool {
        let waits = |doubtful| self.rings.get(&(transport, doubtful)).is_some_and(|ring| !ring.is_empty());
        waits(true) || waits(false)
    }

    /// When `expire` has something to do.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// At most `most`, the first to be tried in front; and how many there are.
    pub fn paused(&self, most: usize) -> (Vec<Pause<'_>>, usize) {
        let mut paused: Vec<_> = self
            .lanes
            .values()
            .filter_map(|state| match &state.health {
                Health::Open => None,
                Health::Throttled(throttle) => Some((&*state.lane, Some(throttle.until), &throttle.reason)),
                Health::Probing(reason) => Some((&*state.lane, None, reason)),
            })
            .collect();
        let total = paused.len();
        paused.sort_by_cached_key(|(lane, until, _)| {
            (*until, lane.destination.nexthop.to_string(), lane.mailbox.clone())
        });
        paused.truncate(most);
        (paused, total)
    }

    /// How many lanes are remembered.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Is no lane remembered?
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Changes a lane, keeping count of what doubtful lanes have out.
    fn count(&mut self, number: u64, change: impl FnOnce(&mut LaneState)) {
        let Some(state) = self.lanes.get_mut(&number) else { return };
        let held =
            |state: &LaneState| usize::try_from(if state.doubtful { state.in_hand } else { 0 }).unwrap_or(0);
        let before = held(state);
        change(state);
        let after = held(state);
        if before != after {
            let sum = self.doubtful.entry(state.lane.destination.transport).or_default();
            *sum = sum.saturating_add(after).saturating_sub(before);
        }
    }

    /// Follows a change of a lane: it enters the ring when a job may go out, and its one timer is set: for the end of its pause, for its pace, or
    /// for forgetting it. A lane with nothing to remember goes at once.
    fn changed(&mut self, number: u64, now: Timestamp) {
        let Some(state) = self.lanes.get_mut(&number) else { return };
        let paced = state.pace > now;
        if !state.in_ring && state.has_place() && !paced {
            state.in_ring = true;
            let ring = (state.lane.destination.transport, state.doubtful);
            self.rings.entry(ring).or_default().push_back((number, state.entry));
        }
        let clean = state.health == Health::Open && state.window.is_fresh(state.limit.concurrency);
        let wanted = match &state.health {
            Health::Throttled(throttle) => Some(throttle.until),
            _ if state.has_place() && paced => Some(state.pace),
            _ if !state.is_idle() => None,
            _ if clean && !paced => {
                self.forget(number);
                return;
            }
            _ if clean => Some(state.pace),
            // Set when it became idle, and not moved by anything since.
            _ => Some(
                state.timer.filter(|at| *at > now).unwrap_or(now.after(self.pauses.memory)).max(state.pace),
            ),
        };
        if wanted != state.timer {
            if let Some(old) = state.timer {
                self.timers.remove(&(old, number));
            }
            if let Some(new) = wanted {
                self.timers.insert((new, number));
            }
            state.timer = wanted;
            if self.timers.len() > MAX_IDLE && self.timers.len().is_multiple_of(1024) {
                self.forget_some();
            }
        }
    }

    /// Keeps the memory of idle lanes bounded.
    fn forget_some(&mut self) {
        let idle = |number: &u64| self.lanes.get(number).is_none_or(LaneState::is_idle);
        let oldest: Vec<u64> =
            self.timers.iter().map(|(_, number)| *number).filter(idle).take(MAX_IDLE / 10).collect();
        for number in oldest {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some(state) = self.lanes.remove(&number) {
            self.numbers.remove(&state.lane);
            if let Some(timer) = state.timer {
                self.timers.remove(&(timer, number));
            }
        }
    }
}

#[cfg(test)]
#[path = "destinations_tests.rs"]
mod tests;
