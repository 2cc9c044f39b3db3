//! AUTH (RFC 4954): the dialogue, not the mechanisms. Who may log in, and with what, is for the driver to find out.
//!
//! Octets go to and fro in base64, a line each; `*` gives up. Nothing that a client says here reaches a log, a reply or a
//! `Debug`: it may be a password. What comes in one packet with AUTH, or with a response, ends the session: it was said before its
//! turn. After a handshake, and with another client, nobody is logged in any more.

use super::action::{Action, Answer, Question};
use super::commands::Done;
use super::line::Line;
use super::reply::{self, Reply};
use super::verbs::Rule;
use super::{Asked, Phase, Session};
use common::time::Timestamp;
use data_encoding::BASE64;
use std::fmt;
use std::sync::Arc;

/// Longest response with its CRLF, in octets (RFC 4954 4): only lines of the dialogue may be so long, no commands.
pub const MAX_RESPONSE: usize = 12_288;
/// Longest name of a mechanism (RFC 4422 3.1).
const MAX_MECHANISM: usize = 20;

/// What an exchange says, in octets: perhaps a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

/// How long it is, and no more.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} octets)", self.0.len())
    }
}

/// Is there authentication?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// No: AUTH is not known here.
    Absent,
    /// Once the connection is encrypted.
    NeedsTls,
    /// By these mechanisms, strongest first; none: it cannot be had for now.
    Mechanisms(Arc<[String]>),
}

/// Who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name, printable.
    pub name: Arc<str>,
    /// The mechanism; `XCLIENT` when a host in front of us says so.
    pub method: Arc<str>,
}

impl Session {
    /// What there is of authentication from now on. `required`: nothing is taken from clients that have not logged in.
    pub fn offer_auth(&mut self, offer: Offer, required: bool) {
        (self.auth, self.auth_required) = (offer, required);
    }

    /// Who has logged in.
    pub fn login(&self) -> Option<&Arc<Login>> {
        self.login.as_ref()
    }

    /// Is the client to go on with AUTH?
    pub fn awaits_response(&self) -> bool {
        matches!(self.phase, Phase::Dialogue)
    }

    /// The mechanisms for the reply to EHLO: where there is nothing to choose from, none.
    pub(super) fn mechanisms(&self) -> &[String] {
        match &self.auth {
            Offer::Mechanisms(mechanisms) if self.login.is_none() => mechanisms,
            _ => &[],
        }
    }

    /// Why this command is not for clients that have not logged in (RFC 4954 6).
    pub(super) fn login_missing(&self, rule: &Rule) -> Option<Reply> {
        if rule.anonymous || !self.auth_required || self.login.is_some() {
            return None;
        }
        Some(if self.auth == Offer::NeedsTls { reply::STARTTLS_FIRST } else { reply::LOGIN_FIRST })
    }

    pub(super) fn auth(&mut self, args: &[u8]) -> Result<Done, Reply> {
        let Offer::Mechanisms(mechanisms) = &self.auth else { return Err(reply::NEEDS_TLS) };
        if self.login.is_some() {
            return Err(reply::LOGGED_IN);
        }
        if !self.hello.as_ref().is_some_and(|hello| hello.extended) {
            return Err(reply::EHLO_FIRST);
        }
        let mut words = args.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
        let (Some(mechanism), initial, None) = (words.next(), words.next(), words.next()) else {
            return Err(reply::syntax("Syntax: AUTH mechanism [initial-response]"));
        };
        let plain = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if mechanism.len() > MAX_MECHANISM || !mechanism.iter().all(plain) {
            return Err(reply::UNKNOWN_MECHANISM);
        }
        let mechanism = String::from_utf8_lossy(mechanism).to_ascii_uppercase();
        if mechanisms.is_empty() {
            return Err(reply::NO_LOGIN_NOW);
        }
        if !mechanisms.contains(&mechanism) {
            return Err(reply::UNKNOWN_MECHANISM);
        }
        let initial = match initial {
            None => None,
            // RFC 4954 4: a response that is there, and empty.
            Some(b"=") => Some(Secret(Vec::new())),
            Some(text) => Some(Secret(BASE64.decode(text).map_err(|_| reply::BAD_BASE64)?)),
        };
        self.ask(Asked::Login, Question::Login { mechanism, initial });
        Ok(Done::Silent)
    }

