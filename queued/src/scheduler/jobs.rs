//! Jobs: to whom they go, what becomes of them when a worker answers or dies, and which are deferred without an attempt.

use super::workers::TRANSPORTS;
use super::{Action, Ended, Job, JobId, Scheduler, WorkerId};
use common::destination::Transport;
use common::status::{EnhancedCode, Status};
use common::time::Timestamp;
use std::sync::Arc;

/// How often a job may come back from workers that died before it is deferred.
const MAX_RETURNS: u8 = 2;

impl Scheduler {
    /// A worker that can hold `capacity` jobs.
    pub fn worker_came(&mut self, worker: WorkerId, transport: Transport, capacity: usize) {
        self.workers.came(worker, transport, capacity);
    }

    /// A worker is gone: its jobs go to others, unless they have outlived several workers.
    pub fn worker_went(&mut self, worker: WorkerId, now: Timestamp) {
        // Given back last to first, so that they stand in their old order at the head of their lanes.
        for number in self.workers.went(worker, now).into_iter().flatten().rev() {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            job.worker = None;
            job.returns = job.returns.saturating_add(1);
            if job.orphan {
                let lane = job.lane;
                self.jobs.remove(&number);
                self.destinations.dropped(lane, now);
            } else if job.returns > MAX_RETURNS {
                let (lane, reason) = (
                    job.lane,
                    Status::local(EnhancedCode::new(4, 3, 0), "delivery agent ended before it answered"),
                );
                self.destinations.dropped(lane, now);
                self.suspend(number, reason, now);
            } else {
                self.destinations.give_back(job.lane, number, now);
            }
        }
    }

    /// A worker answered a job. `failure` is what it came to when the destination could not be reached. Gives what the answer is about; `None`
    /// for a job that this worker does not hold. A message that was forgotten meanwhile is named all the same. Recipients that are deferred
    /// by the answer are to be told with [`Self::deferred_by`].
    pub fn answered(
        &mut self,
        worker: WorkerId,
        job: JobId,
        failure: Option<Status>,
        now: Timestamp,
    ) -> Option<Ended> {
        if !self.workers.release(worker, job) {
            return None;
        }
        let done = self.jobs.remove(&job)?;
        if done.orphan {
            self.destinations.dropped(done.lane, now);
            return Some(done.into());
        }
        let failed = failure.is_some();
        let (suspended_jobs, closed) = self.destinations.answered(done.lane, failure, now);
        if let Some(throttle) = &closed {
            for stopped in suspended_jobs {
                self.suspend_until(stopped, suspended(&throttle.reason), throttle.until, now);
            }
        }
        if let Some(active) = self.active.get_mut(&done.id) {
            active.jobs.remove(&job);
            if let Some(throttle) = closed.filter(|_| failed) {
                active.not_before = active.not_before.max(Some(throttle.until));
            }
        }
        self.check_attempted(done.id);
        Some(done.into())
    }

    /// A job could not be given to the worker for reasons of our own: nothing was learnt about its destination. Otherwise as [`Self::answered`].
    pub fn unsent(&mut self, worker: WorkerId, job: JobId, now: Timestamp) -> Option<Ended> {
        if !self.workers.release(worker, job) {
            return None;
        }
        let done = self.jobs.remove(&job)?;
        self.destinations.dropped(done.lane, now);
        if !done.orphan {
            if let Some(active) = self.active.get_mut(&done.id) {
                active.jobs.remove(&job);
            }
            self.check_attempted(done.id);
        }
        Some(done.into())
    }

    /// A job for a worker that has room.
    pub(super) fn dispatch(&mut self, now: Timestamp) -> Option<Action> {
        for transport in TRANSPORTS {
            let Some(worker) = self.workers.free(transport) else { continue };
            let doubtful = self.workers.capacity(transport).div_ceil(2);
            let jobs = &self.jobs;
            let wanted = |job| jobs.contains_key(&job);
            if let Some((_, job)) = self.destinations.next_job(transport, doubtful, now, &wanted) {
                let Some(entry) = self.jobs.get_mut(&job) else { continue };
                entry.worker = Some(worker);
                self.workers.hold(worker, job);
                return Some(Action::Dispatch {
                    worker,
                    job,
                    id: entry.id,
                    lane: Arc::clone(&entry.to),
                    recipients: entry.recipients.clone(),
                });
            }
        }
        None
    }

    fn suspend_until(&mut self, job: JobId, reason: Status, until: Timestamp, now: Timestamp) {
        if let Some(active) = self.jobs.get(&job).and_then(|entry| self.active.get_mut(&entry.id)) {
            active.not_before = active.not_before.max(Some(until));
        }
        self.suspend(job, reason, now);
    }

    /// A job that nobody has in hand, and no lane any more, is deferred.
    pub(super) fn suspend(&mut self, job: JobId, reason: Status, now: Timestamp) {
        let Some(Job { id, to, recipients, .. }) = self.jobs.remove(&job) else { return };
        let Some(active) = self.active.get_mut(&id) else { return };
        active.jobs.remove(&job);
        self.actions.push_back(Action::Suspend { id, recipients: recipients.clone(), reason });
        self.put_off(id, to, recipients, now);
        self.check_attempted(id);
    }
}

impl From<Job> for Ended {
    fn from(job: Job) -> Self {
        Self { id: job.id, lane: job.to, recipients: job.recipients, orphan: job.orphan }
    }
}

pub(super) fn crowded() -> Status {
    Status::local(EnhancedCode::new(4, 3, 2), "too much mail waits for this destination")
}

pub(super) fn out_of_time() -> Status {
    Status::local(EnhancedCode::new(4, 4, 7), "lifetime ended while the message waited for its turn")
}

pub(super) fn no_worker(transport: Transport) -> Status {
    Status::local(EnhancedCode::new(4, 3, 0), format!("mail transport unavailable: {}", transport.name()))
}

pub(super) fn suspended(reason: &Status) -> Status {
    let mut status = Status::local(reason.code, format!("delivery temporarily suspended: {}", reason.text));
    status.remote.clone_from(&reason.remote);
    status
}
