//! The thread that owns the queue: it hears events, asks the scheduler what to do, and has it done by others.
//!
//! It touches no file and no socket that could make it wait. A message in memory is in one of three hands: here (its jobs are out), with a file
//! thread (its box is empty meanwhile, and whatever else is wanted of it waits), or nowhere any more. Outcomes that could not be written
//! down stay here until they can be.

mod active;
mod changes;
mod deliveries;
mod event;
mod lately;
mod newcomers;
pub mod status;
mod submissions;

pub use changes::Tally;
pub use event::{Answered, Event};

use crate::disk::{Disk, Done, Loaded, Pool, Settled, Task};
use crate::dispatch::Outgoing;
use crate::scheduler::{self, Action, Facts, Scheduler, Source};
use active::Active;
use changes::Changes;
use common::reload::Report;
use common::signals::Signal;
use common::time::Timestamp;
use deliveries::Deliveries;
use lately::Counters;
use newcomers::Newcomers;
use spool::id::QueueId;
use spool::layout::Queue;
use spool::pressure::Gauge;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use submissions::Submissions;

/// How long something that failed for the file system's sake waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// The clock is looked at this often at least: it may have been set, or the machine have slept.
const LOOK: Duration = Duration::from_secs(30);
/// How long SIGTERM waits for answers.
const STOP_TIME: Duration = Duration::from_secs(10);
/// Events taken in a row before the scheduler is asked again.
const BURST: usize = 256;
/// Most messages whose outcomes are on their way to the disk: a slow disk must not be outrun, since were queued killed, all of these would be
/// delivered again. Beyond it nothing is handed out to be delivered.
const MAX_UNWRITTEN: usize = 256;
/// After a round of so many events there will soon be more. Whoever waits for this processor goes first then: what they bring is taken together, and what follows
/// from it goes out together. Where nobody waits this returns at once. A single client never fills a round. (Measured on two processors.)
const CROWD: usize = 4;

/// See the head of the file.
pub struct Manager {
    scheduler: Scheduler,
    disk: Arc<Disk>,
    pool: Pool,
    events: Receiver<Event>,
    /// Reads the configuration anew.
    reload: Reload,
    active: HashMap<QueueId, Active>,
    deliveries: Deliveries,
    submissions: Submissions,
    changes: Changes,
    again: BTreeSet<(Timestamp, Again)>,
    gauge: Gauge,
    /// Messages with fresh outcomes. What becomes of them is decided when the scheduler has said whether the attempt is over: then the happy path writes no journal.
    answered: Vec<QueueId>,
    /// See [`MAX_UNWRITTEN`].
    unwritten: usize,
    newcomers: Newcomers,
    stopping: Option<Timestamp>,
    since: Timestamp,
    lately: Counters,
}

