//! What a session has written to the log, in the words that log tools know from Postfix.

use super::action::{Action, Severity};
use super::reply::Reply;
use super::{Phase, Session};

impl Session {
    pub(super) fn info(&mut self, line: String) {
        self.actions.push_back(Action::Log(Severity::Info, line));
    }

    pub(super) fn warn(&mut self, line: String) {
        self.actions.push_back(Action::Log(Severity::Warning, line));
    }

    /// `NOQUEUE: reject: RCPT from …`: Postfix's form, which log tools read.
    pub(super) fn log_reject(
        &mut self,
        what: &str,
        reply: &Reply,
        sender: Option<String>,
        recipient: Option<String>,
    ) {
        let mut line = format!("NOQUEUE: reject: {what} from {}: {reply};", self.client);
        for (key, value) in [("from", sender), ("to", recipient)] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}=<{value}>"));
            }
        }
        if let Some(hello) = &self.hello {
            line.push_str(&format!(" proto={} helo=<{}>", hello.protocol(), hello.name));
        }
        self.info(line);
    }

    /// `lost connection after RCPT from …`.
    pub(super) fn log_end(&mut self, what: &str) {
        let after = self.after.name();
        let line = match &self.phase {
            Phase::Content(content) | Phase::Chunks(content) => {
                format!("{what} after {after} ({} bytes) from {}", content.length, self.client)
            }
            _ => format!("{what} after {after} from {}", self.client),
        };
        self.info(line);
    }
}
