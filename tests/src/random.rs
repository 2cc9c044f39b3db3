//! Dice for tests: the same seed gives the same throws, and the seed is printed, so that a failure can be played again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A generator (splitmix64), shared by any number of threads.
#[derive(Debug)]
pub struct Random {
    state: AtomicU64,
    seed: u64,
}

impl Random {
    /// With this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed), seed }
    }

    /// With the seed in this environment variable, else one that differs from run to run.
    pub fn from_environment(variable: &str) -> Self {
        let given = std::env::var(variable).ok().and_then(|text| text.parse().ok());
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
        Self::new(given.unwrap_or_else(|| now() % 1_000_000))
    }

    /// What to give to play this again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&self, limit: usize) -> usize {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    /// Puts a list into a random order.
    pub fn shuffle<T>(&self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}
