//! The SMTP server's side of a session (RFC 5321), without sockets, files, tables or clock.
//!
//! A driver feeds it ([`Session::receive`], [`Session::answer`], [`Session::expire`], [`Session::lost`]) and
//! carries out what it says ([`Session::next_action`], content from `receive`). It promises: every command
//! line gets exactly one reply, in order; `250` after the end of data only after [`Answer::Queued`]; memory
//! bounded whatever arrives (one command line, the recipients of one transaction, the start of one header
//! line); no input panics it. It never decides who may send what to whom: those are [`Question`]s.
//!
//! | file | rule |
//! | --- | --- |
//! | [`mod@line`], [`command`], [`verbs`] | what a command is, and where it is allowed |
//! | `commands` | what each command does |
//! | [`auth`] | who is there |
//! | [`data`], [`chunk`], [`header`], `content` | content: its end, its line ends, its limits |
//! | [`reply`], [`tally`] | the words; the counts |

pub mod action;
pub mod auth;
mod bdat;
pub mod chunk;
pub mod command;
mod commands;
mod content;
pub mod data;
pub mod header;
pub mod limits;
pub mod line;
mod log;
pub mod offer;
pub mod reply;
pub mod tally;
mod tls;
pub mod transaction;
pub mod verbs;
mod xclient;

pub use action::{Action, Answer, Client, Hello, MessageStart, Question, Settings, Severity, Token};

use common::config::Networks;
use common::text::printable_bytes;
use common::time::Timestamp;
use line::{Line, LineReader};
use reply::Reply;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use transaction::{Content, Transaction};
use verbs::Stage;

/// One session.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    client: Client,
    hello: Option<Arc<Hello>>,
    phase: Phase,
    line: LineReader,
    actions: VecDeque<Action>,
    tally: Tally,
    after: After,
    /// Who is at the other end of the wire, and may it speak for others?
    xclient: bool,
    /// Is that unknown, so that the address says nothing about it?
    distrusted: bool,
    destination: Option<IpAddr>,
    tls: tls::Tls,
    auth: auth::Offer,
    auth_required: bool,
    login: Option<Arc<auth::Login>>,
    token: u32,
    deadline: Option<Timestamp>,
    /// For a command line, and for each KiB of content.
    patience: Duration,
    /// Transactions so far.
    transactions: u32,
    /// Octets of a line that does not end.
    endless: u64,
    /// Octets of content that was not wanted.
    discarded: u64,
}

/// What the session is in the middle of.
#[derive(Debug)]
enum Phase {
    /// Commands, no transaction.
    Idle,
    /// Commands, within a transaction.
    Open(Box<Transaction>),
    /// Waiting for the driver.
    Asked(Asked),
    /// A line of an exchange, no transaction.
    Dialogue,
    /// Content.
    Content(Box<Content>),
    /// Commands, between two chunks of content.
    Chunks(Box<Content>),
    /// The octets of a chunk that was refused.
    Skipping(Box<bdat::Skipped>),
    /// Over.
    Closed,
}

impl Phase {
    /// Has the driver got a message from it, of which nothing may remain if it ends here?
    fn holds_message(&self) -> bool {
        match self {
            Self::Content(content) | Self::Chunks(content) => content.unwanted.is_none(),
            Self::Skipping(skipped) => skipped.then.holds_message(),
            Self::Asked(Asked::Commit(_)) => true,
            Self::Asked(Asked::Hello(_, before)) => before.holds_message(),
            Self::Idle | Self::Open(_) | Self::Asked(_) | Self::Dialogue | Self::Closed => false,
        }
    }
}

/// What the session waits to be told.
#[derive(Debug)]
enum Asked {
    Connect,
    Quiet,
    Handshake,
    Login,
    Hello(Hello, Box<Phase>),
    Sender(Box<Transaction>),
    Recipient(Box<Transaction>, spool::envelope::Recipient),
    Data(Box<Transaction>),
    FirstChunk(Box<Transaction>, u64, bool),
    Commit(Box<Content>),
}

/// The last thing that a client did, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Connect,
    Verb(usize),
    Unknown,
    EndOfMessage,
}

impl After {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Verb(verb) => verbs::TABLE.get(verb).map_or("UNKNOWN", |rule| rule.name),
            Self::Unknown => "UNKNOWN",
            Self::EndOfMessage => "END-OF-MESSAGE",
        }
    }
}

/// What [`Session::receive`] made of some input.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Taken<'a> {
    /// Octets that are done with. 0 with an empty `content` means: carry out the actions first.
    pub used: usize,
    /// The next part of the message begun; may be empty.
    pub content: &'a [u8],
}

