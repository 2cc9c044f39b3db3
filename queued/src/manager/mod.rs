//! The thread that owns the queue: it hears events, asks the scheduler what to do, and has it done by others.
//!
//! It touches no file and no socket that could make it wait. A message in memory is in one of three hands: here (its jobs are out), with a file
//! thread (its box is empty meanwhile, and whatever else is wanted of it waits), or nowhere any more. Outcomes that could not be written
//! down stay here until they can be.

mod active;
mod changes;
mod event;

pub use event::Event;

use crate::disk::{Disk, Done, Loaded, Picked, Pool, Settled, Task};
use crate::dispatch::{ANSWER_GRACE, Outgoing, Worker, deadline};
use crate::scheduler::destinations::Lane;
use crate::scheduler::{self, Action, JobId, Scheduler, Source, WorkerId};
use active::Active;
use changes::Changes;
use common::signals::Signal;
use common::status::{EnhancedCode, Status};
use common::time::Timestamp;
use spool::dispatch::Job;
use spool::id::QueueId;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long something that failed for the file system's sake waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// How long SIGTERM waits for answers.
const STOP_TIME: Duration = Duration::from_secs(10);
/// Events taken in a row before the scheduler is asked again.
const BURST: usize = 256;

/// See the head of the file.
pub struct Manager {
    scheduler: Scheduler,
    disk: Arc<Disk>,
    pool: Pool,
    events: Receiver<Event>,
    /// Reads the configuration anew.
    reload: Reload,
    active: HashMap<QueueId, Active>,
    workers: HashMap<WorkerId, Worker>,
    /// When an unanswered job makes its worker count as stuck.
    overdue: BTreeSet<(Timestamp, JobId)>,
    handed_out: HashMap<JobId, (Timestamp, WorkerId)>,
    /// Submissions that are being copied: their copies wait.
    picking: HashSet<QueueId>,
    changes: Changes,
    again: BTreeSet<(Timestamp, Again)>,
    stopping: Option<Timestamp>,
}

/// Gives the scheduler's new settings; `None` when the old ones stay in force.
type Reload = Box<dyn FnMut(&Disk) -> Option<scheduler::Settings> + Send>;

/// What is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Again {
    PickUp(QueueId),
    Settle(QueueId),
}

impl Manager {
    /// Puts the parts together.
    pub fn new(
        scheduler: Scheduler,
        disk: Arc<Disk>,
        pool: Pool,
        events: Receiver<Event>,
        reload: impl FnMut(&Disk) -> Option<scheduler::Settings> + Send + 'static,
    ) -> Self {
        Self {
            scheduler,
            disk,
            pool,
            events,
            reload: Box::new(reload),
            active: HashMap::new(),
            workers: HashMap::new(),
            overdue: BTreeSet::new(),
            handed_out: HashMap::new(),
            picking: HashSet::new(),
            changes: Changes::default(),
            again: BTreeSet::new(),
            stopping: None,
        }
    }

