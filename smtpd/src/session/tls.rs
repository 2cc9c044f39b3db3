//! STARTTLS (RFC 3207), and TLS from the first octet.
//!
//! After the handshake nothing that was said before it counts (RFC 3207 4.2): no name, no login, no transaction, no half a line. What
//! comes in one packet with STARTTLS is refused with the session (CVE-2011-0411).

use super::action::Question;
use super::commands::Done;
use super::line::LineReader;
use super::reply::{self, Reply};
use super::{After, Asked, Phase, Session};
use common::time::Timestamp;
use common::tls::Parameters;
use std::sync::Arc;

/// How far encryption is.
#[derive(Debug)]
pub(super) enum Tls {
    /// Not to be had here.
    Absent,
    /// STARTTLS is offered.
    Offered,
    /// The connection is encrypted.
    Active(Arc<Parameters>),
}

impl Session {
    /// STARTTLS is to be had from now on.
    pub fn offer_starttls(&mut self) {
        self.tls = Tls::Offered;
    }

    /// The handshake is done: the one that was asked for, or one before the greeting.
    pub fn secured(&mut self, parameters: Parameters, now: Timestamp) {
        if matches!(self.phase, Phase::Asked(Asked::Handshake)) {
            self.phase = Phase::Idle;
            self.hello = None;
            self.login = None;
            self.line = LineReader::default();
            self.progress(now);
        }
        if let Some(shown) = parameters.client.shown() {
            if let Some(why) = &shown.distrust {
                self.info(format!("certificate verification failed for {}: {why}", self.client));
            }
            self.info(format!("{}: {shown}", self.client));
        }
        let word = parameters.client.word();
        let resumed = if parameters.resumed { ", resumed" } else { "" };
        self.info(format!("{word} TLS connection established from {}: {parameters}{resumed}", self.client));
        self.tls = Tls::Active(Arc::new(parameters));
    }

    /// The encryption, where there is one.
    pub(super) fn tls(&self) -> Option<Arc<Parameters>> {
        match &self.tls {
            Tls::Active(parameters) => Some(parameters.clone()),
            Tls::Absent | Tls::Offered => None,
        }
    }

    pub(super) fn offers_tls(&self) -> bool {
        matches!(self.tls, Tls::Offered)
    }

    pub(super) fn start_tls(&mut self, args: &[u8]) -> Result<Done, Reply> {
        match self.tls {
            Tls::Absent => return Err(reply::NOT_IMPLEMENTED),
            Tls::Active(_) => return Err(reply::TLS_ACTIVE),
            Tls::Offered if !args.is_empty() => return Err(reply::syntax("Syntax: STARTTLS")),
            Tls::Offered => {}
        }
        self.reset();
        if let After::Verb(verb) = self.after {
            self.tally.went_well(verb);
        }
        self.say(reply::START_TLS);
        self.ask(Asked::Handshake, Question::Handshake);
        Ok(Done::Silent)
    }
}
