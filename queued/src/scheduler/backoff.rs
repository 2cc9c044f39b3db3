//! How the retry time is chosen.
//!
//! ```text
//! pause = clamp(age, first_retry, max_retry) × (0.9 … 1.1)
//! ```
//!
//! `age` is the time since the message was accepted. Waiting as long as the message is old doubles the age at each attempt, so the pauses
//! grow exponentially from `first_retry` to `max_retry`, and no count of attempts has to be kept anywhere: a restart changes nothing.
//! The jitter (±10 %) keeps messages that failed together from coming back together; it comes from a generator whose seed is handed in.

use common::time::Timestamp;
use std::time::Duration;

/// The bounds of the pauses between two attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Shortest pause, before jitter.
    pub first_retry: Duration,
    /// Longest pause, before jitter.
    pub max_retry: Duration,
}

impl Backoff {
    /// When to try again a message that was accepted at `arrived` and failed at `now`.
    pub fn next_attempt(&self, arrived: Timestamp, now: Timestamp, jitter: &mut Jitter) -> Timestamp {
        let pause = now.since(arrived).min(self.max_retry).max(self.first_retry);
        now.after(jitter.around(pause))
    }
}

/// A small deterministic generator (splitmix64) for jitter: good enough to spread retries, useless as a secret.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `pause` times 0.9 … 1.1.
    pub fn around(&mut self, pause: Duration) -> Duration {
        let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        let tenth = micros / 10;
        let offset = if tenth == 0 { 0 } else { self.next() % (2 * tenth + 1) };
        Duration::from_micros(micros.saturating_sub(tenth).saturating_add(offset))
    }

    /// Anything from zero to `length`.
    pub fn within(&mut self, length: Duration) -> Duration {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.next() % micros.saturating_add(1).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(first: u64, max: u64) -> Backoff {
        Backoff { first_retry: Duration::from_secs(first), max_retry: Duration::from_secs(max) }
    }

    /// Seconds after arrival of each attempt within `lifetime`, attempts taking no time.
    fn schedule(backoff: Backoff, lifetime: i64, seed: u64) -> Vec<i64> {
        let (mut jitter, mut now, mut attempts) = (Jitter::new(seed), Timestamp(0), vec![0]);
        loop {
            now = backoff.next_attempt(Timestamp(0), now, &mut jitter);
            attempts.push(now.seconds());
            if now.seconds() >= lifetime {
                return attempts;
            }
        }
    }

    #[test]
    fn a_whole_schedule_as_a_list() {
        let half_a_day = schedule(backoff(300, 3600), 43_200, 1);
        println!("attempts, seconds after arrival: {half_a_day:?}");
        assert_eq!(
            half_a_day,
            [
                0, 283, 612, 1270, 2477, 4834, 8592, 11_978, 15_645, 18_903, 22_167, 25_556, 29_503, 33_461,
                36_960, 40_350, 43_981
            ]
        );
    }

    #[test]
    fn pauses_stay_within_ten_percent_of_the_formula() {
        for (first, max) in [(300, 3600), (2, 10), (1, 1), (60, 60)] {
            for seed in 0..50 {
                let attempts = schedule(backoff(first, max), 100_000.min(max as i64 * 30), seed);
                for pair in attempts.windows(2) {
                    let plain = pair[0].clamp(first as i64, max as i64) as f64;
                    let pause = (pair[1] - pair[0]) as f64;
                    assert!(pause >= plain * 0.9 - 2.0 && pause <= plain * 1.1 + 2.0, "{pair:?}");
                }
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut jitter = Jitter::new(7);
        assert_eq!(jitter.around(Duration::ZERO), Duration::ZERO);
        assert!(jitter.around(Duration::MAX) > Duration::from_secs(1 << 40));
        let longest = Backoff { first_retry: Duration::MAX, max_retry: Duration::MAX };
        assert!(longest.next_attempt(Timestamp(0), Timestamp(5), &mut jitter) > Timestamp(5));
        // A clock that went back counts as age zero.
        let next =
            backoff(300, 3600).next_attempt(Timestamp::from_seconds(1_000_000), Timestamp(0), &mut jitter);
        assert!((270..=330).contains(&next.seconds()));
    }
}
