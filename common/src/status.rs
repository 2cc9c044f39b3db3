//! One status value from the wire to the log to the bounce: what happened to a recipient, with its enhanced status code
//! (RFC 3463) and the words of whoever decided. Replies, `status=` in the log and the DSN all print it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `class.subject.detail` (RFC 3463 2): class 2, 4 or 5; the others at most three digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u8, u16, u16)", into = "(u8, u16, u16)")]
pub struct EnhancedCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedCode {
    /// A code from constants; a class other than 2, 4, 5 is a bug of the caller and fails at compile time in `const` use.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        assert!(matches!(class, 2 | 4 | 5) && subject < 1000 && detail < 1000);
        Self { class, subject, detail }
    }

    /// 2: success, 4: transient, 5: permanent.
    pub fn class(self) -> u8 {
        self.class
    }

    /// The second number.
    pub fn subject(self) -> u16 {
        self.subject
    }

    /// The third number.
    pub fn detail(self) -> u16 {
        self.detail
    }

    /// The same subject and detail in another class (for instance when a reply's class and its code disagree).
    #[must_use]
    pub fn with_class(self, outcome: Outcome) -> Self {
        Self { class: outcome.class(), ..self }
    }
}

impl TryFrom<(u8, u16, u16)> for EnhancedCode {
    type Error = &'static str;
    fn try_from((class, subject, detail): (u8, u16, u16)) -> Result<Self, Self::Error> {
        if matches!(class, 2 | 4 | 5) && subject < 1000 && detail < 1000 {
            Ok(Self { class, subject, detail })
        } else {
            Err("not an enhanced status code")
        }
    }
}

impl From<EnhancedCode> for (u8, u16, u16) {
    fn from(code: EnhancedCode) -> Self {
        (code.class, code.subject, code.detail)
    }
}

impl FromStr for EnhancedCode {
    type Err = &'static str;
    /// Reads `5.1.1`, strictly: three numbers of one to three digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.').map(|part| {
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            if digits { part.parse::<u16>().ok() } else { None }
        });
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(class)), Some(Some(subject)), Some(Some(detail)), None) => {
                (u8::try_from(class).unwrap_or(0), subject, detail).try_into()
            }
            _ => Err("not an enhanced status code"),
        }
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// What an attempt came to for one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// The next hop or mailbox has it.
    Delivered,
    /// Not now; tried again later.
    Deferred,
    /// Not ever; bounced.
    Failed,
}

impl Outcome {
    /// The class digit of replies and codes: 2, 4, 5.
    pub fn class(self) -> u8 {
        match self {
            Self::Delivered => 2,
            Self::Deferred => 4,
            Self::Failed => 5,
        }
    }

    /// The outcome that a class digit means; anything but 2 and 5 is treated as "not now".
    pub fn from_class(class: u8) -> Self {
        match class {
            2 => Self::Delivered,
            5 => Self::Failed,
            _ => Self::Deferred,
        }
    }

    /// The word in `status=` (Postfix's).
    pub fn log_word(self) -> &'static str {
        match self {
            Self::Delivered => "sent",
            Self::Deferred => "deferred",
            Self::Failed => "bounced",
        }
    }
}

/// Longest text kept of what the other side said, in octets.
pub const MAX_STATUS_TEXT: usize = 1000;

/// The result of one attempt for one recipient. `text` is printable ASCII, at most [`MAX_STATUS_TEXT`] octets. What is read (from a
/// queue file, from a process that may be less trusted) is made so: these texts go into logs, notifications and terminals as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Unchecked")]
pub struct Status {
    /// Delivered, deferred or failed; always agrees with the class of `code`.
    pub outcome: Outcome,
    /// Enhanced status code.
    pub code: EnhancedCode,
    /// What happened in words; for replies `host NAME[IP] said: 550 … (in reply to RCPT TO command)`.
    pub text: String,
    /// The host that said it, as `name[ip]:port`; `None` when we decided ourselves.
    pub remote: Option<String>,
    /// The reply as it came, for `Diagnostic-Code: smtp;` (RFC 3464 2.3.6); `None` when we decided ourselves.
    pub reply: Option<String>,
}

/// A [`Status`] as its octets have it.
#[derive(Deserialize)]
struct Unchecked {
    outcome: Outcome,
    code: EnhancedCode,
    text: String,
    remote: Option<String>,
    reply: Option<String>,
}

impl From<Unchecked> for Status {
    fn from(read: Unchecked) -> Self {
        let tame = |text: String| {
            let fits = text.len() <= MAX_STATUS_TEXT && text.bytes().all(|b| (32..127).contains(&b));
            if fits { text } else { crate::text::printable(&text, MAX_STATUS_TEXT) }
        };
        Self {
            outcome: read.outcome,
            code: read.code.with_class(read.outcome),
            text: tame(read.text),
            remote: read.remote.map(tame),
            reply: read.reply.map(tame),
        }
    }
}

impl Status {
    /// A status of our own making. `code`'s class decides the outcome.
    pub fn local(code: EnhancedCode, text: impl AsRef<str>) -> Self {
        Self {
            outcome: Outcome::from_class(code.class()),
            code,
            text: crate::text::printable(text.as_ref(), MAX_STATUS_TEXT),
            remote: None,
            reply: None,
        }
    }

    /// The same, turned into a final failure (lifetime over, for instance).
    #[must_use]
    pub fn into_failed(self) -> Self {
        Self { outcome: Outcome::Failed, code: self.code.with_class(Outcome::Failed), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_strictly() {
        for (text, good) in [
            ("2.0.0", true),
            ("5.1.10", true),
            ("4.999.999", true),
            ("3.0.0", false),
            ("5.1", false),
            ("5.1.1.1", false),
            ("5.1.", false),
            ("5.1000.1", false),
            ("5.+1.1", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<EnhancedCode>().is_ok(), good, "{text}");
            if good {
                assert_eq!(text.parse::<EnhancedCode>().unwrap().to_string(), text);
            }
        }
    }

    #[test]
    fn texts_of_status_are_printable() {
        let status = Status::local(EnhancedCode::new(4, 3, 0), "bad\r\nFrom: x\x1b[31m");
        assert!(status.text.bytes().all(|b| (32..127).contains(&b)));
        assert_eq!(status.into_failed().code.to_string(), "5.3.0");
    }

    #[test]
    fn statuses_from_other_processes_are_made_printable() {
        let good = Status {
            remote: Some("x[192.0.2.1]:25".into()),
            reply: Some("550 no".into()),
            ..Status::local(EnhancedCode::new(5, 1, 1), "host x[192.0.2.1] said: 550 no")
        };
        let bad = Status {
            outcome: Outcome::Deferred,
            text: "x\r\nFrom: y".into(),
            remote: Some("a\u{1b}[2J".into()),
            reply: Some("\u{e9}".repeat(1000)),
            ..good.clone()
        };
        let read = |status: &Status| {
            crate::codec::decode::<Status, 10_000>(&crate::codec::encode(status).unwrap()).unwrap()
        };
        assert_eq!(read(&good), good);
        let read = read(&bad);
        assert_eq!((read.text.as_str(), read.remote.as_deref()), ("x\\x0d\\x0aFrom: y", Some("a\\x1b[2J")));
        assert!(read.reply.is_some_and(|reply| reply.is_ascii() && reply.len() == MAX_STATUS_TEXT));
        assert_eq!(read.code.to_string(), "4.1.1", "outcome and code agree");
    }
}
