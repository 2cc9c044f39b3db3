//! Replies of a server (RFC 5321 4.2), read strictly and in any split.
//!
//! A reply is one line or several that repeat the code; each line ends with LF, with or without CR before
//! it (what others send is taken as it is; we never send a bare LF). Limits bound what a hostile server can
//! make us keep: [`MAX_LINE`], [`MAX_LINES`], [`MAX_REPLY`]. Whatever breaks the grammar is an error that
//! ends the session: after it nobody knows which reply answers what.

use common::status::EnhancedCode;
use common::text::printable_bytes;
use std::fmt;

/// Longest line taken, in octets, line end counted. RFC 5321 4.5.3.1.5 says 512; servers in the wild write
/// more.
pub const MAX_LINE: usize = 2048;
/// Most lines in a reply.
pub const MAX_LINES: usize = 100;
/// Most octets in a reply, line ends counted.
pub const MAX_REPLY: usize = 32 * 1024;

/// One whole reply: a code from 200 to 599 and 1 to `MAX_LINES` texts, raw as received, without line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    lines: Vec<Box<[u8]>>,
}

impl Reply {
    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The first digit, 2 to 5.
    pub fn class(&self) -> u8 {
        u8::try_from(self.code / 100).unwrap_or(5)
    }

    /// The texts behind code and separator, one a line.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(AsRef::as_ref)
    }

    /// Makes secrets that the server repeats unreadable: what it says goes into logs and notifications.
    pub fn mask(&mut self, secrets: &[Vec<u8>]) {
        for line in &mut self.lines {
            if let Some(masked) = masked(line, secrets) {
                *line = masked.into();
            }
        }
    }

    /// The enhanced status code at the start of the first line, when there is one and it agrees with the
    /// reply's class (RFC 2034 4).
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        let first = std::str::from_utf8(self.lines.first()?).ok()?;
        let word = first.split_ascii_whitespace().next()?;
        word.parse::<EnhancedCode>().ok().filter(|code| code.class() == self.class())
    }
}

impl fmt::Display for Reply {
    /// In one printable line, as Postfix writes it: `550-5.7.1 no 550 5.7.1 go away`. At most `MAX_REPLY`
    /// octets, longer ones are cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.lines.len().saturating_sub(1);
        for (i, line) in self.lines.iter().enumerate() {
            let separator = if i == last { ' ' } else { '-' };
            let gap = if i == 0 { "" } else { " " };
            let text = printable_bytes(line, MAX_LINE);
            match (text.is_empty(), i == last) {
                (true, true) => write!(f, "{gap}{}", self.code)?,
                _ => write!(f, "{gap}{}{separator}{text}", self.code)?,
            }
        }
        Ok(())
    }
}

/// Why octets are no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line that does not begin with a code and a separator; the line, printable, cut to 200 octets.
    #[error("malformed reply: {0}")]
    Malformed(String),
    /// A line with another code than the first; that line.
    #[error("reply with two codes: {0}")]
    TwoCodes(String),
    /// A line over `MAX_LINE`.
    #[error("reply line too long")]
    LineTooLong,
    /// More than `MAX_LINES` lines or `MAX_REPLY` octets.
    #[error("reply too long")]
    TooLong,
}

/// Collects octets into replies. After an error it must not be used again.
#[derive(Debug, Default)]
pub struct ReplyParser {
    line: Vec<u8>,
    code: Option<u16>,
    lines: Vec<Box<[u8]>>,
    octets: usize,
}

impl ReplyParser {
    /// Takes octets from the front of `input` up to the end of one reply, and gives the reply when it is
    /// whole. Call it again with what is left.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Reply>, ReplyError> {
        while let Some(end) = memchr::memchr(b'\n', input) {
            let (line, rest) = input.split_at(end);
            *input = rest.get(1..).unwrap_or_default();
            self.keep(line)?;
            let line = std::mem::take(&mut self.line);
            if let Some(reply) = self.line(line.strip_suffix(b"\r").unwrap_or(&line))? {
                return Ok(Some(reply));
            }
        }
        let rest = std::mem::take(input);
        self.keep(rest)?;
        Ok(None)
    }

    /// Is a reply begun and not ended?
    pub fn in_reply(&self) -> bool {
        self.code.is_some() || !self.line.is_empty()
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), ReplyError> {
        if self.line.len() + part.len() >= MAX_LINE {
            return Err(ReplyError::LineTooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let shown = || printable_bytes(line, 200);
        let (code, more, text) = split(line).ok_or_else(|| ReplyError::Malformed(shown()))?;
        if *self.code.get_or_insert(code) != code {
            return Err(ReplyError::TwoCodes(shown()));
        }
        self.octets += line.len() + 2;
        if self.lines.len() >= MAX_LINES || self.octets > MAX_REPLY {
            return Err(ReplyError::TooLong);
        }
        self.lines.push(text.into());
        if more {
            return Ok(None);
        }
        self.octets = 0;
        self.code = None;
        Ok(Some(Reply { code, lines: std::mem::take(&mut self.lines) }))
    }
}

/// The text with each of the secrets in it replaced; `None` when there is none in it.
pub(super) fn masked(text: &[u8], secrets: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut out = None;
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let current: &[u8] = out.as_deref().unwrap_or(text);
        if memchr::memmem::find(current, secret).is_none() {
            continue;
        }
        let mut next = Vec::with_capacity(current.len());
        let mut rest = current;
        while let Some(at) = memchr::memmem::find(rest, secret) {
            next.extend_from_slice(rest.get(..at).unwrap_or_default());
            next.extend_from_slice(b"[...]");
            rest = rest.get(at + secret.len()..).unwrap_or_default();
        }
        next.extend_from_slice(rest);
        out = Some(next);
    }
    out
}

