//! The loop of `deliverd local`: jobs from queued are split by recipient, placed, given to children, and
//! answered.
//!
//! One thread, one poll(2), nothing in it waits for a mailbox: a delivery that takes longer than its job
//! may is ended by killing its child. This process may be root; of a message it knows only what queued says
//! in the job, and it never reads the message's file.

use super::frames::{FromChild, Owner, Task};
use super::jobs::{JobId, Jobs, log_line};
use super::link::{self, Link};
use super::place;
use super::pool::{ChildId, Pool, Step, Work, WorkId};
use super::process::{self, Leaving, Process};
use super::template::{MailboxPath, Template, TemplateError};
use common::config::Config;
use common::status::{EnhancedCode, Status};
use common::tables::Tables;
use common::time::Timestamp;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use spool::dispatch::{FromWorker, Job, JobRecipient, MAX_RECIPIENTS, ToWorker};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Most children at once.
const MAX_CHILDREN: usize = 20;
/// Jobs that we offer to hold.
pub const CAPACITY: u32 = 50;
/// A delivery that is cancelled gets this long to end by itself.
const CANCEL: Duration = Duration::from_secs(2);

/// The trouble is the mail system's own (RFC 3463 3.4).
const SYSTEM: EnhancedCode = EnhancedCode::new(4, 3, 0);

/// What the configuration says.
#[derive(Debug)]
pub struct Settings {
    /// The mailboxes.
    pub template: Template,
    /// The users.
    pub tables: Tables,
    /// For the names of messages.
    pub hostname: String,
}

/// A configuration that cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The `mailbox` key.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A table.
    #[error(transparent)]
    Table(#[from] common::table::TableError),
}

impl Settings {
    /// From the configuration; reads the tables.
    pub fn new(config: &Config) -> Result<Self, SettingsError> {
        Ok(Self {
            template: Template::parse(&config.local.mailbox)?,
            tables: Tables::load(config)?,
            hostname: config.hostname.to_string(),
        })
    }
}

/// A delivery: one recipient of one job.
#[derive(Debug)]
struct Delivery {
    job: JobId,
    recipient: JobRecipient,
    /// `None` once a child has it.
    task: Option<Task>,
    /// After that it is given up.
    end: Instant,
    /// queued does not want it any more.
    cancelled: bool,
}

/// A child, and what it said about why it cannot work.
#[derive(Debug)]
struct Worker {
    process: Process,
    unable: Option<String>,
}

/// All that is in motion. The driver ([`super::run`]) tells it what happened.
#[derive(Debug)]
pub struct Local {
    settings: Settings,
    /// The connection to queued.
    pub link: Link,
    pool: Pool<Option<Owner>, MailboxPath>,
    jobs: Jobs,
    deliveries: HashMap<WorkId, Delivery>,
    workers: HashMap<ChildId, Worker>,
    leaving: Vec<Leaving>,
    next_delivery: u64,
}

impl Local {
    /// With nothing to do yet.
    pub fn new(settings: Settings, link: Link) -> Self {
        Self {
            settings,
            link,
            pool: Pool::new(MAX_CHILDREN),
            jobs: Jobs::default(),
            deliveries: HashMap::new(),
            workers: HashMap::new(),
            leaving: Vec::new(),
            next_delivery: 0,
        }
    }

    /// Another configuration, for what comes from now on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Is everything answered and sent?
    pub fn is_done(&self) -> bool {
        self.jobs.is_empty() && self.pool.is_idle() && !self.link.wants_to_write()
    }

    /// Reads what queued sent.
    pub fn read_queue(&mut self, now: Instant) {
        loop {
            match self.link.receive(now) {
                link::Event::Nothing => return,
                link::Event::Lost(why) => {
                    common::warn!("the queue manager is gone ({why}): connecting again");
                    return self.forget_waiting();
                }
                link::Event::Frame(ToWorker::Job(job), Some(file)) if self.may_take(&job, &file) => {
                    self.take(job, file, now);
                }
                link::Event::Frame(ToWorker::Cancel(number), _) => self.cancel(number, now),
                link::Event::Frame(ToWorker::Job(job), _) => {
                    common::error!(
                        "{}: the queue manager sent a job that is not one: connecting again",
                        job.queue_id
                    );
                    self.link.drop_connection(now);
                    return self.forget_waiting();
                }
            }
        }
    }

    /// A job within the limits, with a file that nobody can write to through us.
    fn may_take(&self, job: &Job, file: &OwnedFd) -> bool {
        let flags = fcntl(file, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
        let read_only = flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDONLY);
        let mut indices: Vec<u32> = job.recipients.iter().map(|recipient| recipient.index).collect();
        indices.sort_unstable();
        indices.dedup();
        read_only
            && (1..=MAX_RECIPIENTS).contains(&job.recipients.len())
            && indices.len() == job.recipients.len()
            && self.jobs.len() < 2 * CAPACITY as usize
            && self.jobs.get(JobId { connection: self.link.number(), number: job.number }).is_none()
    }

