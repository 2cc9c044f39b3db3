//! From the connection to a session that is ready for mail: greeting, EHLO or HELO, STARTTLS and EHLO again, AUTH.
//!
//! After the handshake nothing that was said before it counts (RFC 3207 4.2): capabilities are forgotten, and a reply that
//! waits to be read ends the session. Where TLS is a must, no command but EHLO, HELO, STARTTLS and QUIT goes out in plain text.
//! A password (or token) goes out encrypted, to the server that the policy names, unless its line in the table says otherwise.

use super::action::Step;
use super::bearer;
use super::capabilities::Capabilities;
use super::reply::{Reply, ReplyParser};
use super::sasl::{Exchange, Login};
use super::{Client, State, verdict};
use common::status::Status;
use common::text::printable;
use data_encoding::BASE64;
use std::collections::VecDeque;

/// Longest mechanism and initial response, together, of an AUTH command: its line may have 512 octets (RFC 5321 4.5.3.1.4).
const FIRST: usize = 512 - "AUTH  \r\n".len();

/// What must be fulfilled before the first transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// TLS?
    pub encryption: Encryption,
    /// With which name and password or token to log in; `None`: not at all.
    pub login: Option<Login>,
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
    /// Name and password were refused, or not sent.
    Login,
    /// The token was refused: another one may be taken.
    Token,
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
            (Step::StartTls, 4 | 5) => self.authenticate(),
            (Step::Auth, 3) if reply.code() == 334 => self.challenged(reply),
            (Step::Auth, 2) => self.logged_in(),
            (Step::Auth, 4 | 5) => self.login_refused(reply),
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
            self.authenticate();
        }
    }

    /// Encrypted or not, this is how it stays.
    fn authenticate(&mut self) {
        let Some(login) = self.terms.login.clone() else {
            self.state = State::Idle;
            return;
        };
        if !self.secure && !login.credentials.is_insecure() {
            return self.give_up_login("the connection is not encrypted, so the password is not sent", true);
        }
        let password = login.secret();
        // Shorter ones would make a riddle of every reply.
        if password.len() >= 4 {
            self.secrets.push(password.into());
            self.secrets.push(printable(password, usize::MAX).into());
        }
        let with_token = login.token.is_some();
        let Some((exchange, name, first)) = Exchange::begin(login, self.offered.auth, &self.peer) else {
            let missing = match with_token {
                true => "it offers neither OAUTHBEARER nor XOAUTH2",
                false => "it offers none of SCRAM-SHA-256, PLAIN and LOGIN",
            };
            return self.give_up_login(missing, true);
        };
        self.exchange = Some(exchange);
        self.output.extend_from_slice(b"AUTH ");
        self.output.extend_from_slice(name.as_bytes());
        match first {
            None => self.say(b""),
            // RFC 4954 4: it does not fit into a command line and waits for the server's go-ahead.
            Some(first) if name.len() + BASE64.encode_len(first.len()) > FIRST => {
                self.held_back = Some(first);
                self.say(b"");
            }
            Some(first) => {
                self.output.push(b' ');
                self.say(&first);
            }
        }
    }

    /// Some servers say more about a token before they refuse it.
    fn login_refused(&mut self, reply: &Reply) {
        let complaint = self.exchange.as_ref().and_then(Exchange::complaint);
        let complaint = complaint.map(|said| {
            let masked = super::reply::masked(said, &self.secrets);
            bearer::complaint(masked.as_deref().unwrap_or(said))
        });
        let with_token = self.terms.login.as_ref().is_some_and(|login| login.token.is_some());
        // A server in trouble says nothing about the token.
        let cause = if with_token && reply.class() == 5 { Cause::Token } else { Cause::Login };
        let status = verdict::login_refused(&self.peer, reply, complaint.as_deref());
        self.refused = Some(Refusal { status, cause });
        self.state = State::Refused;
    }

    /// 334: the server wants to know more.
    fn challenged(&mut self, reply: &Reply) {
        let text = reply.lines().next().unwrap_or_default().trim_ascii();
        // The questions of LOGIN come in plain text from some servers.
        let challenge = BASE64.decode(text).unwrap_or_else(|_| text.to_vec());
        if let Some(first) = self.held_back.take() {
            return self.say(&first);
        }
        match self.exchange.as_mut().map(|exchange| exchange.answer(&challenge)) {
            Some(Ok(answer)) => self.say(&answer),
            Some(Err(error)) => self.give_up_login(&error.to_string(), false),
            None => self.out_of_place(reply, Step::Auth.phase()),
        }
    }

    fn logged_in(&mut self) {
        match self.exchange.take().map(|exchange| exchange.finish()) {
            Some(Err(error)) => self.give_up_login(&error.to_string(), false),
            Some(Ok(())) | None => self.state = State::Idle,
        }
    }

    /// The rest of a line of the exchange.
    fn say(&mut self, message: &[u8]) {
        let token = BASE64.encode(message);
        self.output.extend_from_slice(token.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        if token.len() >= 4 {
            self.secrets.push(token.into_bytes());
        }
        self.awaited.push_back(Step::Auth);
    }

    /// Politely where the server waits for a command.
    fn give_up_login(&mut self, why: &str, politely: bool) {
        let status = verdict::login_given_up(&self.peer, why);
        self.refused = Some(Refusal { status, cause: Cause::Login });
        if politely {
            self.state = State::Refused;
        } else {
            self.shut();
        }
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
