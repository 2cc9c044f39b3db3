//! What a sender asks for about delivery status notifications (RFC 3461): RET and ENVID of a message, NOTIFY and ORCPT of
//! a recipient, and the xtext in which two of them travel.
//!
//! Pure. Each value is parsed once into a type without an unchecked constructor: bounded, printable ASCII, fit for a
//! header field and a command of our own without another look. What is not within the grammar is refused, never mended.

use crate::address::{Address, is_harmless};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest value of ENVID, as xtext, in octets (RFC 3461 4.4).
pub const MAX_ENVELOPE_ID: usize = 100;
/// Longest value of ORCPT, with its address type, as xtext, in octets (RFC 3461 4.2).
pub const MAX_ORIGINAL_RECIPIENT: usize = 500;

/// What is wrong with a parameter's value. The text never repeats the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// Neither `FULL` nor `HDRS`.
    #[error("wanted FULL or HDRS")]
    Return,
    /// Not `NEVER`, and not a list of `SUCCESS`, `FAILURE` and `DELAY`.
    #[error("wanted NEVER, or some of SUCCESS, FAILURE and DELAY with commas between them")]
    Notify,
    /// Not xtext, or it hides something that is not printable ASCII.
    #[error("malformed xtext")]
    Xtext,
    /// No `type;` in front of an original recipient.
    #[error("malformed address type")]
    AddressType,
    /// Nothing where something is wanted.
    #[error("empty value")]
    Empty,
    /// Longer than [`MAX_ENVELOPE_ID`] or [`MAX_ORIGINAL_RECIPIENT`].
    #[error("value too long")]
    TooLong,
}

/// What MAIL said about notifications.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDsn {
    /// RET: what of the message comes back with a report of failure; `None`: the reporting system's choice.
    pub ret: Option<Return>,
    /// ENVID: the sender's own name for the message.
    pub envelope_id: Option<EnvelopeId>,
}

/// What RCPT said about notifications.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecipientDsn {
    /// NOTIFY.
    pub notify: Notify,
    /// ORCPT: the address as the sender's side knew it.
    pub original: Option<OriginalRecipient>,
}

/// The RET parameter (RFC 3461 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Return {
    /// The whole message.
    Full,
    /// Its header.
    Headers,
}

impl FromStr for Return {
    type Err = DsnError;
    fn from_str(text: &str) -> Result<Self, DsnError> {
        if text.eq_ignore_ascii_case("FULL") {
            Ok(Self::Full)
        } else if text.eq_ignore_ascii_case("HDRS") {
            Ok(Self::Headers)
        } else {
            Err(DsnError::Return)
        }
    }
}

impl fmt::Display for Return {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Full { "FULL" } else { "HDRS" })
    }
}

/// What a notification may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Delivered, relayed to a system that sends no notifications, or expanded.
    Success,
    /// Failed for good.
    Failure,
    /// Not delivered yet.
    Delay,
}

/// The NOTIFY parameter (RFC 3461 4.1): absent, `NEVER`, or some of `SUCCESS`, `FAILURE`, `DELAY`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Notify(u8);

const NEVER: u8 = 1;
const OCCASIONS: [(&str, u8); 3] = [("SUCCESS", 2), ("FAILURE", 4), ("DELAY", 8)];

impl Notify {
    /// `NEVER`.
    pub const NEVER: Self = Self(NEVER);

    /// Was nothing said? Then it is not passed on either.
    pub fn is_absent(self) -> bool {
        self.0 == 0
    }

    /// Is the sender to be told? Without NOTIFY of failures and delays (RFC 3461 4.1 leaves delays to us).
    pub fn wants(self, occasion: Occasion) -> bool {
        let bit = match occasion {
            Occasion::Success => 2,
            Occasion::Failure => 4,
            Occasion::Delay => 8,
        };
        self.0 & bit != 0 || (self.is_absent() && occasion != Occasion::Success)
    }

