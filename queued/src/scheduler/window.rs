//! How many deliveries at once a destination is given: a window that feels its way.
//!
//! ```text
//! start      min(5, concurrency)
//! success    +1/window; at each whole 1 the window grows by one, at most to `concurrency`, and no further than 5 beyond what is in use
//! failure    −1/window; the window shrinks by one at the first failure since it grew, and then at each whole 1 (not below 1): the
//!            hysteresis that makes a few failures cost one step and not all
//! cohort     every failure adds 1/window, every success sets it to 0; at 1, that is after about a window full of failures
//!            in a row, the destination counts as dead
//! ```
//!
//! A failure is one of the destination (no connection, no greeting, no session), never of a message. The rule is Postfix's
//! (its SCHEDULER_README) with feedback 1/concurrency both ways and a cohort limit of 1. Pure arithmetic; no fractions but fixed-point ones.

/// Window of a destination about which nothing is known yet.
pub const START: u32 = 5;

/// One whole, in fixed point.
const UNIT: u64 = 1 << 32;

/// See the head of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    size: u32,
    rise: u64,
    fall: u64,
    cohort: u64,
}

impl Window {
    /// For a destination that nothing is known about.
    pub fn new(concurrency: u32) -> Self {
        Self { size: START.min(concurrency).max(1), rise: 0, fall: 0, cohort: 0 }
    }

    /// One delivery that shows whether a dead destination is back.
    pub fn probe() -> Self {
        Self { size: 1, rise: 0, fall: 0, cohort: 0 }
    }

    /// How many deliveries may be under way, at least 1.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Another limit from now on.
    pub fn limit(&mut self, concurrency: u32) {
        self.size = self.size.min(concurrency.max(1));
    }

    /// Has nothing bad been heard that is worth remembering?
    pub fn is_fresh(&self, concurrency: u32) -> bool {
        self.size >= START.min(concurrency) && self.cohort == 0
    }

    /// The destination was reached, while `in_hand` deliveries (this one counted) were under way.
    pub fn success(&mut self, in_hand: u32, concurrency: u32) {
        self.cohort = 0;
        if self.size < concurrency && self.size < in_hand.saturating_add(START) {
            self.rise += self.share();
            if self.rise >= UNIT {
                (self.rise, self.fall) = (0, 0);
                self.size += 1;
            }
        }
    }

    /// The destination was not reached; `true` when it counts as dead now.
    pub fn failure(&mut self) -> bool {
        let share = self.share();
        self.cohort += share;
        if self.cohort >= UNIT {
            return true;
        }
        if self.fall < share {
            self.fall += UNIT;
            self.rise = 0;
            self.size = (self.size - 1).max(1);
        }
        self.fall -= share;
        false
    }

    fn share(&self) -> u64 {
        UNIT.div_ceil(u64::from(self.size.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes after each answer: `+` reached, `-` not reached; 0 for dead.
    fn sizes(concurrency: u32, answers: &str) -> Vec<u32> {
        let mut window = Window::new(concurrency);
        let mut size = |answer| match answer {
            '+' => {
                window.success(window.size(), concurrency);
                window.size()
            }
            _ if window.failure() => 0,
            _ => window.size(),
        };
        answers.chars().map(&mut size).collect()
    }

    #[test]
    fn grows_by_one_for_each_window_full_of_successes() {
        assert_eq!(
            sizes(7, "+++++++++++++++"),
            [5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7],
            "five for the sixth, six for the seventh, then the limit"
        );
        assert_eq!(sizes(2, "+++"), [2, 2, 2]);
        assert_eq!(sizes(0, "+"), [1]);
    }

    #[test]
    fn shrinks_at_the_first_failure_and_is_dead_after_a_cohort() {
        assert_eq!(sizes(20, "-----"), [4, 4, 4, 4, 0]);
        assert_eq!(sizes(2, "--"), [1, 0]);
        assert_eq!(sizes(1, "-"), [0]);
        assert_eq!(sizes(20, "----+---+-"), [4, 4, 4, 4, 4, 3, 3, 3, 3, 2], "a success breaks the row");
    }

    #[test]
    fn one_failure_in_ten_does_not_close_the_window() {
        let mut window = Window::new(20);
        for n in 0..10_000 {
            if n % 10 == 0 { assert!(!window.failure()) } else { window.success(window.size(), 20) }
        }
        assert!(window.size() >= START, "{}", window.size());
    }

    #[test]
    fn does_not_grow_beyond_what_is_used() {
        let mut window = Window::new(1000);
        for _ in 0..10_000 {
            window.success(1, 1000);
        }
        assert_eq!(window.size(), 1 + START);
        assert!(Window::probe().failure(), "a probe decides alone");
    }
}