// Inputs.
impl Session {
    /// A new connection; [`Question::Connect`] is its first action that waits for an answer. Clock values here and below only need to agree
    /// with each other, and should not jump when the wall clock is set.
    pub fn new(settings: Arc<Settings>, client: Client, now: Timestamp) -> Self {
        let patience = settings.idle_timeout;
        let mut session = Self {
            settings,
            client,
            hello: None,
            phase: Phase::Idle,
            line: LineReader::default(),
            actions: VecDeque::new(),
            tally: Tally::default(),
            after: After::Connect,
            xclient: false,
            distrusted: false,
            destination: None,
            tls: tls::Tls::Absent,
            auth: auth::Offer::Absent,
            auth_required: false,
            login: None,
            token: 0,
            deadline: None,
            patience,
            transactions: 0,
            endless: 0,
            discarded: 0,
        };
        session.xclient = session.settings.xclient_networks.contains(session.client.ip);
        session.info(format!("connect from {}", session.client));
        session.progress(now);
        session.connect();
        session
    }

    /// Takes octets from the client: one command line, or one piece of content. Call it again with the rest,
    /// carrying out the actions in between, until all is used. Content is lent from `input`.
    pub fn receive<'a>(&mut self, input: &'a [u8], now: Timestamp) -> Taken<'a> {
        match self.phase {
            Phase::Idle | Phase::Open(_) | Phase::Chunks(_) => {
                Taken { used: self.receive_line(input, now), content: b"" }
            }
            Phase::Dialogue => Taken { used: self.receive_response(input, now), content: b"" },
            Phase::Content(_) => self.receive_content(input, now),
            Phase::Skipping(_) => Taken { used: self.receive_skipped(input, now), content: b"" },
            Phase::Asked(_) => Taken { used: 0, content: b"" },
            Phase::Closed => Taken { used: input.len(), content: b"" },
        }
    }

    /// Answers the question that was asked with `token`. An answer to anything else is ignored.
    pub fn answer(&mut self, token: Token, answer: Answer, now: Timestamp) {
        if token != Token(self.token) {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Asked(asked) => {
                self.progress(now);
                self.answered(asked, answer);
            }
            other => self.phase = other,
        }
    }

    /// Ends the session with 421 when its deadline has passed.
    pub fn expire(&mut self, now: Timestamp) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.log_end("timeout");
            self.close(reply::closing((4, 2), &self.settings.hostname, "Error: timeout exceeded"));
        }
    }

    /// From now on the client has so long for a command line, and for each KiB of content: less than usual
    /// when there are too many clients.
    pub fn set_patience(&mut self, patience: Duration) {
        let before = std::mem::replace(&mut self.patience, patience);
        // Exact, since the deadline is so much later than what it counts from.
        self.deadline = self.deadline.map(|deadline| {
            let since = deadline.0.saturating_sub(Timestamp(0).after(before).0);
            Timestamp(since).after(patience)
        });
    }

    /// This client is nobody to trust, and speaks for nobody, whatever its address.
    pub fn distrust(&mut self) {
        (self.distrusted, self.xclient) = (true, false);
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        self.end_unheard("lost connection");
    }

    /// The client does not take our replies: it is given up without a word, for it would not take that
    /// either.
    pub fn stalled(&mut self) {
        self.end_unheard("timeout");
    }

    /// The server goes down. Ends the session with 421 and gives `true`; gives `false` while content is on
    /// its way or an answer is awaited, unless `at_once`. (An answer that is awaited always comes first: a
    /// message being committed is acknowledged.)
    pub fn shut_down(&mut self, at_once: bool) -> bool {
        match self.phase {
            Phase::Closed => true,
            Phase::Asked(_) => false,
            Phase::Content(_) | Phase::Skipping(_) if !at_once => false,
            _ => {
                self.close(reply::closing((3, 2), &self.settings.hostname, "Service shutting down"));
                true
            }
        }
    }
}

// Outputs.
impl Session {
    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if self.actions.is_empty() {
            // Thousands of sessions wait at the same time; what they hold while idle counts.
            self.actions.shrink_to(4);
        }
        action
    }

    /// When to call [`Session::expire`]; `None` while an answer is awaited and after the end.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Is it over? (Actions may still be waiting.)
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Who is at the other end.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Which of our addresses the client has connected to, when a host in front of us says so.
    pub fn destination(&self) -> Option<IpAddr> {
        self.destination
    }

    /// What the client calls itself: in HELO or EHLO, or as a host in front of us says.
    pub fn name_said(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.name.as_str())
    }

    /// How far the dialogue is; `None` while content, a line of an exchange or an answer is awaited, and after the end.
    pub fn stage(&self) -> Option<Stage> {
        match &self.phase {
            Phase::Idle if self.hello.is_none() => Some(Stage::Fresh),
            Phase::Idle => Some(Stage::Greeted),
            Phase::Open(transaction) if transaction.recipients.is_empty() => Some(Stage::Sender),
            Phase::Open(_) => Some(Stage::Recipients),
            Phase::Chunks(_) => Some(Stage::Chunks),
            Phase::Asked(_) | Phase::Dialogue | Phase::Content(_) | Phase::Skipping(_) | Phase::Closed => {
                None
            }
        }
    }
}

