//! Queues of jobs, one for each lane, and how many of a lane may be out at once.
//!
//! A lane is a destination (transport and nexthop); for mailboxes of this machine each mailbox is a lane of its own, so that a locked one does
//! not hold up the others. Within a lane jobs go first in, first out; between the lanes of a transport it goes round.
//!
//! ```text
//! window    starts at min(5, concurrency)
//! success   window + 1/window, at most concurrency; a window below the start goes back to it at once
//! failure   window − 1 (no connection to the destination); at 0 the lane is throttled for a while (about first_retry)
//! probe     when that time is over the window is 1: one job shows whether the destination is back
//! ```

use common::address::Address;
use common::destination::{Destination, Transport};
use common::status::Status;
use common::time::Timestamp;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// Names a job for as long as the process lives.
pub type JobId = u64;

/// Window of a destination about which nothing is known yet.
const START: u32 = 5;

/// What shares a window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// How and where to.
    pub destination: Destination,
    /// For the local transport: whose mailbox.
    pub mailbox: Option<Address>,
}

/// All lanes with their jobs.
#[derive(Debug)]
pub struct Destinations {
    concurrency: u32,
    pause: Duration,
    /// How long a lane without jobs is remembered for its failures.
    memory: Duration,
    numbers: HashMap<Lane, u64>,
    lanes: HashMap<u64, LaneState>,
    next_number: u64,
    rings: HashMap<Transport, VecDeque<u64>>,
    timers: BTreeSet<(Timestamp, u64)>,
}

#[derive(Debug)]
struct LaneState {
    lane: Lane,
    queue: VecDeque<JobId>,
    in_hand: u32,
    window: u32,
    successes: u32,
    throttled: Option<Throttle>,
    timer: Option<Timestamp>,
    in_ring: bool,
}

/// Why and until when a lane is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    /// When a probe may go out.
    pub until: Timestamp,
    /// What the last attempt came to.
    pub reason: Status,
}

impl LaneState {
    fn ready(&self) -> bool {
        !self.queue.is_empty() && self.throttled.is_none() && self.in_hand < self.window
    }
}

impl Destinations {
    /// No lanes yet. `concurrency` is at least 1; a throttled lane rests for `pause`; failures of an idle lane are forgotten after `memory`.
    pub fn new(concurrency: u32, pause: Duration, memory: Duration) -> Self {
        Self {
            concurrency: concurrency.max(1),
            pause,
            memory,
            numbers: HashMap::new(),
            lanes: HashMap::new(),
            next_number: 0,
            rings: HashMap::new(),
            timers: BTreeSet::new(),
        }
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, concurrency: u32, pause: Duration, memory: Duration) {
        self.concurrency = concurrency.max(1);
        self.pause = pause;
        self.memory = memory;
        for state in self.lanes.values_mut() {
            state.window = state.window.min(self.concurrency);
        }
    }

    /// The number of a lane, which is made when it is new.
    pub fn number(&mut self, lane: Lane) -> u64 {
        if let Some(number) = self.numbers.get(&lane) {
            return *number;
        }
        self.next_number += 1;
        let state = LaneState {
            lane: lane.clone(),
            queue: VecDeque::new(),
            in_hand: 0,
            window: START.min(self.concurrency),
            successes: 0,
            throttled: None,
            timer: None,
            in_ring: false,
        };
        self.lanes.insert(self.next_number, state);
        self.numbers.insert(lane, self.next_number);
        self.next_number
    }

    /// The lane that a number means.
    pub fn lane(&self, number: u64) -> Option<&Lane> {
        self.lanes.get(&number).map(|state| &state.lane)
    }

    /// Why the lane is paused, when it is.
    pub fn throttle(&self, number: u64) -> Option<&Throttle> {
        self.lanes.get(&number)?.throttled.as_ref()
    }

    /// Queues a job behind the others of its lane.
    pub fn push(&mut self, number: u64, job: JobId) {
        if let Some(state) = self.lanes.get_mut(&number) {
            state.queue.push_back(job);
        }
        self.enter_ring(number);
    }

    /// A job comes back undone: it goes before the others.
    pub fn give_back(&mut self, number: u64, job: JobId) {
        if let Some(state) = self.lanes.get_mut(&number) {
            state.in_hand = state.in_hand.saturating_sub(1);
            state.queue.push_front(job);
        }
        self.enter_ring(number);
    }

