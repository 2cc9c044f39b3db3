//! Where log lines go: syslog, standard error, a file.

use super::line::{Line, Severity, Style};
use crate::config::LogTo;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use syslog::{Facility, LogFormat as SyslogFormat, Logger, LoggerBackend};

const DEV_LOG: &str = "/dev/log";

pub(super) struct Sink {
    style: Style,
    target: Target,
    /// The stamp of the last line, which most often serves the next one too.
    stamp: (i64, String),
    buffer: Vec<u8>,
}

enum Target {
    Stderr,
    File(PathBuf, File),
    /// `None` while /dev/log is away.
    Syslog(Option<Logger<LoggerBackend, Rfc3164>>),
}

impl Sink {
    pub fn open(to: &LogTo, style: Style) -> io::Result<Self> {
        let target = match to {
            LogTo::Stderr => Target::Stderr,
            LogTo::File(path) => Target::File(path.clone(), open_file(path)?),
            LogTo::Syslog => Target::Syslog(connect()),
        };
        Ok(Self { style, target, stamp: (i64::MIN, String::new()), buffer: Vec::new() })
    }

    /// Can writing take for ever?
    pub fn may_hang(&self) -> bool {
        matches!(self.target, Target::Syslog(_))
    }

    /// Takes a line; syslog gets it at once, the others with the batch.
    pub fn add(&mut self, line: &Line) {
        if self.stamp.0 != line.time.seconds() {
            self.stamp = (line.time.seconds(), line.time.syslog());
        }
        if let Target::Syslog(logger) = &mut self.target {
            let text = (self.stamp.1.as_str(), self.style.body(line));
            // The daemon may have been restarted: connect anew once for each line that cannot be sent.
            if !logger.as_mut().is_some_and(|logger| send(logger, line.severity, &text)) {
                *logger = connect();
                if !logger.as_mut().is_some_and(|logger| send(logger, line.severity, &text))
                    && line.severity != Severity::Info
                {
                    eprintln!("{}", text.1);
                }
            }
        } else {
            self.style.add_file_line(&self.stamp.1, line, &mut self.buffer);
        }
    }

    /// Writes the batch. A line that cannot be written is lost: there is no other place to say so.
    pub fn write(&mut self) {
        let _ = match &mut self.target {
            Target::Stderr => io::stderr().write_all(&self.buffer),
            Target::File(_, file) => file.write_all(&self.buffer),
            Target::Syslog(_) => Ok(()),
        };
        self.buffer.clear();
    }

    pub fn reopen(&mut self) {
        if let Target::File(path, file) = &mut self.target {
            // After privileges are dropped the file may be out of reach: then the open one serves on.
            if let Ok(new) = open_file(path) {
                *file = new;
            }
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(|e| io::Error::new(e.kind(), format!("cannot open the log {}: {e}", path.display())))
}

fn connect() -> Option<Logger<LoggerBackend, Rfc3164>> {
    syslog::unix_custom(Rfc3164, DEV_LOG).ok()
}

fn send(logger: &mut Logger<LoggerBackend, Rfc3164>, severity: Severity, text: &(&str, String)) -> bool {
    match severity {
        Severity::Info => logger.info(text),
        Severity::Warning => logger.warning(text),
        Severity::Error => logger.err(text),
        Severity::Fatal => logger.crit(text),
    }
    .is_ok()
}

/// `<22>Nov 22 14:45:02 ironpost/smtpd[123]: …` in local time (RFC 3164 4.1; without host name, as for a local socket).
#[derive(Clone)]
struct Rfc3164;

impl SyslogFormat<&(&str, String)> for Rfc3164 {
    fn format<W: Write>(
        &self,
        w: &mut W,
        severity: syslog::Severity,
        text: &(&str, String),
    ) -> syslog::Result<()> {
        let priority = Facility::LOG_MAIL as u8 | severity as u8;
        // One write_fmt is one datagram.
        write!(w, "<{priority}>{} {}", text.0, text.1).map_err(syslog::Error::Write)
    }
}