    /// For those whom a recipient was expanded into: their sender was told of the expansion instead of the deliveries
    /// (RFC 3461 5.2.7, the second of its three ways, as Postfix does it).
    #[must_use]
    pub fn without_success(self) -> Self {
        match self.0 {
            2 => Self::NEVER,
            other => Self(other & !2),
        }
    }
}

impl FromStr for Notify {
    type Err = DsnError;
    fn from_str(text: &str) -> Result<Self, DsnError> {
        if text.eq_ignore_ascii_case("NEVER") {
            return Ok(Self::NEVER);
        }
        let mut bits = 0;
        for word in text.split(',') {
            let named = OCCASIONS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
            bits |= named.ok_or(DsnError::Notify)?.1;
        }
        Ok(Self(bits))
    }
}

impl fmt::Display for Notify {
    /// As a parameter's value; empty when absent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("NEVER");
        }
        let mut separator = "";
        for (name, _) in OCCASIONS.iter().filter(|(_, bit)| self.0 & bit != 0) {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl TryFrom<u8> for Notify {
    type Error = DsnError;
    fn try_from(bits: u8) -> Result<Self, DsnError> {
        if bits == NEVER || (bits & NEVER == 0 && bits < 16) { Ok(Self(bits)) } else { Err(DsnError::Notify) }
    }
}

impl From<Notify> for u8 {
    fn from(notify: Notify) -> u8 {
        notify.0
    }
}

/// The ENVID parameter (RFC 3461 4.4), decoded: printable ASCII, 1 to [`MAX_ENVELOPE_ID`] octets as xtext.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvelopeId(String);

impl EnvelopeId {
    /// Takes the decoded text.
    pub fn new(text: &str) -> Result<Self, DsnError> {
        if text.is_empty() {
            return Err(DsnError::Empty);
        }
        if !is_printable(text) {
            return Err(DsnError::Xtext);
        }
        if xtext(text).len() > MAX_ENVELOPE_ID {
            return Err(DsnError::TooLong);
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads a parameter's value.
    pub fn from_xtext(value: &str) -> Result<Self, DsnError> {
        if value.len() > MAX_ENVELOPE_ID {
            return Err(DsnError::TooLong);
        }
        Self::new(&from_xtext(value)?)
    }

    /// The decoded text, for `Original-Envelope-Id`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a parameter's value.
    pub fn to_xtext(&self) -> String {
        xtext(&self.0)
    }
}

impl TryFrom<String> for EnvelopeId {
    type Error = DsnError;
    fn try_from(text: String) -> Result<Self, DsnError> {
        Self::new(&text)
    }
}

impl From<EnvelopeId> for String {
    fn from(id: EnvelopeId) -> String {
        id.0
    }
}

/// The ORCPT parameter (RFC 3461 4.2), decoded: an address type and an address of that type, which need not be one of
/// the Internet. Printable ASCII, for the type `utf-8` (RFC 6533 3) also UTF-8; at most [`MAX_ORIGINAL_RECIPIENT`] octets as xtext.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OriginalRecipient {
    kind: String,
    address: String,
}

impl OriginalRecipient {
    /// Takes the decoded parts.
    pub fn new(kind: &str, address: &str) -> Result<Self, DsnError> {
        // RFC 5321 4.1.2: Atom.
        let is_atext = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
        if kind.is_empty() || !kind.bytes().all(is_atext) {
            return Err(DsnError::AddressType);
        }
        if address.is_empty() {
            return Err(DsnError::Empty);
        }
        let utf8 = kind.eq_ignore_ascii_case(UTF8);
        if !address.chars().all(|c| matches!(c, ' '..='~') || (utf8 && is_harmless(c))) {
            return Err(DsnError::Xtext);
        }
        if kind.len() + 1 + xtext(address).len() > MAX_ORIGINAL_RECIPIENT {
            return Err(DsnError::TooLong);
        }
        Ok(Self { kind: kind.to_owned(), address: address.to_owned() })
    }

    /// Reads a parameter's value: `type;xtext`.
    pub fn from_xtext(value: &str) -> Result<Self, DsnError> {
        if value.len() > MAX_ORIGINAL_RECIPIENT {
            return Err(DsnError::TooLong);
        }
        let (kind, address) = value.split_once(';').ok_or(DsnError::AddressType)?;
        if kind.eq_ignore_ascii_case(UTF8) && !address.is_ascii() {
            // RFC 6533 3, utf-8-addr-unitext: no xtext in it, and nothing that xtext would change.
            if address.contains(['+', '=', ' ']) {
                return Err(DsnError::Xtext);
            }
            return Self::new(kind, address);
        }
        Self::new(kind, &from_xtext(address)?)
    }

    /// An address of the Internet; `None` for one that has no room in the parameter.
    pub fn of(address: &Address) -> Option<Self> {
        if address.is_ascii() {
            return Self::new("rfc822", &address.to_string()).ok();
        }
        // RFC 6533 3: in both forms of this type these are embedded.
        let mut text = String::new();
        for c in address.to_string().chars() {
            if matches!(c, ' ' | '+' | '=' | '\\') { embed(c, &mut text) } else { text.push(c) }
        }
        Self::new(UTF8, &text).ok()
    }

    /// As a parameter's value; UTF-8 stays as it is, for a transaction with SMTPUTF8.
    pub fn to_xtext(&self) -> String {
        format!("{};{}", self.kind, xtext(&self.address))
    }

    /// As a parameter's value for a server without SMTPUTF8 (RFC 6533 3, utf-8-addr-xtext).
    pub fn to_ascii_xtext(&self) -> String {
        let mut text = String::new();
        for c in xtext(&self.address).chars() {
            if c.is_ascii() { text.push(c) } else { embed(c, &mut text) }
        }
        format!("{};{text}", self.kind)
    }

    /// Can it be shown where only ASCII may stand?
    pub fn is_ascii(&self) -> bool {
        self.address.is_ascii()
    }
}

/// The type of addresses that are not ASCII.
const UTF8: &str = "utf-8";

/// EmbeddedUnicodeChar (RFC 6533 3): `\x{F6}`.
fn embed(c: char, out: &mut String) {
    out.push_str(&format!("\\x{{{:X}}}", u32::from(c)));
}

impl fmt::Display for OriginalRecipient {
    /// As in `Original-Recipient` (RFC 3464 2.3.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.kind, self.address)
    }
}

impl TryFrom<String> for OriginalRecipient {
    type Error = DsnError;
    fn try_from(text: String) -> Result<Self, DsnError> {
        Self::from_xtext(&text)
    }
}

impl From<OriginalRecipient> for String {
    fn from(recipient: OriginalRecipient) -> String {
        recipient.to_xtext()
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|b| (32..127).contains(&b))
}

/// `text` as xtext (RFC 3461 4): `+`, `=` and whatever is not a graphic character as `+XX`. UTF-8 stays.
fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii() || (c.is_ascii_graphic() && !matches!(c, '+' | '=')) {
            out.push(c);
        } else {
            out.push_str(&format!("+{:02X}", u32::from(c)));
        }
    }
    out
}

/// `text` as xtext (RFC 3461 4).
pub fn encode_xtext(text: &str) -> String {
    xtext(text)
}

/// What xtext stands for (RFC 3461 4). Digits of either case are read. Errors: not xtext, or not printable ASCII.
pub fn decode_xtext(value: &str) -> Result<String, DsnError> {
    from_xtext(value)
}

fn from_xtext(value: &str) -> Result<String, DsnError> {
    let mut out = String::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(b) = bytes.next() {
        let decoded = match b {
            b'+' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = digit().zip(digit()).ok_or(DsnError::Xtext)?;
                u8::try_from(high * 16 + low).map_err(|_| DsnError::Xtext)?
            }
            b'=' => return Err(DsnError::Xtext),
            graphic @ 33..127 => graphic,
            _ => return Err(DsnError::Xtext),
        };
        if !(32..127).contains(&decoded) {
            return Err(DsnError::Xtext);
        }
        out.push(char::from(decoded));
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
