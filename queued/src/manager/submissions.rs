//! Local submissions on their way from `maildrop/`: a few are copied at a time, so that a thousand of them do not hold up the mail that is here.

use super::{AGAIN, Again, Manager};
use crate::disk::{Picked, Task};
use crate::scheduler::Source;
use common::time::Timestamp;
use spool::id::QueueId;
use std::collections::{HashMap, VecDeque};

/// Copied at once. Each waits for the disk; more only make the queue for it longer.
const AT_ONCE: usize = 4;

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Submissions {
    /// All that are known. Their copies are not looked at before the original is gone; where one was found meanwhile, that is kept here.
    known: HashMap<QueueId, Option<Source>>,
    waiting: VecDeque<QueueId>,
    copying: usize,
}

impl Submissions {
    /// Is this one waiting or being copied?
    pub(super) fn contains(&self, id: QueueId) -> bool {
        self.known.contains_key(&id)
    }

    /// A message of this ID was found. `false`: there is no such submission.
    pub(super) fn found(&mut self, id: QueueId, source: Source) -> bool {
        self.known.get_mut(&id).map(|found| *found = Some(source)).is_some()
    }
}

impl Manager {
    /// Submissions were found. One that is known already is not taken twice.
    pub(super) fn submitted(&mut self, ids: Vec<QueueId>) {
        for id in ids {
            if !self.changes.touches(id) && !self.submissions.contains(id) {
                self.submissions.known.insert(id, None);
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
        let wanted = self.changes.waiting_for(id);
        let mut found = None;
        if picked == Picked::Later && !wanted {
            self.again.insert((now.after(AGAIN), Again::PickUp(id)));
        } else {
            found = self.submissions.known.remove(&id).flatten();
        }
        // Where its copy was found is where it is: it may have gone on before the original could be removed.
        match (picked, found) {
            _ if wanted => {}
            (_, Some(source)) => self.arrived(id, source),
            (Picked::Taken(copy), None) => self.arrived(copy, Source::Incoming),
            _ => {}
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