    fn take(&mut self, job: Job, file: OwnedFd, now: Instant) {
        let id = JobId { connection: self.link.number(), number: job.number };
        let end = now + job.deadline.since(Timestamp::now());
        let router = self.settings.tables.router();
        let mut placed = Vec::new();
        for recipient in &job.recipients {
            let place =
                place::find(&recipient.address, &self.settings.template, &router.users, router.delimiter);
            placed.push((recipient.clone(), place));
        }
        let template = job.clone();
        self.jobs.add(id, job, file);
        for (recipient, place) in placed {
            match place {
                Err(status) => self.outcome(id, &recipient, status),
                Ok(place) => {
                    let work = WorkId(self.next_delivery);
                    self.next_delivery += 1;
                    let task = Task {
                        number: work.0,
                        sender: template.sender.clone(),
                        original: recipient.original.clone().unwrap_or_else(|| recipient.address.clone()),
                        recipient: recipient.address.clone(),
                        mailbox: place.mailbox.clone(),
                        kind: place.kind,
                        content_offset: template.content_offset,
                        content: template.content,
                        deadline: template.deadline,
                    };
                    let (owner, mailbox, width) = (place.owner, place.mailbox, place.width);
                    self.deliveries.insert(
                        work,
                        Delivery { job: id, recipient, task: Some(task), end, cancelled: false },
                    );
                    self.pool.add(Work { id: work, owner, mailbox, width });
                }
            }
        }
    }

    fn cancel(&mut self, number: u64, now: Instant) {
        let job = JobId { connection: self.link.number(), number };
        for id in self.deliveries_of(|delivery| delivery.job == job) {
            if self.pool.withdraw(id) {
                self.end_delivery(id, Status::local(SYSTEM, "delivery cancelled"));
            } else if let Some(delivery) = self.deliveries.get_mut(&id) {
                delivery.end = delivery.end.min(now + CANCEL);
                delivery.cancelled = true;
            }
        }
    }

    /// The connection is lost: its jobs went back to queued. What has not begun is forgotten; what runs
    /// ends by itself.
    fn forget_waiting(&mut self) {
        for id in self.deliveries_of(|_| true) {
            if self.pool.withdraw(id)
                && let Some(delivery) = self.deliveries.remove(&id)
            {
                // Its connection is gone, and with it whoever wanted an answer.
                let _ = self.jobs.forget_one(delivery.job);
            }
        }
    }

    /// Does what can be done now: starts children, gives them work, ends what is idle or late.
    pub fn advance(&mut self, now: Instant) {
        for id in self.deliveries_of(|delivery| delivery.end <= now) {
            self.expire(id);
        }
        while let Some(step) = self.pool.next_step(now) {
            match step {
                Step::Start(owner) => match Process::start(owner.as_ref(), &self.settings.hostname) {
                    Ok(process) => {
                        let id = self.pool.started(owner, now);
                        self.workers.insert(id, Worker { process, unable: None });
                    }
                    Err(error) => {
                        common::error!("cannot start a delivery process: {error}; trying again");
                        self.pool.not_started(now);
                    }
                },
                Step::Give(child, work) => self.give(child, work),
                Step::Retire(child) => {
                    self.leaving.extend(self.workers.remove(&child).map(|w| w.process.leave()))
                }
            }
        }
        self.reap();
    }

    fn give(&mut self, child: ChildId, work: WorkId) {
        let task =
            self.deliveries.get_mut(&work).and_then(|delivery| Some((delivery.job, delivery.task.take()?)));
        let file = task.as_ref().and_then(|(job, _)| self.jobs.get(*job)).map(|job| job.file.as_fd());
        let sent = match (task, file, self.workers.get(&child)) {
            (Some((_, task)), Some(file), Some(worker)) => worker.process.give(task, file).is_ok(),
            _ => false,
        };
        if !sent {
            self.child_gone(child);
        }
    }

    /// A delivery is over its time: out of the queue with it, or an end to its child.
    fn expire(&mut self, id: WorkId) {
        if self.pool.withdraw(id) {
            let text = "delivery time limit exceeded before the mailbox was free";
            return self.end_delivery(id, Status::local(SYSTEM, text));
        }
        if let Some(child) = self.pool.child_of(id) {
            self.pool.killed(child);
            if let Some(worker) = self.workers.get_mut(&child) {
                common::warn!("killing delivery process {}: it does not end in time", worker.process.id());
                worker.process.kill();
            }
        }
        let cancelled = self.deliveries.get(&id).is_some_and(|delivery| delivery.cancelled);
        let text = if cancelled { "delivery cancelled" } else { "delivery time limit exceeded" };
        self.end_delivery(id, Status::local(SYSTEM, text));
    }

