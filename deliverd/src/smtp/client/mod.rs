//! The SMTP client without its socket: octets in, [`Action`]s out. No I/O, no clock, no randomness.
//!
//! A session is opened (`opening.rs`: greeting, EHLO, or HELO where EHLO is unknown, STARTTLS, AUTH), carries
//! transactions one after another, and is closed with QUIT. With PIPELINING (RFC 2920) a transaction's MAIL, RCPTs and DATA go out
//! as one group; without, one by one. Replies are matched with commands strictly: one that is malformed,
//! out of place or unasked for ends the session, since nobody knows any more what answers what. Every
//! recipient of a transaction gets exactly one verdict, also when the connection is lost; a message is
//! reported delivered only upon a 2xx reply to its own end of data.
//!
//! The driver's loop: take [`Client::next_action`], do it, tell the core ([`Client::receive`],
//! [`Client::lost`], [`Client::content_sent`] …).

mod action;
mod bearer;
mod capabilities;
mod opening;
mod phase;
mod reply;
mod sasl;
mod transaction;
mod transparency;
mod verdict;

pub use action::Action;
pub use capabilities::Capabilities;
pub use opening::{Cause, Encryption, Refusal, Terms};
pub use phase::Phase;
pub use reply::{Reply, ReplyError, ReplyParser};
pub use sasl::{Login, Mechanisms, SaslError};
pub use transaction::{Ended, Order, Target};
pub use transparency::Transparency;
pub use verdict::{Lost, Peer, Retry, Verdict};

use action::Step;
use common::address::Domain;
use common::dsn::{MessageDsn, RecipientDsn};
use common::status::{Outcome, Status};
use sasl::Exchange;
use std::collections::VecDeque;
use transaction::Transaction;

#[derive(Debug)]
enum State {
    /// Before the end of EHLO or HELO, and of what follows them until the session is ready.
    Opening,
    /// The driver does the TLS handshake: until it is over, no octet is taken.
    Handshake,
    /// Refused by the server; only QUIT is left.
    Refused,
    Idle,
    /// Commands of a transaction are under way.
    Commands(Transaction),
    /// DATA was answered with 354: the driver writes content.
    Content(Transaction),
    Quitting,
    Closed,
}

/// One session.
#[derive(Debug)]
pub struct Client {
    peer: Peer,
    hello_name: Domain,
    terms: Terms,
    /// Is the connection encrypted?
    secure: bool,
    offered: Capabilities,
    /// The SASL exchange that is under way.
    exchange: Option<Exchange>,
    /// Its first message, when that waits for the server's go-ahead.
    held_back: Option<Vec<u8>>,
    /// What was sent that nobody may read in what the server says.
    secrets: Vec<Vec<u8>>,
    parser: ReplyParser,
    state: State,
    /// Commands to be sent, in order.
    unsent: VecDeque<Step>,
    /// Commands sent, whose replies are awaited, in order.
    awaited: VecDeque<Step>,
    output: Vec<u8>,
    /// Must RSET come before the next MAIL?
    dirty: bool,
    ended: Option<Ended>,
    refused: Option<Refusal>,
    progress: u64,
}

impl Client {
    /// A session over a connection just made to `peer`; `hello_name` goes into EHLO.
    pub fn new(peer: Peer, hello_name: Domain, terms: Terms) -> Self {
        let implicit = terms.encryption == Encryption::FromStart;
        Self {
            peer,
            hello_name,
            terms,
            secure: false,
            offered: Capabilities::default(),
            exchange: None,
            held_back: None,
            secrets: Vec::new(),
            parser: ReplyParser::default(),
            state: if implicit { State::Handshake } else { State::Opening },
            unsent: VecDeque::new(),
            awaited: if implicit { VecDeque::new() } else { VecDeque::from([Step::Greeting]) },
            output: Vec::new(),
            dirty: false,
            ended: None,
            refused: None,
            progress: 0,
        }
    }

    /// Octets from the server, in any split.
    pub fn receive(&mut self, mut input: &[u8]) {
        while !input.is_empty() && !matches!(self.state, State::Closed) {
            if let State::Handshake = self.state {
                // Text that somebody put behind the reply to STARTTLS would be taken for the server's, who
                // speaks encrypted from here on (CVE-2011-0411, seen from the other side).
                return self.handshake_failed("text behind the reply to STARTTLS");
            }
            match self.parser.take(&mut input) {
                Ok(Some(mut reply)) => {
                    reply.mask(&self.secrets);
                    self.progress += 1;
                    self.reply(&reply);
                }
                Ok(None) => {}
                Err(error) => {
                    let what = error.to_string();
                    let masked = reply::masked(what.as_bytes(), &self.secrets);
                    let masked = masked.map(|what| String::from_utf8_lossy(&what).into_owned());
                    self.protocol_error(&masked.unwrap_or(what));
                }
            }
        }
    }

