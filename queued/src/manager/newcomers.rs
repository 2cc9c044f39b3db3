//! Messages that lie in `incoming/` still while they are delivered. Most are gone at once, and never get another name; those who stay get one in `active/`,
//! where people look for what is being delivered, and where smtpd has no hand (see [`Place`](crate::disk::Place)).

use super::Manager;
use crate::disk::Task;
use common::time::Timestamp;
use spool::id::QueueId;
use std::collections::VecDeque;
use std::time::Duration;

/// What is in memory for so long has come to stay.
const SOON: Duration = Duration::from_secs(1);

/// In the order in which their time comes.
#[derive(Debug, Default)]
pub(super) struct Newcomers(VecDeque<(Timestamp, QueueId)>);

impl Newcomers {
    /// This one was loaded.
    pub(super) fn came(&mut self, id: QueueId, now: Timestamp) {
        self.0.push_back((now.after(SOON), id));
    }

    /// When the first one's time comes.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.0.front().map(|(at, _)| *at)
    }
}

impl Manager {
    /// Has those moved whose time has come. One that a file thread has goes to `active/` by it, or away. Where that fails, the message is settled in when its
    /// attempt is over: until then the name makes no difference.
    pub(super) fn settle_in(&mut self, now: Timestamp) {
        while let Some(&(at, id)) = self.newcomers.0.front() {
            // Those who have gone meanwhile need not wake anybody.
            let active = self.active.get_mut(&id).filter(|active| active.is_new());
            // (A time that is farther away is one of a clock that was set back.)
            if active.is_some() && at > now && at <= now.after(2 * SOON) {
                return;
            }
            self.newcomers.0.pop_front();
            if let Some(active) = active.filter(|active| active.is_here() && !active.attempted)
                && !self.changes.touches(id)
            {
                let (place, entries) = active.save();
                self.pool.give(Task::Journal(id, place, entries));
            }
        }
    }
}
