//! Jobs in the hands of workers: handing them out, taking answers, and ending the connection of a worker that does not answer.

use super::Manager;
use super::active::handed_over_of;
use super::event::Answered;
use crate::disk::Task;
use crate::dispatch::{ANSWER_GRACE, Outgoing, Worker, deadline};
use crate::scheduler::destinations::Lane;
use crate::scheduler::{Ended, JobId, WorkerId};
use common::status::{EnhancedCode, Outcome, Status};
use common::time::Timestamp;
use spool::dispatch::Job;
use spool::id::QueueId;
use spool::journal::{Entry, News};
use std::collections::{BTreeSet, HashMap};
use std::io;

/// Who delivers, and what they owe an answer for.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    pub(super) workers: HashMap<WorkerId, Worker>,
    /// When an unanswered job makes its worker count as stuck.
    overdue: BTreeSet<(Timestamp, JobId)>,
    handed_out: HashMap<JobId, (Timestamp, WorkerId)>,
}

impl Deliveries {
    /// When `expire` has something to do.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.overdue.first().map(|(at, _)| *at)
    }

    /// Ends the connections of workers that do not answer; their jobs come back with that.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some(&(at, job)) = self.overdue.first().filter(|(at, _)| *at <= now) {
            self.overdue.remove(&(at, job));
            let Some((_, id)) = self.handed_out.remove(&job) else { continue };
            common::error!("delivery agent {id} did not answer job {job} in time: connection closed");
            if let Some(worker) = self.workers.get(&id) {
                worker.close();
            }
        }
    }

    fn went(&mut self, id: WorkerId) -> bool {
        let overdue = &mut self.overdue;
        self.handed_out.retain(|job, (at, worker)| *worker != id || !overdue.remove(&(*at, *job)));
        self.workers.remove(&id).is_some()
    }

    fn finished(&mut self, job: JobId) {
        if let Some((at, _)) = self.handed_out.remove(&job) {
            self.overdue.remove(&(at, job));
        }
    }
}

impl Manager {
    /// Hands a job to a worker.
    pub(super) fn dispatch(
        &mut self,
        worker: WorkerId,
        number: JobId,
        id: QueueId,
        lane: &Lane,
        recipients: &[u32],
        now: Timestamp,
    ) {
        let Some(active) = self.active.get_mut(&id) else { return };
        let (file, place) = (active.file.take(), active.place);
        let Some(message) = &active.message else { return };
        let deadline = deadline(now, message.facts.length);
        let job = Job {
            number,
            queue_id: id,
            sender: message.sender.clone(),
            recipients: active.job_recipients(recipients),
            nexthop: lane.destination.nexthop.clone(),
            body: message.body,
            dsn: message.dsn.clone(),
            content_offset: message.content_offset,
            content: message.facts,
            arrived: message.arrived,
            activated: active.activated,
            dispatched: now,
            deadline,
        };
        let Some(holder) = self.deliveries.workers.get(&worker) else { return };
        let overdue = deadline.after(ANSWER_GRACE);
        self.deliveries.overdue.insert((overdue, number));
        self.deliveries.handed_out.insert(number, (overdue, worker));
        if !holder.send(Outgoing::Job(Box::new(job), file, place)) {
            holder.close();
        }
    }

    /// A worker's connection ended.
    pub(super) fn worker_went(&mut self, id: WorkerId, now: Timestamp) {
        if self.deliveries.went(id) {
            common::info!("delivery agent {id} went");
        }
        self.scheduler.worker_went(id, now);
    }

    /// A worker answered a job.
    pub(super) fn answered(&mut self, worker: WorkerId, job: JobId, answer: Answered, now: Timestamp) {
        let Answered { results, reached, handed_over } = answer;
        let failure = if reached { None } else { Some(failure(&results)) };
        let Some(ended) = self.scheduler.answered(worker, job, failure, now) else {
            common::warn!("delivery agent {worker} answered job {job}, which it does not have");
            return;
        };
        self.deliveries.finished(job);
        let Ended { id, recipients, .. } = &ended;
        let id = *id;
        for (_, status) in results.iter().filter(|(number, _)| recipients.contains(number)) {
            self.lately.outcome(status.outcome, now);
        }
        match self.active.get_mut(&id) {
            Some(active) => {
                active.answered(recipients, results, handed_over, now);
                let deferred = active.still_pending(recipients);
                self.scheduler.deferred_by(ended, deferred, now);
                self.answered.push(id);
            }
            // Deleted or held meanwhile.
            None => {
                let handed_over = handed_over_of(recipients, &results, handed_over);
                let results = results.into_iter().filter(|(number, _)| recipients.contains(number)).collect();
                let mut entries = vec![Entry::Attempted { at: now, results }];
                if !handed_over.is_empty() {
                    let news = News::Succeeded;
                    let told = Entry::Told { at: now, news, recipients: handed_over, notification: None };
                    entries.insert(0, told);
                }
                self.pool.give(Task::Late(id, entries));
            }
        }
    }

    /// A job could not be handed over: its message's file cannot be opened.
    pub(super) fn unsent(&mut self, worker: WorkerId, job: JobId, error: &io::Error, now: Timestamp) {
        let Some(ended) = self.scheduler.unsent(worker, job, now) else { return };
        self.deliveries.finished(job);
        let (id, recipients) = (ended.id, ended.recipients.clone());
        let Some(active) = self.active.get_mut(&id) else { return };
        let why = format!("message file cannot be opened: {error}");
        active.suspend(&recipients, &Status::local(EnhancedCode::new(4, 3, 0), why), now);
        self.scheduler.deferred_by(ended, recipients, now);
        self.proceed(id, now);
    }
}

/// What a destination that could not be reached came to.
fn failure(results: &[(u32, Status)]) -> Status {
    // A recipient that is refused for good says nothing about the destination.
    let deferred = results.iter().find(|(_, status)| status.outcome == Outcome::Deferred);
    match deferred.or(results.first()) {
        Some((_, status)) => status.clone(),
        None => Status::local(EnhancedCode::new(4, 4, 1), "destination could not be reached"),
    }
}