    /// Takes the next job of a transport, going round its lanes. The job counts as in hand until `answered`, `give_back` or `dropped`.
    pub fn next_job(&mut self, transport: Transport) -> Option<(u64, JobId)> {
        let ring = self.rings.get_mut(&transport)?;
        while let Some(number) = ring.pop_front() {
            let Some(state) = self.lanes.get_mut(&number) else { continue };
            state.in_ring = false;
            if !state.ready() {
                continue;
            }
            let Some(job) = state.queue.pop_front() else { continue };
            state.in_hand += 1;
            if state.ready() {
                state.in_ring = true;
                ring.push_back(number);
            }
            return Some((number, job));
        }
        None
    }

    /// A job in hand needed no delivery after all (its message is gone): its place is free, nothing was learnt.
    pub fn dropped(&mut self, number: u64, now: Timestamp) {
        if let Some(state) = self.lanes.get_mut(&number) {
            state.in_hand = state.in_hand.saturating_sub(1);
        }
        self.enter_ring(number);
        self.settle(number, now);
    }

    /// A job in hand was answered. `failure` is what it came to when no connection could be made. Gives the jobs that have to be suspended because the
    /// lane is throttled now.
    pub fn answered(&mut self, number: u64, failure: Option<Status>, now: Timestamp) -> Vec<JobId> {
        let (concurrency, pause) = (self.concurrency, self.pause);
        let Some(state) = self.lanes.get_mut(&number) else { return Vec::new() };
        state.in_hand = state.in_hand.saturating_sub(1);
        let mut suspended = Vec::new();
        match failure {
            None => {
                state.throttled = None;
                let start = START.min(concurrency);
                if state.window < start {
                    (state.window, state.successes) = (start, 0);
                } else {
                    state.successes += 1;
                    if state.successes >= state.window {
                        (state.window, state.successes) = ((state.window + 1).min(concurrency), 0);
                    }
                }
            }
            Some(reason) => {
                state.window = state.window.saturating_sub(1);
                state.successes = 0;
                if state.window == 0 {
                    state.throttled = Some(Throttle { until: now.after(pause), reason });
                    suspended = state.queue.drain(..).collect();
                }
            }
        }
        self.enter_ring(number);
        self.settle(number, now);
        suspended
    }

    /// Takes all queued jobs of a transport out (there is nobody to deliver them).
    pub fn drain(&mut self, transport: Transport, now: Timestamp) -> Vec<JobId> {
        let mut jobs = Vec::new();
        let mut numbers = Vec::new();
        for (number, state) in &mut self.lanes {
            if state.lane.destination.transport == transport && !state.queue.is_empty() {
                jobs.extend(state.queue.drain(..));
                numbers.push(*number);
            }
        }
        for number in self.rings.remove(&transport).into_iter().flatten() {
            if let Some(state) = self.lanes.get_mut(&number) {
                state.in_ring = false;
            }
        }
        for number in numbers {
            self.settle(number, now);
        }
        jobs.sort_unstable();
        jobs
    }

    /// Ends the pauses that are over and forgets idle lanes.
    pub fn expire(&mut self, now: Timestamp) {
        while let Some(&(at, number)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            let Some(state) = self.lanes.get_mut(&number) else { continue };
            state.timer = None;
            if state.throttled.as_ref().is_some_and(|throttle| throttle.until <= now) {
                state.throttled = None;
                state.window = state.window.max(1);
                self.enter_ring(number);
                self.settle(number, now);
            } else if state.throttled.is_none() && state.queue.is_empty() && state.in_hand == 0 {
                self.forget(number);
            } else {
                self.settle(number, now);
            }
        }
    }

    /// Ends all pauses now.
    pub fn end_pauses(&mut self, now: Timestamp) {
        let throttled =
            self.lanes.iter_mut().filter_map(|(number, state)| Some((*number, state.throttled.as_mut()?)));
        let mut numbers = Vec::new();
        for (number, throttle) in throttled {
            throttle.until = now;
            numbers.push(number);
        }
        for number in numbers {
            self.settle(number, now);
        }
        self.expire(now);
    }

    /// Does a lane of this transport have queued jobs?
    pub fn has_jobs(&self, transport: Transport) -> bool {
        self.rings.get(&transport).is_some_and(|ring| !ring.is_empty())
    }

    /// When `expire` has something to do.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// How many lanes are remembered.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Is no lane remembered?
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    fn enter_ring(&mut self, number: u64) {
        if let Some(state) = self.lanes.get_mut(&number)
            && !state.in_ring
            && state.ready()
        {
            state.in_ring = true;
            self.rings.entry(state.lane.destination.transport).or_default().push_back(number);
        }
    }

