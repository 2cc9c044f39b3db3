//! How well mail to a destination is to be protected: [`Level`], and the table `tls_policy`. Pure.
//!
//! A line is `destination LEVEL [match=NAME…] [fingerprint=HEX…] [implicit]`. The destination is a nexthop as `ironpost route` prints it, or
//! `.domain` for all domains below. The nearest line counts: the nexthop itself, the nexthop without its port, then the enclosing `.domain`s.

use crate::address::Domain;
use crate::destination::{Host, Nexthop};
use crate::table::{TableError, logical_lines};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;

/// How well a connection must be protected; a later one asks for more, but [`Level::Fingerprint`], which asks for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Never TLS.
    None,
    /// TLS when the server offers it, with any certificate; plain text when it does not, or when TLS fails.
    May,
    /// Always TLS, with any certificate.
    Encrypt,
    /// Always TLS, with a certificate of which the table has the fingerprint.
    Fingerprint,
    /// Always TLS, with a certificate of a known authority that is valid for the exchange or the destination.
    Verify,
    /// Always TLS, with a certificate of a known authority that is valid for the destination.
    Secure,
}

const LEVELS: [Level; 6] =
    [Level::None, Level::May, Level::Encrypt, Level::Fingerprint, Level::Verify, Level::Secure];

impl Level {
    /// The word in the configuration and the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::May => "may",
            Self::Encrypt => "encrypt",
            Self::Fingerprint => "fingerprint",
            Self::Verify => "verify",
            Self::Secure => "secure",
        }
    }

    /// Does it say who the server must be?
    pub fn authenticates(self) -> bool {
        self >= Self::Fingerprint
    }

    fn from_name(name: &str) -> Option<Self> {
        LEVELS.into_iter().find(|level| level.name() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that a certificate may be valid for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Match {
    /// The nexthop's domain or host, without brackets and port.
    Nexthop,
    /// Any name below the nexthop's.
    BelowNexthop,
    /// The host that was connected to: with a nexthop that has MX records, a name that the DNS said.
    Hostname,
    /// This name.
    Name(Domain),
    /// Any name below this one.
    Below(Domain),
}

/// SHA-256 of a certificate, or of its public key.
pub type Fingerprint = [u8; 32];

/// What holds for a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How well.
    pub level: Level,
    /// At [`Level::Verify`] and [`Level::Secure`]: one of these names; never empty there.
    pub matches: Vec<Match>,
    /// At [`Level::Fingerprint`]: one of these; never empty there.
    pub fingerprints: Vec<Fingerprint>,
    /// TLS from the first octet (RFC 8314 3), whatever the port; port 465 has that anyway.
    pub implicit: bool,
}

impl Policy {
    /// A level with its usual names. `Fingerprint` without fingerprints matches nothing.
    pub fn of(level: Level) -> Self {
        let matches = match level {
            Level::None | Level::May | Level::Encrypt | Level::Fingerprint => Vec::new(),
            Level::Verify => vec![Match::Hostname, Match::Nexthop],
            Level::Secure => vec![Match::Nexthop, Match::BelowNexthop],
        };
        Self { level, matches, fingerprints: Vec::new(), implicit: false }
    }

    /// At least [`Level::Secure`], unless it already says who the server must be; [`Level::None`] stays as it is.
    #[must_use]
    pub fn authenticated(self) -> Self {
        match self.level {
            Level::May | Level::Encrypt => Self { implicit: self.implicit, ..Self::of(Level::Secure) },
            Level::None | Level::Fingerprint | Level::Verify | Level::Secure => self,
        }
    }
}

impl fmt::Display for Policy {
    /// As in the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level)?;
        if self.matches != Self::of(self.level).matches {
            for name in &self.matches {
                write!(f, " match={name}")?;
            }
        }
        for fingerprint in &self.fingerprints {
            let pairs: Vec<String> = fingerprint.iter().map(|octet| format!("{octet:02x}")).collect();
            write!(f, " fingerprint={}", pairs.join(":"))?;
        }
        if self.implicit { f.write_str(" implicit") } else { Ok(()) }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nexthop => f.write_str("nexthop"),
            Self::BelowNexthop => f.write_str("dot-nexthop"),
            Self::Hostname => f.write_str("hostname"),
            Self::Name(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, ".{name}"),
        }
    }
}

/// The table, by destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies(HashMap<String, Policy>);

