//! One lane: its jobs in the order of their turns, and its health.
//!
//! Two rows of turns, one for new mail and one for mail that was deferred before; they are served in turn while both have something. A turn
//! is one message: when it comes to the front, one of its jobs goes out and it goes to the end of its row with the rest. So whatever a message
//! finds before it, each other message of its row gets one transaction before it has its first, however many recipients that has, and the
//! other row as many at most.

use super::JobId;
use super::limits::Limit;
use super::window::Window;
use common::destination::Destination;
use common::status::Status;
use common::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long a destination may be working on what it has without an answer before it counts as silent.
pub const SILENCE: Duration = Duration::from_secs(10);

/// What shares a window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// How and where to.
    pub destination: Destination,
    /// For the local transport: whose mailbox, as `user@domain` in lower case, without extension.
    pub mailbox: Option<String>,
}

/// Why and until when a lane is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    /// When a probe may go out.
    pub until: Timestamp,
    /// What the last attempt came to.
    pub reason: Status,
}

/// How a lane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing is known against it.
    Open,
    /// Nothing goes out.
    Throttled(Throttle),
    /// The pause is over; one job shows whether the destination is back. What the last attempt came to.
    Probing(Status),
}

/// A message's jobs that wait, the next one last.
#[derive(Debug)]
struct Turn {
    jobs: Vec<JobId>,
    since: Timestamp,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct LaneState {
    pub(super) lane: Arc<Lane>,
    pub(super) limit: Limit,
    pub(super) in_hand: u32,
    pub(super) window: Window,
    pub(super) health: Health,
    /// Pauses since the last success.
    pub(super) pauses: u32,
    /// Was the last answer a failure, or is there none for long?
    pub(super) doubtful: bool,
    /// When the next transaction may begin, by the rate.
    pub(super) pace: Timestamp,
    /// Of a lane with jobs in hand: when it was last reached, or when the first of them went out.
    pub(super) heard: Timestamp,
    pub(super) timer: Option<Timestamp>,
    pub(super) in_ring: bool,
    /// Which of its entries in the rings counts.
    pub(super) entry: u32,
    new: VecDeque<Turn>,
    late: VecDeque<Turn>,
    late_next: bool,
    /// Jobs that wait and were not withdrawn.
    queued: usize,
}

impl LaneState {
    pub(super) fn new(lane: Arc<Lane>, limit: Limit) -> Self {
        Self {
            lane,
            in_hand: 0,
            window: Window::new(limit.concurrency),
            limit,
            health: Health::Open,
            pauses: 0,
            doubtful: false,
            pace: Timestamp::default(),
            heard: Timestamp::default(),
            timer: None,
            in_ring: false,
            entry: 0,
            new: VecDeque::new(),
            late: VecDeque::new(),
            late_next: false,
            queued: 0,
        }
    }

