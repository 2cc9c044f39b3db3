//! Recipients that are deferred while others of their message still have jobs.
//!
//! An attempt ends with a message's last job, and that may wait for hours: for a host that hangs, or for the rate of a destination. Who is deferred meanwhile does not
//! wait for that, but has a next attempt of its own, at the time at which the message would have one ([`super::backoff`]), and in memory: to the lane that it was
//! routed to when the message was loaded. When the attempt ends all go back to the disk together and are routed anew.

use super::destinations::Lane;
use super::{Active, Again, Ended, LAST_CHANCE, Scheduler};
use common::time::Timestamp;
use spool::id::QueueId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of one message, by the time of their next attempt.
pub(super) type PutOff = BTreeMap<Timestamp, Vec<(Arc<Lane>, Vec<u32>)>>;

impl Scheduler {
    /// These recipients were deferred by what came of their job.
    pub fn deferred_by(&mut self, job: Ended, recipients: Vec<u32>, now: Timestamp) {
        // The attempt under way delivers to them already.
        if !job.orphan {
            self.put_off(job.id, job.lane, recipients, now);
        }
    }

    /// These recipients were deferred. Of no consequence when that was the last of the message's jobs.
    pub(super) fn put_off(&mut self, id: QueueId, lane: Arc<Lane>, recipients: Vec<u32>, now: Timestamp) {
        let Some(active) = self.active.get(&id).filter(|active| !active.jobs.is_empty()) else { return };
        let Some(facts) = active.facts.filter(|_| !recipients.is_empty()) else { return };
        let due = self.next_attempt(id, now);
        // Whoever is deferred at the end of the message's life has had the last attempt.
        if due > self.expires(&facts) {
            return;
        }
        let Some(active) = self.active.get_mut(&id) else { return };
        active.put_off.entry(due).or_default().push((lane, recipients));
        self.again.insert((due, id));
    }

    /// The time has come for some of those that were put off.
    pub(super) fn come_again(&mut self, now: Timestamp) {
        let mut due = Vec::new();
        while let Some(key) = self.again.first().copied().filter(|(at, _)| *at <= now) {
            self.again.remove(&key);
            due.push(key);
        }
        for (at, id) in due {
            let Some(active) = self.active.get_mut(&id) else { continue };
            for (lane, recipients) in active.put_off.remove(&at).into_iter().flatten() {
                if let Some((lane, recipients)) = self.queue(id, lane, recipients, true, now) {
                    self.put_off(id, lane, recipients, now);
                }
            }
            // It has a limit already, unless its lifetime has just ended.
            self.limit_waiting(id, now.after(LAST_CHANCE));
        }
    }

    /// An admin does not want to wait; `false` when nobody of this message was put off.
    pub(super) fn hurry_put_off(&mut self, id: QueueId, now: Timestamp) -> bool {
        let Some(active) = self.active.get_mut(&id).filter(|active| !active.put_off.is_empty()) else {
            return false;
        };
        let all = take(&mut self.again, id, active);
        active.put_off.insert(now, all.into_values().flatten().collect());
        self.again.insert((now, id));
        true
    }
}

/// The message's attempt is over, or the message gone.
pub(super) fn take(again: &mut Again, id: QueueId, active: &mut Active) -> PutOff {
    let put_off = std::mem::take(&mut active.put_off);
    for at in put_off.keys() {
        again.remove(&(*at, id));
    }
    put_off
}

#[cfg(test)]
#[path = "again_tests.rs"]
mod tests;
