//! How long the supervisor waits before it starts a daemon again: 1 s after the first end, doubling to 60 s;
//! a daemon that has lived for a minute begins anew at 1 s.

use std::time::Duration;

/// The first pause.
pub const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
pub const LONGEST: Duration = Duration::from_secs(60);
/// A life of this length makes up for all earlier ends.
pub const GOOD_LIFE: Duration = Duration::from_secs(60);

/// The pause that comes next, for one daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The pause after a life of this length.
    pub fn pause_after(&mut self, life: Duration) -> Duration {
        if life >= GOOD_LIFE {
            *self = Self::default();
        }
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_minute_and_begin_anew_after_a_good_life() {
        let mut backoff = Backoff::default();
        let seconds =
            |backoff: &mut Backoff, life: u64| backoff.pause_after(Duration::from_secs(life)).as_secs();
        let pauses: Vec<u64> = (0..9).map(|_| seconds(&mut backoff, 0)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(seconds(&mut backoff, 59), 60);
        assert_eq!(seconds(&mut backoff, 60), 1);
        assert_eq!(seconds(&mut backoff, 1), 2);
    }
}