// What all parts use.
impl Session {
    fn receive_line(&mut self, input: &[u8], now: Timestamp) -> usize {
        // The first octet of a TLS handshake (RFC 8446 5.1): no line end may ever follow it.
        if self.line.is_at_start() && input.first() == Some(&0x16) {
            self.foreign(input);
            return input.len();
        }
        let mut reader = std::mem::take(&mut self.line);
        let (used, line) = reader.take(input, line::MAX_LINE);
        if line != Line::Partial {
            self.progress(now);
        }
        match line {
            Line::Partial => self.partial(used),
            Line::Whole(line) => {
                self.endless = 0;
                self.command(line, input.get(used..).unwrap_or_default());
                reader.release();
            }
            Line::TooLong { bdat } => {
                self.endless = 0;
                self.unusable_line(reply::LINE_TOO_LONG, bdat);
            }
            Line::BareLf { bdat } => {
                self.endless = 0;
                self.warn(format!("bare <LF> in a command line from {}", self.client));
                self.unusable_line(reply::BARE_LF, bdat);
            }
        }
        self.line = reader;
        used
    }

    /// A command line that is not looked into.
    fn unusable_line(&mut self, reply: Reply, bdat: bool) {
        self.after = After::Unknown;
        self.tally.came(None);
        if bdat {
            return self.lose_track(reply);
        }
        self.refuse(reply);
        self.actions.push_back(Action::Flush);
        self.check_patience();
    }

    /// Content may follow, and nobody can say how much: from here on commands cannot be told from it.
    fn lose_track(&mut self, reply: Reply) {
        self.log_end("bad BDAT command");
        self.tally.error();
        self.close(reply);
    }

    /// So many octets of a line have come, and not its end.
    fn partial(&mut self, used: usize) {
        self.endless = self.endless.saturating_add(used.try_into().unwrap_or(u64::MAX));
        if self.endless > content::DISCARD_AT_LEAST {
            self.log_end("too long a line");
            self.close(reply::closing((5, 2), &self.settings.hostname, "Error: line too long"));
        }
    }

    /// Forgets the transaction, with whatever has come of its content.
    fn reset(&mut self) {
        if std::mem::replace(&mut self.phase, Phase::Idle).holds_message() {
            self.actions.push_back(Action::Discard);
        }
    }

    fn progress(&mut self, now: Timestamp) {
        self.deadline = Some(now.after(self.patience));
    }

    fn ask(&mut self, asked: Asked, question: Question) {
        self.token = self.token.wrapping_add(1);
        self.phase = Phase::Asked(asked);
        self.deadline = None;
        self.actions.push_back(Action::Ask(Token(self.token), question));
    }

    fn say(&mut self, reply: Reply) {
        self.actions.push_back(Action::Reply(reply));
    }

    /// Another protocol than ours.
    fn foreign(&mut self, words: &[u8]) {
        self.warn(format!("non-SMTP command from {}: {}", self.client, printable_bytes(words, 100)));
        self.close(reply::NOT_SMTP);
    }

    /// The client has not waited for its turn (RFC 2920 3.1): what it says now may have been put into its
    /// mouth, or belong to another protocol.
    fn out_of_turn(&mut self, words: &[u8]) {
        let after = self.after.name();
        let mut line = format!("improper command pipelining after {after} from {}", self.client);
        // What stands behind AUTH may be a password.
        if after != "AUTH" {
            line.push_str(&format!(": {}", printable_bytes(up_to_auth(words), 100)));
        }
        self.info(line);
        self.close(reply::SYNCHRONIZATION);
    }

    fn is_trusted(&self) -> bool {
        self.is_in(&self.settings.trusted_networks)
    }

    /// Is the client one of these?
    fn is_in(&self, networks: &Networks) -> bool {
        !self.distrusted && networks.contains(self.client.ip)
    }

    /// A reply to a mistake of the client's; too many of them end the session.
    fn refuse(&mut self, reply: Reply) {
        self.say(reply);
        self.tally.error();
    }

    /// After each command, once it is answered: has the client gone too far?
    fn check_patience(&mut self) {
        if self.tally.is_over() && !matches!(self.phase, Phase::Asked(_) | Phase::Closed) {
            self.log_end("too many errors");
            self.close(reply::closing((7, 0), &self.settings.hostname, "Error: too many errors"));
        }
    }

    fn end_unheard(&mut self, what: &str) {
        if !self.is_closed() {
            self.log_end(what);
            self.finish(true);
        }
    }

    /// Says a last word, then ends.
    fn close(&mut self, last: Reply) {
        let expected = last == reply::BYE;
        self.say(last);
        self.finish(expected);
    }

    fn finish(&mut self, expected: bool) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        if phase.holds_message() {
            self.actions.push_back(Action::Discard);
        }
        self.deadline = None;
        self.info(format!("disconnect from {}{}", self.client, self.tally));
        self.actions.push_back(Action::Close { expected });
    }
}

/// Up to the first AUTH among these commands, and without what it says.
fn up_to_auth(words: &[u8]) -> &[u8] {
    let at = words.windows(4).position(|word| word.eq_ignore_ascii_case(b"AUTH"));
    at.and_then(|at| words.get(..at + 4)).unwrap_or(words)
}