    /// Sets the lane's one timer after a change: the end of its pause, or when to forget it. A lane with nothing to remember goes at once.
    fn settle(&mut self, number: u64, now: Timestamp) {
        let start = START.min(self.concurrency);
        let Some(state) = self.lanes.get_mut(&number) else { return };
        let idle = state.queue.is_empty() && state.in_hand == 0;
        let wanted = match &state.throttled {
            Some(throttle) => Some(throttle.until),
            None if !idle => None,
            None if state.window >= start => {
                self.forget(number);
                return;
            }
            None => Some(now.after(self.memory)),
        };
        if wanted != state.timer {
            if let Some(old) = state.timer {
                self.timers.remove(&(old, number));
            }
            if let Some(new) = wanted {
                self.timers.insert((new, number));
            }
            state.timer = wanted;
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
mod tests {
    use super::*;
    use common::destination::Nexthop;
    use common::status::EnhancedCode;

    const PAUSE: Duration = Duration::from_secs(300);
    const MEMORY: Duration = Duration::from_secs(3600);

    fn lane(name: &str) -> Lane {
        let destination =
            Destination { transport: Transport::Smtp, nexthop: Nexthop::of_domain(&name.parse().unwrap()) };
        Lane { destination, mailbox: None }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn refused() -> Option<Status> {
        Some(Status::local(EnhancedCode::new(4, 4, 1), "connection refused"))
    }

    /// A lane with `jobs` jobs numbered from 1.
    fn filled(concurrency: u32, jobs: JobId) -> (Destinations, u64) {
        let mut all = Destinations::new(concurrency, PAUSE, MEMORY);
        let number = all.number(lane("a.example"));
        (1..=jobs).for_each(|job| all.push(number, job));
        (all, number)
    }

    fn take(all: &mut Destinations) -> Vec<JobId> {
        std::iter::from_fn(|| all.next_job(Transport::Smtp)).map(|(_, job)| job).collect()
    }

    #[test]
    fn lanes_take_turns_and_keep_their_order() {
        let (mut all, _) = filled(20, 3);
        let other = all.number(lane("b.example"));
        all.push(other, 11);
        all.push(other, 12);
        assert_eq!(take(&mut all), [1, 11, 2, 12, 3]);
    }

    #[test]
    fn the_window_grows_with_success_to_the_limit() {
        let (mut all, number) = filled(7, 1000);
        assert_eq!(take(&mut all).len(), 5);
        let mut seen = vec![];
        for _ in 0..20 {
            all.answered(number, None, at(0));
            seen.push(take(&mut all).len());
        }
        assert_eq!(seen, [1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(filled(2, 10).0.next_job(Transport::Local), None);
        assert_eq!(take(&mut filled(2, 10).0).len(), 2);
    }

    #[test]
    fn five_failures_throttle_and_one_probe_decides() {
        let (mut all, number) = filled(20, 10);
        assert_eq!(take(&mut all).len(), 5);
        for _ in 0..4 {
            assert!(all.answered(number, refused(), at(10)).is_empty());
            assert!(take(&mut all).is_empty());
        }
        assert_eq!(all.answered(number, refused(), at(10)), [6, 7, 8, 9, 10]);
        assert_eq!(all.throttle(number).unwrap().until, at(310));
        assert_eq!(all.deadline(), Some(at(310)));
        all.push(number, 11);
        all.push(number, 12);
        all.expire(at(309));
        assert!(take(&mut all).is_empty());
        all.expire(at(310));
        assert_eq!(take(&mut all), [11], "one probe only");
        assert_eq!(all.answered(number, refused(), at(320)), [12], "the probe failed");
        all.end_pauses(at(330));
        assert!(all.throttle(number).is_none(), "an admin's word ends the pause");
        all.push(number, 13);
        all.push(number, 14);
        assert_eq!(take(&mut all), [13]);
        all.answered(number, None, at(331));
        assert_eq!(take(&mut all), [14], "open again");
        all.answered(number, None, at(332));
        assert!(all.is_empty(), "a healthy idle lane is forgotten");
    }

    #[test]
    fn failures_of_an_idle_lane_are_forgotten_in_time() {
        let (mut all, number) = filled(20, 1);
        take(&mut all);
        all.answered(number, refused(), at(0));
        assert_eq!((all.len(), all.deadline()), (1, Some(at(3600))));
        all.expire(at(3600));
        assert!(all.is_empty() && all.deadline().is_none());
    }

    #[test]
    fn a_job_given_back_goes_first() {
        let (mut all, number) = filled(1, 2);
        assert_eq!(take(&mut all), [1]);
        all.give_back(number, 1);
        assert_eq!(take(&mut all), [1]);
        all.dropped(number, at(0));
        assert_eq!(take(&mut all), [2]);
        all.push(number, 3);
        assert_eq!(all.drain(Transport::Smtp, at(0)), [3]);
        all.dropped(number, at(0));
        assert!(all.is_empty());
    }
}
