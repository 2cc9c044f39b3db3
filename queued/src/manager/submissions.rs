//! Local submissions on their way from `maildrop/`: a few are copied at a time, so that a thousand of them do not hold up the mail that is here.

use super::{AGAIN, Again, Manager};
use crate::disk::{Picked, Task};
use crate::scheduler::Source;
use common::time::Timestamp;
use spool::id::QueueId;
use std::collections::{HashSet, VecDeque};

/// Copied at once. Each waits for the disk; more only make the queue for it longer.
const AT_ONCE: usize = 4;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Submissions {
    /// All that are known. Their copies are not looked at before the original is gone.
    known: HashSet<QueueId>,
    waiting: VecDeque<QueueId>,
    copying: usize,
}

impl Submissions {
    /// Is this one waiting or being copied?
    pub(super) fn contains(&self, id: QueueId) -> bool {
        self.known.contains(&id)
    }
}

impl Manager {
    /// Submissions were found. One that is known already is not taken twice.
    pub(super) fn submitted(&mut self, ids: Vec<QueueId>) {
        for id in ids {
            if !self.changes.touches(id) && self.submissions.known.insert(id) {
                self.submissions.waiting.push_back(id);
            }
        }
        self.pick_up_more();
    }

    /// Tries one again that could not be copied before.
    pub(super) fn pick_up(&mut self, id: QueueId) {
        self.submissions.waiting.push_back(id);
        self.pick_up_more();
    }

    /// A copy was made, or not.
    pub(super) fn picked(&mut self, id: QueueId, picked: Picked, now: Timestamp) {
        self.submissions.copying = self.submissions.copying.saturating_sub(1);
        if picked == Picked::Later && !self.changes.waiting_for(id) {
            self.again.insert((now.after(AGAIN), Again::PickUp(id)));
        } else {
            self.submissions.known.remove(&id);
        }
        if let Picked::Taken(copy) = picked
            && !self.changes.waiting_for(id)
        {
            self.arrived(copy, Source::Incoming);
        }
        self.start_change(id);
        self.pick_up_more();
    }

    fn pick_up_more(&mut self) {
        while self.stopping.is_none() && self.submissions.copying < AT_ONCE {
            let Some(id) = self.submissions.waiting.pop_front() else { return };
            self.submissions.copying += 1;
            self.pool.give(Task::PickUp(id));
        }
    }
}
