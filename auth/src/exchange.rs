//! One login: the client's responses in, challenges and at last an outcome out.

use crate::authenticator::Shared;
use crate::dovecot::line::Answer;
use crate::dovecot::link::Request;
use crate::introspection::answer::Verdict;
use crate::mechanism::bearer;
use crate::mechanism::plain::{self, Claim};
use crate::mechanism::scram::{Binding, Conversation, First, ScramError};
use crate::name;
use crate::prepare::Password;
use common::text::printable;
use std::net::IpAddr;
use std::sync::Arc;

/// RFC 7677.
pub(crate) const SCRAM: &str = "SCRAM-SHA-256";
/// The same, bound to the channel.
pub(crate) const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// RFC 7628.
pub(crate) const OAUTHBEARER: &str = "OAUTHBEARER";
/// Its older brother.
pub(crate) const XOAUTH2: &str = "XOAUTH2";

/// What the mechanisms have to know about the connection.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Is it encrypted?
    pub tls: bool,
    /// May passwords be sent although it is not?
    pub plaintext_allowed: bool,
    /// The tls-exporter channel binding (RFC 9266), where there is one: it makes the -PLUS mechanisms possible.
    pub binding: Option<Vec<u8>>,
    /// The client.
    pub client: IpAddr,
    /// The address it came to.
    pub local: IpAddr,
}

impl Channel {
    /// Is there any AUTH on it?
    pub fn is_safe(&self) -> bool {
        self.tls || self.plaintext_allowed
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this (it may be empty), and come again with the response.
    Challenge(Vec<u8>),
    /// The client is who it says.
    Done(Login),
    /// It is not, or it cannot be found out.
    Failed(Failure),
}

/// Who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name as the back end has it, whatever the client's spelling: without control characters or white space, 255 octets at most.
    pub name: String,
    /// The mechanism, in capitals.
    pub mechanism: String,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// 535 5.7.8: name or password is wrong, or the back end says no.
    Wrong {
        /// The name that was claimed, as far as it came to that: printable, for the log and for counting; lower case and accents as in [`name::key`].
        user: Option<String>,
        /// For the log alone.
        why: String,
    },
    /// 501 5.5.2: this is not what the mechanism says.
    Malformed(&'static str),
    /// 454 4.7.0: it cannot be found out now. The text is for the log, loudly.
    Unavailable(String),
}

impl Failure {
    pub(crate) fn wrong(user: Option<&str>, why: impl Into<String>) -> Self {
        Self::Wrong { user: user.map(|user| printable(&name::key(user), name::MAX)), why: why.into() }
    }
}

/// A login that is going on.
#[derive(Debug)]
pub struct Exchange {
    shared: Arc<Shared>,
    mechanism: String,
    channel: Channel,
    state: State,
}

#[derive(Debug)]
enum State {
    Plain,
    LoginName,
    LoginPassword(String),
    ScramFirst,
    /// With the name as the back end has it, or why there is nobody whose proof could be right.
    ScramProof(Box<Conversation>, Result<String, &'static str>),
    /// The client has our proof, and says nothing more.
    ScramLast(String),
    /// A token is wanted.
    Bearer,
    /// The token is not taken, and the client has been told why: it has to end the exchange (RFC 7628 3.2.3).
    BearerRefused(Failure),
    Dovecot,
    DovecotAsks(Request),
    /// Dovecot has said yes, and the client is told something at last.
    DovecotLast(String),
    Over,
}

impl Exchange {
    /// With a mechanism that is built, and offered.
    pub(crate) fn begin(shared: Arc<Shared>, mechanism: &str, channel: &Channel) -> Option<Self> {
        let state = match mechanism {
            OAUTHBEARER | XOAUTH2 if shared.introspector().is_some() => State::Bearer,
            _ if shared.dovecot().is_some() => State::Dovecot,
            "PLAIN" => State::Plain,
            "LOGIN" => State::LoginName,
            SCRAM | SCRAM_PLUS => State::ScramFirst,
            _ => return None,
        };
        Some(Self { shared, mechanism: mechanism.to_owned(), channel: channel.clone(), state })
    }

