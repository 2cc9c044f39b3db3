//! How often a client network or a user does something, and whether that is too often. Pure but for its lock; the clock is passed in.
//!
//! A network may do at once what its rate allows for a whole period, and then goes on as the period passes (a token bucket, held as one
//! number for each). Failures are counted beyond that, so that who goes on failing waits longer. Bounded in memory: whoever has not used up anything is
//! forgotten; when there are still more than can be held, newcomers pass unmeasured, for the limits on connections hold in any case.

use common::config::{Network, Rate};
use common::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Networks that are remembered for each kind, and so many users: names that are made up take no network's place, and a flood of one kind leaves the
/// others measured.
const MOST: usize = 100_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Connections.
    Connection,
    /// Accepted MAIL commands.
    Message,
    /// Accepted RCPT commands.
    Recipient,
    /// Logins that failed.
    AuthFailure,
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// All clients of a network.
    Network(Network),
    /// Whoever has logged in by this name.
    User(Box<str>),
}

impl From<Network> for Who {
    fn from(network: Network) -> Self {
        Self::Network(network)
    }
}

impl From<&str> for Who {
    fn from(user: &str) -> Self {
        Self::User(user.into())
    }
}

/// Failures are counted up to so many periods' worth.
const FAILURES: u32 = 3;

/// The counts.
#[derive(Debug, Default)]
pub struct Rates {
    /// By kind.
    networks: [Mutex<Counts>; 4],
    users: [Mutex<Counts>; 4],
}

#[derive(Debug, Default)]
struct Counts {
    /// When the bucket will be full again.
    full: HashMap<Who, Timestamp>,
    /// Who has used up nothing was forgotten then.
    swept: Option<Timestamp>,
}

/// With so many networks a look at all of them takes its time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl Rates {
    fn counts(&self, kind: Kind, who: &Who) -> MutexGuard<'_, Counts> {
        let [connections, messages, recipients, failures] = match who {
            Who::Network(_) => &self.networks,
            Who::User(_) => &self.users,
        };
        let counts = match kind {
            Kind::Connection => connections,
            Kind::Message => messages,
            Kind::Recipient => recipients,
            Kind::AuthFailure => failures,
        };
        counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more, unless that is one too many.
    pub fn allows(&self, kind: Kind, who: impl Into<Who>, rate: Rate, now: Timestamp) -> bool {
        let gap = rate.gap();
        if gap.is_zero() {
            return true;
        }
        let who = who.into();
        let mut counts = self.counts(kind, &who);
        let Some(until) = counts.of(who, now) else { return true };
        let next = (*until).max(now).after(gap);
        if next.since(now) > rate.period() {
            return false;
        }
        *until = next;
        true
    }

    /// Counts one more in any case; gives how many there are that time has not made good for.
    pub fn fail(&self, kind: Kind, who: impl Into<Who>, rate: Rate, now: Timestamp) -> u32 {
        let gap = rate.gap();
        if gap.is_zero() {
            return 1;
        }
        let who = who.into();
        let mut counts = self.counts(kind, &who);
        let Some(until) = counts.of(who, now) else { return 1 };
        *until = (*until).max(now).after(gap).min(now.after(rate.period().saturating_mul(FAILURES)));
        let standing = until.since(now).as_nanos().div_ceil(gap.as_nanos());
        u32::try_from(standing).unwrap_or(u32::MAX)
    }

    /// Would one more be one too many?
    pub fn is_over(&self, kind: Kind, who: impl Into<Who>, rate: Rate, now: Timestamp) -> bool {
        let gap = rate.gap();
        let who = who.into();
        let counts = self.counts(kind, &who);
        let until = counts.full.get(&who).filter(|_| !gap.is_zero());
        until.is_some_and(|until| (*until).max(now).after(gap).since(now) > rate.period())
    }
}

