//! Sizes (`"50M"`), times (`"5m"`) and rates (`"10/s"`) as they are written in the configuration.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// A number of octets: digits and one of `K`, `M`, `G` (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time: digits and one of `ms`, `s`, `m`, `h`, `d`, `w`. At most 100 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub Duration);

/// How often something may happen: `N/s`, `N/m`, `N/h` or `N/d`, also `N/10m`; or `none`, which is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How often; 0 for no limit.
    count: u32,
    /// Seconds.
    per: u64,
}

impl Rate {
    /// No limit.
    pub const NONE: Self = Self { count: 0, per: 1 };

    /// So often in so many seconds, at least one.
    pub(super) const fn new(count: u32, per: u64) -> Self {
        Self { count, per }
    }

    /// How often in [`Rate::period`]; 0 for no limit.
    pub fn count(self) -> u32 {
        self.count
    }

    /// The time that the count is for.
    pub fn period(self) -> Duration {
        Duration::from_secs(self.per)
    }

    /// The time from one to the next; zero for no limit.
    pub fn gap(self) -> Duration {
        Duration::from_secs(self.per).checked_div(self.count).unwrap_or(Duration::ZERO)
    }
}

/// Longest time that a rate is for, in seconds.
const LONGEST: u64 = 31 * 86_400;
const RATES: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = RATES.iter().rev().find(|(_, seconds)| self.per.is_multiple_of(*seconds));
        match unit.filter(|_| self.count > 0) {
            Some((unit, seconds)) if *seconds == self.per => write!(f, "{}/{unit}", self.count),
            Some((unit, seconds)) => write!(f, "{}/{}{unit}", self.count, self.per / seconds),
            None => f.write_str("none"),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Rate {
    fn read(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let read = || {
            let (count, unit) = text.split_once('/')?;
            let several = unit.bytes().take_while(u8::is_ascii_digit).count();
            let (several, unit) = unit.split_at(several);
            let several = if several.is_empty() { 1 } else { several.parse().ok()? };
            let per: u64 = RATES.iter().find(|(name, _)| *name == unit)?.1.checked_mul(several)?;
            let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
            let count = if digits { count.parse().ok() } else { None };
            let good = (1..=LONGEST).contains(&per);
            Some(Self { count: count.filter(|count| good && (1..=1_000_000).contains(count))?, per })
        };
        read().ok_or_else(|| {
            format!(
                "{text:?} is no rate: wanted a number and /s, /m, /h or /d, such as \"10/s\" or \"10/5m\", or \"none\""
            )
        })
    }
}

/// A [`Rate`] that clients are held to; with `warn:` before it, what it would refuse is logged and let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How often.
    pub rate: Rate,
    /// Only say so in the log. Never where there is no limit.
    pub warn: bool,
}

impl RateLimit {
    /// No limit.
    pub const NONE: Self = Self::new(Rate::NONE);

    /// A limit that refuses.
    pub(super) const fn new(rate: Rate) -> Self {
        Self { rate, warn: false }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.warn { "warn:" } else { "" }, self.rate)
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (warn, rest) = text.strip_prefix("warn:").map_or((false, &*text), |rest| (true, rest));
        match Rate::read(rest).map_err(D::Error::custom)? {
            Rate::NONE if warn => {
                Err(D::Error::custom("\"warn:none\": without a limit nothing is warned of"))
            }
            rate => Ok(Self { rate, warn }),
        }
    }
}

impl TimeSpan {
    /// Whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl Deref for TimeSpan {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl Deref for ByteSize {
    type Target = u64;
    fn deref(&self) -> &u64 {
        &self.0
    }
}

const SIZES: [(&str, u64); 3] = [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];
const TIMES: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const CENTURY_MS: u64 = 100 * 366 * 86_400_000;

/// Splits `50M` into a number and a unit of the table; a bare number has the factor `bare`.
fn parse(text: &str, units: &[(&str, u64)], bare: Option<u64>) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = if unit.is_empty() { bare? } else { units.iter().find(|(name, _)| *name == unit)?.1 };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn show(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    match units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor)) {
        Some((name, factor)) => write!(f, "{}{name}", value / factor),
        None => write!(f, "{value}"),
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.0, &SIZES)
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.0.as_millis()).unwrap_or(CENTURY_MS) {
            0 => f.write_str("0s"),
            millis => show(f, millis, &TIMES),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text, &SIZES, Some(1)).map(Self).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is no size: wanted digits and K, M or G, such as \"50M\""))
        })
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text, &TIMES, None)
            .filter(|millis| *millis <= CENTURY_MS)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| {
                D::Error::custom(format!(
                    "{text:?} is no time: wanted digits and ms, s, m, h, d or w, such as \"5m\""
                ))
            })
    }
}
