//! What was said of tokens in the last minutes. Pure: the clock is handed in.
//!
//! A token is kept as its hash. What is good is asked about again after [`LONGEST`] at most, so that one that was revoked does not live on; what was refused after
//! [`REFUSED`], so that a client that tries again and again does not ask the provider each time. At most [`MOST`], the oldest go first.

use super::answer::Verdict;
use aws_lc_rs::digest::{SHA256, digest};
use common::oauth::Secret;
use common::time::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How long a good answer counts.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);
/// How long a refusal counts.
pub const REFUSED: Duration = Duration::from_secs(10);
/// How many are kept.
pub const MOST: usize = 10_000;

/// Stands for a token.
pub type Key = [u8; 32];

/// The key of a token.
pub fn key(token: &Secret) -> Key {
    let mut key = [0; 32];
    let hash = digest(&SHA256, token.expose().as_bytes());
    key.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    key
}

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Key, (Verdict, Timestamp)>,
    /// In the order in which they came.
    order: VecDeque<Key>,
}

impl Cache {
    /// What was said, when that still counts.
    pub fn get(&self, key: &Key, now: Timestamp) -> Option<Verdict> {
        self.entries.get(key).filter(|(_, until)| now < *until).map(|(verdict, _)| verdict.clone())
    }

    /// Keeps what was said.
    pub fn put(&mut self, key: Key, verdict: Verdict, until: Timestamp, now: Timestamp) {
        if self.entries.insert(key, (verdict, until)).is_none() {
            self.order.push_back(key);
        }
        // A few at a time: those in front that count no more, and what is too much.
        for _ in 0..4 {
            let over = |key: &Key| self.entries.get(key).is_none_or(|(_, until)| *until <= now);
            if !self.order.front().is_some_and(|oldest| self.order.len() > MOST || over(oldest)) {
                return;
            }
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_for_a_while_and_are_bounded() {
        let at = Timestamp::from_seconds;
        let of = |name: &str| Verdict::Of(name.into());
        let key = |n: usize| super::key(&Secret::new(&format!("token-{n}")).unwrap());
        let mut cache = Cache::default();
        cache.put(key(1), of("joe"), at(10), at(0));
        assert_eq!(cache.get(&key(1), at(9)), Some(of("joe")));
        assert_eq!(cache.get(&key(1), at(10)), None);
        assert_eq!(cache.get(&key(2), at(0)), None);
        cache.put(key(1), of("jane"), at(1000), at(11));
        assert_eq!(cache.get(&key(1), at(500)), Some(of("jane")));
        for n in 2..MOST + 100 {
            cache.put(key(n), of("x"), at(1000), at(12));
        }
        assert_eq!((cache.entries.len(), cache.order.len()), (MOST, MOST));
        assert_eq!(cache.get(&key(1), at(13)), None, "the oldest went");
        // What counts no more makes room.
        for n in 0..MOST {
            cache.put(key(1_000_000 + n), of("x"), at(3000), at(2000));
        }
        assert_eq!(cache.entries.len(), MOST);
        assert!(cache.entries.values().all(|(_, until)| *until == at(3000)));
    }
}
