//! Addresses, parsed once into types: [`Domain`], [`LocalPart`], [`Address`], [`ReversePath`], [`ForwardPath`].
//!
//! None of these has an unchecked constructor: a value that exists is within the grammar of RFC 5321 4.1.2 with
//! RFC 6531 3.3, holds printable characters only, and fits the size limits below, so it can be put into a header or a
//! command of our own without another look (whether SMTPUTF8 is needed for that, [`Address::is_ascii`] says). Domains are ASCII. Spelling is kept as received; comparison of domains ignores case.
//! Files on the way to a mailbox never use these texts as they are: see `deliverd`'s mailbox paths.

mod domain;
mod local_part;
mod path;

pub use domain::Domain;
pub use local_part::LocalPart;
pub(crate) use local_part::is_harmless;
pub use path::{ForwardPath, ReversePath, parse_path};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest path, without its angle brackets, in octets (RFC 5321 4.5.3.1.3). Longer local-parts than the 64 octets of
/// 4.5.3.1.1 are taken (VERP), so this is the one limit on an address.
pub const MAX_ADDRESS: usize = 254;

/// What is wrong with an address. The text says which rule, never repeats the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing where an address is wanted.
    #[error("empty address")]
    Empty,
    /// Longer than [`MAX_ADDRESS`] (or 255 octets for a domain, 63 for a label).
    #[error("address too long")]
    TooLong,
    /// The local-part is no dot-string and no quoted-string.
    #[error("malformed local-part")]
    LocalPart,
    /// The domain is no domain name and no address literal.
    #[error("malformed domain")]
    Domain,
    /// Missing `<` or `>`, or text where none belongs.
    #[error("malformed path")]
    Path,
    /// A bare local-part where a domain is required.
    #[error("domain missing")]
    NoDomain,
}

/// A mailbox: local-part, `@`, domain (RFC 5321 `Mailbox`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    local: LocalPart,
    domain: Domain,
}

impl Address {
    /// Puts the parts together; refused when the whole is over [`MAX_ADDRESS`] octets.
    pub fn new(local: LocalPart, domain: Domain) -> Result<Self, AddressError> {
        if local.as_str().len() + 1 + domain.as_str().len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        Ok(Self { local, domain })
    }

    /// Left of the `@`.
    pub fn local_part(&self) -> &LocalPart {
        &self.local
    }

    /// Right of the `@`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Can it be used without SMTPUTF8 (RFC 6531)?
    pub fn is_ascii(&self) -> bool {
        self.local.as_str().is_ascii()
    }

    /// Parses `user@domain`, or a bare `user`, completed with `default`.
    pub fn parse_or_complete(text: &str, default: &Domain) -> Result<Self, AddressError> {
        let (local, domain) = split(text)?;
        Self::new(local, domain.unwrap_or_else(|| default.clone()))
    }
}

/// Splits at the `@` that ends the local-part: quoting is honoured, so `"a@b"@c` has the domain `c`.
fn split(text: &str) -> Result<(LocalPart, Option<Domain>), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > MAX_ADDRESS {
        return Err(AddressError::TooLong);
    }
    let at = local_part::end(text)?;
    let (local, rest) = text.split_at(at);
    let local = local.parse()?;
    match rest.strip_prefix('@') {
        None if rest.is_empty() => Ok((local, None)),
        None => Err(AddressError::LocalPart),
        Some(domain) => Ok((local, Some(domain.parse()?))),
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = split(text)?;
        Self::new(local, domain.ok_or(AddressError::NoDomain)?)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

#[cfg(test)]
mod tests;
