//! Plays a client against the session core: answers its questions as a small, fixed host would, and keeps
//! what comes out.

use common::address::{Address, Domain};
use common::config::{BareNewlines, Network, Networks};
use common::time::Timestamp;
use smtpd::policy::{self, Standing};
use smtpd::session::auth::{Login, Offer};
use smtpd::session::reply;
use smtpd::session::reply::{LOGIN_FAILED, NO_LOGIN_NOW, NO_SPACE, Reply, WRITE_ERROR};
use smtpd::session::{Action, Answer, Client, MessageStart, Question, Session, Settings};
use spool::id::QueueId;
use std::sync::Arc;
use std::time::Duration;

/// What the host around the core is like.
#[derive(Debug, Clone)]
pub struct Host {
    pub settings: Settings,
    pub trusted: bool,
    /// Is the address a proxy's that does not say for whom it speaks?
    pub distrusted: bool,
    /// Does the client talk before it is greeted?
    pub early: bool,
    /// Is STARTTLS offered?
    pub tls: bool,
    /// Can clients log in: never (""), `tls`: once the connection is encrypted, `always`?
    pub auth: &'static str,
    /// Do they have to?
    pub submission: bool,
    /// Octets free for the queue.
    pub free: u64,
    /// What commits come to.
    pub commit: Commit,
    /// What policy refuses: `connect`, `hello` or `data`; `data later`: for another time.
    pub refuses: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    Works,
    Full,
    Fails,
}

impl Default for Host {
    fn default() -> Self {
        let settings = Settings {
            hostname: domain("mail.example"),
            mail_name: domain("example"),
            message_size_limit: 10_000,
            recipient_limit: 3,
            idle_timeout: Duration::from_secs(300),
            bare_newlines: BareNewlines::Reject,
            bare_newlines_networks: Networks::default(),
            trusted_networks: Networks::default(),
            xclient_networks: Networks::default(),
            limits: smtpd::session::limits::Limits { transactions: 10_000, ..Default::default() },
        };
        Self {
            settings,
            trusted: false,
            distrusted: false,
            early: false,
            tls: false,
            auth: "",
            submission: false,
            free: u64::MAX,
            commit: Commit::Works,
            refuses: "",
        }
    }
}

const DENIED: Reply = Reply::fixed(554, (5, 7, 1), "Access denied");
const LATER: Reply = Reply::fixed(450, (4, 7, 1), "Try again later");

/// The network of the test's client.
pub fn of_client() -> Networks {
    ["192.0.2.0/24".parse::<Network>().unwrap()].into_iter().collect()
}

pub fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

/// A core with its host.
pub struct Player {
    host: Host,
    pub session: Session,
    pub now: Timestamp,
    /// Everything sent to the client.
    pub output: Vec<u8>,
    pub log: Vec<String>,
    /// Messages committed: envelope and content.
    pub messages: Vec<(MessageStart, Vec<u8>)>,
    pub open: Option<(MessageStart, Vec<u8>)>,
    pub closed: bool,
    /// What the client has said its name is, in an exchange by LOGIN.
    user: Option<Vec<u8>>,
}

impl Player {
    pub fn new(host: Host) -> Self {
        let now = Timestamp(0);
        let client = Client::new("192.0.2.1".parse().unwrap());
        let session = Session::new(Arc::new(host.settings.clone()), client, now);
        let mut session = session;
        if host.tls {
            session.offer_starttls();
        }
        let offer = match host.auth {
            "" => Offer::Absent,
            "tls" => Offer::NeedsTls,
            _ => mechanisms(),
        };
        session.offer_auth(offer, host.submission);
        if host.distrusted {
            session.distrust();
        }
        let mut player = Self {
            host,
            session,
            now,
            output: Vec::new(),
            log: Vec::new(),
            messages: Vec::new(),
            open: None,
            closed: false,
            user: None,
        };
        player.act();
        player
    }

    /// The client sends these lines, each after the reply to the one before.
    pub fn lines(&mut self, lines: &str) {
        lines.split_inclusive("\r\n").for_each(|line| self.send(line.as_bytes()));
    }

    /// The client sends this, in one packet.
    pub fn send(&mut self, mut input: &[u8]) {
        let mut stuck = 0;
        while !input.is_empty() {
            let taken = self.session.receive(input, self.now);
            if !taken.content.is_empty() {
                self.open.as_mut().expect("content belongs to a message").1.extend_from_slice(taken.content);
            }
            stuck = if taken.used == 0 && taken.content.is_empty() { stuck + 1 } else { 0 };
            assert!(stuck < 3, "the core takes no input and wants nothing");
            input = &input[taken.used..];
            self.act();
        }
    }

