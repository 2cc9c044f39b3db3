//! The limits of a destination: those for all, and those that an admin set for one nexthop.
//!
//! ```text
//! rate      a transaction may begin at `pace`; each sets  pace = max(pace, now − 100 ms) + 1/rate
//! ```
//!
//! So in any T seconds at most (T + 0.1) × rate + 1 transactions begin; the tenth of a second makes up for a clock that is looked at late.

use common::destination::Nexthop;
use common::time::Timestamp;
use std::collections::HashMap;
use std::time::Duration;

/// How late a transaction may begin without the next one being later for it.
const SLACK: Duration = Duration::from_millis(100);

/// What one destination may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Most jobs at once, at least 1.
    pub concurrency: u32,
    /// Most recipients in a job, at least 1; at most [`spool::dispatch::MAX_RECIPIENTS`] are used.
    pub recipients: u32,
    /// Time between the beginnings of two transactions; zero for no limit.
    pub gap: Duration,
}

impl Limit {
    /// When the next transaction may begin, now that one begins.
    pub(super) fn next_pace(&self, pace: Timestamp, now: Timestamp) -> Timestamp {
        if self.gap.is_zero() {
            return pace;
        }
        let slack = i64::try_from(SLACK.as_micros()).unwrap_or(0);
        pace.max(Timestamp(now.0.saturating_sub(slack))).after(self.gap)
    }
}

/// The limits of all destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Where nothing else is said.
    pub all: Limit,
    /// By nexthop.
    pub of: HashMap<Nexthop, Limit>,
}

impl Limits {
    /// Those of a nexthop.
    pub fn get(&self, nexthop: &Nexthop) -> Limit {
        let found = if self.of.is_empty() { None } else { self.of.get(nexthop) };
        *found.unwrap_or(&self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in ms at which transactions begin when the clock is looked at at these times.
    fn begins(gap: u64, looks: impl Iterator<Item = i64>) -> Vec<i64> {
        let limit = Limit { concurrency: 1, recipients: 1, gap: Duration::from_millis(gap) };
        let (mut pace, mut begun) = (Timestamp(0), Vec::new());
        for look in looks {
            let now = Timestamp(look * 1000);
            while pace <= now && begun.len() < 1000 {
                begun.push(look);
                pace = limit.next_pace(pace, now);
            }
        }
        begun
    }

    #[test]
    fn the_rate_is_kept_and_a_late_look_costs_nothing() {
        assert_eq!(begins(1000, (0..5000).step_by(10)), [0, 1000, 2000, 3000, 4000]);
        assert_eq!(begins(1000, (0..5000).step_by(30)), [0, 1020, 2010, 3000, 4020], "no drift");
        assert_eq!(begins(10, 0..1000).len(), 100);
        assert_eq!(begins(10, (0..1000).step_by(50)).len(), 96, "five at a look");
        // After a long silence there is no flood.
        assert_eq!(begins(10, [0, 100_000, 100_001].into_iter()).len(), 1 + 11);
        assert_eq!(begins(60_000, (0..200_000).step_by(1000)), [0, 60_000, 120_000, 180_000]);
        assert_eq!(begins(0, 0..1).len(), 1000, "no limit");
    }
}
