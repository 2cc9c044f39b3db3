//! Reading everything anew while a daemon runs: who can ask for it, and what comes of it.
//!
//! | module | holds |
//! | --- | --- |
//! | this one | the daemons' names; a wish to reload; the report of what came of it; how a daemon is |
//! | [`door`] | the daemon's side of `ironpost reload` and `ironpost status`: a socket of its own, files handed over |
//! | [`call`] | the command's side |
//!
//! SIGHUP asks, too, and hands nothing over. Either way a daemon reports the same: to its log, line by line, and to whoever waits for it.
//! What is broken changes nothing: the old one stays in force, and the report says what and why.

pub mod call;
pub mod door;

use crate::text::printable;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::mpsc::SyncSender;

/// Most lines of a report, and most octets of a line: it has to fit into one packet.
const MAX_LINES: usize = 100;
const MAX_LINE: usize = 1000;

/// One of the daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Daemon {
    /// The SMTP server.
    Smtpd,
    /// The queue manager.
    Queued,
    /// Delivery to other hosts.
    DeliverdSmtp,
    /// Delivery to mailboxes.
    DeliverdLocal,
}

impl Daemon {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Smtpd, Self::DeliverdSmtp, Self::DeliverdLocal];

    /// For people, and as it is started.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtpd => "smtpd",
            Self::Queued => "queued",
            Self::DeliverdSmtp => "deliverd smtp",
            Self::DeliverdLocal => "deliverd local",
        }
    }

    /// As in the name of its systemd unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Smtpd => "smtpd",
            Self::Queued => "queued",
            Self::DeliverdSmtp => "deliverd-smtp",
            Self::DeliverdLocal => "deliverd-local",
        }
    }

    /// The name of its socket; short, because the length of a socket's path is limited.
    pub fn socket(self) -> &'static str {
        match self {
            Self::Smtpd => "smtpd",
            Self::Queued => "queued",
            Self::DeliverdSmtp => "smtp",
            Self::DeliverdLocal => "local",
        }
    }
}

/// How a daemon is, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which Ironpost it is of.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it runs.
    pub since: Timestamp,
    /// What an admin should do something about; printable, one line each.
    pub warnings: Vec<String>,
}

impl State {
    /// Of this process. Only so much of the warnings as fits into a packet.
    pub fn of(since: Timestamp, warnings: Vec<String>) -> Self {
        let warnings = warnings.iter().take(MAX_LINES).map(|text| printable(text, MAX_LINE)).collect();
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id(), since, warnings }
    }
}

/// Somebody wants everything read anew, and may wait to hear what came of it.
#[derive(Debug, Default)]
pub struct Wish(Option<SyncSender<Report>>);

impl Wish {
    /// Of somebody who waits at the other end.
    pub fn of(waiting: SyncSender<Report>) -> Self {
        Self(Some(waiting))
    }

    /// Tells.
    pub fn answer(self, report: Report) {
        if let Some(waiting) = self.0 {
            // Whoever does not wait any more can read it in the log.
            let _ = waiting.send(report);
        }
    }
}

/// What came of a reload. Each line is logged as it is added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    lines: Vec<Line>,
}

/// A line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// This is in force now.
    Done(String),
    /// This takes effect at the next start.
    Later(String),
    /// This was broken; the old one stays in force.
    Kept(String),
}

impl Line {
    /// The text.
    pub fn text(&self) -> &str {
        let (Self::Done(text) | Self::Later(text) | Self::Kept(text)) = self;
        text
    }
}

impl Report {
    /// The configuration as a whole is not taken. Only the first line of the error: the picture with the caret is for `ironpost check`.
    pub fn refused(error: &str) -> Self {
        let mut report = Self::default();
        let error = error.lines().next().unwrap_or_default();
        report.kept(&format!("configuration not read anew, the old one stays in force: {error}"));
        report
    }

    /// The configuration is in force.
    pub fn taken(&mut self) {
        self.done("configuration read anew");
    }

    /// Something is in force.
    pub fn done(&mut self, text: &str) {
        crate::info!("{text}");
        self.add(text, Line::Done);
    }

    /// Something has changed that this daemon reads at its start only.
    pub fn later(&mut self, what: &str, daemon: Daemon) {
        let text = format!("{what} has changed: this takes effect when {} is started again", daemon.name());
        crate::warn!("{text}");
        self.add(&text, Line::Later);
    }

    /// Something is broken and was not taken.
    pub fn kept(&mut self, text: &str) {
        crate::error!("{text}");
        self.add(text, Line::Kept);
    }

    /// What to tell.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Is everything in force, now or at the next start?
    pub fn is_whole(&self) -> bool {
        !self.lines.iter().any(|line| matches!(line, Line::Kept(_)))
    }

    fn add(&mut self, text: &str, line: fn(String) -> Line) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(line(printable(text, MAX_LINE)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::packet::MAX_PACKET;

    #[test]
    fn a_report_fits_into_a_packet_whatever_happens() {
        let mut report = Report::refused("x.toml:1:1: wrong\n  |\n1 | ^");
        assert_eq!(
            report.lines(),
            [Line::Kept("configuration not read anew, the old one stays in force: x.toml:1:1: wrong".into())]
        );
        report.taken();
        assert!(!report.is_whole());
        for _ in 0..1000 {
            report.kept(&"\u{1F600}\n".repeat(2000));
        }
        let bytes = codec::encode(&report).unwrap();
        assert!(bytes.len() < MAX_PACKET, "{}", bytes.len());
        assert_eq!(codec::decode::<Report, MAX_PACKET>(&bytes).unwrap(), report);
        let mut good = Report::default();
        good.taken();
        good.later("smtpd.listen", Daemon::Smtpd);
        assert!(good.is_whole());
        assert_eq!(
            good.lines()[1].text(),
            "smtpd.listen has changed: this takes effect when smtpd is started again"
        );
    }
}
