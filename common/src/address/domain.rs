//! Domain names and address literals (RFC 5321 4.1.2, 4.1.3).

use super::AddressError;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Longest name in another script that is looked at, in octets of UTF-8.
const MAX_UNICODE: usize = 1024;

/// A domain: dot-separated labels of letters, digits, `-` and `_` (seen in the wild in host names), or an address literal in
/// brackets. ASCII; compared and hashed without regard to case, kept as spelled. A name in another script (U-labels, RFC 5890) becomes
/// its ASCII form (A-labels) when it is read: that is what the DNS knows, what tables are asked for, and what every server understands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(Box<str>);

impl Domain {
    /// As spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of a literal: `[127.0.0.1]`, `[IPv6:::1]`; `None` for a name.
    pub fn literal(&self) -> Option<IpAddr> {
        literal(self.0.strip_prefix('[')?.strip_suffix(']')?)
    }

    /// In lower case, as a key for tables.
    pub fn to_lowercase(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

fn literal(inner: &str) -> Option<IpAddr> {
    // RFC 5321 4.1.3: the tag is case-insensitive.
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            inner.get(5..)?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => inner.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// U-labels as A-labels (UTS #46, non-transitional); ASCII as it is.
fn to_ascii(text: &str) -> Result<Cow<'_, str>, AddressError> {
    if text.is_ascii() {
        return Ok(Cow::Borrowed(text));
    }
    // Mapping takes time: nothing is mapped that could not be a name afterwards (a label grows).
    if text.len() > MAX_UNICODE {
        return Err(AddressError::TooLong);
    }
    idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::EMPTY).map_err(|_| AddressError::Domain)
}

fn is_name(text: &str) -> bool {
    text.len() <= 255
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl FromStr for Domain {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        let ascii = to_ascii(text)?;
        let text = ascii.as_ref();
        let well_formed = match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            Some(inner) => literal(inner).is_some(),
            None => is_name(text),
        };
        if well_formed { Ok(Self(text.into())) } else { Err(AddressError::Domain) }
    }
}

impl TryFrom<String> for Domain {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> String {
        domain.0.into()
    }
}

impl From<IpAddr> for Domain {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self(format!("[{v4}]").into()),
            IpAddr::V6(v6) => Self(format!("[IPv6:{v6}]").into()),
        }
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Domain {}

impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
