//! Where mail goes: [`Transport`], [`Nexthop`], and both together, the [`Destination`]: the unit of concurrency and health.

use crate::address::Domain;
use crate::text::printable;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A named way to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// SMTP to another host.
    Smtp,
    /// A mailbox of this machine.
    Local,
    /// Delivered to nowhere, successfully.
    Discard,
    /// Fails with a text.
    Error,
}

impl Transport {
    /// The name in tables and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Local => "local",
            Self::Discard => "discard",
            Self::Error => "error",
        }
    }
}

/// A host named in a nexthop: by name or by address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Host {
    /// Looked up by address records only.
    Name(Domain),
    /// Used as it is.
    Ip(IpAddr),
}

/// Where a transport takes mail to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Nexthop {
    /// The mail exchangers of a domain; `port` overrides `smtp_port`. Written `example.com` or `example.com:587`.
    Domain {
        /// Whose MX records are asked for.
        domain: Domain,
        /// TCP port, when not the configured one.
        port: Option<u16>,
    },
    /// One host, no MX look-up. Written `[host]`, `[192.0.2.1]:2525`, `[IPv6:2001:db8::1]`.
    Host {
        /// Name or address.
        host: Host,
        /// TCP port, when not the configured one.
        port: Option<u16>,
    },
    /// Mailboxes here: no host to go to.
    Here,
    /// The text of an `error:` route, printable, at most 300 octets.
    Text(String),
}

/// A nexthop that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NexthopError(String);

impl FromStr for Nexthop {
    type Err = NexthopError;

    /// Reads `domain`, `domain:port`, `[host]`, `[host]:port`, `[ip]`, `[IPv6:ip]`.
    fn from_str(text: &str) -> Result<Self, NexthopError> {
        let wrong = |what: &str| {
            NexthopError(format!(
                "{what} in {:?}: wanted domain, domain:port, [host] or [host]:port",
                printable(text, 300)
            ))
        };
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inner, tail) = rest.split_once(']').ok_or_else(|| wrong("missing \"]\""))?;
                (
                    inner,
                    if tail.is_empty() {
                        None
                    } else {
                        Some(tail.strip_prefix(':').ok_or_else(|| wrong("text behind \"]\""))?)
                    },
                )
            }
            None => match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(wrong("bad port")),
        };
        if text.starts_with('[') {
            let bare = match name.get(..5) {
                Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => name.get(5..).unwrap_or(""),
                _ => name,
            };
            let host = match bare.parse::<IpAddr>() {
                Ok(ip) => Host::Ip(ip),
                Err(_) => Host::Name(name.parse().map_err(|_| wrong("bad host name"))?),
            };
            return Ok(Self::Host { host, port });
        }
        Ok(Self::Domain { domain: name.parse().map_err(|_| wrong("bad domain name"))?, port })
    }
}

impl Nexthop {
    /// The nexthop of a recipient's own domain: its exchangers, or the address that a literal names (RFC 5321 2.3.5, 4.1.3).
    pub fn of_domain(domain: &Domain) -> Self {
        match domain.literal() {
            Some(ip) => Self::Host { host: Host::Ip(ip), port: None },
            None => Self::Domain { domain: domain.clone(), port: None },
        }
    }

    /// The same, at the usual port.
    #[must_use]
    pub fn without_port(&self) -> Self {
        match self.clone() {
            Self::Domain { domain, .. } => Self::Domain { domain, port: None },
            Self::Host { host, .. } => Self::Host { host, port: None },
            other => other,
        }
    }

    /// The text of an `error:` route.
    pub fn text(text: &str) -> Self {
        Self::Text(printable(text, 300))
    }
}

impl fmt::Display for Nexthop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = match self {
            Self::Domain { domain, port } => {
                write!(f, "{}", domain.to_lowercase())?;
                port
            }
            Self::Host { host: Host::Name(name), port } => {
                write!(f, "[{}]", name.to_lowercase())?;
                port
            }
            Self::Host { host: Host::Ip(ip), port } => {
                write!(f, "[{ip}]")?;
                port
            }
            Self::Here => return f.write_str("local"),
            Self::Text(text) => return f.write_str(text),
        };
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Transport and nexthop.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Destination {
    /// How.
    pub transport: Transport,
    /// Where to.
    pub nexthop: Nexthop,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.name(), self.nexthop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nexthops_are_read_and_written() {
        for (text, shown) in [
            ("Example.com", Some("example.com")),
            ("example.com:587", Some("example.com:587")),
            ("[Mail.example]", Some("[mail.example]")),
            ("[127.0.0.1]:2525", Some("[127.0.0.1]:2525")),
            ("[::1]:25", Some("[::1]:25")),
            ("[IPv6:::1]", Some("[::1]")),
            ("", None),
            ("[", None),
            ("[]", None),
            ("[a]b", None),
            ("[a]:0", None),
            ("a:b", None),
            ("a:65536", None),
            ("a b", None),
        ] {
            assert_eq!(text.parse::<Nexthop>().ok().map(|n| n.to_string()).as_deref(), shown, "{text:?}");
        }
    }
}
