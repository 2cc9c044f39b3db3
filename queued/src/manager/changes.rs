//! What admins want done to messages: it is done by a file thread once the message is in nobody's hands, and counted.

use super::Manager;
use crate::disk::{Changed, Task};
use crate::scheduler::Source;
use common::time::Timestamp;
use spool::control::Verb;
use spool::id::QueueId;
use std::collections::HashMap;
use std::sync::mpsc::SyncSender;

/// Changes that are wanted or under way.
#[derive(Debug, Default)]
pub(super) struct Changes {
    requests: HashMap<u64, Request>,
    messages: HashMap<QueueId, Wanted>,
    next: u64,
}

#[derive(Debug)]
struct Request {
    open: usize,
    done: u64,
    reply: SyncSender<u64>,
}

#[derive(Debug)]
struct Wanted {
    request: u64,
    verb: Verb,
    started: bool,
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

    fn start(&mut self, id: QueueId) -> Option<Verb> {
        let wanted = self.messages.get_mut(&id).filter(|wanted| !wanted.started)?;
        wanted.started = true;
        Some(wanted.verb)
    }

    /// The change of a message has ended. Gives where the message wants to be taken up again.
    pub(super) fn finished(&mut self, id: QueueId, changed: Changed) -> Option<Source> {
        let wanted = self.messages.remove(&id)?;
        self.count(wanted.request, matches!(changed, Changed::Done | Changed::Active));
        (changed == Changed::Active).then_some(Source::Active)
    }

    fn count(&mut self, request: u64, done: bool) {
        let Some(entry) = self.requests.get_mut(&request) else { return };
        entry.open = entry.open.saturating_sub(1);
        entry.done += u64::from(done);
        if entry.open == 0
            && let Some(entry) = self.requests.remove(&request)
        {
            // Whoever asked may have gone.
            let _ = entry.reply.try_send(entry.done);
        }
    }
}

impl Manager {
    /// Begins to do what an admin asked for.
    pub(super) fn change(&mut self, verb: Verb, ids: Vec<QueueId>, reply: SyncSender<u64>, now: Timestamp) {
        if ids.is_empty() {
            let _ = reply.try_send(0);
            return;
        }
        if verb == Verb::Retry {
            self.scheduler.end_pauses(now);
        }
        self.changes.next += 1;
        let request = self.changes.next;
        self.changes.requests.insert(request, Request { open: ids.len(), done: 0, reply });
        for id in ids {
            if verb == Verb::Retry {
                // One that is in memory is being tried already.
                let there = self.scheduler.retry(id, now) || self.scheduler.knows(id);
                self.changes.count(request, there);
            } else if self.changes.touches(id) {
                self.changes.count(request, false);
            } else {
                self.changes.messages.insert(id, Wanted { request, verb, started: false });
                self.claim(id, now);
            }
        }
    }

    /// Takes the message out of the queue's memory, at once or when a file thread gives it back.
    fn claim(&mut self, id: QueueId, now: Timestamp) {
        let with_file_thread = match self.active.get(&id) {
            Some(active) => !active.is_here(),
            // Being loaded, or being copied.
            None => self.scheduler.is_loading(id) || self.submissions.contains(id),
        };
        if !with_file_thread {
            self.active.remove(&id);
            self.scheduler.forget(id, now);
            self.start_change(id);
        }
    }

    /// Gives a waiting change to a file thread.
    pub(super) fn start_change(&mut self, id: QueueId) {
        if let Some(verb) = self.changes.start(id) {
            self.pool.give(Task::Change(id, verb));
        }
    }
}
