//! Points in time as a number, so that pure parts can be handed a clock, and the texts that mail and logs make of them.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    /// The last date made: on a busy server hundreds of messages come in the same second.
    static LAST: RefCell<(Option<i64>, String)> = const { RefCell::new((None, String::new())) };
}

/// Microseconds since 1970-01-01 UTC. Pure parts receive it; only drivers call [`Timestamp::now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock. For drivers.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// From whole seconds since 1970.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Time passed since `earlier`; zero when the clock went back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Later by `by`, saturating.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// For file times; before 1970 counts as 1970.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }

    /// `Sun, 22 Nov 2026 14:45:02 +0000 (UTC)`: for `Received` and `Date` (RFC 5322 3.3), local time zone.
    pub fn rfc5322(self) -> String {
        LAST.with_borrow_mut(|(second, text)| {
            if *second != Some(self.seconds()) {
                *text = self.local().strftime("%a, %d %b %Y %H:%M:%S %z (%Z)").to_string();
                *second = Some(self.seconds());
            }
            text.clone()
        })
    }

    /// `Nov 22 14:45:02`: the stamp of a syslog line (RFC 3164 4.1.2), local time zone.
    pub fn syslog(self) -> String {
        self.local().strftime("%b %e %H:%M:%S").to_string()
    }

    /// `2026-11-22T14:45:02.123456+00:00`: for structured logs (RFC 3339), local time zone.
    pub fn rfc3339(self) -> String {
        self.local().strftime("%Y-%m-%dT%H:%M:%S.%6f%:z").to_string()
    }

    /// `Sun Nov 22 14:45:02`: as `mailq` and mbox `From ` lines show it, local time zone.
    pub fn mailq(self) -> String {
        self.local().strftime("%a %b %e %H:%M:%S").to_string()
    }

    /// `Sun Nov 22 14:45:02 2026`: asctime form, for mbox `From ` lines, local time zone.
    pub fn asctime(self) -> String {
        self.local().strftime("%a %b %e %H:%M:%S %Y").to_string()
    }

    fn local(self) -> jiff::Zoned {
        jiff::Timestamp::from_microsecond(self.0)
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .to_zoned(TimeZone::system())
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = time.duration_since(UNIX_EPOCH).map(|d| d.as_micros()).unwrap_or(0);
        Self(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_never_overflows() {
        let t = Timestamp(5);
        assert_eq!(t.since(Timestamp(9)), Duration::ZERO);
        assert_eq!(t.after(Duration::MAX), Timestamp(i64::MAX));
        assert_eq!(t.after(Duration::from_micros(3)).since(t), Duration::from_micros(3));
        assert_eq!(Timestamp(i64::MAX).rfc5322(), Timestamp(0).rfc5322());
    }

    #[test]
    fn the_date_of_a_second_is_its_own() {
        let dates: Vec<_> = [5, 5, 6, 5].map(|seconds| Timestamp::from_seconds(seconds).rfc5322()).into();
        assert!(dates[0] == dates[1] && dates[1] != dates[2] && dates[3] == dates[0], "{dates:?}");
        assert_eq!(Timestamp::from_seconds(5).after(Duration::from_micros(999_999)).rfc5322(), dates[0]);
    }
}