impl Counts {
    /// The bucket; `None`: there is no room for another one.
    fn of(&mut self, key: Who, now: Timestamp) -> Option<&mut Timestamp> {
        let Self { full, swept } = self;
        if full.len() >= MOST && !full.contains_key(&key) {
            if swept.is_none_or(|then| now.since(then) >= SWEEP_EVERY) {
                full.retain(|_, until| *until > now);
                *swept = Some(now);
            }
            if full.len() >= MOST {
                return None;
            }
        }
        Some(full.entry(key).or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        let text = format!("[smtpd]\nclient_message_rate = {text:?}\n");
        let path = std::path::Path::new("x");
        common::config::Config::parse(&text, path, path).unwrap().smtpd.client_message_rate.rate
    }

    #[test]
    fn a_period_s_worth_at_once_and_then_as_time_passes() {
        let rates = Rates::default();
        let (a, b): (Network, Network) = ("192.0.2.1".parse().unwrap(), "2001:db8::/64".parse().unwrap());
        let at = |seconds| Timestamp::from_seconds(seconds);
        for (second, client, expected) in [
            (0, a, true),
            (0, a, true),
            (0, a, true),
            (0, a, false),
            (0, b, true),
            (19, a, false),
            (20, a, true),
            (20, a, false),
            (60, a, true),
            (60, a, true),
            (60, a, false),
            (500, a, true),
            (500, a, true),
            (500, a, true),
            (500, a, false),
        ] {
            assert_eq!(
                rates.allows(Kind::Message, client, rate("3/m"), at(second)),
                expected,
                "{second} {client}"
            );
        }
        assert!(rates.allows(Kind::Connection, a, rate("3/m"), at(500)), "kinds are counted apart");
        assert!((0..1000).all(|_| rates.allows(Kind::Recipient, a, Rate::NONE, at(0))));
    }

    #[test]
    fn failures_count_beyond_the_limit_and_are_made_good_for() {
        let rates = Rates::default();
        let at = |seconds| Timestamp::from_seconds(seconds);
        let rate = rate("3/10m");
        let over = |who: &str, second| rates.is_over(Kind::AuthFailure, who, rate, at(second));
        let fail = |who: &str, second| rates.fail(Kind::AuthFailure, who, rate, at(second));
        assert!(!over("joe", 0));
        assert_eq!([fail("joe", 0), fail("joe", 0), fail("joe", 0)], [1, 2, 3]);
        assert!(over("joe", 0) && !over("jane", 0));
        // 200 seconds for each.
        assert!(over("joe", 199) && !over("joe", 200));
        assert_eq!(fail("joe", 200), 3);
        for _ in 0..100 {
            fail("joe", 200);
        }
        assert_eq!(fail("joe", 200), 9, "three periods' worth");
        assert!(over("joe", 200 + 6 * 200) && !over("joe", 200 + 7 * 200));
        assert_eq!(rates.fail(Kind::AuthFailure, "joe", Rate::NONE, at(0)), 1);
        assert!(!rates.is_over(Kind::AuthFailure, "joe", Rate::NONE, at(0)));
    }

    #[test]
    fn memory_is_bounded() {
        let rates = Rates::default();
        for i in 0..u32::try_from(MOST).unwrap() + 1000 {
            let client = Network::of_client(std::net::Ipv4Addr::from_bits(i).into());
            rates.allows(Kind::Connection, client, rate("1/d"), Timestamp(0));
        }
        assert_eq!(rates.networks[0].lock().unwrap().full.len(), MOST);
        let fresh: Network = "2001:db8:1::/64".parse().unwrap();
        let allows = |kind| rates.allows(kind, fresh, rate("1/d"), Timestamp(0));
        assert!(
            allows(Kind::Connection) && allows(Kind::Connection),
            "nobody is shut out by a flood of others"
        );
        assert!(allows(Kind::Message) && !allows(Kind::Message), "kinds are apart");
        assert_eq!(rates.fail(Kind::AuthFailure, "joe", rate("9/d"), Timestamp(0)), 1);
        assert_eq!(rates.fail(Kind::AuthFailure, "joe", rate("9/d"), Timestamp(0)), 2, "users are apart");
        let day = Timestamp::from_seconds(86_400);
        rates.allows(Kind::Connection, "2001:db8::/64".parse::<Network>().unwrap(), rate("1/d"), day);
        assert_eq!(rates.networks[0].lock().unwrap().full.len(), 1);
    }
}