    /// The mechanism, in capitals.
    pub fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// The next response; `None` at first, when the client sent no initial one. Waits for whatever it needs, with deadlines of its own, a minute or so at most. May be
    /// dropped while it waits.
    pub async fn step(&mut self, response: Option<&[u8]>) -> Step {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Plain => match response {
                None => self.ask(State::Plain, b""),
                Some(message) => match plain::plain(message) {
                    Ok(claim) => self.check(claim).await,
                    Err(what) => Step::Failed(Failure::Malformed(what)),
                },
            },
            State::LoginName => match response {
                None => self.ask(State::LoginName, plain::ASK_NAME),
                Some(octets) => match plain::name(octets) {
                    Ok(name) => self.ask(State::LoginPassword(name), plain::ASK_PASSWORD),
                    Err(what) => Step::Failed(Failure::Malformed(what)),
                },
            },
            State::LoginPassword(name) => match Password::new(response.unwrap_or_default()) {
                Ok(password) => self.check(Claim { authorization: String::new(), name, password }).await,
                Err(what) => Step::Failed(Failure::Malformed(what)),
            },
            State::ScramFirst => match response {
                None => self.ask(State::ScramFirst, b""),
                Some(message) => self.scram_first(message),
            },
            State::ScramProof(conversation, user) => {
                self.scram_proof(&conversation, user, response.unwrap_or_default())
            }
            State::Bearer => match response {
                None => self.ask(State::Bearer, b""),
                Some(message) => self.bearer(message).await,
            },
            State::BearerRefused(failure) => Step::Failed(failure),
            State::Dovecot => {
                let Some(dovecot) = self.shared.dovecot().cloned() else { return ended() };
                match dovecot.begin(&self.mechanism, &self.channel, response).await {
                    Ok((request, answer)) => self.dovecot_said(request, answer),
                    Err(failure) => Step::Failed(failure),
                }
            }
            State::DovecotAsks(mut request) => {
                let Some(dovecot) = self.shared.dovecot().cloned() else { return ended() };
                match dovecot.go_on(&mut request, response.unwrap_or_default()).await {
                    Ok(answer) => self.dovecot_said(request, answer),
                    Err(failure) => Step::Failed(failure),
                }
            }
            State::ScramLast(name) | State::DovecotLast(name) => match response {
                None | Some(b"") => self.done(name),
                Some(_) => Step::Failed(Failure::Malformed("nothing is wanted after the server's last word")),
            },
            State::Over => ended(),
        }
    }

    async fn bearer(&mut self, message: &[u8]) -> Step {
        let old = self.mechanism == XOAUTH2;
        let claim = if old { bearer::xoauth2(message) } else { bearer::oauthbearer(message) };
        let claim = match claim {
            Ok(claim) => claim,
            Err(what) => return Step::Failed(Failure::Malformed(what)),
        };
        let Some(introspector) = self.shared.introspector() else { return ended() };
        let verdict = match &claim.token {
            Some(token) => introspector.ask(token).await,
            None => Ok(Verdict::Refused { why: "no token was sent".into(), scope: false }),
        };
        let claimed = claim.name.as_deref();
        let (why, scope) = match verdict {
            Err(what) => return Step::Failed(Failure::Unavailable(what)),
            // A token is for its own user, whoever the client says it is.
            Ok(Verdict::Of(name)) if claimed.is_none_or(|claimed| name::key(claimed) == name::key(&name)) => {
                return self.done(name);
            }
            Ok(Verdict::Of(_)) => ("the token is somebody else's".to_owned(), false),
            Ok(Verdict::Refused { why, scope }) => (why, scope),
        };
        let status = match (old, scope) {
            (true, _) => "401",
            (false, true) => "insufficient_scope",
            (false, false) => "invalid_token",
        };
        let complaint = bearer::complaint(status, introspector.scope());
        let failure = Failure::wrong(claimed, why);
        self.ask(State::BearerRefused(failure), &complaint)
    }

