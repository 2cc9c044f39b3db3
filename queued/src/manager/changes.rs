//! What admins want done to messages: it is done by a file thread once the message is in nobody's hands, and counted.
//!
//! A message is forgotten only when its change is done. Until then the scheduler and the memory keep what they know of it, and no other file
//! task is begun for it: whatever wants to be done with it meanwhile is noted here and done when the change has failed. Outcomes
//! that are not in the journal are written there before the file gets another name; when that fails, the change fails.

use super::Manager;
use super::active::Active;
use crate::disk::{Changed, Picked, Place, Task};
use crate::scheduler::Source;
use common::time::Timestamp;
use spool::control::Verb;
use spool::id::QueueId;
use spool::journal::Entry;
use std::collections::HashMap;
use std::sync::mpsc::SyncSender;

/// Changes that are wanted or under way.
#[derive(Debug, Default)]
pub(super) struct Changes {
    requests: HashMap<u64, Request>,
    messages: HashMap<QueueId, Wanted>,
    next: u64,
}

/// What a change came to, in messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Changed.
    pub done: u64,
    /// Not changed, because the file system did not let us.
    pub failed: u64,
}

impl Tally {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self { done: self.done + other.done, failed: self.failed + other.failed }
    }
}

#[derive(Debug)]
struct Request {
    open: usize,
    tally: Tally,
    reply: SyncSender<Tally>,
}

#[derive(Debug)]
struct Wanted {
    request: u64,
    verb: Verb,
    started: bool,
    /// Outcomes that nobody needs when the message is deleted.
    unsaved: Vec<Entry>,
    /// What is to be done should the change fail.
    instead: Option<Instead>,
}

#[derive(Debug)]
enum Instead {
    Load(Source),
    Arrived(QueueId, Source),
    Submitted,
}

impl Changes {
    /// Is a change wanted or under way for this message?
    pub(super) fn touches(&self, id: QueueId) -> bool {
        self.messages.contains_key(&id)
    }

    /// Does a change wait for this message to come out of somebody's hands?
    pub(super) fn waiting_for(&self, id: QueueId) -> bool {
        self.messages.get(&id).is_some_and(|wanted| !wanted.started)
    }

    /// The scheduler wants it loaded. `true` when that has to wait for a change that is under way.
    pub(super) fn load_later(&mut self, id: QueueId, source: Source) -> bool {
        let Some(wanted) = self.messages.get_mut(&id).filter(|wanted| wanted.started) else { return false };
        wanted.instead = Some(Instead::Load(source));
        true
    }

    /// It was found while a change was wanted. `false` when none is.
    pub(super) fn found(&mut self, id: QueueId, source: Source) -> bool {
        let Some(wanted) = self.messages.get_mut(&id) else { return false };
        wanted.instead.get_or_insert(Instead::Arrived(id, source));
        true
    }

    /// These were found in `maildrop/`.
    pub(super) fn submitted(&mut self, ids: &[QueueId]) {
        for id in ids {
            if let Some(wanted) = self.messages.get_mut(id) {
                wanted.instead.get_or_insert(Instead::Submitted);
            }
        }
    }

    /// A copy of a submission was made, or not.
    pub(super) fn picked(&mut self, id: QueueId, picked: Picked) {
        let Some(wanted) = self.messages.get_mut(&id) else { return };
        match picked {
            Picked::Taken(copy) => wanted.instead = Some(Instead::Arrived(copy, Source::Incoming)),
            Picked::Later => wanted.instead = Some(Instead::Submitted),
            Picked::Gone => {}
        }
    }

    fn count(&mut self, request: u64, changed: Changed) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        entry.open = entry.open.saturating_sub(1);
        entry.tally.done += u64::from(matches!(changed, Changed::Done | Changed::Active));
        entry.tally.failed += u64::from(changed == Changed::Failed);
        if entry.open == 0
            && let Some(entry) = self.requests.remove(&request)
        {
            // Whoever asked may have gone.
            let _ = entry.reply.try_send(entry.tally);
        }
    }
}