impl Policies {
    /// Reads the table. Errors are at their line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let mut map = HashMap::new();
        for (number, line) in logical_lines(text) {
            let (key, policy) = read_line(&line).map_err(|what| TableError::at(path, number, &what))?;
            if map.insert(key.clone(), policy).is_some() {
                return Err(TableError::at(path, number, &format!("{key:?} is there twice")));
            }
        }
        Ok(Self(map))
    }

    /// The line for a nexthop, if there is one.
    pub fn find(&self, nexthop: &Nexthop) -> Option<&Policy> {
        if self.0.is_empty() {
            return None;
        }
        let exact = || self.0.get(&nexthop.to_string());
        let without_port = || self.0.get(&nexthop.without_port().to_string());
        let below = || match nexthop {
            Nexthop::Domain { domain, .. } => {
                let domain = domain.to_lowercase();
                domain.match_indices('.').find_map(|(i, _)| self.0.get(domain.get(i..)?))
            }
            Nexthop::Host { .. } | Nexthop::Here | Nexthop::Text(_) => None,
        };
        exact().or_else(without_port).or_else(below)
    }
}

fn read_line(line: &str) -> Result<(String, Policy), String> {
    let mut words = line.split_whitespace();
    let (Some(key), Some(level)) = (words.next(), words.next()) else {
        return Err("wanted DESTINATION LEVEL".into());
    };
    let key = read_key(key)?;
    let level = Level::from_name(level).ok_or_else(|| {
        format!("{level:?} is no level: there are none, may, encrypt, fingerprint, verify and secure")
    })?;
    let mut policy = Policy::of(level);
    let mut matches = Vec::new();
    for word in words {
        match word.split_once('=') {
            None if word == "implicit" => policy.implicit = true,
            // Postfix separates names with a colon, and several words are friendlier.
            Some(("match", names)) if matches!(level, Level::Verify | Level::Secure) => {
                for name in names.split([':', ',']) {
                    matches.push(read_match(name)?);
                }
            }
            Some(("match" | "fingerprint", list)) if level == Level::Fingerprint => {
                for text in list.split(['|', ',']) {
                    policy.fingerprints.push(read_fingerprint(text)?);
                }
            }
            Some((name @ ("match" | "fingerprint"), _)) => {
                return Err(format!("{name}= means nothing at level {level}"));
            }
            _ => return Err(format!("{word:?} is not known: there are match=, fingerprint= and implicit")),
        }
    }
    if level == Level::Fingerprint && policy.fingerprints.is_empty() {
        return Err("level fingerprint needs a fingerprint=".into());
    }
    if level == Level::None && policy.implicit {
        return Err("implicit means nothing at level none".into());
    }
    if !matches.is_empty() {
        policy.matches = matches;
    }
    Ok((key, policy))
}

fn read_key(key: &str) -> Result<String, String> {
    if let Some(domain) = key.strip_prefix('.') {
        let domain: Domain = domain.parse().map_err(|e| format!("{key:?}: {e}"))?;
        return Ok(format!(".{}", domain.to_lowercase()));
    }
    key.parse::<Nexthop>().map(|nexthop| nexthop.to_string()).map_err(|error| error.to_string())
}

fn read_match(text: &str) -> Result<Match, String> {
    let name = |text: &str| {
        let name = text.parse::<Domain>().ok().filter(|name| name.literal().is_none());
        name.ok_or_else(|| format!("match={text:?}: wanted a name, .name, nexthop, dot-nexthop or hostname"))
    };
    Ok(match text {
        "nexthop" => Match::Nexthop,
        "dot-nexthop" => Match::BelowNexthop,
        "hostname" => Match::Hostname,
        _ => match text.strip_prefix('.') {
            Some(below) => Match::Below(name(below)?),
            None => Match::Name(name(text)?),
        },
    })
}

/// 32 octets in hexadecimal, with or without colons, as `openssl x509 -fingerprint -sha256` prints them.
fn read_fingerprint(text: &str) -> Result<Fingerprint, String> {
    parse_fingerprint(text).ok_or_else(|| {
        format!(
            "fingerprint={text:?}: wanted the 64 hexadecimal digits of a SHA-256, colons between them or not"
        )
    })
}

/// 64 hexadecimal digits, colons between them or not.
pub fn parse_fingerprint(text: &str) -> Option<Fingerprint> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let octets: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect();
    if digits.len() == 64 { octets.try_into().ok() } else { None }
}

