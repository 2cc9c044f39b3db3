//! A log line and its forms. Pure.

use crate::config::LogFormat;
use crate::time::Timestamp;
use std::fmt::Write as _;
use std::io::Write as _;

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

    /// Adds a whole line of a file, with its newline.
    pub fn add_file_line(&self, stamp: &str, line: &Line, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = match self.format {
            LogFormat::Text => {
                let Self { name, hostname, pid, .. } = self;
                let (program, prefix) = (line.program, line.severity.prefix());
                writeln!(out, "{stamp} {hostname} {name}/{program}[{pid}]: {prefix}{}", line.message)
            }
            LogFormat::Json => writeln!(out, "{}", self.json(line)),
        };
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
        let file_line = |style: &Style, stamp| {
            let mut out = Vec::new();
            style.add_file_line(stamp, &line, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            file_line(&style, "Jan  1 00:00:00"),
            "Jan  1 00:00:00 mx ironpost/smtpd[7]: warning: 0123456789BCDFGH: a \"b\" \\x0a\n"
        );
        style.format = LogFormat::Json;
        let json = file_line(&style, "");
        assert!(
            json.contains(r#""queue_id":"0123456789BCDFGH","message":"0123456789BCDFGH: a \"b\" \\x0a"}"#),
            "{json}"
        );
    }
}
