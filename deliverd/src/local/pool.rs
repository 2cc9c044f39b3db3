//! Which child works on which delivery: a pure data structure, told what happens and asked for the next step.
//!
//! A child has one owner (identity) for life and one delivery at a time. At most `limit` children exist;
//! idle ones are kept for a while and go when another owner needs the place. Deliveries start in the order
//! in which they came, except that one whose mailbox is busy is passed by, so that a slow mailbox holds up
//! no other.

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How long an idle child is kept.
pub const IDLE: Duration = Duration::from_secs(10);

/// How long no child is started after one could not be.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Names a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildId(pub u64);

/// Names a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkId(pub u64);

/// A delivery that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work<O, M> {
    /// Its name.
    pub id: WorkId,
    /// As whom.
    pub owner: O,
    /// Into which mailbox.
    pub mailbox: M,
    /// How many deliveries into that mailbox may run at once; at least 1.
    pub width: usize,
}

/// What the driver is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<O> {
    /// Start a child for this owner, and say [`Pool::started`] or [`Pool::not_started`].
    Start(O),
    /// Give this delivery to this idle child.
    Give(ChildId, WorkId),
    /// Let this idle child end; it is out of the pool.
    Retire(ChildId),
}

#[derive(Debug)]
enum State<M> {
    Idle {
        since: Instant,
    },
    Busy {
        work: WorkId,
        mailbox: M,
    },
    /// It was killed and is not gone yet: it takes a place, but nothing else.
    Dying,
}

#[derive(Debug)]
struct Child<O, M> {
    id: ChildId,
    owner: O,
    state: State<M>,
}

/// The children and the deliveries that wait for one.
#[derive(Debug)]
pub struct Pool<O, M> {
    limit: usize,
    children: Vec<Child<O, M>>,
    waiting: VecDeque<Work<O, M>>,
    next_child: u64,
    paused_until: Option<Instant>,
}

impl<O: Clone + Eq, M: Clone + Eq + Hash> Pool<O, M> {
    /// At most `limit` children at once.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            children: Vec::new(),
            waiting: VecDeque::new(),
            next_child: 0,
            paused_until: None,
        }
    }

    /// A delivery comes in.
    pub fn add(&mut self, work: Work<O, M>) {
        self.waiting.push_back(work);
    }

    /// A child that [`Step::Start`] asked for runs; it is idle.
    pub fn started(&mut self, owner: O, now: Instant) -> ChildId {
        let id = ChildId(self.next_child);
        self.next_child += 1;
        self.children.push(Child { id, owner, state: State::Idle { since: now } });
        id
    }

    /// No child could be started: nothing is started for a while.
    pub fn not_started(&mut self, now: Instant) {
        self.paused_until = Some(now + PAUSE);
    }

    /// The child has answered; it is idle again.
    pub fn finished(&mut self, id: ChildId, now: Instant) {
        for child in self.children.iter_mut().filter(|child| child.id == id) {
            if matches!(child.state, State::Busy { .. }) {
                child.state = State::Idle { since: now };
            }
        }
    }

    /// The child was killed; until [`Self::gone`] it takes a place.
    pub fn killed(&mut self, id: ChildId) {
        for child in self.children.iter_mut().filter(|child| child.id == id) {
            child.state = State::Dying;
        }
    }

    /// The child is no more. Gives the delivery that it had, if it was not killed for it.
    pub fn gone(&mut self, id: ChildId) -> Option<WorkId> {
        let at = self.children.iter().position(|child| child.id == id)?;
        match self.children.swap_remove(at).state {
            State::Busy { work, .. } => Some(work),
            State::Idle { .. } | State::Dying => None,
        }
    }

    /// Takes back a delivery that has not started; false when it is not waiting.
    pub fn withdraw(&mut self, id: WorkId) -> bool {
        !self.take_waiting(|work| work.id == id).is_empty()
    }

    /// Takes back all that waits for the mailbox into which this delivery runs.
    pub fn withdraw_behind(&mut self, id: WorkId) -> Vec<WorkId> {
        let running = self.children.iter().find_map(|child| match &child.state {
            State::Busy { work, mailbox } if *work == id => Some(mailbox.clone()),
            _ => None,
        });
        running.map_or_else(Vec::new, |mailbox| self.take_waiting(|work| work.mailbox == mailbox))
    }

    /// Which child has this delivery?
    pub fn child_of(&self, id: WorkId) -> Option<ChildId> {
        let has = |child: &&Child<O, M>| matches!(child.state, State::Busy { work, .. } if work == id);
        self.children.iter().find(has).map(|child| child.id)
    }

    /// Is there anything that waits or runs?
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.children.iter().any(|c| matches!(c.state, State::Busy { .. }))
    }

    /// When to ask for steps again though nothing has happened: an idle child's time is over, or a pause is.
    pub fn next_expiry(&self) -> Option<Instant> {
        let pause = self.paused_until.filter(|_| !self.waiting.is_empty());
        self.idle().map(|(_, since)| since + IDLE).chain(pause).min()
    }

    /// The next thing to do; `None`: wait for an event.
    pub fn next_step(&mut self, now: Instant) -> Option<Step<O>> {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        if let Some((at, id)) = self.first_for_an_idle_child() {
            let work = self.waiting.remove(at)?;
            let child = self.children.iter_mut().find(|child| child.id == id)?;
            child.state = State::Busy { work: work.id, mailbox: work.mailbox };
            return Some(Step::Give(id, work.id));
        }
        let waits = if self.paused_until.is_none() { self.first_with_room() } else { None };
        if let Some(owner) = waits.as_ref().filter(|_| self.children.len() < self.limit) {
            return Some(Step::Start(owner.clone()));
        }
        let (id, since) = self.idle().min_by_key(|(_, since)| *since)?;
        if waits.is_none() && now < since + IDLE {
            return None;
        }
        self.children.retain(|child| child.id != id);
        Some(Step::Retire(id))
    }

    /// The first delivery that can start on a child that is there.
    fn first_for_an_idle_child(&self) -> Option<(usize, ChildId)> {
        self.idle().next()?;
        self.waiting.iter().enumerate().find_map(|(at, work)| {
            let idle =
                |child: &&Child<O, M>| child.owner == work.owner && matches!(child.state, State::Idle { .. });
            let child = self.children.iter().find(idle)?;
            self.has_room(work).then_some((at, child.id))
        })
    }

    /// The owner of the first delivery that could start if there were a child for it.
    fn first_with_room(&self) -> Option<O> {
        if self.children.len() >= self.limit && self.idle().next().is_none() {
            return None;
        }
        self.waiting.iter().find(|work| self.has_room(work)).map(|work| work.owner.clone())
    }

    fn has_room(&self, work: &Work<O, M>) -> bool {
        self.running_in(&work.mailbox) < work.width.max(1)
    }

    fn running_in(&self, wanted: &M) -> usize {
        let here =
            |child: &&Child<O, M>| matches!(&child.state, State::Busy { mailbox, .. } if mailbox == wanted);
        self.children.iter().filter(here).count()
    }

    fn idle(&self) -> impl Iterator<Item = (ChildId, Instant)> {
        self.children.iter().filter_map(|child| match child.state {
            State::Idle { since } => Some((child.id, since)),
            _ => None,
        })
    }

    fn take_waiting(&mut self, taken: impl Fn(&Work<O, M>) -> bool) -> Vec<WorkId> {
        let mut ids = Vec::new();
        self.waiting.retain(|work| {
            let take = taken(work);
            if take {
                ids.push(work.id);
            }
            !take
        });
        ids
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
