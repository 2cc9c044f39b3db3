//! Replies: three digits, an enhanced status code, text (RFC 5321 4.2, RFC 2034).
//!
//! A reply is a value until the driver writes it; writing makes every octet printable, so nothing that a
//! client said can end a line early or start a second one. The fixed texts stand in `doc`'s table of words on
//! the wire; where that is silent they are Postfix's.

use common::address::Domain;
use common::status::EnhancedCode;
use common::text::printable;
use std::borrow::Cow;
use std::fmt;

/// Longest text of one line of a reply, in octets: with code and line end within the 512 of RFC 5321
/// 4.5.3.1.5.
const MAX_TEXT: usize = 480;

/// Longest challenge, in octets of base64: with code and line end within the 12,288 of RFC 4954 4.
const MAX_CHALLENGE: usize = 12_282;

/// One reply; several lines are separated by `\n` in `text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: Cow<'static, str>,
}

impl Reply {
    /// A reply with a fixed text.
    pub const fn fixed(code: u16, enhanced: (u8, u16, u16), text: &'static str) -> Self {
        let (class, subject, detail) = enhanced;
        Self { code, enhanced: Some(EnhancedCode::new(class, subject, detail)), text: Cow::Borrowed(text) }
    }

    /// A reply with a made text.
    pub fn new(code: u16, enhanced: EnhancedCode, text: String) -> Self {
        Self { code, enhanced: Some(enhanced), text: Cow::Owned(text) }
    }

    /// A reply without an enhanced code: the greeting, HELO, EHLO and 354 have none (RFC 2034 4).
    pub const fn plain(code: u16, text: Cow<'static, str>) -> Self {
        Self { code, enhanced: None, text }
    }

    /// The same words with another code of the same class.
    #[must_use]
    pub fn with_code(&self, code: u16) -> Self {
        Self { code, ..self.clone() }
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Is it a refusal, for now or for good?
    pub fn is_error(&self) -> bool {
        self.code >= 400
    }

    /// Appends the wire form: every line with its code, CRLF at its end.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let separator = if lines.peek().is_some() { '-' } else { ' ' };
            out.extend_from_slice(format!("{}{separator}", self.code).as_bytes());
            if let Some(enhanced) = self.enhanced {
                out.extend_from_slice(format!("{enhanced} ").as_bytes());
            }
            let most = if self.code == 334 { MAX_CHALLENGE } else { MAX_TEXT };
            out.extend_from_slice(printable(line, most).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// As in a log line: `554 5.7.1 text`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, "{enhanced} ")?;
        }
        f.write_str(&printable(&self.text, MAX_TEXT))
    }
}

/// NOOP, RSET.
pub const OK: Reply = Reply::fixed(250, (2, 0, 0), "Ok");
/// MAIL accepted.
pub const SENDER_OK: Reply = Reply::fixed(250, (2, 1, 0), "Ok");
/// RCPT accepted.
pub const RECIPIENT_OK: Reply = Reply::fixed(250, (2, 1, 5), "Ok");
/// QUIT.
pub const BYE: Reply = Reply::fixed(221, (2, 0, 0), "Bye");
/// DATA: go on.
pub const START_CONTENT: Reply = Reply::plain(354, Cow::Borrowed("End data with <CR><LF>.<CR><LF>"));
/// HELP.
pub const HELP: Reply = Reply::fixed(
    214,
    (2, 0, 0),
    "Commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\nSee RFC 5321",
);
/// MAIL too early.
pub const HELLO_FIRST: Reply = Reply::fixed(503, (5, 5, 1), "Error: send HELO/EHLO first");
/// MAIL within a transaction.
pub const NESTED_MAIL: Reply = Reply::fixed(503, (5, 5, 1), "Error: nested MAIL command");
/// RCPT too early.
pub const NEED_MAIL: Reply = Reply::fixed(503, (5, 5, 1), "Error: need MAIL command");
/// DATA too early.
pub const NEED_RCPT: Reply = Reply::fixed(503, (5, 5, 1), "Error: need RCPT command");
/// DATA in a transaction whose content comes by BDAT (RFC 3030 2).
pub const DATA_AFTER_BDAT: Reply = Reply::fixed(503, (5, 5, 1), "Error: DATA after BDAT");
/// RCPT when content has begun to come.
pub const RCPT_AFTER_BDAT: Reply = Reply::fixed(503, (5, 5, 1), "Error: RCPT after BDAT");
/// DATA after all recipients were refused.
pub const NO_VALID_RECIPIENTS: Reply = Reply::fixed(554, (5, 5, 1), "Error: no valid recipients");
/// A verb that we know but do not offer.
pub const NOT_IMPLEMENTED: Reply = Reply::fixed(502, (5, 5, 1), "Error: command not implemented");
/// A verb that nobody knows.
pub const UNKNOWN_COMMAND: Reply = Reply::fixed(500, (5, 5, 2), "Error: command not recognized");
/// An empty command line.
pub const BAD_SYNTAX: Reply = Reply::fixed(500, (5, 5, 2), "Error: bad syntax");
/// A command line over the limit.
pub const LINE_TOO_LONG: Reply = Reply::fixed(500, (5, 5, 2), "Line too long");
/// A line feed inside a command line, which ends with CRLF and nothing else.
pub const BARE_LF: Reply = Reply::fixed(500, (5, 5, 2), "Error: bare <LF> received");
/// A carriage return inside a command line.
pub const BARE_CR: Reply = Reply::fixed(500, (5, 5, 2), "Error: bare <CR> received");
/// Octets in a command that neither names nor addresses have.
pub const BAD_CHARACTER: Reply =
    Reply::fixed(501, (5, 5, 2), "Error: control or non-ASCII character in command");
