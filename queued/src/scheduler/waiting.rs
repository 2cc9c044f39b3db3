//! The index of messages that wait for their time: due time and queue ID, twice (by time and by ID), and nothing else: about 80 bytes a
//! message, so that a million of them is a matter of 80 MB. Everything more stays on disk until the message is due.
//!
//! Trees and not hash tables: they grow by a node at a time, without a moment at which a million entries are moved.

use super::Source;
use common::time::Timestamp;
use spool::id::QueueId;
use std::collections::{BTreeMap, BTreeSet};

/// Messages by the time when they are due.
#[derive(Debug, Default)]
pub struct Waiting {
    by_time: BTreeSet<(Timestamp, QueueId)>,
    by_id: BTreeMap<QueueId, Timestamp>,
    /// Where the file lies, when not in `deferred/` under the time when it is due.
    elsewhere: BTreeMap<QueueId, Source>,
}

impl Waiting {
    /// Adds a message, or moves it to another time.
    pub fn insert(&mut self, id: QueueId, source: Source, due: Timestamp) {
        if let Some(old) = self.by_id.insert(id, due) {
            self.by_time.remove(&(old, id));
            self.elsewhere.remove(&id);
        }
        self.by_time.insert((due, id));
        if source != Source::Deferred(due) {
            self.elsewhere.insert(id, source);
        }
    }

    /// Takes a message out; `false` when it was not there.
    pub fn remove(&mut self, id: QueueId) -> bool {
        self.take(id).is_some()
    }

    /// Makes a message due at `now` unless it is already; `false` when it is not here.
    pub fn hurry(&mut self, id: QueueId, now: Timestamp) -> bool {
        let Some(due) = self.by_id.get(&id).copied() else { return false };
        if due > now
            && let Some(source) = self.take(id)
        {
            self.insert(id, source, now);
        }
        true
    }

    /// Takes the message that has been due longest, if one is due.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(QueueId, Source)> {
        let (_, id) = *self.by_time.first().filter(|(due, _)| *due <= now)?;
        self.take(id).map(|source| (id, source))
    }

    /// When the next message is due.
    pub fn first_due(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Is it here?
    pub fn contains(&self, id: QueueId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Does none wait?
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn take(&mut self, id: QueueId) -> Option<Source> {
        let due = self.by_id.remove(&id)?;
        self.by_time.remove(&(due, id));
        Some(self.elsewhere.remove(&id).unwrap_or(Source::Deferred(due)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> QueueId {
        QueueId::new(Timestamp(1), n)
    }

    #[test]
    fn comes_out_in_order_of_time_and_only_when_due() {
        let mut waiting = Waiting::default();
        for (n, due) in [(1, 30), (2, 10), (3, 20), (2, 40), (4, 20)] {
            waiting.insert(id(n), Source::Deferred(Timestamp(due)), Timestamp(due));
        }
        assert_eq!((waiting.len(), waiting.first_due()), (4, Some(Timestamp(20))));
        assert_eq!(waiting.pop_due(Timestamp(19)), None);
        let order: Vec<_> = std::iter::from_fn(|| waiting.pop_due(Timestamp(35))).map(|(id, _)| id).collect();
        assert_eq!(order, [id(3), id(4), id(1)]);
        assert!(
            waiting.contains(id(2))
                && waiting.hurry(id(2), Timestamp(5))
                && !waiting.hurry(id(9), Timestamp(5))
        );
        assert_eq!(waiting.pop_due(Timestamp(5)), Some((id(2), Source::Deferred(Timestamp(40)))));
        assert!(waiting.elsewhere.is_empty());
        waiting.insert(id(7), Source::Incoming, Timestamp(1));
        assert!(waiting.remove(id(7)) && !waiting.remove(id(7)) && waiting.is_empty());
        assert_eq!(waiting.first_due(), None);
    }
}