    pub(super) fn login_answered(&mut self, answer: Answer) {
        self.phase = Phase::Idle;
        match answer {
            Answer::Challenge(octets) => match reply::challenge(&BASE64.encode(&octets)) {
                Some(challenge) => {
                    self.say(challenge);
                    self.phase = Phase::Dialogue;
                }
                None => self.end_dialogue(reply::NO_LOGIN_NOW),
            },
            Answer::LoggedIn(login) => {
                self.login = Some(Arc::new(login));
                self.accept(reply::LOGIN_OK);
            }
            Answer::Refused(reply) if reply.code() == 421 => self.close(reply),
            Answer::Refused(reply) => self.refuse_by_class(reply),
            _ => self.refuse_by_class(reply::NO_LOGIN_NOW),
        }
        if !self.is_closed() {
            self.actions.push_back(Action::Flush);
        }
    }

    /// Takes a line of the dialogue.
    pub(super) fn receive_response(&mut self, input: &[u8], now: Timestamp) -> usize {
        let mut reader = std::mem::take(&mut self.line);
        let (used, line) = reader.take(input, MAX_RESPONSE);
        if line == Line::Partial {
            self.partial(used);
            self.line = reader;
            return used;
        }
        self.progress(now);
        self.endless = 0;
        let pipelined = used < input.len();
        match line {
            Line::Partial => {}
            Line::Whole(_) if pipelined => self.out_of_turn(b""),
            Line::Whole(b"*") => self.end_dialogue(reply::LOGIN_CANCELLED),
            Line::Whole(text) => match BASE64.decode(text) {
                Ok(octets) => self.ask(Asked::Login, Question::Response(Secret(octets))),
                Err(_) => self.end_dialogue(reply::BAD_BASE64),
            },
            Line::TooLong { .. } => self.end_dialogue(reply::RESPONSE_TOO_LONG),
            Line::BareLf { .. } => {
                self.warn(format!("bare <LF> in an authentication exchange with {}", self.client));
                self.end_dialogue(reply::BARE_LF);
            }
        }
        reader.release();
        self.line = reader;
        self.check_patience();
        used
    }

    /// The exchange is over without a login, and the driver need not think of it any more.
    fn end_dialogue(&mut self, reply: Reply) {
        self.phase = Phase::Idle;
        self.actions.push_back(Action::EndLogin);
        self.refuse(reply);
        self.actions.push_back(Action::Flush);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Client, Session, Settings};

    #[test]
    fn nothing_that_is_a_password_can_be_printed() {
        let settings = Settings::new("mail.example".parse().unwrap(), "example".parse().unwrap());
        let client = Client::new("192.0.2.1".parse().unwrap());
        let mut session = Session::new(Arc::new(settings), client, Timestamp(0));
        session.offer_auth(Offer::Mechanisms(["PLAIN".to_owned()].into()), false);
        let asked = |session: &mut Session| {
            std::iter::from_fn(|| session.next_action())
                .filter_map(|action| match action {
                    Action::Ask(token, question) => Some((token, question)),
                    _ => None,
                })
                .last()
                .unwrap()
        };
        for line in ["", "", "EHLO a\r\n"] {
            let _ = session.receive(line.as_bytes(), Timestamp(0));
            let (token, _) = asked(&mut session);
            session.answer(token, Answer::Yes, Timestamp(0));
        }
        while session.next_action().is_some() {}
        // Half a line, the whole of it, and the question that comes of it.
        let _ = session.receive(b"AUTH PLAIN AGpvZQBz", Timestamp(0));
        let mut shown = format!("{session:?}");
        let _ = session.receive(b"ZWNyZXQ=\r\n", Timestamp(0));
        let (_, question) = asked(&mut session);
        assert!(
            matches!(&question, Question::Login { initial: Some(Secret(said)), .. } if said == b"\0joe\0secret")
        );
        shown += &format!("{question:?} {session:?}");
        for secret in ["AGpvZQBz", "ZWNyZXQ", "secret", "115, 101, 99"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
