//! Reverse-path and forward-path: what stands behind `MAIL FROM:` and `RCPT TO:` (RFC 5321 4.1.2).

use super::{Address, AddressError, Domain, LocalPart, local_part, split};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The sender of a message: an address, or the null sender `<>`. `Display` and serde use the text without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ReversePath {
    /// `<>`: a notification; never answered (RFC 5321 4.5.5).
    Null,
    /// Where notifications go.
    Address(Address),
}

impl ReversePath {
    /// The address, unless this is the null sender.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }

    /// Can it be used without SMTPUTF8 (RFC 6531)?
    pub fn is_ascii(&self) -> bool {
        self.address().is_none_or(Address::is_ascii)
    }

    /// Is this `<>`?
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// Reads the text inside the brackets of `MAIL FROM:<…>`; a bare local-part is completed with `mail_name`.
    pub fn from_path(inner: &str, mail_name: &Domain) -> Result<Self, AddressError> {
        if inner.is_empty() {
            return Ok(Self::Null);
        }
        Address::parse_or_complete(strip_source_route(inner)?, mail_name).map(Self::Address)
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() { Ok(Self::Null) } else { text.parse().map(Self::Address) }
    }
}

impl TryFrom<String> for ReversePath {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<ReversePath> for String {
    fn from(path: ReversePath) -> String {
        path.to_string()
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A recipient as a client names it: a local-part and perhaps a domain (`<postmaster>` has none, RFC 5321 4.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardPath {
    local: LocalPart,
    domain: Option<Domain>,
}

impl ForwardPath {
    /// Reads the text inside the brackets of `RCPT TO:<…>`.
    pub fn from_path(inner: &str) -> Result<Self, AddressError> {
        let (local, domain) = split(strip_source_route(inner)?)?;
        Ok(Self { local, domain })
    }

    /// The mailbox meant: a bare local-part belongs to `mail_name`.
    pub fn complete(self, mail_name: &Domain) -> Result<Address, AddressError> {
        Address::new(self.local, self.domain.unwrap_or_else(|| mail_name.clone()))
    }
}

/// Accepts and ignores a source route, `@a,@b:user@c` (RFC 5321 4.1.2 A-d-l, appendix C).
fn strip_source_route(inner: &str) -> Result<&str, AddressError> {
    if !inner.starts_with('@') {
        return Ok(inner);
    }
    // An address literal in the route holds colons of its own, so the ":" that ends the route is the first one outside brackets.
    let mut in_literal = false;
    let colon = inner.bytes().position(|b| {
        match b {
            b'[' => in_literal = true,
            b']' => in_literal = false,
            _ => {}
        }
        b == b':' && !in_literal
    });
    let (route, address) = colon.and_then(|i| inner.split_at_checked(i)).ok_or(AddressError::Path)?;
    for hop in route.split(',') {
        hop.strip_prefix('@').ok_or(AddressError::Path)?.parse::<Domain>()?;
    }
    address.strip_prefix(':').ok_or(AddressError::Path)
}

/// Splits `<inner>rest` at the bracket that closes the path, honouring quoted-strings, and gives `(inner, rest)`.
/// `rest` begins with a space or is empty.
pub fn parse_path(text: &str) -> Result<(&str, &str), AddressError> {
    let body = text.strip_prefix('<').ok_or(AddressError::Path)?;
    let mut close = None;
    let mut from = 0;
    // A ">" inside a quoted local-part does not close the path; the quoted-string may follow a source route.
    while let Some(tail) = body.get(from..) {
        match tail.find(['"', '>']) {
            Some(i) if tail.as_bytes().get(i) == Some(&b'"') => {
                from += i + local_part::end(tail.get(i..).unwrap_or(""))?;
            }
            Some(i) => {
                close = Some(from + i);
                break;
            }
            None => break,
        }
    }
    let (inner, rest) = close.and_then(|i| body.split_at_checked(i)).ok_or(AddressError::Path)?;
    let rest = rest.get(1..).unwrap_or("");
    if inner.contains(['<', '\r', '\n', '\0']) && !inner.contains('"') {
        return Err(AddressError::Path);
    }
    if rest.is_empty() || rest.starts_with(' ') { Ok((inner, rest)) } else { Err(AddressError::Path) }
}