    /// Runs until it is told to stop and what was in hand is answered, or the time for that is over.
    pub fn run(mut self) {
        loop {
            let now = Timestamp::now();
            self.expire(now);
            while let Some(action) = self.scheduler.next_action(now) {
                self.act(action, now);
            }
            if self.may_stop(now) {
                return;
            }
            let wait = self.deadline().map_or(Duration::from_secs(3600), |deadline| deadline.since(now));
            match self.events.recv_timeout(wait) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for _ in 0..BURST {
                let Ok(event) = self.events.try_recv() else { break };
                self.take(event);
            }
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        [
            self.scheduler.deadline(),
            self.overdue.first().map(|(at, ..)| *at),
            self.again.first().map(|(at, _)| *at),
            self.stopping,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn may_stop(&self, now: Timestamp) -> bool {
        let Some(until) = self.stopping else { return false };
        let idle = self.scheduler.in_hand() == 0 && self.pool.outstanding() == 0;
        if !idle && now < until {
            return false;
        }
        let open = self.scheduler.in_hand();
        if open > 0 {
            common::info!(
                "stopping with {open} unanswered deliveries: they are tried again at the next start"
            );
        }
        true
    }

    fn act(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::Load(id, source) => self.pool.give(Task::Load(id, source)),
            Action::Dispatch { worker, job, id, lane, recipients } => {
                self.dispatch(worker, job, id, lane, &recipients, now);
            }
            Action::Suspend { id, recipients, reason } => {
                if let Some(active) = self.active.get_mut(&id) {
                    active.suspend(&recipients, &reason, now);
                }
            }
            Action::Cancel(worker, job) => {
                if let Some(worker) = self.workers.get(&worker) {
                    worker.send(Outgoing::Cancel(job));
                }
            }
            Action::Attempted(id) => {
                if let Some(active) = self.active.get_mut(&id) {
                    active.attempted = true;
                }
                self.proceed(id, now);
            }
        }
    }

    fn dispatch(
        &mut self,
        worker: WorkerId,
        number: JobId,
        id: QueueId,
        lane: Lane,
        recipients: &[u32],
        now: Timestamp,
    ) {
        let Some((message, active)) =
            self.active.get(&id).and_then(|active| Some((active.message.as_ref()?, active)))
        else {
            return;
        };
        let deadline = deadline(now, message.facts.length);
        let job = Job {
            number,
            queue_id: id,
            sender: message.sender.clone(),
            recipients: active.job_recipients(recipients),
            nexthop: lane.destination.nexthop,
            body: message.body,
            content_offset: message.content_offset,
            content: message.facts,
            arrived: message.arrived,
            activated: active.activated,
            dispatched: now,
            deadline,
        };
        let Some(holder) = self.workers.get(&worker) else { return };
        let overdue = deadline.after(ANSWER_GRACE);
        self.overdue.insert((overdue, number));
        self.handed_out.insert(number, (overdue, worker));
        if !holder.send(Outgoing::Job(Box::new(job))) {
            holder.close();
        }
    }

    fn take(&mut self, event: Event) {
        let now = Timestamp::now();
        match event {
            Event::Arrived(found) => found.into_iter().for_each(|(id, source)| self.arrived(id, source)),
            Event::Submitted(ids) => ids.into_iter().for_each(|id| self.submitted(id)),
            Event::Stray(path) => self.pool.give(Task::SetAside(path)),
            Event::Scanned => {
                common::info!(
                    "queue read: {} active, {} waiting",
                    self.scheduler.active_len(),
                    self.scheduler.waiting_len()
                );
            }
            Event::Done(done) => self.done(done, now),
            Event::WorkerCame { id, worker, transport, capacity } => {
                common::info!("delivery agent {id} for {} came, {capacity} jobs", transport.name());
                self.workers.insert(id, worker);
                self.scheduler.worker_came(id, transport, capacity);
            }
            Event::WorkerWent(id) => self.worker_went(id, now),
            Event::Answer { worker, job, results, reached } => {
                self.answered(worker, job, results, reached, now);
            }
            Event::Unsent { worker, job, error } => {
                let why = format!("message file cannot be opened: {error}");
                let status = Status::local(EnhancedCode::new(4, 3, 0), why);
                common::error!("job {job}: {}", status.text);
                if let Some((id, recipients)) = self.finish_job(worker, job, None, now)
                    && let Some(active) = self.active.get_mut(&id)
                {
                    active.suspend(&recipients, &status, now);
                }
            }
            Event::Change { verb, ids, reply } => self.change(verb, ids, reply, now),
            Event::Signal(Signal::Reload) => {
                if let Some(settings) = (self.reload)(&self.disk) {
                    self.scheduler.set(settings);
                }
            }
            Event::Signal(Signal::Terminate) => {
                self.scheduler.stop();
                self.stopping = self.stopping.or(Some(now.after(STOP_TIME)));
            }
        }
    }

    fn arrived(&mut self, id: QueueId, source: Source) {
        if self.picking.contains(&id) || self.changes.touches(id) || self.active.contains_key(&id) {
            return;
        }
        match source {
            Source::Deferred(due) => self.scheduler.deferred(id, due),
            _ => self.scheduler.arrived(id, source),
        }
    }

    fn submitted(&mut self, id: QueueId) {
        if self.stopping.is_none() && !self.changes.touches(id) && self.picking.insert(id) {
            self.pool.give(Task::PickUp(id));
        }
    }

    fn worker_went(&mut self, id: WorkerId, now: Timestamp) {
        if self.workers.remove(&id).is_some() {
            common::info!("delivery agent {id} went");
        }
        let overdue = &mut self.overdue;
        self.handed_out.retain(|job, (at, worker)| *worker != id || !overdue.remove(&(*at, *job)));
        self.scheduler.worker_went(id, now);
    }

    fn answered(
        &mut self,
        worker: WorkerId,
        job: JobId,
        results: Vec<(u32, Status)>,
        reached: bool,
        now: Timestamp,
    ) {
        let failure = if reached { None } else { Some(failure(&results)) };
        let Some((id, recipients)) = self.finish_job(worker, job, failure, now) else {
            common::warn!("delivery agent {worker} answered job {job}, which it does not have");
            return;
        };
        let Some(active) = self.active.get_mut(&id) else {
            common::info!("{id}: outcome of a delivery dropped: the message was deleted or held meanwhile");
            return;
        };
        active.answered(&recipients, results, now);
        self.proceed(id, now);
    }

    fn finish_job(
        &mut self,
        worker: WorkerId,
        job: JobId,
        failure: Option<Status>,
        now: Timestamp,
    ) -> Option<(QueueId, Vec<u32>)> {
        let finished = self.scheduler.answered(worker, job, failure, now)?;
        if let Some((at, _)) = self.handed_out.remove(&job) {
            self.overdue.remove(&(at, job));
        }
        Some(finished)
    }

    /// Gives a message that is in our hands to a file thread when there is something to write down.
    fn proceed(&mut self, id: QueueId, now: Timestamp) {
        let Some(active) = self.active.get_mut(&id).filter(|active| active.is_here()) else { return };
        if active.attempted {
            let due = self.scheduler.next_attempt(id, active.arrived, now);
            if let Some(work) = active.settle(due) {
                self.pool.give(Task::Settle(Box::new(work)));
            }
        } else if active.worth_saving() {
            self.pool.give(Task::Journal(id, active.save()));
        }
    }

    fn done(&mut self, done: Done, now: Timestamp) {
        self.pool.received();
        match done {
            Done::Load(id, source, loaded) => self.loaded(id, source, loaded, now),
            Done::Journal(id, left) => {
                if let Some(active) = self.active.get_mut(&id) {
                    active.saved(left);
                }
                self.after_task(id, now);
            }
            Done::Settle(id, settled) => self.settled(id, settled, now),
            Done::PickUp(id, picked) => self.picked(id, picked, now),
            Done::Change(id, changed) => {
                if self.changes.finished(id, changed) == Some(Source::Active) {
                    self.scheduler.arrived(id, Source::Active);
                }
            }
            Done::Other => {}
        }
    }

    fn loaded(&mut self, id: QueueId, source: Source, loaded: Loaded, now: Timestamp) {
        let wanted = self.changes.waiting_for(id);
        match loaded {
            Loaded::Ready(ready) if !wanted => {
                let ready = *ready;
                let recipients = ready.message.len();
                let active = Active::new(ready.message, ready.decided, ready.activated);
                self.active.insert(id, active);
                self.scheduler.loaded(id, recipients, ready.shares, now);
            }
            Loaded::Later(source) if !wanted => self.scheduler.postpone(id, source, now.after(AGAIN)),
            Loaded::Gone => {
                if source == Source::Active {
                    common::info!("{id}: not in active/ any more");
                }
                self.scheduler.forget(id);
            }
            Loaded::Ready(_) | Loaded::Later(_) => self.scheduler.forget(id),
        }
        self.start_change(id);
    }

    fn settled(&mut self, id: QueueId, settled: Settled, now: Timestamp) {
        let wanted = self.changes.waiting_for(id);
        match settled {
            Settled::Unfinished(work) if !wanted => {
                if let Some(active) = self.active.get_mut(&id) {
                    active.unfinished(*work);
                    self.again.insert((now.after(AGAIN), Again::Settle(id)));
                }
                return;
            }
            Settled::Deferred(due) if !wanted => {
                self.active.remove(&id);
                self.scheduler.postpone(id, Source::Deferred(due), due);
            }
            Settled::Lost if !wanted => {
                self.active.remove(&id);
                self.scheduler.postpone(id, Source::Active, now.after(AGAIN));
            }
            _ => {
                self.active.remove(&id);
                self.scheduler.forget(id);
            }
        }
        self.start_change(id);
    }

    /// A file thread gave the message back.
    fn after_task(&mut self, id: QueueId, now: Timestamp) {
        if self.changes.waiting_for(id) {
            self.active.remove(&id);
            self.scheduler.forget(id);
            self.start_change(id);
        } else {
            self.proceed(id, now);
        }
    }

    fn picked(&mut self, id: QueueId, picked: Picked, now: Timestamp) {
        match picked {
            Picked::Later => {
                self.again.insert((now.after(AGAIN), Again::PickUp(id)));
                return;
            }
            Picked::Taken(copy) => {
                self.picking.remove(&id);
                self.arrived(copy, Source::Incoming);
            }
            Picked::Gone => {
                self.picking.remove(&id);
            }
        }
        self.start_change(id);
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some(&(at, job)) = self.overdue.first().filter(|(at, _)| *at <= now) {
            self.overdue.remove(&(at, job));
            let Some((_, id)) = self.handed_out.remove(&job) else { continue };
            common::error!("delivery agent {id} did not answer job {job} in time: connection closed");
            if let Some(worker) = self.workers.get(&id) {
                worker.close();
            }
        }
        while let Some(&(at, again)) = self.again.first().filter(|(at, _)| *at <= now) {
            self.again.remove(&(at, again));
            match again {
                Again::PickUp(id) => self.pool.give(Task::PickUp(id)),
                Again::Settle(id) => self.proceed(id, now),
            }
        }
    }
}

/// What a destination that could not be reached came to.
fn failure(results: &[(u32, Status)]) -> Status {
    match results.first() {
        Some((_, status)) => status.clone(),
        None => Status::local(EnhancedCode::new(4, 4, 1), "destination could not be reached"),
    }
}