/// Code, "more lines follow", text (RFC 5321 4.2: `Reply-line`). The second digit is not limited to 5:
/// registered and private codes go beyond.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (&[a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'], rest) = line.split_first_chunk::<3>()? else {
        return None;
    };
    let code = [a, b, c].iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Some((code, false, rest)),
        Some((b' ', text)) => Some((code, false, text)),
        Some((b'-', text)) => Some((code, true, text)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8], step: usize) -> Result<Vec<String>, ReplyError> {
        let mut parser = ReplyParser::default();
        let mut replies = Vec::new();
        for mut part in input.chunks(step) {
            while !part.is_empty() {
                replies.extend(parser.take(&mut part)?.map(|reply| reply.to_string()));
            }
        }
        Ok(replies)
    }

    #[test]
    fn replies_are_read_in_any_split() {
        let malformed = |text: &str| Err(ReplyError::Malformed(text.into()));
        let table: &[(&str, Result<&[&str], ReplyError>)] = &[
            ("250 Ok\r\n", Ok(&["250 Ok"])),
            ("250 Ok\n", Ok(&["250 Ok"])),
            ("250\r\n", Ok(&["250"])),
            ("250 \r\n", Ok(&["250"])),
            ("250-a\r\n250-b\r\n250 c\r\n", Ok(&["250-a 250-b 250 c"])),
            ("250-\r\n250\r\n", Ok(&["250- 250"])),
            ("550 5.1.1 no\r\n354 go\r\n", Ok(&["550 5.1.1 no", "354 go"])),
            ("571 x\r\n", Ok(&["571 x"])),
            ("250 a\rb\x1b[2J\r\n", Ok(&["250 a\\x0db\\x1b[2J"])),
            ("250 half", Ok(&[])),
            ("250-a\r\n550 b\r\n", Err(ReplyError::TwoCodes("550 b".into()))),
            ("250Ok\r\n", malformed("250Ok")),
            ("150 x\r\n", malformed("150 x")),
            ("600 x\r\n", malformed("600 x")),
            ("25 x\r\n", malformed("25 x")),
            ("\r\n", malformed("")),
            (" 250 x\r\n", malformed(" 250 x")),
            ("HTTP/1.1 400 Bad Request\r\n", malformed("HTTP/1.1 400 Bad Request")),
            ("SSH-2.0-x\n", malformed("SSH-2.0-x")),
        ];
        for (input, expected) in table {
            for step in 1..=input.len() {
                let got = all(input.as_bytes(), step);
                let got = got.as_ref().map(|replies| replies.iter().map(String::as_str).collect::<Vec<_>>());
                assert_eq!(got, expected.as_ref().map(|list| list.to_vec()), "{input:?} by {step}");
            }
        }
    }

    #[test]
    fn size_is_bounded() {
        let fits = format!("250 {}\r\n", "x".repeat(MAX_LINE - 6));
        for (input, expected) in [
            (fits.clone(), Ok(1)),
            (fits.replace(" ", " y"), Err(ReplyError::LineTooLong)),
            ("250-a\r\n".repeat(MAX_LINES - 1) + "250 a\r\n", Ok(1)),
            ("250-a\r\n".repeat(MAX_LINES) + "250 a\r\n", Err(ReplyError::TooLong)),
            (fits.replace(" ", "-").repeat(20), Err(ReplyError::TooLong)),
            ("x".repeat(MAX_LINE), Err(ReplyError::LineTooLong)),
        ] {
            for step in [1, 7, 4096] {
                assert_eq!(all(input.as_bytes(), step).map(|replies| replies.len()), expected);
            }
        }
    }

    #[test]
    fn enhanced_codes_count_only_when_the_class_agrees() {
        for (line, expected) in [
            ("550 5.1.1 no such user", Some("5.1.1")),
            ("550 5.1.1", Some("5.1.1")),
            ("450 5.1.1 no", None),
            ("250 2.1.5Ok", None),
            ("250 Ok 2.1.5", None),
            ("354 3.0.0 go", None),
            ("550", None),
            ("550 \u{fffd} no", None),
        ] {
            let mut parser = ReplyParser::default();
            let text = format!("{line}\r\n");
            let reply = parser.take(&mut text.as_bytes()).unwrap().unwrap();
            assert_eq!(reply.enhanced().map(|code| code.to_string()).as_deref(), expected, "{line}");
        }
    }
}