impl Manager {
    /// Begins to do what an admin asked for.
    pub(super) fn change(&mut self, verb: Verb, ids: Vec<QueueId>, reply: SyncSender<Tally>, now: Timestamp) {
        if ids.is_empty() {
            let _ = reply.try_send(Tally::default());
            return;
        }
        if verb == Verb::Retry {
            self.scheduler.end_pauses(now);
        }
        self.changes.next += 1;
        let request = self.changes.next;
        self.changes.requests.insert(request, Request { open: ids.len(), tally: Tally::default(), reply });
        for id in ids {
            if verb == Verb::Retry {
                // One that is in memory is being tried already.
                let there = self.scheduler.retry(id, now) || self.scheduler.knows(id);
                self.changes.count(request, if there { Changed::Done } else { Changed::NotFound });
            } else if self.changes.touches(id) {
                self.changes.count(request, Changed::NotFound);
            } else {
                let wanted = Wanted { request, verb, started: false, unsaved: Vec::new(), instead: None };
                self.changes.messages.insert(id, wanted);
                // Not while it is being loaded or copied: a file thread gives it back.
                if !self.scheduler.is_loading(id) && !self.submissions.contains(id) {
                    self.start_change(id);
                }
            }
        }
    }

    /// Gives a waiting change to a file thread, unless one has the message or has to write to its journal first.
    pub(super) fn start_change(&mut self, id: QueueId) {
        let Some(wanted) = self.changes.messages.get_mut(&id).filter(|wanted| !wanted.started) else {
            return;
        };
        if let Some(active) = self.active.get_mut(&id) {
            if !active.is_here() {
                return;
            }
            let (place, unsaved) = active.save();
            if wanted.verb == Verb::Delete {
                // On a full disk, deleting is what makes room.
                wanted.unsaved = unsaved;
            } else if !unsaved.is_empty() {
                self.pool.give(Task::Journal(id, place, unsaved));
                return;
            }
        }
        wanted.started = true;
        self.pool.give(Task::Change(id, wanted.verb));
    }

    /// The journal of a message was written, but for these entries.
    pub(super) fn journalled(&mut self, id: QueueId, place: Place, left: Vec<Entry>, now: Timestamp) {
        let complete = left.is_empty();
        if let Some(active) = self.active.get_mut(&id) {
            active.saved(place, left);
        }
        if !self.changes.waiting_for(id) {
            self.proceed(id, now);
        } else if complete {
            self.start_change(id);
        } else {
            common::error!("{id}: cannot be changed: its outcomes cannot be written down");
            self.changed(id, Changed::Failed, now);
        }
    }

    /// The change of a message has ended: now it is forgotten, or goes on as if nothing had been wanted.
    pub(super) fn changed(&mut self, id: QueueId, changed: Changed, now: Timestamp) {
        let Some(wanted) = self.changes.messages.remove(&id) else { return };
        match changed {
            Changed::Done | Changed::Active => {
                self.scheduler.forget(id, now);
                // What came while the file got its new name.
                if let Some(mut active) = self.active.remove(&id).filter(Active::worth_saving) {
                    self.pool.give(Task::Late(id, active.save().1));
                }
                if changed == Changed::Active {
                    self.scheduler.arrived(id, Source::Active);
                }
            }
            Changed::NotFound | Changed::Failed => self.go_on(id, wanted.unsaved, wanted.instead, now),
        }
        self.changes.count(wanted.request, changed);
    }

    fn go_on(&mut self, id: QueueId, unsaved: Vec<Entry>, instead: Option<Instead>, now: Timestamp) {
        if let Some(active) = self.active.get_mut(&id) {
            active.saved_none(unsaved);
            self.proceed(id, now);
            return;
        }
        match instead {
            Some(Instead::Load(source)) => self.pool.give(Task::Load(id, source)),
            Some(Instead::Arrived(id, source)) => self.arrived(id, source),
            Some(Instead::Submitted) => self.submitted(vec![id]),
            // Known to the scheduler, or not waiting to be delivered.
            None => {}
        }
    }
}
