//! A DNS block or allow list: `ZONE`, `ZONE=FILTER`, `ZONE=FILTER*WEIGHT`, as in Postfix's postscreen.
//!
//! A filter is an IPv4 address in which a number may be a set: `127.0.0.[2;4..11]`. Without a filter every answer counts. A weight is a
//! number from -100 to 100, not 0; negative for allow lists.

use crate::address::Domain;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// One list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Site {
    /// Where it is in the DNS.
    pub zone: Domain,
    /// Which answers count; `None`: all.
    pub filter: Option<Filter>,
    /// How much an answer counts.
    pub weight: i32,
}

/// For each number of an address, the ranges that it may be in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter([Vec<(u8, u8)>; 4]);

impl Filter {
    /// Is the address one of those?
    pub fn matches(&self, address: Ipv4Addr) -> bool {
        let within = |(ranges, octet): (&Vec<(u8, u8)>, u8)| {
            ranges.iter().any(|(from, to)| (*from..=*to).contains(&octet))
        };
        self.0.iter().zip(address.octets()).all(within)
    }
}

impl FromStr for Filter {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts: [Vec<(u8, u8)>; 4] = Default::default();
        let mut rest = text;
        for (i, part) in parts.iter_mut().enumerate() {
            if i > 0 {
                rest = rest.strip_prefix('.').ok_or(())?;
            }
            if let Some(inner) = rest.strip_prefix('[') {
                let (set, after) = inner.split_once(']').ok_or(())?;
                for range in set.split(';') {
                    let (from, to) = range.split_once("..").unwrap_or((range, range));
                    let (from, to) = (octet(from)?, octet(to)?);
                    if from > to {
                        return Err(());
                    }
                    part.push((from, to));
                }
                rest = after;
            } else {
                let length = rest.bytes().take_while(u8::is_ascii_digit).count();
                let (number, after) = rest.split_at_checked(length).ok_or(())?;
                let number = octet(number)?;
                part.push((number, number));
                rest = after;
            }
        }
        if rest.is_empty() { Ok(Self(parts)) } else { Err(()) }
    }
}

fn octet(text: &str) -> Result<u8, ()> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().map_err(drop) } else { Err(()) }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ranges) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            let one = |(from, to): &(u8, u8)| {
                if from == to { from.to_string() } else { format!("{from}..{to}") }
            };
            let set: Vec<String> = ranges.iter().map(one).collect();
            match ranges.as_slice() {
                [(from, to)] if from == to => write!(f, "{from}")?,
                _ => write!(f, "[{}]", set.join(";"))?,
            }
        }
        Ok(())
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{text:?} is no DNS list ({what}): wanted ZONE, ZONE=127.0.0.[2..11] or ZONE=FILTER*WEIGHT"
            )
        };
        let (rest, weight) = match text.rsplit_once('*') {
            Some((rest, weight)) => {
                let weight =
                    weight.parse().ok().filter(|weight| *weight != 0 && (-100..=100).contains(weight));
                (rest, weight.ok_or_else(|| wrong("the weight is no number from -100 to 100, or 0"))?)
            }
            None => (text, 1),
        };
        let (zone, filter) = match rest.split_once('=') {
            Some((zone, filter)) => {
                (zone, Some(filter.parse().map_err(|()| wrong("the filter is no IPv4 address with sets"))?))
            }
            None => (rest, None),
        };
        let zone: Domain = zone.parse().map_err(|_| wrong("the zone is no domain name"))?;
        // Room for the longest thing that is asked for below it: the 32 nibbles of an IPv6 address.
        if zone.literal().is_some() || zone.as_str().len() > 180 {
            return Err(wrong("the zone is no domain name, or too long"));
        }
        Ok(Self { zone, filter, weight })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.zone)?;
        if let Some(filter) = &self.filter {
            write!(f, "={filter}")?;
        }
        if self.weight == 1 { Ok(()) } else { write!(f, "*{}", self.weight) }
    }
}

impl TryFrom<String> for Site {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Site> for String {
    fn from(site: Site) -> String {
        site.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_what_they_say() {
        for (filter, address, matches) in [
            ("127.0.0.2", "127.0.0.2", true),
            ("127.0.0.2", "127.0.0.3", false),
            ("127.0.0.[2..11]", "127.0.0.11", true),
            ("127.0.0.[2..11]", "127.0.0.12", false),
            ("127.0.[0..255].[1;3..4]", "127.0.9.2", false),
            ("127.0.[0..255].[1;3..4]", "127.0.9.4", true),
        ] {
            let filter: Filter = filter.parse().unwrap();
            assert_eq!(filter.matches(address.parse().unwrap()), matches, "{filter} {address}");
        }
        for bad in [
            "",
            "127.0.0",
            "127.0.0.",
            "127.0.0.256",
            "127.0.0.[]",
            "127.0.0.[5..2]",
            "127.0.0.2.1",
            "1.2.3.+4",
        ] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sites_are_read_and_written_again() {
        for text in
            ["bl.example", "bl.example*3", "bl.example=127.0.0.2", "wl.example=127.0.[0..255].[1..3]*-2"]
        {
            assert_eq!(text.parse::<Site>().unwrap().to_string(), text);
        }
        for bad in ["", "=127.0.0.2", "a b", "bl.example*0", "bl.example*x", "bl.example=x", "[127.0.0.1]"] {
            assert!(bad.parse::<Site>().unwrap_err().contains("is no DNS list"), "{bad}");
        }
    }
}