    /// The connection is gone, or the time of the phase is over.
    pub fn lost(&mut self, how: Lost) {
        let status = verdict::lost(&self.peer, self.phase(), how);
        self.close(status);
    }

    /// Starts a transaction. Only when the last action was [`Action::Ready`]; otherwise all recipients are
    /// deferred at once.
    pub fn begin(&mut self, order: Order) {
        if !matches!(self.state, State::Idle) || self.input_pending() {
            let status = verdict::lost(&self.peer, Phase::Mail, Lost::Connection);
            self.ended = Some(Transaction::new(order).end(&Verdict::of(status)));
            self.shut();
            return;
        }
        if let Some(limit) = self.offered.size_limit.filter(|limit| order.size > *limit) {
            let status = verdict::too_large(&self.peer, order.size, limit);
            self.ended =
                Some(Ended { untouched: false, ..Transaction::new(order).end(&Verdict::of(status)) });
            return;
        }
        let mut transaction = Transaction::new(order);
        if !self.offered.smtputf8 && self.refuse_utf8(&mut transaction) {
            let none_left = Verdict::of(verdict::no_utf8(&self.peer));
            self.ended = Some(Ended { untouched: false, ..transaction.end(&none_left) });
            return;
        }
        if self.dirty {
            self.unsent.push_back(Step::Rset);
        }
        self.dirty = true;
        self.unsent.push_back(Step::Mail);
        let recipients = 0..transaction.order.recipients.len();
        self.unsent.extend(recipients.filter(|i| transaction.is_waiting(*i)).map(Step::Rcpt));
        self.unsent.push_back(Step::Data);
        self.state = State::Commands(transaction);
        self.send_commands();
    }

    /// The server does not know SMTPUTF8: whoever needs it cannot have the message (RFC 6531 3.2). True when nobody
    /// is left.
    fn refuse_utf8(&self, transaction: &mut Transaction) -> bool {
        let all = transaction.order.needs_utf8();
        for i in 0..transaction.order.recipients.len() {
            if all || transaction.order.recipients.get(i).is_some_and(|target| !target.address.is_ascii()) {
                transaction.decide(i, Verdict::of(verdict::no_utf8(&self.peer)));
            }
        }
        !transaction.any_waiting()
    }

