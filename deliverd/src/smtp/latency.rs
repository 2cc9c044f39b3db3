//! How long it took, lately, until a server at an address was there for us: from the first SYN to its
//! greeting.
//!
//! Remembers a moving average per address, and failures as a penalty that decays, so that a host that was
//! down is tried first again some time later. Bounded to [`MAX_ADDRESSES`]; the ones longest without news
//! go first. Pure: time is handed in.

use common::time::Timestamp;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Most addresses remembered, some hundred kilobytes.
pub const MAX_ADDRESSES: usize = 10_000;
/// News older than this count for nothing: the address is unknown again and gets measured anew.
pub const LIFETIME: Duration = Duration::from_secs(3600);
/// What a failure just now adds: as much as waiting in vain for a connection.
pub const PENALTY: Duration = Duration::from_secs(30);
/// The time in which a penalty loses half of its weight.
pub const PENALTY_HALF_LIFE: Duration = Duration::from_secs(60);
/// The part that a new measurement has in the average.
const WEIGHT: f64 = 0.3;

#[derive(Debug, Clone, Copy)]
struct Entry {
    average: Duration,
    measured: bool,
    failed: Option<Timestamp>,
    updated: Timestamp,
}

/// The memory. One for the process.
#[derive(Debug, Default)]
pub struct Latencies {
    entries: HashMap<IpAddr, Entry>,
}

impl Latencies {
    /// The server was there after `took`.
    pub fn succeeded(&mut self, address: IpAddr, took: Duration, now: Timestamp) {
        let entry = self.entry(address, now);
        entry.average = if entry.measured {
            entry.average.mul_f64(1.0 - WEIGHT) + took.min(PENALTY).mul_f64(WEIGHT)
        } else {
            took.min(PENALTY)
        };
        entry.measured = true;
        entry.failed = None;
    }

    /// It was not there yet after `waited`, when another one won: a lower bound.
    pub fn outrun(&mut self, address: IpAddr, waited: Duration, now: Timestamp) {
        let entry = self.entry(address, now);
        entry.average = entry.average.max(waited.min(PENALTY));
        entry.measured = true;
    }

    /// No connection came about, or the server did not want to talk.
    pub fn failed(&mut self, address: IpAddr, now: Timestamp) {
        self.entry(address, now).failed = Some(now);
    }

    /// What to expect; `None` for an address without recent news.
    pub fn estimate(&self, address: IpAddr, now: Timestamp) -> Option<Duration> {
        let entry = self.entries.get(&address).filter(|entry| now.since(entry.updated) < LIFETIME)?;
        let penalty = entry.failed.map_or(Duration::ZERO, |failed| {
            let half_lives = now.since(failed).as_secs_f64() / PENALTY_HALF_LIFE.as_secs_f64();
            PENALTY.mul_f64(0.5f64.powf(half_lives))
        });
        Some(entry.average + penalty)
    }

    fn entry(&mut self, address: IpAddr, now: Timestamp) -> &mut Entry {
        if self.entries.len() >= MAX_ADDRESSES && !self.entries.contains_key(&address) {
            self.forget_oldest();
        }
        let new = Entry { average: Duration::ZERO, measured: false, failed: None, updated: now };
        let entry = self.entries.entry(address).or_insert(new);
        if now.since(entry.updated) >= LIFETIME {
            *entry = new;
        }
        entry.updated = now;
        entry
    }

    /// A tenth at once, so that this happens seldom.
    fn forget_oldest(&mut self) {
        let mut times: Vec<_> = self.entries.values().map(|entry| entry.updated).collect();
        let tenth = times.len() / 10;
        let (_, limit, _) = times.select_nth_unstable(tenth);
        let limit = *limit;
        let mut left = tenth + 1;
        self.entries.retain(|_, entry| {
            let goes = left > 0 && entry.updated <= limit;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_average_follows_the_measurements() {
        let mut table = Latencies::default();
        assert_eq!(table.estimate(ip(1), at(0)), None);
        table.succeeded(ip(1), 100 * MS, at(0));
        assert_eq!(table.estimate(ip(1), at(0)), Some(100 * MS));
        table.succeeded(ip(1), 200 * MS, at(1));
        assert_eq!(table.estimate(ip(1), at(1)), Some(130 * MS));
        for i in 0..50 {
            table.succeeded(ip(1), 10 * MS, at(2 + i));
        }
        assert!(table.estimate(ip(1), at(52)).unwrap() < 11 * MS);
        assert_eq!(table.estimate(ip(1), at(52 + 3600)), None);
    }

    #[test]
    fn failures_weigh_less_and_less() {
        let mut table = Latencies::default();
        table.succeeded(ip(1), 10 * MS, at(0));
        table.failed(ip(1), at(100));
        let estimates: Vec<_> = [100, 160, 220, 1600].map(|t| table.estimate(ip(1), at(t)).unwrap()).into();
        assert_eq!(estimates[..3], [30_010 * MS, 15_010 * MS, 7_510 * MS]);
        assert!(estimates[3] < 11 * MS);
        table.succeeded(ip(1), 10 * MS, at(101));
        assert_eq!(table.estimate(ip(1), at(101)), Some(10 * MS));
    }

    #[test]
    fn a_loser_of_a_race_is_known_to_be_slower() {
        let mut table = Latencies::default();
        table.outrun(ip(1), 300 * MS, at(0));
        assert_eq!(table.estimate(ip(1), at(0)), Some(300 * MS));
        table.outrun(ip(1), 100 * MS, at(1));
        assert_eq!(table.estimate(ip(1), at(1)), Some(300 * MS));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let mut table = Latencies::default();
        let most = u32::try_from(MAX_ADDRESSES).unwrap();
        for i in 0..most + 1 {
            table.succeeded(ip(i), MS, at(i64::from(i / 1000)));
        }
        assert!(table.entries.len() <= MAX_ADDRESSES);
        assert!(table.estimate(ip(most), at(10)).is_some());
        assert!((9000..=most).all(|i| table.estimate(ip(i), at(10)).is_some()));
        // All at the same time: still bounded.
        let mut table = Latencies::default();
        for i in 0..3 * most {
            table.succeeded(ip(i), MS, at(0));
        }
        assert!(table.entries.len() <= MAX_ADDRESSES);
    }
}
