//! Who has come again: client networks, senders and recipients, and when (RFC 6647).
//!
//! Bounded in memory: at most so many entries; when there are more, those go first that are over, then the oldest that never came again,
//! so that a flood of new ones pushes out who is known from the last tenth only, which is kept for newcomers. Of the new ones those of a network that has
//! more than a hundredth of all go first, so that one network's flood pushes out nobody else's. No I/O and no clock here; [`mod@file`] keeps the state over
//! restarts.

pub mod file;

use common::address::{Address, ReversePath};
use common::config::{Greylist as Settings, Network};
use common::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The state, shared by all sessions.
#[derive(Debug, Default)]
pub struct Greylist(Mutex<State>);

/// Network, sender and recipient, separated by tabs, which none of them has.
type Key = Box<str>;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct State {
    /// First seen then, and not come again.
    new: HashMap<Key, Timestamp>,
    /// Came again; last seen then.
    known: HashMap<Key, Timestamp>,
    /// How often a network has come again, and when it was last seen.
    clients: HashMap<Network, (u32, Timestamp)>,
    /// Differs from the file.
    changed: bool,
}

impl Greylist {
    /// A message from there is to be accepted: now (`None`), or when this time has passed?
    pub fn meet(
        &self,
        client: Network,
        sender: &ReversePath,
        recipient: &Address,
        settings: &Settings,
        now: Timestamp,
    ) -> Option<Duration> {
        let key = format!("{client}\t{sender}\t{recipient}").to_lowercase();
        self.lock().meet(client, key.into(), settings, now)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn meet(&mut self, client: Network, key: Key, settings: &Settings, now: Timestamp) -> Option<Duration> {
        self.changed = true;
        if let Some((count, last)) = self.clients.get_mut(&client)
            && settings.auto_allow > 0
            && *count >= settings.auto_allow
            && now.since(*last) < *settings.lifetime
        {
            *last = now;
            return None;
        }
        if let Some(last) = self.known.get_mut(&key)
            && now.since(*last) < *settings.lifetime
        {
            *last = now;
            return None;
        }
        let first = match self.new.get(&key) {
            Some(first) if now.since(*first) < *settings.retry_window => *first,
            _ => {
                self.make_room(settings, now);
                self.new.insert(key, now);
                return Some(*settings.delay);
            }
        };
        let waited = now.since(first);
        if let Some(wait) = settings.delay.checked_sub(waited)
            && !wait.is_zero()
        {
            return Some(wait);
        }
        self.new.remove(&key);
        self.known.insert(key, now);
        let (count, last) = self.clients.entry(client).or_insert((0, Timestamp(0)));
        // Several recipients of one message are one proof, not several.
        if *count == 0 || now.since(*last) >= *settings.delay {
            *count = count.saturating_add(1);
            *last = now;
        }
        None
    }

    fn len(&self) -> usize {
        self.new.len() + self.known.len() + self.clients.len()
    }

    fn make_room(&mut self, settings: &Settings, now: Timestamp) {
        let most = usize::try_from(settings.entries).unwrap_or(usize::MAX);
        if self.len() < most {
            return;
        }
        let lifetime = *settings.lifetime;
        self.new.retain(|_, first| now.since(*first) < *settings.retry_window);
        self.known.retain(|_, last| now.since(*last) < lifetime);
        self.clients.retain(|_, (_, last)| now.since(*last) < lifetime);
        // A tenth at a time, so that this is not done for every newcomer: of the new ones, or all of these.
        let room = most - most / 10;
        if self.len() >= most {
            drop_beyond(&mut self.new, most / 100 + 1);
        }
        if self.len() > room {
            let excess = self.len() - room;
            drop_oldest(&mut self.new, excess + 1, |first| *first);
        }
        // Who is known gives back the last tenth, where it has come to that: without it nobody new could ever come again.
        if self.len() > room {
            let excess = self.len() - room;
            drop_oldest(&mut self.known, excess, |last| *last);
        }
        if self.len() > room {
            let excess = self.len() - room;
            drop_oldest(&mut self.clients, excess, |(_, last)| *last);
        }
    }
}

/// Leaves each network its latest entries, `share` at most.
fn drop_beyond(new: &mut HashMap<Key, Timestamp>, share: usize) {
    let mut networks: HashMap<&str, Vec<Timestamp>> = HashMap::new();
    for (key, first) in &*new {
        networks.entry(network_of(key)).or_default().push(*first);
    }
    // Of these networks: the age from which on entries stay, and how many of just that age go.
    let mut limits: HashMap<Key, (Timestamp, usize)> = HashMap::new();
    for (network, mut ages) in networks {
        if let Some(beyond) = ages.len().checked_sub(share).filter(|beyond| *beyond > 0) {
            let limit = *ages.select_nth_unstable(beyond - 1).1;
            let older = ages.iter().filter(|age| **age < limit).count();
            limits.insert(network.into(), (limit, beyond.saturating_sub(older)));
        }
    }
    new.retain(|key, first| match limits.get_mut(network_of(key)) {
        Some((limit, left)) if first == limit => std::mem::replace(left, left.saturating_sub(1)) == 0,
        Some((limit, _)) => *first > *limit,
        None => true,
    });
}

fn network_of(key: &str) -> &str {
    key.split('\t').next().unwrap_or_default()
}

fn drop_oldest<K: std::hash::Hash + Eq, V>(
    map: &mut HashMap<K, V>,
    count: usize,
    age: impl Fn(&V) -> Timestamp,
) {
    if count >= map.len() {
        map.clear();
        return;
    }
    let Some(last) = count.checked_sub(1) else { return };
    let mut ages: Vec<Timestamp> = map.values().map(&age).collect();
    let (_, limit, _) = ages.select_nth_unstable(last);
    let limit = *limit;
    // Many may be of the same age.
    let mut left = count;
    map.retain(|_, value| {
        let goes = left > 0 && age(value) <= limit;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::TimeSpan;

    fn settings(entries: u32) -> Settings {
        Settings { delay: TimeSpan::from_secs(300), entries, auto_allow: 2, ..Settings::default() }
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + minutes * 60)
    }

    fn meet(list: &Greylist, client: &str, sender: &str, minutes: i64) -> Option<u64> {
        let sender =
            if sender.is_empty() { ReversePath::Null } else { ReversePath::Address(sender.parse().unwrap()) };
        let recipient = "joe@here.example".parse().unwrap();
        let wait = list.meet(client.parse().unwrap(), &sender, &recipient, &settings(1000), at(minutes));
        wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn who_comes_again_in_time_is_known() {
        let list = Greylist::default();
        let days = 24 * 60;
        for (minutes, sender, expected) in [
            (0, "a@b.example", Some(300)),
            (1, "A@B.example", Some(240)),
            (1, "", Some(300)),
            (5, "a@b.example", None),
            (5 + 34 * days, "a@b.example", None),
            // Known for 35 days after the last message, not the first.
            (5 + 68 * days, "a@b.example", None),
            (5 + 104 * days, "a@b.example", Some(300)),
            // Two days are too late to come again.
            (5 + 106 * days, "a@b.example", Some(300)),
        ] {
            assert_eq!(meet(&list, "192.0.2.0/24", sender, minutes), expected, "{minutes} {sender}");
        }
    }

    #[test]
    fn one_network_s_flood_pushes_out_nobody_else() {
        let list = Greylist::default();
        assert_eq!(meet(&list, "198.51.100.1/32", "honest@b.example", 0), Some(300));
        for number in 0..5000 {
            meet(&list, "192.0.2.1/32", &format!("a{number}@b.example"), 1 + number / 1000);
            assert!(list.len() <= 1000);
        }
        assert_eq!(meet(&list, "192.0.2.1/32", "a4999@b.example", 6), Some(240), "its latest are there");
        assert_eq!(meet(&list, "192.0.2.1/32", "a0@b.example", 6), Some(300), "its first have gone");
        assert_eq!(meet(&list, "198.51.100.1/32", "honest@b.example", 6), None);
    }

    #[test]
    fn a_network_that_came_again_often_is_not_asked_any_more() {
        let list = Greylist::default();
        for sender in ["a@b.example", "c@b.example"] {
            assert_eq!(meet(&list, "192.0.2.0/24", sender, 0), Some(300));
        }
        assert_eq!(meet(&list, "192.0.2.0/24", "a@b.example", 5), None);
        assert_eq!(meet(&list, "192.0.2.0/24", "c@b.example", 5), None, "known now, but no second proof");
        assert_eq!(meet(&list, "192.0.2.0/24", "d@b.example", 6), Some(300));
        assert_eq!(meet(&list, "192.0.2.0/24", "d@b.example", 11), None);
        assert_eq!(meet(&list, "192.0.2.0/24", "e@b.example", 12), None, "two proofs are enough");
        assert_eq!(meet(&list, "198.51.100.0/24", "e@b.example", 12), Some(300));
    }

    #[test]
    fn a_flood_of_new_ones_is_bounded_and_pushes_out_nobody_known() {
        let list = Greylist::default();
        assert_eq!(meet(&list, "192.0.2.0/24", "a@b.example", 0), Some(300));
        assert_eq!(meet(&list, "192.0.2.0/24", "a@b.example", 5), None);
        for i in 0..20_000 {
            meet(&list, "198.51.100.0/24", &format!("s{i}@flood.example"), 6 + i / 1000);
            assert!(list.len() <= 1000, "{}", list.len());
        }
        assert_eq!(meet(&list, "192.0.2.0/24", "a@b.example", 30), None);
    }

    #[test]
    fn a_flood_takes_the_last_tenth_from_who_is_known_and_no_more() {
        let list = Greylist::default();
        list.lock().known = (0..1000).map(|i| (format!("known {i}").into(), at(i))).collect();
        for i in 0..2000 {
            meet(&list, "198.51.100.0/24", &format!("s{i}@flood.example"), 1001);
        }
        assert!(list.len() <= 1000);
        let known = &list.lock().known;
        assert_eq!(known.len(), 900);
        assert!((100..1000).all(|i| known.contains_key(&*format!("known {i}"))), "the oldest went");
    }
}