    /// May a job go out but for the rate?
    pub(super) fn has_place(&self) -> bool {
        self.queued > 0 && !matches!(self.health, Health::Throttled(_)) && self.in_hand < self.window.size()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queued == 0 && self.in_hand == 0
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Adds the jobs of one message.
    pub(super) fn push(&mut self, mut jobs: Vec<JobId>, late: bool, now: Timestamp) {
        if jobs.is_empty() {
            return;
        }
        jobs.reverse();
        self.queued += jobs.len();
        let row = if late { &mut self.late } else { &mut self.new };
        row.push_back(Turn { jobs, since: now });
    }

    /// A job that was out comes back: it goes before all others.
    pub(super) fn push_front(&mut self, job: JobId, now: Timestamp) {
        self.queued += 1;
        self.new.push_front(Turn { jobs: vec![job], since: now });
        self.late_next = false;
    }

    /// Takes the next job that `wanted` says is still wanted; the others were withdrawn.
    pub(super) fn pop(&mut self, wanted: &dyn Fn(JobId) -> bool) -> Option<JobId> {
        while self.queued > 0 {
            let late = if self.late_next { !self.late.is_empty() } else { self.new.is_empty() };
            let row = if late { &mut self.late } else { &mut self.new };
            let Some(mut turn) = row.pop_front() else {
                self.queued = 0;
                return None;
            };
            let job = turn.jobs.pop();
            if !turn.jobs.is_empty() {
                row.push_back(turn);
            }
            if let Some(job) = job.filter(|job| wanted(*job)) {
                self.queued -= 1;
                self.late_next = !late;
                return Some(job);
            }
        }
        None
    }

    /// One of the jobs that wait is not wanted any more. It is passed over when its turn comes.
    pub(super) fn withdraw(&mut self) {
        self.queued = self.queued.saturating_sub(1);
        if self.queued == 0 {
            self.new.clear();
            self.late.clear();
        }
    }

    /// Takes all jobs out, withdrawn ones too.
    pub(super) fn drain(&mut self) -> Vec<JobId> {
        self.queued = 0;
        let turns = self.new.drain(..).chain(self.late.drain(..));
        turns.flat_map(|turn| turn.jobs.into_iter().rev()).collect()
    }

    /// Takes the youngest messages' jobs out until at most `most` jobs are left, from the longer row first. Those that are not `wanted` were withdrawn.
    pub(super) fn trim(&mut self, most: usize, wanted: &dyn Fn(JobId) -> bool) -> Vec<JobId> {
        let mut out = Vec::new();
        while self.queued > most {
            let row = if self.late.len() > self.new.len() { &mut self.late } else { &mut self.new };
            let Some(turn) = row.pop_back() else { break };
            let before = out.len();
            out.extend(turn.jobs.into_iter().filter(|job| wanted(*job)));
            self.queued = self.queued.saturating_sub(out.len() - before);
        }
        out
    }

    /// Does its destination keep all it has in hand without a word, while others wait?
    pub(super) fn is_silent(&self, now: Timestamp) -> bool {
        let waits = self.waits_since().is_some_and(|since| now.since(since) >= SILENCE);
        waits && self.keeps_silent(now)
    }

    /// Has it something in hand, and said nothing for long?
    pub(super) fn keeps_silent(&self, now: Timestamp) -> bool {
        self.in_hand > 0 && now.since(self.heard) >= SILENCE
    }

    /// Since when the job whose turn comes next has waited.
    pub(super) fn waits_since(&self) -> Option<Timestamp> {
        [self.new.front(), self.late.front()].into_iter().flatten().map(|turn| turn.since).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::destination::{Nexthop, Transport};

    fn lane() -> LaneState {
        let destination = Destination { transport: Transport::Smtp, nexthop: Nexthop::Here };
        let limit = Limit { concurrency: 20, recipients: 50, gap: Duration::ZERO };
        LaneState::new(Arc::new(Lane { destination, mailbox: None }), limit)
    }

    fn all(lane: &mut LaneState) -> Vec<JobId> {
        std::iter::from_fn(|| lane.pop(&|job| job != 13)).collect()
    }

    #[test]
    fn each_message_has_one_transaction_a_round() {
        let mut lane = lane();
        lane.push(vec![1, 2, 3, 4], false, Timestamp(1));
        lane.push(vec![11], false, Timestamp(1));
        lane.push(vec![21, 22], false, Timestamp(1));
        assert_eq!(all(&mut lane), [1, 11, 21, 2, 22, 3, 4]);
    }

    #[test]
    fn new_and_deferred_mail_take_turns() {
        let mut lane = lane();
        for job in 1..=4 {
            lane.push(vec![job], true, Timestamp(1));
        }
        lane.push(vec![11], false, Timestamp(2));
        lane.push(vec![12], false, Timestamp(2));
        assert_eq!((lane.waits_since(), lane.queued()), (Some(Timestamp(1)), 6));
        assert_eq!(lane.pop(&|_| true), Some(11));
        lane.push_front(11, Timestamp(3));
        assert_eq!(all(&mut lane), [11, 1, 12, 2, 3, 4]);
        assert_eq!((lane.waits_since(), lane.queued()), (None, 0));
    }

    #[test]
    fn withdrawn_jobs_are_passed_over_and_drained_ones_are_gone() {
        let mut lane = lane();
        lane.push(vec![13, 14], false, Timestamp(1));
        lane.withdraw();
        assert_eq!(all(&mut lane), [14]);
        lane.push(vec![13], false, Timestamp(1));
        lane.withdraw();
        assert_eq!((all(&mut lane), lane.waits_since()), (vec![], None));
        lane.push(vec![1, 2], false, Timestamp(1));
        lane.push(vec![3], true, Timestamp(1));
        assert_eq!((lane.drain(), lane.queued()), (vec![1, 2, 3], 0));
    }

    #[test]
    fn what_is_too_much_leaves_from_the_end() {
        let mut lane = lane();
        for job in 0..10 {
            lane.push(vec![job], job >= 4, Timestamp(1));
        }
        let mut out = lane.trim(4, &|_| true);
        out.sort_unstable();
        assert_eq!((out, lane.queued()), (vec![2, 3, 6, 7, 8, 9], 4));
        assert_eq!(all(&mut lane), [0, 4, 1, 5]);
    }
}
