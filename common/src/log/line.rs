//! A log line and its forms. Pure.

use crate::config::LogFormat;
use crate::time::Timestamp;
use std::fmt::Write;

/// How serious.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// How things go.
    Info,
    /// We coped.
    Warning,
    /// An operator should act.
    Error,
    /// The program ends.
    Fatal,
}

impl Severity {
    /// What stands before the message, as in Postfix.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Info => "",
            Self::Warning => "warning: ",
            Self::Error => "error: ",
            Self::Fatal => "fatal: ",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// One line; the message is printable.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub time: Timestamp,
    pub program: &'static str,
    pub severity: Severity,
    pub message: String,
}

/// What is the same for all lines of a process.
#[derive(Debug, Clone)]
pub(super) struct Style {
    pub name: String,
    pub hostname: String,
    pub pid: u32,
    pub format: LogFormat,
}

impl Style {
    /// `ironpost/smtpd[123]: warning: …`, or the object of a structured log.
    pub fn body(&self, line: &Line) -> String {
        match self.format {
            LogFormat::Text => {
                format!(
                    "{}/{}[{}]: {}{}",
                    self.name,
                    line.program,
                    self.pid,
                    line.severity.prefix(),
                    line.message
                )
            }
            LogFormat::Json => self.json(line),
        }
    }

    /// A whole line of a file, with its newline.
    pub fn file_line(&self, stamp: &str, line: &Line) -> String {
        match self.format {
            LogFormat::Text => format!("{stamp} {} {}\n", self.hostname, self.body(line)),
            LogFormat::Json => format!("{}\n", self.json(line)),
        }
    }

    fn json(&self, line: &Line) -> String {
        let mut out = format!(
            r#"{{"time":"{}","host":{},"program":{},"pid":{},"severity":"{}""#,
            line.time.rfc3339(),
            quoted(&self.hostname),
            quoted(&format!("{}/{}", self.name, line.program)),
            self.pid,
            line.severity.name()
        );
        let id = line.message.split_once(": ").map(|(id, _)| id).filter(|id| is_queue_id(id));
        if let Some(id) = id {
            // Writing to a String cannot fail.
            let _ = write!(out, r#","queue_id":"{id}""#);
        }
        let _ = write!(out, r#","message":{}}}"#, quoted(&line.message));
        out
    }
}

/// Sixteen letters and digits: the shape of a queue ID.
fn is_queue_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A JSON string of printable ASCII.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_postfix_form_or_are_json() {
        let line = Line {
            time: Timestamp(0),
            program: "smtpd",
            severity: Severity::Warning,
            message: "0123456789BCDFGH: a \"b\" \\x0a".into(),
        };
        let mut style =
            Style { name: "ironpost".into(), hostname: "mx".into(), pid: 7, format: LogFormat::Text };
        assert_eq!(
            style.file_line("Jan  1 00:00:00", &line),
            "Jan  1 00:00:00 mx ironpost/smtpd[7]: warning: 0123456789BCDFGH: a \"b\" \\x0a\n"
        );
        style.format = LogFormat::Json;
        let json = style.file_line("", &line);
        assert!(
            json.contains(r#""queue_id":"0123456789BCDFGH","message":"0123456789BCDFGH: a \"b\" \\x0a"}"#),
            "{json}"
        );
    }
}