    fn dovecot_said(&mut self, request: Request, answer: Answer) -> Step {
        match answer {
            Answer::Continue(question) => self.ask(State::DovecotAsks(request), &question),
            Answer::Ok(name, _) if name::check(&name).is_err() => {
                let name = printable(&name, name::MAX);
                Step::Failed(Failure::Unavailable(format!(
                    "Dovecot says that this is {name:?}, which cannot be a name here"
                )))
            }
            Answer::Ok(name, None) => self.done(name),
            Answer::Ok(name, Some(last)) => self.ask(State::DovecotLast(name), &last),
            Answer::Fail(fail) if fail.temporary => {
                Step::Failed(Failure::Unavailable(format!("Dovecot: {}", fail.why)))
            }
            Answer::Fail(fail) => Step::Failed(Failure::wrong(fail.user.as_deref(), fail.why)),
        }
    }

    fn done(&self, name: String) -> Step {
        Step::Done(Login { name, mechanism: self.mechanism.clone() })
    }

    fn binding(&self) -> Binding<'_> {
        let data = self.channel.binding.as_deref().unwrap_or_default();
        Binding { plus: self.mechanism == SCRAM_PLUS, offered: self.shared.offers_plus(&self.channel), data }
    }

    fn scram_first(&mut self, message: &[u8]) -> Step {
        let first = match First::parse(message, self.binding()) {
            Ok(first) => first,
            Err(error) => return refused(None, error),
        };
        if !first.authorization.is_empty() && name::key(&first.authorization) != name::key(&first.name) {
            return Step::Failed(Failure::wrong(Some(&first.name), "acting for another user is not allowed"));
        }
        let (verifier, user) = self.shared.verifier(&first.name);
        let Ok(nonce) = crate::hash::random::<18>() else {
            return Step::Failed(Failure::Unavailable("the system has no randomness".into()));
        };
        let conversation = Box::new(first.answer(verifier, &data_encoding::BASE64.encode(&nonce)));
        let answer = conversation.server_first().to_owned();
        self.ask(State::ScramProof(conversation, user), answer.as_bytes())
    }

    fn scram_proof(
        &mut self,
        conversation: &Conversation,
        user: Result<String, &'static str>,
        message: &[u8],
    ) -> Step {
        let finished = conversation.finish(message, self.binding());
        match (finished, user) {
            (Ok(proof), Ok(name)) => self.ask(State::ScramLast(name), proof.as_bytes()),
            (Err(error @ ScramError::Malformed(_)), _) => refused(None, error),
            (_, Err(why)) => Step::Failed(Failure::wrong(Some(conversation.name()), why)),
            (Err(error), Ok(name)) => refused(Some(&name), error),
        }
    }

    fn ask(&mut self, then: State, question: &[u8]) -> Step {
        self.state = then;
        Step::Challenge(question.to_vec())
    }

    async fn check(&self, claim: Claim) -> Step {
        let Claim { authorization, name, password } = claim;
        // Nobody acts for somebody else here (RFC 4616 2).
        if !authorization.is_empty() && name::key(&authorization) != name::key(&name) {
            return Step::Failed(Failure::wrong(Some(&name), "acting for another user is not allowed"));
        }
        match self.shared.check(&name, password, &self.channel).await {
            Ok(name) => self.done(name),
            Err(failure) => Step::Failed(failure),
        }
    }
}

fn refused(user: Option<&str>, error: ScramError) -> Step {
    Step::Failed(match error {
        ScramError::Malformed(what) => Failure::Malformed(what),
        ScramError::Refused(why) => Failure::wrong(user, why),
    })
}

fn ended() -> Step {
    Step::Failed(Failure::Malformed("this login has ended"))
}
