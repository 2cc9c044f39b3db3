//! Local-parts: dot-strings and quoted-strings (RFC 5321 4.1.2), also in other scripts (RFC 6531 3.3).

use super::{AddressError, MAX_ADDRESS};
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// A local-part in its wire form. A quoted-string whose content needs no quotes is kept without them, so equal mailboxes
/// (`"joe"` and `joe`) compare equal. UTF-8 is kept as it came; what could disturb a terminal or hide in a line is not taken. Case is significant here; look-ups of local users decide for themselves.
#[derive(Debug, Clone)]
pub struct LocalPart(Box<str>);

impl LocalPart {
    /// Wire form: as it stands in a command, with quotes where they are needed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The content: quotes and backslashes undone.
    pub fn value(&self) -> Cow<'_, str> {
        match self.0.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
            None => Cow::Borrowed(&self.0),
            Some(quoted) => Cow::Owned(unquote(quoted)),
        }
    }

    /// Puts any printable text into wire form, quoting it where that is needed.
    pub fn quote(value: &str) -> Result<Self, AddressError> {
        if is_dot_string(value) {
            return value.parse();
        }
        let mut wire = String::with_capacity(value.len() + 2);
        wire.push('"');
        for c in value.chars() {
            if c == '"' || c == '\\' {
                wire.push('\\');
            }
            wire.push(c);
        }
        wire.push('"');
        wire.parse()
    }
}

fn unquote(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

/// RFC 5322 3.2.3, RFC 6531 3.3.
fn is_atext(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) } else { is_harmless(c) }
}

/// A character above ASCII that is neither a control nor white space, and turns or hides no text around it.
pub(crate) fn is_harmless(c: char) -> bool {
    let hidden = matches!(c,
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_ascii() && !c.is_control() && !c.is_whitespace() && !hidden
}

fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// Where the local-part at the start of `text` ends: the index of its `@`, or of the end of the text.
pub(super) fn end(text: &str) -> Result<usize, AddressError> {
    if !text.starts_with('"') {
        return Ok(text.find('@').unwrap_or(text.len()));
    }
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(i + 1),
            _ => {}
        }
    }
    Err(AddressError::LocalPart)
}

impl FromStr for LocalPart {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::LocalPart);
        }
        if text.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        if is_dot_string(text) {
            return Ok(Self(text.into()));
        }
        let inner = text
            .strip_prefix('"')
            .and_then(|t| t.strip_suffix('"'))
            .filter(|_| text.len() >= 2 && end(text) == Ok(text.len()))
            .ok_or(AddressError::LocalPart)?;
        // qtextSMTP and quoted-pairSMTP: printable ASCII and space, and RFC 6531 3.3.
        if !inner.chars().all(|c| matches!(c, ' '..='~') || is_harmless(c)) {
            return Err(AddressError::LocalPart);
        }
        let value = unquote(inner);
        Ok(Self(if is_dot_string(&value) { value.into() } else { text.into() }))
    }
}

impl PartialEq for LocalPart {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.value() == other.value()
    }
}

impl Eq for LocalPart {}

impl Hash for LocalPart {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
