//! Limits that guard this machine rather than the protocol, and the memory that all sessions share.
//!
//! A session's own memory is bounded by the limits on lines, recipients and buffers; thousands of sessions that all go to their limits are
//! bounded together by a [`Budget`]: who would go over it is told to come again (452).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Content of a message that is held in memory at most, in octets: what waits to be written, twice.
pub const HELD: u64 = 128 * 1024;

/// What a session goes by. The default has no limits.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Octets of content a second, on the whole, beside the idle time-out; 0: any.
    pub min_data_rate: u64,
    /// Longest line of content in octets; 0: any.
    pub line_length: u64,
    /// Transactions of a session; 0: any.
    pub transactions: u32,
    /// For recipients and content of all sessions; `None`: unlimited.
    pub memory: Option<Arc<Budget>>,
}

impl Limits {
    /// How long content may take of which so much has come, when it may be silent for `idle`.
    pub fn time_for(&self, octets: u64, idle: Duration) -> Option<Duration> {
        let seconds = octets.checked_div(self.min_data_rate)?;
        Some(idle.saturating_add(Duration::from_secs(seconds)))
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
    fn time_grows_with_what_has_come() {
        let idle = Duration::from_secs(300);
        let limits = Limits { min_data_rate: 500, ..Limits::default() };
        assert_eq!(limits.time_for(0, idle), Some(idle));
        assert_eq!(limits.time_for(5000, idle), Some(Duration::from_secs(310)));
        assert_eq!(Limits::default().time_for(5000, idle), None);
    }
}
