//! Work on a message that only one thread at a time may do.

use spool::id::QueueId;
use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Those that are being worked on.
#[derive(Debug, Default)]
pub(super) struct OneEach {
    busy: Mutex<HashSet<QueueId>>,
    over: Condvar,
}

/// Ends the work when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a OneEach, QueueId);

impl OneEach {
    /// Waits until nobody else is at it.
    pub(super) fn begin(&self, id: QueueId) -> Turn<'_> {
        let mut busy = self.lock();
        while !busy.insert(id) {
            busy = self.over.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self, id)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<QueueId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
        self.0.over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::time::Timestamp;
    use std::sync::mpsc::channel;

    #[test]
    fn one_waits_for_the_other_and_not_for_others() {
        let all = OneEach::default();
        let id = |n| QueueId::new(Timestamp(1_795_358_702_123_456), n);
        let first = all.begin(id(1));
        drop(all.begin(id(2)));
        let (say, hear) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                say.send("here").unwrap();
                let _second = all.begin(id(1));
                say.send("in").unwrap();
            });
            assert_eq!(hear.recv().unwrap(), "here");
            for _ in 0..1000 {
                std::thread::yield_now();
                assert!(hear.try_recv().is_err(), "it does not wait");
            }
            drop(first);
            assert_eq!(hear.recv().unwrap(), "in");
        });
        assert!(all.lock().is_empty());
    }
}
