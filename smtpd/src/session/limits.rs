//! Limits that guard this machine rather than the protocol, and the memory that all sessions share.
//!
//! A session's own memory is bounded by the limits on lines, recipients and buffers; thousands of sessions that all go to their limits are
//! bounded together by a [`Budget`]: who would go over it is told to come again (452).

use common::time::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Content of a message that is held in memory at most, in octets: what waits to be written, twice.
pub const HELD: u64 = 128 * 1024;

/// What a session goes by. The default has no limits.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Octets of content a second, beside the idle time-out ([`Pace`]); 0: any.
    pub min_data_rate: u64,
    /// Longest line of content in octets; 0: any.
    pub line_length: u64,
    /// Transactions of a session; 0: any.
    pub transactions: u32,
    /// For recipients and content of all sessions; `None`: unlimited.
    pub memory: Option<Arc<Budget>>,
}

/// How content keeps up with the least rate: what comes buys time, and the time in hand is never more than content may be silent for, so that
/// nobody can rest for hours on what came fast.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace(Option<Timestamp>);

impl Pace {
    /// When it is too slow, now that so many octets more have come, at `rate` octets a second and when it may be silent for `idle`;
    /// `None`: any rate will do.
    pub fn due(&mut self, octets: u64, rate: u64, now: Timestamp, idle: Duration) -> Option<Timestamp> {
        let bought = octets.saturating_mul(1_000_000).checked_div(rate)?;
        let latest = now.after(idle);
        let due = self.0.map_or(latest, |due| due.after(Duration::from_micros(bought)).min(latest));
        self.0 = Some(due);
        Some(due)
    }
}

/// Memory that is shared, in octets.
#[derive(Debug)]
pub struct Budget {
    most: u64,
    used: AtomicU64,
}

impl Budget {
    /// Nothing is used yet.
    pub fn new(most: u64) -> Self {
        Self { most, used: AtomicU64::new(0) }
    }

    /// What is in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, octets: u64) -> bool {
        let fits = |used: u64| used.checked_add(octets).filter(|sum| *sum <= self.most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }
}

/// A transaction's part of the budget; given back when it is dropped.
#[derive(Debug, Default)]
pub struct Lease {
    budget: Option<Arc<Budget>>,
    octets: u64,
}

impl Lease {
    /// Nothing yet, of this budget.
    pub fn new(budget: Option<Arc<Budget>>) -> Self {
        Self { budget, octets: 0 }
    }

    /// Takes so many octets more, if they are to be had.
    #[must_use]
    pub fn grow(&mut self, octets: u64) -> bool {
        let Some(budget) = &self.budget else { return true };
        let taken = budget.take(octets);
        if taken {
            self.octets = self.octets.saturating_add(octets);
        }
        taken
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.used.fetch_sub(self.octets, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_overdrawn_and_is_given_back() {
        let budget = Arc::new(Budget::new(100));
        let mut first = Lease::new(Some(budget.clone()));
        let mut second = Lease::new(Some(budget.clone()));
        assert!(first.grow(60) && !second.grow(41) && second.grow(40) && !first.grow(1));
        assert!(!second.grow(u64::MAX));
        assert_eq!(budget.used(), 100);
        drop(first);
        assert!(second.grow(60));
        drop(second);
        assert_eq!(budget.used(), 0);
        assert!(Lease::default().grow(u64::MAX));
    }

    #[test]
    fn what_comes_buys_time_but_never_more_than_the_idle_time() {
        let at = Timestamp::from_seconds;
        let idle = Duration::from_secs(300);
        let mut pace = Pace::default();
        for (now, octets, due) in [
            (0, 100, 300),
            (200, 0, 300),
            // Ten seconds' worth.
            (250, 5_000, 310),
            // A burst is worth the idle time and no more.
            (260, 45_000_000, 560),
            (500, 1_000, 562),
            (559, u64::MAX, 859),
        ] {
            assert_eq!(pace.due(octets, 500, at(now), idle), Some(at(due)), "at {now}");
        }
        // Less patience counts from the next octet on.
        assert_eq!(pace.due(1, 500, at(560), Duration::from_secs(10)), Some(at(570)));
        assert_eq!(Pace::default().due(5_000, 0, at(0), idle), None);
    }
}
