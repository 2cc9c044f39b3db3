//! One token over time: when it is used, when another one is asked for, and how long to wait when there is none. Pure: the clock is handed in.

use common::oauth::Secret;
use common::time::Timestamp;
use std::time::Duration;

/// A token is renewed so long before it ends, or for the last quarter of its life where that is shorter.
pub const MARGIN: Duration = Duration::from_secs(5 * 60);
/// The life of a token of which nobody says when it ends; it may be refused before.
pub const UNKNOWN_LIFE: Duration = Duration::from_secs(3600);
/// A token that is refused so soon after it came was not refused for its age: another one would be refused, too.
pub const FRESH: Duration = Duration::from_secs(60);
/// Pauses after failures of the endpoint: the first, and the longest.
pub const PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10 * 60));

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Log in with this one.
    Use(Secret),
    /// Ask for one.
    Ask,
    /// There is none, for this reason, and it is too early to ask again.
    Wait(String),
}

#[derive(Debug, Clone)]
struct Token {
    secret: Secret,
    got: Timestamp,
    renew: Timestamp,
    ends: Timestamp,
    refused: bool,
}

#[derive(Debug, Clone)]
struct Trouble {
    why: String,
    until: Timestamp,
    lasting: bool,
}

/// See the head of the file.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    token: Option<Token>,
    trouble: Option<Trouble>,
    failures: u32,
}

impl Cache {
    /// What to do now.
    pub fn need(&self, now: Timestamp) -> Need {
        let usable = self.token.as_ref().filter(|token| !token.refused && now < token.ends);
        let waits = self.trouble.as_ref().filter(|trouble| now < trouble.until);
        match (usable, waits) {
            (Some(token), _) if now < token.renew => Need::Use(token.secret.clone()),
            // It is good to the end, should the endpoint not come back before.
            (Some(token), Some(_)) => Need::Use(token.secret.clone()),
            (None, Some(trouble)) => Need::Wait(trouble.why.clone()),
            (_, None) => Need::Ask,
        }
    }

    /// The endpoint gave a token that is good for so long.
    pub fn granted(&mut self, secret: Secret, life: Option<Duration>, now: Timestamp) {
        let life = life.unwrap_or(UNKNOWN_LIFE);
        let renew = now.after(life.saturating_sub(MARGIN.min(life / 4)));
        *self = Self::default();
        self.token = Some(Token { secret, got: now, renew, ends: now.after(life), refused: false });
    }

    /// The endpoint gave none. `lasting`: it will not before an admin has done something. What can be used now nevertheless.
    pub fn failed(&mut self, why: &str, lasting: bool, now: Timestamp) -> Option<Secret> {
        let pause =
            PAUSES.0.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(PAUSES.1);
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(Trouble { why: why.to_owned(), until: now.after(pause), lasting });
        match self.need(now) {
            Need::Use(token) => Some(token),
            Need::Ask | Need::Wait(_) => None,
        }
    }

    /// A server did not take `secret`. May another one be had now?
    pub fn refused(&mut self, secret: &Secret, now: Timestamp) -> bool {
        match &mut self.token {
            Some(token) if token.secret == *secret => {
                let old = now.since(token.got) >= FRESH;
                token.refused |= old;
                old
            }
            // There is another one already, or will be.
            _ => true,
        }
    }

    /// Why there may soon be no token any more, when an admin has to do something about it.
    pub fn lasting_trouble(&self) -> Option<&str> {
        self.trouble.as_ref().filter(|trouble| trouble.lasting).map(|trouble| trouble.why.as_str())
    }

    /// Why the endpoint gave no token when it was last asked, and how often in a row.
    pub fn trouble(&self) -> Option<(&str, u32)> {
        self.trouble.as_ref().map(|trouble| (trouble.why.as_str(), self.failures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + seconds)
    }

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        for (life, until) in [(Some(3600), 3300), (Some(600), 450), (Some(1), 0), (None, 3300)] {
            let mut cache = Cache::default();
            assert_eq!(cache.need(at(0)), Need::Ask);
            cache.granted(secret("a"), life.map(Duration::from_secs), at(0));
            assert_eq!(cache.need(at(until - 1).max(at(0))), Need::Use(secret("a")), "{life:?}");
            assert_eq!(cache.need(at(until + 1)), Need::Ask, "{life:?}");
        }
    }

    #[test]
    fn a_token_is_used_to_its_end_when_no_other_one_can_be_had() {
        let mut cache = Cache::default();
        cache.granted(secret("a"), Some(Duration::from_secs(3600)), at(0));
        assert_eq!(cache.failed("down", false, at(3400)), Some(secret("a")));
        assert_eq!(cache.need(at(3409)), Need::Use(secret("a")));
        assert_eq!(cache.need(at(3410)), Need::Ask, "asked again after the pause");
        assert_eq!(cache.failed("down", false, at(3600)), None, "its time is over");
        assert_eq!(cache.need(at(3601)), Need::Wait("down".into()));
        cache.granted(secret("b"), None, at(3700));
        assert_eq!(cache.need(at(3700)), Need::Use(secret("b")));
        assert_eq!(cache.trouble(), None);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut cache = Cache::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(cache.need(at(now)), Need::Ask);
            cache.failed("down", true, at(now));
            let pause = (1..).find(|pause| cache.need(at(now + pause)) == Need::Ask).unwrap();
            pauses.push(pause);
            now += pause;
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!((cache.lasting_trouble(), cache.trouble()), (Some("down"), Some(("down", 9))));
        cache.failures = u32::MAX;
        cache.failed("down", false, at(now));
        assert_eq!(cache.lasting_trouble(), None);
    }

    #[test]
    fn a_refused_token_is_replaced_once() {
        let mut cache = Cache::default();
        cache.granted(secret("a"), None, at(0));
        assert!(!cache.refused(&secret("a"), at(59)), "it was not refused for its age");
        assert_eq!(cache.need(at(59)), Need::Use(secret("a")));
        assert!(cache.refused(&secret("a"), at(60)));
        assert_eq!(cache.need(at(60)), Need::Ask);
        cache.granted(secret("b"), None, at(61));
        assert!(cache.refused(&secret("a"), at(62)), "somebody else has replaced it meanwhile");
        assert_eq!(cache.need(at(62)), Need::Use(secret("b")));
        assert!(!cache.refused(&secret("b"), at(63)));
    }
}