    /// Time passes; a deadline in between is met.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        if let Some(deadline) = self.session.deadline().filter(|d| *d <= end) {
            self.session.expire(Timestamp(deadline.0 - 1));
            assert!(!self.session.is_closed(), "not before its time");
            self.now = deadline;
            self.session.expire(deadline);
            self.act();
        }
        self.now = end;
    }

    pub fn act(&mut self) {
        while let Some(action) = self.session.next_action() {
            assert!(!self.closed, "nothing follows the end");
            match action {
                Action::Reply(reply) => reply.write_to(&mut self.output),
                Action::Flush => {}
                Action::Ask(token, question) => {
                    assert_eq!(self.session.deadline(), None, "no deadline while we are asked");
                    if question == Question::Handshake {
                        self.session.secured(parameters(), self.now);
                        if self.host.auth == "tls" {
                            self.session.offer_auth(mechanisms(), self.host.submission);
                        }
                    }
                    let answer = self.answer(question);
                    self.session.answer(token, answer, self.now);
                }
                Action::Begin(start) => {
                    assert!(self.open.is_none());
                    self.open = Some((*start, Vec::new()));
                }
                Action::Append(content) => {
                    self.open.as_mut().expect("content belongs to a message").1.extend_from_slice(content);
                }
                Action::Discard => assert!(self.open.take().is_some(), "only what has begun can be dropped"),
                Action::EndLogin => self.user = None,
                Action::Log(_, line) => self.log.push(line),
                Action::Close { .. } => self.closed = true,
            }
        }
    }

    /// Joe's password is "secret"; nobody can say what jane's is.
    fn exchange(&mut self, mechanism: &str, said: Option<Vec<u8>>) -> Answer {
        let (user, password) = match (mechanism, said) {
            ("PLAIN", None) => return Answer::Challenge(Vec::new()),
            ("PLAIN", Some(said)) => {
                let mut parts = said.split(|octet| *octet == 0).skip(1).map(<[u8]>::to_vec);
                (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            }
            (_, None) => {
                self.user = Some(Vec::new());
                return Answer::Challenge(b"Username:".to_vec());
            }
            (_, Some(said)) => match self.user.take() {
                Some(user) if !user.is_empty() => (user, said),
                _ => {
                    self.user = Some(said);
                    return Answer::Challenge(b"Password:".to_vec());
                }
            },
        };
        match (user.as_slice(), password.as_slice()) {
            (b"joe", b"secret") => Answer::LoggedIn(Login { name: "joe".into(), method: mechanism.into() }),
            (b"jane", _) => Answer::Refused(NO_LOGIN_NOW),
            (b"mallory", _) => {
                Answer::Refused(reply::closing((7, 0), &self.host.settings.hostname, "Enough"))
            }
            _ => Answer::Refused(LOGIN_FAILED),
        }
    }

    fn policy(&self, stage: &str) -> Answer {
        match self.host.refuses.strip_prefix(stage) {
            Some("") => Answer::Refused(DENIED),
            Some(" later") => Answer::Refused(LATER),
            _ => Answer::Yes,
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Connect { .. } => self.policy("connect"),
            Question::Hello { .. } => self.policy("hello"),
            Question::Data { .. } => self.policy("data"),
            Question::Handshake => Answer::Yes,
            Question::Login { mechanism, initial } => {
                self.user = None;
                self.exchange(&mechanism, initial.map(|octets| octets.0))
            }
            Question::Response(octets) if self.user.is_some() => self.exchange("LOGIN", Some(octets.0)),
            Question::Response(octets) => self.exchange("PLAIN", Some(octets.0)),
            Question::Quiet if self.host.early => Answer::Refused(DENIED),
            Question::Quiet => Answer::Yes,
            Question::Sender { size, .. } => {
                policy::room(size, Some(self.host.free)).map_or_else(Answer::Refused, |()| Answer::Yes)
            }
            Question::Recipient { bare_postmaster: true, .. } => Answer::Yes,
            Question::Recipient { recipient, .. } => policy::recipient(
                self.host.trusted || self.session.login().is_some(),
                &recipient,
                &standing(&recipient),
            )
            .map_or_else(Answer::Refused, |()| Answer::Yes),
            Question::Commit { .. } => {
                let message = self.open.take().expect("a message was begun");
                match self.host.commit {
                    Commit::Works => {
                        self.messages.push(message);
                        Answer::Queued(id(self.messages.len()))
                    }
                    Commit::Full => Answer::Refused(NO_SPACE),
                    Commit::Fails => Answer::Refused(WRITE_ERROR),
                }
            }
        }
    }

    /// What has been sent to the client since the last call, as lines.
    pub fn replies(&mut self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut self.output)).expect("replies are ASCII");
        assert!(text.is_empty() || text.ends_with("\r\n"));
        let lines: Vec<String> = text.split_terminator("\r\n").map(str::to_owned).collect();
        for line in &lines {
            assert!(line.len() <= 510 && !line.contains(['\r', '\n']), "{line:?}");
        }
        lines
    }
}

/// What clients can log in with.
fn mechanisms() -> Offer {
    Offer::Mechanisms(["PLAIN".to_owned(), "LOGIN".to_owned()].into())
}

/// The n-th message's queue ID.
pub fn id(n: usize) -> QueueId {
    QueueId::new(Timestamp(0), n as u64)
}

/// What every handshake here comes to.
fn parameters() -> common::tls::Parameters {
    common::tls::Parameters {
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384".into(),
        bits: 256,
        group: Some("X25519".into()),
        resumed: false,
        client: common::tls::ClientCertificate::NotRequested,
    }
}

/// Users joe, jane and every "user…"; "unsure" cannot be looked up.
fn standing(address: &Address) -> Standing {
    let local = address.local_part().value().to_lowercase();
    match address.domain().to_lowercase().as_str() {
        "example" if local == "unsure" => Standing::Unsure("test".into()),
        "example" if ["joe", "jane", "postmaster"].contains(&local.as_str()) || local.starts_with("user") => {
            Standing::Known
        }
        "example" => Standing::Unknown,
        "relay.example" => Standing::Relay,
        _ => Standing::Elsewhere,
    }
}