    /// Reads what a child sent.
    pub fn read_child(&mut self, child: ChildId, now: Instant) {
        loop {
            let Some(worker) = self.workers.get_mut(&child) else { return };
            match worker.process.receive() {
                process::Event::Nothing => return,
                process::Event::Gone => return self.child_gone(child),
                process::Event::Frame(FromChild::Unable(why)) => worker.unable = Some(why),
                process::Event::Frame(FromChild::Done(answer)) => {
                    let work = WorkId(answer.number);
                    // It answers what it was given, nothing else.
                    if self.pool.child_of(work) != Some(child) {
                        if self.deliveries.contains_key(&work) {
                            return self.child_gone(child);
                        }
                        continue;
                    }
                    let behind = if answer.locked { self.pool.withdraw_behind(work) } else { Vec::new() };
                    self.pool.finished(child, now);
                    // The child is the user's: its words are taken as text, not as they come.
                    let status = Status::local(answer.status.code, &answer.status.text);
                    if answer.alert {
                        self.alert(work, &status);
                    }
                    if answer.locked {
                        self.end_locked(work, behind, status);
                    } else {
                        self.end_delivery(work, status);
                    }
                }
            }
        }
    }

    fn child_gone(&mut self, child: ChildId) {
        let Some(mut worker) = self.workers.remove(&child) else { return };
        worker.process.kill();
        let why = match worker.unable {
            Some(why) => format!("delivery process failed: {why}"),
            None => "delivery process ended unexpectedly".to_owned(),
        };
        self.leaving.push(worker.process.leave());
        if let Some(work) = self.pool.gone(child) {
            let status = Status::local(SYSTEM, why);
            self.alert(work, &status);
            self.end_delivery(work, status);
        }
    }

    fn alert(&self, work: WorkId, status: &Status) {
        let delivery = self.deliveries.get(&work);
        let job = delivery.and_then(|delivery| Some((self.jobs.get(delivery.job)?, &delivery.recipient)));
        if let Some((job, recipient)) = job {
            common::error!("{}: to=<{}>: {}", job.job.queue_id, recipient.address, status.text);
        }
    }

    fn end_delivery(&mut self, id: WorkId, status: Status) {
        if let Some(delivery) = self.deliveries.remove(&id) {
            self.outcome(delivery.job, &delivery.recipient, status);
        }
    }

    /// A mailbox stayed locked. What waits behind the delivery that found out would only wait as long, one
    /// after the other, and keep our places from the mail of others.
    fn end_locked(&mut self, found_out: WorkId, behind: Vec<WorkId>, status: Status) {
        for id in [found_out].into_iter().chain(behind) {
            if let Some(delivery) = self.deliveries.remove(&id) {
                self.answer(delivery.job, &delivery.recipient, status.clone(), Jobs::locked);
            }
        }
    }

    fn outcome(&mut self, id: JobId, recipient: &JobRecipient, status: Status) {
        self.answer(id, recipient, status, Jobs::outcome);
    }

    fn answer(
        &mut self,
        id: JobId,
        recipient: &JobRecipient,
        status: Status,
        note: fn(&mut Jobs, JobId, u32, Status) -> Option<FromWorker>,
    ) {
        if let Some(job) = self.jobs.get(id) {
            common::info!("{}", log_line(&job.job, recipient, &status, Timestamp::now()));
        }
        if let Some(answer) = note(&mut self.jobs, id, recipient.index, status) {
            self.link.answer(id.connection, &answer);
        }
    }

    fn reap(&mut self) {
        self.leaving.retain_mut(|child| match child.ended() {
            None => true,
            Some(status) => {
                // 9 is how we end them.
                if !status.success() && std::os::unix::process::ExitStatusExt::signal(&status) != Some(9) {
                    common::warn!("delivery process {} ended with {status}", child.id());
                }
                false
            }
        });
    }

    fn deliveries_of(&self, wanted: impl Fn(&Delivery) -> bool) -> Vec<WorkId> {
        self.deliveries.iter().filter(|(_, delivery)| wanted(delivery)).map(|(id, _)| *id).collect()
    }

    /// The children's sockets, to wait for.
    pub fn sockets(&self) -> impl Iterator<Item = (ChildId, BorrowedFd<'_>)> {
        self.workers.iter().map(|(id, worker)| (*id, worker.process.as_fd()))
    }

    /// When [`Self::advance`] is to be called though nothing has happened.
    pub fn next_event(&self, now: Instant) -> Option<Instant> {
        let late = self.deliveries.values().map(|delivery| delivery.end).min();
        // Nothing tells when a child that closed its socket has become a zombie.
        let reap = (!self.leaving.is_empty()).then(|| now + Duration::from_millis(100));
        [late, reap, self.pool.next_expiry()].into_iter().flatten().min()
    }

    /// Time is up: children are ended, and jobs are answered as far as they got.
    pub fn give_up(&mut self) {
        for worker in self.workers.values_mut() {
            worker.process.kill();
        }
        for id in self.jobs.ids() {
            if let Some(answer) = self.jobs.finish(id) {
                self.link.answer(id.connection, &answer);
            }
        }
    }

    /// Lets all children go; true when none is left. To be called again until then.
    pub fn close_children(&mut self) -> bool {
        self.leaving.extend(self.workers.drain().map(|(_, worker)| worker.process.leave()));
        self.reap();
        self.leaving.is_empty()
    }

    /// Ends children that did not go by themselves.
    pub fn kill_children(&mut self) {
        self.leaving.iter_mut().for_each(Leaving::kill);
    }
}
