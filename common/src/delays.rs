//! The `delay=` and `delays=` of a delivery's log line, in Postfix's form, so that log tools made for
//! Postfix read them.
//!
//! Pure: built from points in time that others took. A clock that went back gives zero, never a negative
//! number.

use crate::time::Timestamp;
use std::fmt;
use std::time::Duration;

/// Where the time of one delivery went. `Display` writes `delay=0.38, delays=0.1/0.02/0.05/0.21`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// From arrival to the end of this attempt.
    pub total: Duration,
    /// Before the queue manager took the message up for this attempt.
    pub before: Duration,
    /// In the queue manager.
    pub queued: Duration,
    /// Connection set-up: name look-ups, TCP, greeting, EHLO. Zero where there is no connection.
    pub setup: Duration,
    /// Transmission.
    pub transmission: Duration,
}

impl Delays {
    /// From the times in a job (accepted, taken up, handed out), the end of connection set-up (`None`: no
    /// connection was made or needed) and the end of the attempt.
    pub fn new(
        arrived: Timestamp,
        activated: Timestamp,
        dispatched: Timestamp,
        connected: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        Self {
            total: now.since(arrived),
            before: activated.since(arrived),
            queued: dispatched.since(activated),
            setup: connected.map_or(Duration::ZERO, |connected| connected.since(dispatched)),
            transmission: now.since(connected.unwrap_or(dispatched)),
        }
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delay={}, delays=", Seconds(self.total))?;
        write!(f, "{}/{}/", Seconds(self.before), Seconds(self.queued))?;
        write!(f, "{}/{}", Seconds(self.setup), Seconds(self.transmission))
    }
}

/// A duration in seconds with two significant digits, at most two of them behind the point; whole seconds
/// are never cut. `0.05`, `0.4`, `1.2`, `12`, `363`, `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The unit of the last digit shown, in microseconds.
        let unit: u128 = match self.0.as_secs() {
            0 => 10_000,
            1..=9 => 100_000,
            _ => 1_000_000,
        };
        let rounded = (self.0.as_micros() + unit / 2) / unit * unit;
        let (seconds, hundredths) = (rounded / 1_000_000, rounded % 1_000_000 / 10_000);
        match hundredths {
            0 => write!(f, "{seconds}"),
            h if h % 10 == 0 => write!(f, "{seconds}.{}", h / 10),
            h => write!(f, "{seconds}.{h:02}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_two_significant_digits_as_postfix_writes_them() {
        for (micros, text) in [
            (0, "0"),
            (4_999, "0"),
            (5_000, "0.01"),
            (50_000, "0.05"),
            (100_000, "0.1"),
            (384_999, "0.38"),
            (385_000, "0.39"),
            (994_999, "0.99"),
            (996_000, "1"),
            (1_000_000, "1"),
            (1_049_999, "1"),
            (1_150_000, "1.2"),
            (9_940_000, "9.9"),
            (9_960_000, "10"),
            (12_499_999, "12"),
            (12_500_000, "13"),
            (363_000_000, "363"),
            (100_000_000_000, "100000"),
        ] {
            assert_eq!(Seconds(Duration::from_micros(micros)).to_string(), text, "{micros}");
        }
        assert!(!Seconds(Duration::MAX).to_string().is_empty());
    }

    #[test]
    fn the_four_parts_come_from_the_five_times() {
        let at = |ms: i64| Timestamp(ms * 1000);
        for (times, connected, text) in [
            ((0, 40, 40, 50), None, "delay=0.05, delays=0.04/0/0/0.01"),
            ((0, 100, 120, 380), Some(170), "delay=0.38, delays=0.1/0.02/0.05/0.21"),
            // The clock went back: no negative numbers.
            ((1000, 500, 400, 300), Some(200), "delay=0, delays=0/0/0/0.1"),
        ] {
            let (arrived, activated, dispatched, now) = times;
            let delays = Delays::new(at(arrived), at(activated), at(dispatched), connected.map(at), at(now));
            assert_eq!(delays.to_string(), text);
        }
    }
}
