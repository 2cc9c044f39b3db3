//! How often a client network does something, and whether that is too often. Pure but for its lock; the clock is passed in.
//!
//! A network may do at once what its rate allows for a whole period, and then goes on as the period passes (a token bucket, held as one
//! number a network). Bounded in memory: whoever has not used up anything is forgotten; when there are still more networks than can be
//! held, newcomers pass unmeasured, for the limits on connections hold in any case.

use common::config::{Network, Rate};
use common::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Networks that are remembered, for all kinds together.
const MOST: usize = 200_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Connections.
    Connection,
    /// Accepted MAIL commands.
    Message,
    /// Accepted RCPT commands.
    Recipient,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// When the bucket will be full again.
    full: HashMap<(Network, Kind), Timestamp>,
    /// Who has used up nothing was forgotten then.
    swept: Option<Timestamp>,
}

/// With so many networks a look at all of them takes its time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl Rates {
    /// Counts one more, unless that is one too many.
    pub fn allows(&self, kind: Kind, client: Network, rate: Rate, now: Timestamp) -> bool {
        let gap = rate.gap();
        if gap.is_zero() {
            return true;
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { full, swept } = &mut *counts;
        if full.len() >= MOST && !full.contains_key(&(client, kind)) {
            if swept.is_none_or(|then| now.since(then) >= SWEEP_EVERY) {
                full.retain(|_, until| *until > now);
                *swept = Some(now);
            }
            if full.len() >= MOST {
                return true;
            }
        }
        let until = full.entry((client, kind)).or_insert(now);
        let next = (*until).max(now).after(gap);
        if next.since(now) > rate.period() {
            return false;
        }
        *until = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        let text = format!("[smtpd]\nclient_message_rate = {text:?}\n");
        let path = std::path::Path::new("x");
        common::config::Config::parse(&text, path, path).unwrap().smtpd.client_message_rate
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
    fn memory_is_bounded() {
        let rates = Rates::default();
        for i in 0..u32::try_from(MOST).unwrap() + 1000 {
            let client = Network::of_client(std::net::Ipv4Addr::from_bits(i).into());
            rates.allows(Kind::Connection, client, rate("1/d"), Timestamp(0));
        }
        assert_eq!(rates.0.lock().unwrap().full.len(), MOST);
        let day = Timestamp::from_seconds(86_400);
        rates.allows(Kind::Connection, "2001:db8::/64".parse().unwrap(), rate("1/d"), day);
        assert_eq!(rates.0.lock().unwrap().full.len(), 1);
    }
}