/// A command that is not UTF-8.
pub const BAD_UTF8: Reply = Reply::fixed(500, (5, 5, 2), "Error: bad UTF-8 syntax");
/// An address beyond ASCII in a transaction that was begun without SMTPUTF8 (RFC 6531 3.5).
pub const UTF8_NOT_DECLARED: Reply =
    Reply::fixed(553, (5, 6, 7), "Error: SMTPUTF8 is required for this address");
/// The client did not wait for its turn (RFC 2920 3.1).
pub const SYNCHRONIZATION: Reply = Reply::fixed(554, (5, 5, 0), "Error: SMTP protocol synchronization");
/// A browser or proxy speaks.
pub const NOT_SMTP: Reply = Reply::fixed(221, (2, 7, 0), "Error: I can break rules, too. Goodbye.");
/// The size limit, at MAIL and after the end of data.
pub const TOO_LARGE: Reply = Reply::fixed(552, (5, 3, 4), "Message size exceeds fixed limit");
/// No room in the queue.
pub const NO_SPACE: Reply = Reply::fixed(452, (4, 3, 1), "Insufficient system storage");
/// The queue file could not be written for another reason.
pub const WRITE_ERROR: Reply = Reply::fixed(451, (4, 3, 0), "Error: queue file write error");
/// The recipient limit.
pub const TOO_MANY_RECIPIENTS: Reply = Reply::fixed(452, (4, 5, 3), "Error: too many recipients");
/// A header over its limit.
pub const HEADER_TOO_LARGE: Reply = Reply::fixed(552, (5, 3, 4), "Error: header too large");
/// A line of content over its limit.
pub const TEXT_LINE_TOO_LONG: Reply = Reply::fixed(554, (5, 6, 0), "Error: line too long");
/// All sessions together hold as much as they may.
pub const NO_MEMORY: Reply = Reply::fixed(452, (4, 3, 1), "Insufficient system resources, try again later");
/// XCLIENT from a client that may not.
pub const NOT_AUTHORIZED: Reply = Reply::fixed(550, (5, 7, 0), "Error: insufficient authorization");
/// STARTTLS: the handshake comes next.
pub const START_TLS: Reply = Reply::fixed(220, (2, 0, 0), "Ready to start TLS");
/// STARTTLS within TLS.
pub const TLS_ACTIVE: Reply = Reply::fixed(554, (5, 5, 1), "Error: TLS already active");
/// AUTH went well.
pub const LOGIN_OK: Reply = Reply::fixed(235, (2, 7, 0), "Authentication successful");
/// AUTH: wrong name or password, or what a mechanism has in its place.
pub const LOGIN_FAILED: Reply = Reply::fixed(535, (5, 7, 8), "Error: authentication failed");
/// AUTH: for another time.
pub const NO_LOGIN_NOW: Reply = Reply::fixed(454, (4, 7, 0), "Temporary authentication failure");
/// AUTH: the mechanism does not understand what the client says.
pub const LOGIN_MALFORMED: Reply = Reply::fixed(501, (5, 5, 2), "Error: malformed authentication response");
/// AUTH: a response that is not base64.
pub const BAD_BASE64: Reply = Reply::fixed(501, (5, 5, 2), "Error: cannot decode base64");
/// AUTH: a response over the limit (RFC 4954 6).
pub const RESPONSE_TOO_LONG: Reply =
    Reply::fixed(500, (5, 5, 6), "Error: authentication exchange line is too long");
