//! What goes in and out of the session: settings, the client, actions to carry out, questions and their
//! answers.

use super::auth::{Login, Secret};
use super::limits::Limits;
use super::reply::Reply;
use common::address::{Address, Domain, ReversePath};
use common::config::{BareNewlines, Networks, Smtpd};
use common::dsn::MessageDsn;
use common::tls::Parameters;
use spool::envelope::{Body, Recipient};
use spool::id::QueueId;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the configuration says about sessions; shared by all sessions that began under it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our name in the greeting, EHLO, closing replies.
    pub hostname: Domain,
    /// Completes bare addresses.
    pub mail_name: Domain,
    /// Largest content, in octets; 0: no limit.
    pub message_size_limit: u64,
    /// Most recipients of a transaction.
    pub recipient_limit: u32,
    /// For a whole command line, and for each KiB of content.
    pub idle_timeout: Duration,
    /// Content with bare CR or LF.
    pub bare_newlines: BareNewlines,
    /// Clients whose bare CR or LF become CRLF, whatever `bare_newlines` says.
    pub bare_newlines_networks: Networks,
    /// Clients that may talk out of turn.
    pub trusted_networks: Networks,
    /// Clients that may speak for others with XCLIENT.
    pub xclient_networks: Networks,
    /// What guards this machine.
    pub limits: Limits,
}

impl Settings {
    /// The defaults of `ironpost.toml`, for a host with these names that trusts nobody.
    pub fn new(hostname: Domain, mail_name: Domain) -> Self {
        let defaults = Smtpd::default();
        Self {
            hostname,
            mail_name,
            message_size_limit: *defaults.message_size_limit,
            recipient_limit: defaults.recipient_limit,
            idle_timeout: *defaults.idle_timeout,
            bare_newlines: defaults.bare_newlines,
            bare_newlines_networks: defaults.bare_newlines_networks,
            trusted_networks: Networks::default(),
            xclient_networks: defaults.xclient_networks,
            limits: Limits::default(),
        }
    }
}

/// The other side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its name, `unknown` when that is not known.
    pub name: Arc<str>,
    /// Its address; IPv4 as IPv4, also on a dual-stack listener.
    pub ip: IpAddr,
}

impl Client {
    /// A client of which only the address is known. Loopback is `localhost`; reverse DNS is not asked.
    pub fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { name: if ip.is_loopback() { "localhost".into() } else { "unknown".into() }, ip }
    }
}

/// `name[ip]`, as in logs.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.name, self.ip)
    }
}

/// What a client said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The argument of HELO or EHLO; printable ASCII, anything else about it is unchecked.
    pub name: String,
    /// Was it EHLO?
    pub extended: bool,
}

impl Hello {
    /// `ESMTP` or `SMTP` (RFC 3848).
    pub fn protocol(&self) -> &'static str {
        if self.extended { "ESMTP" } else { "SMTP" }
    }
}

/// What is known of a message when its content begins: enough for its envelope and its `Received` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageStart {
    /// From MAIL.
    pub sender: ReversePath,
    /// From MAIL.
    pub body: Body,
    /// From MAIL: RET and ENVID.
    pub dsn: MessageDsn,
    /// From RCPT, each once, in the order in which they came; never empty.
    pub recipients: Vec<Recipient>,
    /// From HELO or EHLO.
    pub hello: Arc<Hello>,
    /// The encryption that it comes by.
    pub tls: Option<Arc<Parameters>>,
    /// Who has logged in.
    pub login: Option<Arc<Login>>,
    /// AUTH of MAIL (RFC 4954 5): who has submitted it at first, as far as a client that we believe says so.
    pub submitter: Option<ReversePath>,
}

impl MessageStart {
    /// The protocol that the message comes by, for `Received` (RFC 3848, RFC 6531 4.3). HELO has neither TLS nor AUTH.
    pub fn protocol(&self) -> &'static str {
        match (self.body == Body::Utf8, self.tls.is_some(), self.login.is_some()) {
            (true, true, true) => "UTF8SMTPSA",
            (true, true, false) => "UTF8SMTPS",
            (true, false, true) => "UTF8SMTPA",
            (true, false, false) => "UTF8SMTP",
            (false, ..) if !self.hello.extended => self.hello.protocol(),
            (false, true, true) => "ESMTPSA",
            (false, true, false) => "ESMTPS",
            (false, false, true) => "ESMTPA",
            (false, false, false) => self.hello.protocol(),
        }
    }
}