    /// All content and the end of data are written.
    pub fn content_sent(&mut self) {
        self.progress += 1;
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Content(mut transaction) => {
                transaction.content_sent = true;
                self.awaited.push_back(Step::EndOfData);
                State::Commands(transaction)
            }
            other => other,
        };
    }

    /// The content could not be read to its end. The connection is closed before the end of data, so the
    /// server drops what it has.
    pub fn content_failed(&mut self, status: Status) {
        if let State::Content(transaction) = std::mem::replace(&mut self.state, State::Closed) {
            self.ended = Some(transaction.end(&Verdict { status, retry: Retry::No }));
        }
        self.shut();
    }

    /// Says QUIT, when the server still listens; the connection is closed after its reply.
    pub fn quit(&mut self) {
        if matches!(self.state, State::Idle | State::Refused) {
            self.state = State::Quitting;
            self.output.extend_from_slice(b"QUIT\r\n");
            self.awaited.push_back(Step::Quit);
        } else if !matches!(self.state, State::Quitting) {
            self.shut();
        }
    }

    /// What to do now.
    pub fn next_action(&mut self) -> Action {
        if let Some(ended) = self.ended.take() {
            return Action::Ended(ended);
        }
        if let Some(refusal) = self.refused.take() {
            return Action::Refused(refusal);
        }
        if !self.output.is_empty() {
            return Action::Send(std::mem::take(&mut self.output));
        }
        match (&self.state, self.awaited.front()) {
            (State::Closed, _) | (State::Refused, None) => Action::Close,
            (State::Handshake, _) => Action::Handshake,
            (State::Content(_), _) => Action::SendContent,
            (_, Some(step)) => Action::Wait(step.phase()),
            (State::Idle, None) => Action::Ready,
            (State::Opening | State::Commands(_) | State::Quitting, None) => Action::Close,
        }
    }

    /// Changes with every reply: the time limit of a phase starts anew then.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// Is the session open, without a transaction under way?
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle) && self.awaited.is_empty() && !self.input_pending()
    }

    /// Is the driver to write content (on)? Turns false when the server ends the transaction early.
    pub fn wants_content(&self) -> bool {
        matches!(self.state, State::Content(_))
    }

    /// Is there nothing more to send or to hear?
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// The server.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What EHLO offered.
    pub fn offered(&self) -> &Capabilities {
        &self.offered
    }

    fn input_pending(&self) -> bool {
        self.parser.in_reply()
    }

    fn phase(&self) -> Phase {
        match (&self.state, self.awaited.front()) {
            (State::Content(_), _) => Phase::Content,
            (State::Handshake, _) => Phase::Handshake,
            (_, Some(step)) => step.phase(),
            (_, None) => Phase::Mail,
        }
    }

    /// Sends what may be sent now: the whole group with PIPELINING, one command without (RFC 2920 3.1).
    fn send_commands(&mut self) {
        while self.offered.pipelining || self.awaited.is_empty() {
            let Some(step) = self.unsent.pop_front() else { return };
            if let Some(line) = self.command(step) {
                self.output.extend_from_slice(line.as_bytes());
                self.output.extend_from_slice(b"\r\n");
                self.awaited.push_back(step);
            }
        }
    }

    /// The command's line. All values in it are types that cannot hold a line end.
    fn command(&self, step: Step) -> Option<String> {
        let order = match &self.state {
            State::Commands(transaction) => Some(&transaction.order),
            _ => None,
        };
        Some(match step {
            Step::Ehlo => format!("EHLO {}", self.hello_name),
            Step::Helo => format!("HELO {}", self.hello_name),
            Step::Rset => "RSET".into(),
            Step::Mail => {
                let order = order?;
                let size = if self.offered.size { format!(" SIZE={}", order.size) } else { String::new() };
                let body = if self.offered.eight_bit_mime && order.eight_bit { " BODY=8BITMIME" } else { "" };
                let dsn = if self.offered.dsn { of_message(&order.dsn) } else { String::new() };
                // What does not need it goes without: the next server may have to pass it on to one that lacks it.
                let needed = order.needs_utf8() || order.recipients.iter().any(|t| !t.address.is_ascii());
                let utf8 = if self.offered.smtputf8 && needed { " SMTPUTF8" } else { "" };
                format!("MAIL FROM:<{}>{size}{body}{utf8}{dsn}", order.sender)
            }
            Step::Rcpt(i) => {
                let target = order?.recipients.get(i)?;
                let utf8 = self.offered.smtputf8 && !target.address.is_ascii();
                let dsn = if self.offered.dsn { of_recipient(&target.dsn, utf8) } else { String::new() };
                format!("RCPT TO:<{}>{dsn}", target.address)
            }
            Step::Data => "DATA".into(),
            Step::StartTls => "STARTTLS".into(),
            Step::Greeting | Step::Auth | Step::EndOfData | Step::Quit => return None,
        })
    }

    fn reply(&mut self, reply: &Reply) {
        let Some(step) = self.awaited.pop_front() else {
            return self.unasked(reply);
        };
        // RFC 5321 3.8: 421 may answer anything and means that the server closes.
        if reply.code() == 421 && step != Step::Quit {
            return self.closing(reply, step.phase());
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Opening => self.opening(reply, step),
            State::Commands(transaction) => self.answered(reply, step, transaction),
            State::Quitting => self.shut(),
            other @ (State::Refused | State::Handshake | State::Idle | State::Content(_) | State::Closed) => {
                self.state = other
            }
        }
    }

    /// A reply to a command of the transaction.
    fn answered(&mut self, reply: &Reply, step: Step, mut transaction: Transaction) {
        let refused = || verdict::refused(&self.peer, reply, step.phase());
        match (step, reply.class()) {
            // A reply to RSET is none about this transaction.
            (Step::Rset, 2) => {}
            (Step::Mail, 2) => transaction.answered = true,
            (Step::Rcpt(i), 2) => transaction.accept(i),
            (Step::Rcpt(i), 4 | 5) => transaction.decide(i, refused()),
            (Step::Mail | Step::Data, 4 | 5) => {
                transaction.answered = true;
                transaction.decide_rest(&refused());
            }
            (Step::Data, 3) => return self.go_ahead(transaction),
            (Step::EndOfData, 2) => {
                let status = verdict::accepted(&self.peer, reply);
                transaction.decide_rest(&Verdict { status, retry: Retry::No });
                self.dirty = false;
            }
            (Step::EndOfData, 4 | 5) => transaction.decide_rest(&refused()),
            _ => {
                self.state = State::Commands(transaction);
                return self.out_of_place(reply, step.phase());
            }
        }
        if !transaction.any_accepted() && !transaction.any_waiting() {
            // Nobody to send anything for: what was not sent yet stays unsent.
            self.unsent.clear();
        }
        if self.awaited.is_empty() && self.unsent.is_empty() {
            // All are decided by now: each RCPT was answered, and DATA or the end of data decides about the
            // accepted ones.
            self.ended = Some(transaction.end_with(|| {
                let bug = "transaction without an end";
                Verdict::of(verdict::protocol_error(&self.peer, step.phase(), bug))
            }));
            self.state = State::Idle;
            return;
        }
        self.state = State::Commands(transaction);
        self.send_commands();
    }

    /// 354: the server takes the content.
    fn go_ahead(&mut self, transaction: Transaction) {
        if transaction.any_accepted() {
            self.state = State::Content(transaction);
        } else if transaction.taken_in_vain {
            // The server refused MAIL and took recipients nevertheless: to them it would deliver the empty message below.
            let otherwise = verdict::protocol_error(&self.peer, Phase::Data, "354 without a sender");
            self.ended = Some(transaction.end(&Verdict::of(otherwise)));
            self.shut();
        } else {
            // RFC 2920 3.1: DATA was accepted though no recipient was; an empty message ends it.
            self.output.extend_from_slice(b".\r\n");
            self.awaited.push_back(Step::EndOfData);
            self.state = State::Commands(transaction);
        }
    }

    /// A reply that answers nothing: on an idle connection a farewell, while content is sent the server's
    /// early verdict.
    fn unasked(&mut self, reply: &Reply) {
        match &self.state {
            State::Content(_) if reply.class() >= 4 => self.closing(reply, Phase::Content),
            State::Idle | State::Quitting | State::Refused | State::Handshake | State::Closed => self.shut(),
            State::Opening | State::Commands(_) | State::Content(_) => {
                self.out_of_place(reply, self.phase());
            }
        }
    }

    /// The server closes the connection with this reply.
    fn closing(&mut self, reply: &Reply, phase: Phase) {
        if let State::Opening = self.state {
            self.refused = Some(Refusal::unwilling(verdict::unwilling(&self.peer, reply, phase)));
            return self.shut();
        }
        let verdict = verdict::refused(&self.peer, reply, phase);
        self.end_transaction(&verdict);
        self.shut();
    }

    fn out_of_place(&mut self, reply: &Reply, phase: Phase) {
        let text = format!("unexpected reply: {reply}");
        self.close(verdict::protocol_error(&self.peer, phase, &text));
    }

    fn protocol_error(&mut self, what: &str) {
        self.close(verdict::protocol_error(&self.peer, self.phase(), what));
    }

    /// Ends the session for a reason that is not the server's reply. What was sent up to its end may have
    /// been taken: it must not go to another host now.
    fn close(&mut self, status: Status) {
        match &self.state {
            State::Opening | State::Handshake => self.refused = Some(Refusal::unwilling(status)),
            State::Commands(transaction) if transaction.content_sent => {
                self.end_transaction(&Verdict { status, retry: Retry::No });
            }
            State::Commands(_) | State::Content(_) => self.end_transaction(&Verdict::of(status)),
            State::Refused | State::Idle | State::Quitting | State::Closed => {}
        }
        self.shut();
    }

    fn end_transaction(&mut self, verdict: &Verdict) {
        debug_assert!(verdict.status.outcome != Outcome::Delivered);
        if let State::Commands(transaction) | State::Content(transaction) =
            std::mem::replace(&mut self.state, State::Closed)
        {
            self.ended = Some(transaction.end(verdict));
        }
    }

    fn shut(&mut self) {
        self.state = State::Closed;
        self.awaited.clear();
        self.unsent.clear();
        self.output.clear();
    }
}

/// Parameters of MAIL (RFC 3461 4.3, 4.4).
fn of_message(dsn: &MessageDsn) -> String {
    let ret = dsn.ret.map(|ret| format!(" RET={ret}")).unwrap_or_default();
    let id = dsn.envelope_id.as_ref().map(|id| format!(" ENVID={}", id.to_xtext())).unwrap_or_default();
    ret + &id
}

/// Parameters of RCPT (RFC 3461 4.1, 4.2).
fn of_recipient(dsn: &RecipientDsn, utf8: bool) -> String {
    let notify = if dsn.notify.is_absent() { String::new() } else { format!(" NOTIFY={}", dsn.notify) };
    let original = dsn.original.as_ref().map(|o| if utf8 { o.to_xtext() } else { o.to_ascii_xtext() });
    notify + &original.map(|value| format!(" ORCPT={value}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