/// AUTH: the client has thought better of it.
pub const LOGIN_CANCELLED: Reply = Reply::fixed(501, (5, 7, 0), "Authentication aborted");
/// AUTH by something else.
pub const UNKNOWN_MECHANISM: Reply =
    Reply::fixed(504, (5, 5, 4), "Error: unrecognized authentication mechanism");
/// AUTH for the second time.
pub const LOGGED_IN: Reply = Reply::fixed(503, (5, 5, 1), "Error: already authenticated");
/// AUTH after HELO.
pub const EHLO_FIRST: Reply = Reply::fixed(503, (5, 5, 1), "Error: send EHLO first");
/// AUTH in plain text.
pub const NEEDS_TLS: Reply =
    Reply::fixed(538, (5, 7, 11), "Encryption required for requested authentication mechanism");
/// Where clients have to log in (RFC 4954 6).
pub const LOGIN_FIRST: Reply = Reply::fixed(530, (5, 7, 0), "Authentication required");
/// The same, where that is not done in plain text (RFC 3207 4).
pub const STARTTLS_FIRST: Reply = Reply::fixed(530, (5, 7, 0), "Must issue a STARTTLS command first");
/// XCLIENT within a transaction.
pub const IN_TRANSACTION: Reply = Reply::fixed(503, (5, 5, 1), "Error: MAIL transaction in progress");
/// More `Received` lines than a sane way has.
pub const TOO_MANY_HOPS: Reply = Reply::fixed(554, (5, 4, 6), "Error: too many hops");

const fn code(class: u8, subject: u16, detail: u16) -> EnhancedCode {
    EnhancedCode::new(class, subject, detail)
}

/// `220`.
pub fn greeting(hostname: &Domain) -> Reply {
    Reply::plain(220, Cow::Owned(format!("{hostname} ESMTP Ironpost")))
}

/// `334`: what an exchange says, in base64. `None`: more than a line may hold.
pub fn challenge(base64: &str) -> Option<Reply> {
    (base64.len() <= MAX_CHALLENGE).then(|| Reply::plain(334, Cow::Owned(base64.to_owned())))
}

/// `421`: the session ends. `enhanced` and `text` say why.
pub fn closing(enhanced: (u16, u16), hostname: &Domain, text: &str) -> Reply {
    Reply::new(421, code(4, enhanced.0, enhanced.1), format!("{hostname} {text}"))
}

/// `550`: a bare LF or CR in content.
pub fn bare_newline(hostname: &Domain, what: &str) -> Reply {
    Reply::new(550, code(5, 5, 2), format!("{hostname} Error: bare <{what}> received"))
}

/// `501 5.5.4 Syntax: …`.
pub const fn syntax(usage: &'static str) -> Reply {
    Reply::fixed(501, (5, 5, 4), usage)
}

/// `555 5.5.4`: a parameter of MAIL or RCPT that we do not offer.
pub fn unsupported_option(option: &str) -> Reply {
    Reply::new(555, code(5, 5, 4), format!("Unsupported option: {}", printable(option, 100)))
}

/// `250`: a chunk that is not the last one.
pub fn chunk_taken(octets: u64) -> Reply {
    Reply::new(250, code(2, 0, 0), format!("Ok: {octets} bytes"))
}

/// `250 2.0.0 Ok: queued as ID`.
pub fn queued(id: impl fmt::Display) -> Reply {
    Reply::new(250, code(2, 0, 0), format!("Ok: queued as {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_on_the_wire() {
        let host: Domain = "mail.example".parse().unwrap();
        for (reply, wire) in [
            (OK, "250 2.0.0 Ok\r\n".to_owned()),
            (
                HELP,
                "214-2.0.0 Commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n\
                 214 2.0.0 See RFC 5321\r\n"
                    .into(),
            ),
            (challenge("").unwrap(), "334 \r\n".into()),
            (challenge(&"A".repeat(12_282)).unwrap(), format!("334 {}\r\n", "A".repeat(12_282))),
            (START_CONTENT, "354 End data with <CR><LF>.<CR><LF>\r\n".into()),
            (greeting(&host), "220 mail.example ESMTP Ironpost\r\n".into()),
            (closing((4, 2), &host, "Error: x"), "421 4.4.2 mail.example Error: x\r\n".into()),
            (unsupported_option("X\r\n250 "), "555 5.5.4 Unsupported option: X\\x0d\\x0a250 \r\n".into()),
            (Reply::new(550, code(5, 1, 1), "x".repeat(600)), format!("550 5.1.1 {}\r\n", "x".repeat(480))),
        ] {
            let mut out = Vec::new();
            reply.write_to(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wire);
        }
    }
}