/// The name that a nexthop is known by: without brackets and port. `None` where there is no host.
pub fn name_of(nexthop: &Nexthop) -> Option<Host> {
    match nexthop {
        Nexthop::Domain { domain, .. } => Some(Host::Name(domain.clone())),
        Nexthop::Host { host, .. } => Some(host.clone()),
        Nexthop::Here | Nexthop::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINT: &str =
        "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff";

    fn parse(text: &str) -> Result<Policies, TableError> {
        Policies::parse(Path::new("t"), text)
    }

    #[test]
    fn the_nearest_line_counts() {
        let policies = parse(
            "Example.com secure\n.example.com verify\n[Mail.example]:587 encrypt\n[mail.example] none\n\
             [192.0.2.1] fingerprint fingerprint=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n",
        )
        .unwrap();
        for (nexthop, expected) in [
            ("example.com", Some(Level::Secure)),
            ("example.com:2525", Some(Level::Secure)),
            ("sub.example.com", Some(Level::Verify)),
            ("a.b.example.com:26", Some(Level::Verify)),
            ("[example.com]", None),
            ("[mail.example]:587", Some(Level::Encrypt)),
            ("[mail.example]", Some(Level::None)),
            ("[mail.example]:25", Some(Level::None)),
            ("mail.example", None),
            ("[192.0.2.1]:465", Some(Level::Fingerprint)),
            ("other.example", None),
        ] {
            let found = policies.find(&nexthop.parse().unwrap()).map(|policy| policy.level);
            assert_eq!(found, expected, "{nexthop}");
        }
        assert_eq!(policies.find(&Nexthop::Here), None);
    }

    #[test]
    fn lines_are_read_and_written() {
        for (line, shown) in [
            ("a.example may", "may"),
            ("a.example none", "none"),
            ("a.example verify", "verify"),
            ("a.example secure match=nexthop:dot-nexthop", "secure"),
            ("a.example secure match=B.example:.c.example", "secure match=B.example match=.c.example"),
            ("a.example verify match=hostname implicit", "verify match=hostname implicit"),
            ("a.example encrypt implicit", "encrypt implicit"),
        ] {
            let policies = parse(line).unwrap();
            let policy = policies.find(&"a.example".parse().unwrap()).unwrap();
            assert_eq!(policy.to_string(), shown, "{line}");
        }
        // Postfix's word for fingerprints is match.
        let twice = parse(&format!("a.example fingerprint fingerprint={PRINT} match={PRINT}")).unwrap();
        let policy = twice.find(&"a.example".parse().unwrap()).unwrap();
        assert_eq!(policy.fingerprints.len(), 2);
        assert!(policy.to_string().ends_with(&PRINT.to_lowercase()));
    }

    #[test]
    fn mistakes_are_told_at_their_lines() {
        for (line, says) in [
            ("a.example", "wanted DESTINATION LEVEL"),
            ("a.example dane", "\"dane\" is no level"),
            ("[a.example secure", "missing \"]\""),
            (".[192.0.2.1 secure", ".[192.0.2.1"),
            ("a.example may match=b.example", "match= means nothing at level may"),
            ("a.example secure fingerprint=00", "fingerprint= means nothing at level secure"),
            ("a.example fingerprint", "needs a fingerprint="),
            ("a.example fingerprint fingerprint=0011", "64 hexadecimal digits"),
            ("a.example fingerprint fingerprint=zz", "64 hexadecimal digits"),
            ("a.example secure match=[192.0.2.1]", "wanted a name"),
            ("a.example secure match=", "wanted a name"),
            ("a.example secure ciphers=high", "\"ciphers=high\" is not known"),
            ("a.example none implicit", "implicit means nothing"),
            ("a.example may\nA.Example secure", "t:3: \"a.example\" is there twice"),
        ] {
            let error = parse(&format!("\n{line}\n")).unwrap_err().to_string();
            assert!(error.starts_with("t:") && error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn credentials_raise_a_policy() {
        for (level, expected) in [
            (Level::None, Level::None),
            (Level::May, Level::Secure),
            (Level::Encrypt, Level::Secure),
            (Level::Fingerprint, Level::Fingerprint),
            (Level::Verify, Level::Verify),
            (Level::Secure, Level::Secure),
        ] {
            let raised = Policy { implicit: true, ..Policy::of(level) }.authenticated();
            assert_eq!((raised.level, raised.implicit), (expected, true));
        }
    }
}