/// Gives the scheduler's new settings; `None` when the old ones stay in force.
type Reload = Box<dyn FnMut(&Disk) -> (Option<scheduler::Settings>, Report) + Send>;

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
        reload: impl FnMut(&Disk) -> (Option<scheduler::Settings>, Report) + Send + 'static,
    ) -> Self {
        Self {
            scheduler,
            gauge: Gauge::new(disk.spool()),
            disk,
            pool,
            events,
            reload: Box::new(reload),
            active: HashMap::new(),
            deliveries: Deliveries::default(),
            submissions: Submissions::default(),
            changes: Changes::default(),
            again: BTreeSet::new(),
            answered: Vec::new(),
            unwritten: 0,
            newcomers: Newcomers::default(),
            stopping: None,
            since: Timestamp::now(),
            lately: Counters::default(),
        }
    }

    /// Runs until it is told to stop and what was in hand is answered, or the time for that is over.
    pub fn run(mut self) {
        let mut taken = 0;
        loop {
            let now = Timestamp::now();
            self.follow(now);
            let look_again = self.pool.wake().unwrap_or(LOOK);
            self.show_pressure();
            if self.may_stop(now) {
                return;
            }
            if taken >= CROWD {
                std::thread::yield_now();
            }
            let wait = self.deadline().map_or(LOOK, |deadline| deadline.since(now)).min(look_again);
            match self.events.recv_timeout(wait) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            taken = 1;
            while taken < BURST {
                let Ok(event) = self.events.try_recv() else { break };
                self.take(event);
                taken += 1;
            }
        }
    }

    /// Does what follows from the events so far, and from the time.
    fn follow(&mut self, now: Timestamp) {
        self.expire(now);
        self.scheduler.hold_jobs(self.unwritten >= MAX_UNWRITTEN);
        while let Some(action) = self.scheduler.next_action(now) {
            self.act(action, now);
        }
        for id in std::mem::take(&mut self.answered) {
            self.proceed(id, now);
        }
        self.settle_in(now);
    }

    /// More new mail than there is room for makes smtpd slower.
    fn show_pressure(&mut self) {
        match self.gauge.show(self.scheduler.fresh_len()) {
            Ok(None) => {}
            Ok(Some(true)) => {
                common::warn!("new mail comes in faster than it can be delivered: acceptance slows down")
            }
            Ok(Some(false)) => common::info!("new mail is accepted at full speed again"),
            // A hint: without it everything goes on.
            Err(_) => {}
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        [
            self.scheduler.deadline(),
            self.deliveries.deadline(),
            self.again.first().map(|(at, _)| *at),
            self.newcomers.deadline(),
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
            Action::Load(id, source) => {
                if !self.changes.load_later(id, source) {
                    self.pool.give(Task::Load(id, source));
                }
            }
            Action::Dispatch { worker, job, id, lane, recipients } => {
                self.dispatch(worker, job, id, &lane, &recipients, now);
            }
            Action::Suspend { id, recipients, reason } => {
                if let Some(active) = self.active.get_mut(&id) {
                    active.suspend(&recipients, &reason, now);
                }
            }
            Action::Cancel(worker, job) => {
                if let Some(worker) = self.deliveries.workers.get(&worker) {
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

    fn take(&mut self, event: Event) {
        let now = Timestamp::now();
        match event {
            Event::Arrived(found) => found.into_iter().for_each(|(id, source)| self.arrived(id, source)),
            Event::Submitted(ids) => {
                self.changes.submitted(&ids);
                self.submitted(ids);
            }
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
                self.deliveries.workers.insert(id, worker);
                self.scheduler.worker_came(id, transport, capacity);
                common::info!("delivery agent {id} for {} came, {capacity} jobs", transport.name());
            }
            Event::WorkerWent(id) => self.worker_went(id, now),
            Event::Answer { worker, job, answer } => self.answered(worker, job, answer, now),
            Event::Unsent { worker, job, error } => self.unsent(worker, job, &error, now),
            Event::Change { verb, ids, reply } => self.change(verb, ids, reply, now),
            Event::Status(reply) => self.tell_status(&reply, now),
            Event::Signal(Signal::Reload(wish)) => {
                let (settings, report) = (self.reload)(&self.disk);
                if let Some(settings) = settings {
                    self.scheduler.set(settings, now);
                }
                wish.answer(report);
            }
            Event::Signal(Signal::Terminate) => {
                self.scheduler.stop();
                self.stopping = self.stopping.or(Some(now.after(STOP_TIME)));
            }
        }
    }

    fn arrived(&mut self, id: QueueId, source: Source) {
        if self.submissions.found(id, source)
            || self.active.contains_key(&id)
            || self.scheduler.knows(id)
            || self.changes.found(id, source)
        {
            return;
        }
        match source {
            Source::Deferred(due) => self.scheduler.deferred(id, due),
            Source::Incoming => {
                self.lately.received(Timestamp::now());
                self.scheduler.arrived(id, source);
            }
            _ => self.scheduler.arrived(id, source),
        }
    }

    /// Gives a message that is in our hands to a file thread when there is something to write down.
    fn proceed(&mut self, id: QueueId, now: Timestamp) {
        let Some(active) = self.active.get_mut(&id).filter(|active| active.is_here()) else { return };
        self.unwritten += usize::from(active.begins_to_owe());
        if active.attempted {
            let due = self.scheduler.next_attempt(id, now);
            if let Some(work) = active.settle(due) {
                self.pool.give(Task::Settle(Box::new(work)));
            }
        } else if active.worth_saving() {
            let (place, entries) = active.save();
            self.pool.give(Task::Journal(id, place, entries));
        }
    }

    fn done(&mut self, done: Done, now: Timestamp) {
        self.pool.received();
        if let Done::Journal(id, ..) | Done::Settle(id, _) = &done
            && self.active.get_mut(id).is_some_and(Active::owes_no_more)
        {
            self.unwritten = self.unwritten.saturating_sub(1);
        }
        match done {
            Done::Load(id, source, loaded) => self.loaded(id, source, loaded, now),
            Done::Journal(id, place, left) => self.journalled(id, place, left, now),
            Done::Settle(id, settled) => self.settled(id, settled, now),
            Done::PickUp(id, picked) => {
                self.changes.picked(id, picked);
                self.picked(id, picked, now);
            }
            Done::Change(id, changed) => self.changed(id, changed, now),
            Done::Other => {}
        }
    }

    fn loaded(&mut self, id: QueueId, source: Source, loaded: Loaded, now: Timestamp) {
        let wanted = self.changes.waiting_for(id);
        match loaded {
            Loaded::Ready(ready) if !wanted => {
                let mut ready = *ready;
                let facts = Facts {
                    arrived: ready.message.arrived,
                    null_sender: ready.message.sender.is_null(),
                    recipients: ready.message.len(),
                };
                let shares = std::mem::take(&mut ready.shares);
                if ready.place.queue == Queue::Incoming {
                    self.newcomers.came(id, now);
                }
                self.active.insert(id, Active::new(ready));
                if !self.scheduler.loaded(id, facts, shares, now) {
                    self.active.remove(&id);
                }
            }
            Loaded::Later(source) => self.scheduler.postpone(id, source, now.after(AGAIN), now),
            Loaded::Gone => {
                if source == Source::Active {
                    common::info!("{id}: not in active/ any more");
                }
                self.scheduler.forget(id, now);
            }
            // Nothing has been done for it yet: should the change fail, it is read again.
            Loaded::Ready(_) => self.scheduler.postpone(id, Source::Active, now, now),
        }
        self.start_change(id);
    }

    fn settled(&mut self, id: QueueId, settled: Settled, now: Timestamp) {
        match settled {
            Settled::Unfinished(work) => {
                if let Some(active) = self.active.get_mut(&id) {
                    active.unfinished(*work);
                    self.again.insert((now.after(AGAIN), Again::Settle(id)));
                }
            }
            Settled::Deferred(due) => {
                self.active.remove(&id);
                self.scheduler.postpone(id, Source::Deferred(due), due, now);
            }
            Settled::Lost => {
                self.active.remove(&id);
                self.scheduler.postpone(id, Source::Active, now.after(AGAIN), now);
            }
            Settled::Removed => {
                self.active.remove(&id);
                self.scheduler.forget(id, now);
            }
        }
        self.start_change(id);
    }

    fn expire(&mut self, now: Timestamp) {
        self.deliveries.expire(now);
        while let Some(&(at, again)) = self.again.first().filter(|(at, _)| *at <= now) {
            self.again.remove(&(at, again));
            match again {
                Again::PickUp(id) => self.pick_up(id),
                Again::Settle(id) => self.proceed(id, now),
            }
        }
    }
}

#[cfg(test)]
mod tests;
