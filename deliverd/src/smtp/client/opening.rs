//! From the connection to a session that is ready for mail: greeting, EHLO or HELO, STARTTLS and EHLO again.
//!
//! After the handshake nothing that was said before it counts (RFC 3207 4.2): capabilities are forgotten, and a reply that
//! waits to be read ends the session. Where TLS is a must, no command but EHLO, HELO, STARTTLS and QUIT goes out in plain text.

use super::action::Step;
use super::capabilities::Capabilities;
use super::reply::{Reply, ReplyParser};
use super::{Client, State, verdict};
use common::status::Status;
use std::collections::VecDeque;

/// What must be fulfilled before the first transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// TLS?
    pub encryption: Encryption,
}

/// Whether and when to encrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Never.
    Never,
    /// When the server offers STARTTLS and does not refuse it.
    IfOffered,
    /// By STARTTLS, or not at all.
    Required,
    /// Before the greeting (RFC 8314 3).
    FromStart,
}

/// Why a session did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For all recipients, if there is no other host.
    pub status: Status,
    /// Whose fault it is.
    pub cause: Cause,
}

/// What a session failed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server does not want to, or cannot, talk to us.
    Server,
    /// A handshake failed: without TLS it might work.
    Handshake,
}

impl Refusal {
    pub(super) fn unwilling(status: Status) -> Self {
        Self { status, cause: Cause::Server }
    }
}

impl Client {
    /// The handshake is done, and the server is who it must be: everything starts anew, encrypted.
    pub fn secured(&mut self) {
        if !matches!(self.state, State::Handshake) {
            return;
        }
        self.progress += 1;
        self.secure = true;
        self.offered = Capabilities::default();
        self.parser = ReplyParser::default();
        self.state = State::Opening;
        if self.terms.encryption == Encryption::FromStart {
            self.awaited = VecDeque::from([Step::Greeting]);
        } else {
            self.send(Step::Ehlo);
        }
    }

    /// The handshake failed; `what` is for the status.
    pub fn handshake_failed(&mut self, what: &str) {
        if matches!(self.state, State::Handshake) {
            let text = format!("Cannot start TLS: handshake failure ({what})");
            let status = verdict::tls_failed(&self.peer, &text);
            self.refused = Some(Refusal { status, cause: Cause::Handshake });
        }
        self.shut();
    }

    /// The handshake was done, and the server is not who it must be.
    pub fn distrusted(&mut self, what: &str) {
        if matches!(self.state, State::Handshake) {
            self.refused = Some(Refusal::unwilling(verdict::tls_failed(&self.peer, what)));
        }
        self.shut();
    }

    /// Is the connection encrypted?
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    pub(super) fn opening(&mut self, reply: &Reply, step: Step) {
        self.state = State::Opening;
        match (step, reply.class()) {
            (Step::Greeting, 2) => self.send(Step::Ehlo),
            // RFC 5321 3.2: a server that does not know EHLO gets HELO.
            (Step::Ehlo, 5) => self.send(Step::Helo),
            (Step::Ehlo, 2) => {
                self.offered = Capabilities::from_reply(reply);
                self.greeted();
            }
            (Step::Helo, 2) => self.greeted(),
            (Step::StartTls, 2) if reply.code() == 220 => self.state = State::Handshake,
            (Step::StartTls, 4 | 5) if self.terms.encryption == Encryption::Required => {
                self.refuse(verdict::tls_refused(&self.peer, reply));
            }
            (Step::StartTls, 4 | 5) => self.ready(),
            (_, 4 | 5) => self.refuse(verdict::unwilling(&self.peer, reply, step.phase())),
            _ => self.out_of_place(reply, step.phase()),
        }
    }

    /// EHLO or HELO was answered.
    fn greeted(&mut self) {
        let wanted = matches!(self.terms.encryption, Encryption::IfOffered | Encryption::Required);
        if wanted && !self.secure && self.offered.starttls {
            self.send(Step::StartTls);
        } else if self.terms.encryption == Encryption::Required && !self.secure {
            self.refuse(verdict::tls_not_offered(&self.peer));
        } else {
            self.ready();
        }
    }

    fn ready(&mut self) {
        self.state = State::Idle;
    }

    /// The session ends with QUIT before it was one.
    fn refuse(&mut self, status: Status) {
        self.refused = Some(Refusal::unwilling(status));
        self.state = State::Refused;
    }

    fn send(&mut self, step: Step) {
        self.unsent.push_back(step);
        self.send_commands();
    }
}

#[cfg(test)]
mod tests;