/// Ties an answer to its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(pub(super) u32);

/// What the session cannot know by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A client is there, or has become another one: may it come? Asked before the greeting. Answer:
    /// [`Answer::Yes`] or [`Answer::Refused`], which ends the session.
    Connect {
        /// As in [`super::Session::client`].
        client: Client,
    },
    /// Before the greeting: has the client said nothing yet? Answer: [`Answer::Yes`], or [`Answer::Refused`]
    /// with any reply when it has: the session ends.
    Quiet,
    /// After the reply to STARTTLS: do the handshake, without reading anything before it. When it is done:
    /// [`super::Session::secured`], and any answer; when it fails the connection is lost.
    Handshake,
    /// AUTH: an exchange begins, by a mechanism that was offered. Answer: [`Answer::Challenge`], [`Answer::LoggedIn`] or
    /// [`Answer::Refused`], which ends the exchange, and with 421 the session.
    Login {
        /// In upper case.
        mechanism: String,
        /// What the client says first, if it does.
        initial: Option<Secret>,
    },
    /// The client's answer to a challenge. Answers as before.
    Response(Secret),
    /// HELO or EHLO: is this name taken? Answer: [`Answer::Yes`] or [`Answer::Refused`].
    Hello {
        /// The argument; see [`Hello::name`].
        name: String,
    },
    /// MAIL: is there room for a message of this size? Answer: [`Answer::Yes`] or [`Answer::Refused`].
    Sender {
        /// The reverse-path.
        sender: ReversePath,
        /// As declared with SIZE, in octets.
        size: Option<u64>,
    },
    /// RCPT: is this recipient taken from this client? Answer: [`Answer::Yes`], [`Answer::YesAs`] or
    /// [`Answer::Refused`].
    Recipient {
        /// The forward-path, completed.
        recipient: Address,
        /// Was it `<postmaster>`, which is always taken (RFC 5321 4.5.1)?
        bare_postmaster: bool,
    },
    /// DATA, or the first piece of content: may it come? Answer: [`Answer::Yes`] or [`Answer::Refused`], after
    /// which the transaction is as it was.
    Data {
        /// How many recipients were accepted.
        recipients: usize,
    },
    /// End of data: all content has been handed out. Make the message durable. Answer: [`Answer::Queued`] or
    /// [`Answer::Refused`]; nothing of a refused message may remain.
    Commit {
        /// From the header, for the log; printable, may be empty.
        message_id: String,
    },
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Yes,
    /// Taken, but under another address (a domain that is our address literal).
    YesAs(Recipient),
    /// The message is on stable storage.
    Queued(QueueId),
    /// An exchange goes on with these octets.
    Challenge(Vec<u8>),
    /// An exchange has ended well.
    LoggedIn(Login),
    /// Refused with this reply. A `4xx` is held to be our own trouble, not the client's error.
    Refused(Reply),
}

/// How much an operator should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The normal course.
    Info,
    /// Odd, and coped with.
    Warning,
}

/// What the driver has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this reply; it may wait for company.
    Reply(Reply),
    /// Send what is waiting now.
    Flush,
    /// Find the answer and give it to `answer`; until then the session takes no input.
    Ask(Token, Question),
    /// Content of this message follows from `receive`, up to a [`Question::Commit`] or an
    /// [`Action::Discard`].
    Begin(Box<MessageStart>),
    /// These octets of content follow those handed out so far.
    Append(&'static [u8]),
    /// The message begun is not wanted: nothing of it may remain, no more of its content follows.
    Discard,
    /// The exchange that was begun is over: the client has given up, or cannot be understood.
    EndLogin,
    /// Write this line to the log.
    Log(Severity, String),
    /// Send what is waiting, then close the connection. Nothing follows.
    Close {
        /// Does the client know already (it said QUIT, or is gone)? Otherwise it may still be sending, and
        /// should get to read why.
        expected: bool,
    },
}
