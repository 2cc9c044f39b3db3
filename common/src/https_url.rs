//! The address of a service that is asked over HTTPS, parsed once. Pure.
//!
//! `https://host[:port][/path][?query]` and nothing else: plain HTTP, a user and password in it, and a fragment are refused, since what is
//! sent there are secrets. No unchecked constructor: whatever holds one can write it into a request.

use crate::address::Domain;
use crate::destination::Host;
use crate::text::printable;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest address, in octets.
const MAX: usize = 2000;
const PORT: u16 = 443;

/// Such an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpsUrl {
    host: Host,
    port: u16,
    path: String,
}

/// Text that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HttpsUrlError(String);

impl HttpsUrl {
    /// The host, which the certificate must be for.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they stand in a request: begins with a slash, visible ASCII only.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `host` or `host:port`, as it stands in the field `Host` (RFC 9110 7.2).
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Name(name) => name.to_string(),
            Host::Ip(IpAddr::V4(ip)) => ip.to_string(),
            Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        if self.port == PORT { host } else { format!("{host}:{}", self.port) }
    }
}

impl FromStr for HttpsUrl {
    type Err = HttpsUrlError;

    fn from_str(text: &str) -> Result<Self, HttpsUrlError> {
        let wrong = |what: &str| {
            HttpsUrlError(format!(
                "{what} in {:?}: wanted an address such as https://host.example/path",
                printable(text, 300)
            ))
        };
        if text.len() > MAX || !text.bytes().all(|b| (0x21..0x7f).contains(&b)) {
            return Err(wrong("more than 2000 octets, blanks or other characters than ASCII"));
        }
        let rest = match text.split_at_checked(8) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https://") => rest,
            _ => return Err(wrong("no https://")),
        };
        if rest.contains(['#', '\\', '"', '<', '>', '^', '`', '{', '|', '}']) {
            return Err(wrong("a fragment or a character that no address has"));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(wrong("a user"));
        }
        let (name, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| wrong("missing \"]\""))?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => PORT,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("bad port"))?
            }
            _ => return Err(wrong("bad port")),
        };
        let host = match (name.parse::<IpAddr>(), authority.starts_with('[')) {
            (Ok(ip @ IpAddr::V6(_)), true) | (Ok(ip @ IpAddr::V4(_)), false) => Host::Ip(ip),
            (Err(_), false) => {
                let domain = name.parse::<Domain>().ok().filter(|domain| domain.literal().is_none());
                Host::Name(domain.ok_or_else(|| wrong("bad host"))?)
            }
            _ => return Err(wrong("bad host")),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host, port, path })
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.path)
    }
}

impl Serialize for HttpsUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HttpsUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, authority, path) in [
            ("https://login.example/token", "login.example", "/token"),
            ("HTTPS://login.example", "login.example", "/"),
            ("https://login.example:8443?a=b&c=%20", "login.example:8443", "/?a=b&c=%20"),
            ("https://login.example:443/a?b/c", "login.example", "/a?b/c"),
            ("https://192.0.2.1:444/", "192.0.2.1:444", "/"),
            ("https://[2001:db8::1]:444/x", "[2001:db8::1]:444", "/x"),
            ("https://localhost/", "localhost", "/"),
        ] {
            let url: HttpsUrl = text.parse().unwrap();
            assert_eq!((url.authority().as_str(), url.path()), (authority, path), "{text}");
            assert_eq!(url.to_string().parse::<HttpsUrl>().unwrap(), url);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for (text, says) in [
            ("", "no https://"),
            ("http://login.example/", "no https://"),
            ("https://", "bad host"),
            ("https://user:word@login.example/", "a user"),
            ("https://login.example/#x", "a fragment"),
            ("https://login.example/a b", "blanks"),
            ("https://login.example/\r\nHost: x", "blanks"),
            ("https://lögin.example/", "ASCII"),
            ("https://login.example:/", "bad port"),
            ("https://login.example:0/", "bad port"),
            ("https://login.example:+1/", "bad port"),
            ("https://login.example:65536/", "bad port"),
            ("https://[2001:db8::1/", "missing"),
            ("https://[2001:db8::1]x/", "bad port"),
            ("https://[192.0.2.1]/", "bad host"),
            ("https://2001:db8::1/", "bad port"),
            ("https://-x-.example/", "bad host"),
        ] {
            let error = text.parse::<HttpsUrl>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(format!("https://x/{}", "a".repeat(MAX)).parse::<HttpsUrl>().is_err());
    }
}
