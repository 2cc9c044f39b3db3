//! What happened over the last minutes, counted by the minute. Pure: the clock is handed in.

use common::status::Outcome;
use common::time::Timestamp;
use spool::control::Lately;

/// How many minutes are told of, the one that runs included.
pub const MINUTES: usize = 5;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Counters {
    /// Each with the number of its minute.
    slots: [(i64, Lately); MINUTES],
}

impl Counters {
    /// A message was taken in.
    pub fn received(&mut self, now: Timestamp) {
        self.slot(now).received += 1;
    }

    /// Something came of a recipient.
    pub fn outcome(&mut self, outcome: Outcome, now: Timestamp) {
        let slot = self.slot(now);
        match outcome {
            Outcome::Delivered => slot.delivered += 1,
            Outcome::Deferred => slot.deferred += 1,
            Outcome::Failed => slot.failed += 1,
        }
    }

    /// All of it.
    pub fn sum(&self, now: Timestamp) -> Lately {
        let current = minute(now);
        let recent = |at: i64| (0..MINUTES as i64).contains(&current.saturating_sub(at));
        let mut sum = Lately { minutes: MINUTES as u32, ..Lately::default() };
        for (_, one) in self.slots.iter().filter(|(at, _)| recent(*at)) {
            sum.received += one.received;
            sum.delivered += one.delivered;
            sum.deferred += one.deferred;
            sum.failed += one.failed;
        }
        sum
    }

    fn slot(&mut self, now: Timestamp) -> &mut Lately {
        let current = minute(now);
        let place = usize::try_from(current.rem_euclid(MINUTES as i64)).unwrap_or(0);
        let [first, rest @ ..] = &mut self.slots;
        let slot = match place.checked_sub(1).and_then(|place| rest.get_mut(place)) {
            Some(slot) => slot,
            None => first,
        };
        if slot.0 != current {
            *slot = (current, Lately::default());
        }
        &mut slot.1
    }
}

fn minute(now: Timestamp) -> i64 {
    now.seconds().div_euclid(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_minutes_count() {
        let at = |seconds: i64| Timestamp::from_seconds(6_000_000 + seconds);
        let mut counters = Counters::default();
        assert_eq!(counters.sum(at(0)), Lately { minutes: 5, ..Lately::default() });
        for second in [0, 59, 60, 240] {
            counters.received(at(second));
        }
        counters.outcome(Outcome::Delivered, at(61));
        counters.outcome(Outcome::Deferred, at(120));
        counters.outcome(Outcome::Failed, at(120));
        let sum = |at| {
            let sum = counters.sum(at);
            (sum.received, sum.delivered, sum.deferred, sum.failed)
        };
        assert_eq!(sum(at(299)), (4, 1, 1, 1));
        assert_eq!(sum(at(300)), (2, 1, 1, 1));
        assert_eq!(sum(at(360)), (1, 0, 1, 1));
        assert_eq!(sum(at(600)), (0, 0, 0, 0));
        assert_eq!(sum(at(-3600)), (0, 0, 0, 0), "the clock went back");
        counters.received(at(300));
        assert_eq!(counters.sum(at(300)).received, 3, "the old minute in its place is gone");
    }
}
