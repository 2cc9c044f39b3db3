//! The SMTP server's core with any octets, in any split, with any answers, at any time.
//!
//! Held against plain rules (`model`): one reply to each command, in order; a refusal changes nothing; a transaction's
//! sender and recipients are those that were accepted; content ends at CRLF.CRLF and nowhere else, and comes out as it
//! was meant; nothing follows the end; memory is bounded.
//!
//! An exchange of AUTH is one reply to each line, and nobody who has to log in sends mail before.
//!
//! The input: an octet of settings, one for the split, then what the client sends. In it `0xFE n` is not sent but does
//! something else, see `Play::control`.

use crate::input::{Input, Numbers};
use crate::model::{Commands, end_of_data};
use common::address::{Address, ReversePath};
use common::config::{BareNewlines, Networks};
use common::time::Timestamp;
use common::tls::Parameters;
use smtpd::session::auth::{Login, MAX_RESPONSE, Offer};
use smtpd::session::line::MAX_LINE;
use smtpd::session::reply::{LOGIN_FAILED, NO_LOGIN_NOW, NO_SPACE, Reply, WRITE_ERROR};
use smtpd::session::verbs::Stage;
use smtpd::session::{Action, Answer, Client, MessageStart, Question, Session, Settings, Token};
use spool::envelope::Recipient;
use spool::id::QueueId;
use std::sync::Arc;
use std::time::Duration;

/// For one session, whatever comes.
const MEMORY: usize = 8 << 20;
/// Octets that a run sends at most, repeats included.
const BUDGET: usize = 128 << 10;
/// Content up to so many octets is compared with the plain rules.
const COMPARED: usize = 4 << 10;
const CONTROL: u8 = 0xfe;

/// Plays the input against a new session.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (settings, split) = (input.octet(), input.octet());
    crate::memory::bounded(MEMORY, || Play::new(settings, split).play(input.rest()));
}

#[derive(Debug, Default)]
struct Message {
    handed_out: Vec<u8>,
    too_long: bool,
}

#[derive(Debug)]
struct Transaction {
    sender: ReversePath,
    recipients: Vec<Address>,
}

/// What the client is in the middle of sending.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// After DATA.
    Lines(Vec<u8>),
    /// After BDAT: octets to come.
    Chunk(u64),
}

/// One session with its host and its client.
pub struct Play {
    session: Session,
    limit: u64,
    reject_bare: bool,
    /// Has the client to log in, and has it?
    required: bool,
    logged_in: bool,
    now: Timestamp,
    step: u8,
    numbers: Numbers,
    budget: usize,
    commands: Commands,
    content: Option<Content>,
    transaction: Option<Transaction>,
    /// Content comes in chunks; was the last one announced?
    chunks: Option<bool>,
    open: Option<Message>,
    /// What the client meant by the message so far, where it is short enough to be compared; was there a bare CR or LF?
    meant: Vec<u8>,
    bare: bool,
    /// Replies owed, and given.
    due: usize,
    given: usize,
    /// The codes that came since the last look.
    codes: Vec<u16>,
    closed: bool,
    lost: bool,
    commit: Option<Reply>,
    probe: bool,
    lose: bool,
    next_id: u64,
}

impl Play {
    /// `settings`: bits for a small size limit (1), normalizing (2), few recipients (4), a trusted client (8), one that may
    /// speak for others (16), STARTTLS (32), AUTH (64), and nothing without it (128). `step`: 0: packets come whole, 1:
    /// octet by octet, others: in pieces of up to so many octets.
    pub fn new(settings: u8, step: u8) -> Self {
        let limit = if settings & 1 == 0 { 0 } else { 500 };
        let reject_bare = settings & 2 == 0;
        let rules = Settings {
            message_size_limit: limit,
            recipient_limit: if settings & 4 == 0 { 1000 } else { 2 },
            bare_newlines: if reject_bare { BareNewlines::Reject } else { BareNewlines::Normalize },
            trusted_networks: here(settings & 8 != 0),
            xclient_networks: here(settings & 16 != 0),
            ..Settings::new("mail.example".parse().unwrap(), "example".parse().unwrap())
        };
        let client = Client::new("127.0.0.1".parse().unwrap());
        let mut play = Self {
            session: Session::new(Arc::new(rules), client, Timestamp(0)),
            limit,
            reject_bare,
            required: settings & 128 != 0,
            logged_in: false,
            now: Timestamp(0),
            step,
            numbers: Numbers::new(step.into()),
            budget: BUDGET,
            commands: Commands::default(),
            content: None,
            transaction: None,
            chunks: None,
            open: None,
            meant: Vec::new(),
            bare: false,
            due: 1,
            given: 0,
            codes: Vec::new(),
            closed: false,
            lost: false,
            commit: None,
            probe: false,
            lose: false,
            next_id: 0,
        };
        if settings & 32 != 0 {
            play.session.offer_starttls();
        }
        let names = ["PLAIN".to_owned(), "X-1".to_owned()];
        let offer = if settings & 64 != 0 { Offer::Mechanisms(names.into()) } else { Offer::Absent };
        play.session.offer_auth(offer, play.required);
        play.act();
        assert_eq!(std::mem::take(&mut play.codes), [220]);
        play
    }

    /// Sends it all, and ends.
    pub fn play(mut self, mut rest: &[u8]) {
        let mut last: &[u8] = b"";
        while let Some(at) = rest.iter().position(|octet| *octet == CONTROL) {
            if at > 0 {
                last = &rest[..at];
                self.send(last);
            }
            let what = rest.get(at + 1).copied().unwrap_or(0);
            self.control(what, last);
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        self.send(rest);
        self.end();
    }

    fn control(&mut self, what: u8, last: &[u8]) {
        match what % 13 {
            0 => self.pass(Duration::from_secs(301)),
            1 => self.pass(Duration::from_secs(20)),
            2 => self.shut_down(false),
            3 => self.shut_down(true),
            4 => self.leave(false),
            5 => self.leave(true),
            6 => self.commit = Some(NO_SPACE),
            7 => self.commit = Some(WRITE_ERROR),
            8 => self.probe = true,
            9 => self.lose = true,
            10 => (0..1u32 << (what / 13).min(12)).for_each(|_| self.send(last)),
            11 => self.send(&[CONTROL]),
            // The end of a packet, and nothing else.
            _ => {}
        }
    }

    /// One packet from the client.
    pub fn send(&mut self, packet: &[u8]) {
        if self.budget < packet.len() {
            return;
        }
        self.budget -= packet.len();
        let mut rest = packet;
        while !rest.is_empty() && !self.closed {
            let length = match self.step {
                0 => rest.len(),
                step => self.numbers.up_to(step.into()).min(rest.len()),
            };
            let (part, tail) = rest.split_at(length);
            self.receive(part);
            rest = tail;
        }
    }

    fn receive(&mut self, mut part: &[u8]) {
        let mut idle = 0;
        while !part.is_empty() && !self.closed {
            let (before, exchange) = (self.session.stage(), self.session.awaits_response());
            let taken = self.session.receive(part, self.now);
            idle = if taken.used == 0 && taken.content.is_empty() { idle + 1 } else { 0 };
            assert!(idle < 3, "the core takes no input and wants nothing");
            let (used, tail) = part.split_at(taken.used);
            part = tail;
            if let Some(message) = &mut self.open {
                message.too_long |= message.handed_out.len() + taken.content.len() > COMPARED;
                if !message.too_long {
                    message.handed_out.extend(taken.content);
                }
            } else {
                assert!(taken.content.is_empty(), "content without a message");
            }
            match before {
                Some(stage) => self.commanded(stage, used),
                None if exchange => self.responded(used),
                None => self.sent_content(used),
            }
        }
    }

    /// Octets that the core took for commands.
    fn commanded(&mut self, before: Stage, used: &[u8]) {
        let (due, line) = self.commands.take(used, MAX_LINE);
        self.due += due;
        self.act();
        let codes = std::mem::take(&mut self.codes);
        let line = line.unwrap_or_default();
        // As the grammar has it, with blanks around it; a CR is part of the word.
        let words = line.strip_suffix(b"\r\n").unwrap_or(&line).split(|b| matches!(b, b' ' | b'\t'));
        let verb = words.into_iter().find(|word| !word.is_empty()).unwrap_or_default().to_ascii_uppercase();
        if self.closed {
            // What stands behind the line that ended the session is taken with it, and has no reply.
            self.due -= due.saturating_sub(1);
            return;
        }
        if let Some(next) = verb.strip_prefix(b"BDAT").and_then(|rest| rest.first()) {
            assert!(next.is_ascii_alphanumeric(), "what may be meant as BDAT ends the session");
        }
        let in_content = self.session.stage().is_none();
        // The reply to BDAT comes behind its chunk.
        let later = usize::from(in_content && verb == b"BDAT");
        self.due -= later;
        assert_eq!(codes.len(), due - later, "one reply to each command");
        let ok = codes.first().is_some_and(|code| *code < 400);
        if self.session.awaits_response() {
            assert_eq!((verb.as_slice(), codes.as_slice()), (&b"AUTH"[..], &[334][..]));
            assert!(self.transaction.is_none(), "no AUTH within a transaction");
            return;
        }
        if ok && matches!(verb.as_slice(), b"RSET" | b"HELO" | b"EHLO" | b"XCLIENT" | b"STARTTLS") {
            assert!(self.open.is_none(), "nothing of the message is left");
            self.transaction = None;
            self.chunks = None;
        }
        if verb == b"BDAT" && due > 0 {
            let (size, last) = chunk(&line).expect("arguments that the core understood");
            if matches!(before, Stage::Recipients | Stage::Chunks) {
                self.transaction = None;
                self.chunks = Some(last);
            }
            self.content = in_content.then_some(Content::Chunk(size));
            if in_content {
                return;
            }
            assert_eq!(size, 0, "octets follow");
            self.chunks = self.chunks.filter(|last| !last);
            return self.stage_is_right(None);
        }
        if in_content {
            assert_eq!(verb, b"DATA");
            self.content = Some(Content::Lines(Vec::new()));
            return;
        }
        self.stage_is_right((!ok).then_some(before));
    }

    /// Octets that the core took for a line of an exchange.
    fn responded(&mut self, used: &[u8]) {
        let (due, _) = self.commands.take(used, MAX_RESPONSE);
        self.due += due;
        self.act();
        let codes = std::mem::take(&mut self.codes);
        if self.closed {
            self.due -= due.saturating_sub(1);
            return;
        }
        assert_eq!(codes.len(), due, "one reply to each response");
        if self.session.awaits_response() {
            assert!(codes.iter().all(|code| *code == 334));
        } else {
            assert!(codes.iter().all(|code| *code != 334) && codes.len() == 1);
            self.stage_is_right(None);
        }
    }

    /// `unchanged`: the stage before a refusal.
    fn stage_is_right(&self, unchanged: Option<Stage>) {
        let stage = self.session.stage().expect("commands");
        let expected = match &self.transaction {
            _ if self.chunks.is_some() => Stage::Chunks,
            None if stage == Stage::Fresh => Stage::Fresh,
            None => Stage::Greeted,
            Some(transaction) if transaction.recipients.is_empty() => Stage::Sender,
            Some(_) => Stage::Recipients,
        };
        assert_eq!(stage, expected);
        assert!(
            unchanged.is_none_or(|before| before == stage),
            "a refusal changed {unchanged:?} to {stage:?}"
        );
        assert!(self.session.deadline().is_some_and(|deadline| deadline > self.now));
    }

    /// Octets that the core took for content.
    fn sent_content(&mut self, used: &[u8]) {
        let ended = match &mut self.content {
            None => {
                assert!(used.is_empty(), "neither commands nor content");
                None
            }
            Some(Content::Lines(lines)) if lines.len() > COMPARED => None,
            Some(Content::Lines(lines)) => {
                lines.extend(used);
                // Looked for only where it can be: octet by octet this is most of the work.
                let end = if used.contains(&b'\n') { end_of_data(lines) } else { None };
                assert!(end.as_ref().is_none_or(|(.., behind)| *behind == 0), "the data had ended before");
                if let Some((content, bare, _)) = &end {
                    self.meant.clone_from(content);
                    self.bare = *bare;
                }
                Some(end.is_some())
            }
            Some(Content::Chunk(left)) => {
                *left = left.checked_sub(used.len() as u64).expect("no more than the chunk is taken");
                if self.open.is_some() && self.meant.len() <= COMPARED {
                    self.meant.extend(used);
                }
                Some(*left == 0)
            }
        };
        self.act();
        let codes = std::mem::take(&mut self.codes);
        if self.closed {
            // The reply to the end of the data, and then a last word. Of lines too long to be compared nobody here knows whether
            // they have ended, only that two replies are no last word alone.
            self.due += usize::from(ended != Some(false) && codes.len() == 2);
            return;
        }
        let over = self.session.stage().is_some();
        assert!(ended.is_none_or(|ended| ended == over), "content ends where the rules say, and only there");
        if over {
            self.due += 1;
            assert_eq!(codes.len(), 1, "one reply to the end of the data");
            self.content = None;
            self.chunks = self.chunks.filter(|last| !last);
            self.stage_is_right(None);
        } else {
            assert!(codes.is_empty(), "no reply in the middle of content");
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.session.next_action() {
            assert!(!self.closed, "nothing follows the end");
            match action {
                Action::Reply(reply) => {
                    let mut wire = Vec::new();
                    reply.write_to(&mut wire);
                    let codes = crate::replies_are_well_formed(&wire);
                    self.given += 1;
                    assert_eq!(codes, [reply.code()]);
                    self.codes.extend(codes);
                }
                Action::Ask(token, question) => self.asked(token, question),
                Action::Begin(start) => self.begin(*start),
                Action::Append(octets) => {
                    self.open.as_mut().expect("content belongs to a message").handed_out.extend(octets);
                }
                Action::Discard => assert!(self.open.take().is_some(), "only what has begun can be dropped"),
                Action::Log(_, line) => {
                    assert!(!line.chars().any(char::is_control), "{line:?}");
                }
                Action::Close { .. } => self.closed = true,
                _ => {}
            }
        }
    }

    fn asked(&mut self, token: Token, question: Question) {
        assert_eq!(self.session.deadline(), None, "no deadline while an answer is awaited");
        if std::mem::take(&mut self.probe) {
            let taken = self.session.receive(b"QUIT\r\n", self.now);
            assert!(taken.used == 0 && taken.content.is_empty(), "nothing is taken before the answer");
            self.session.expire(Timestamp(i64::MAX));
            assert!(!self.session.is_closed());
            assert!(!self.session.shut_down(true), "a message that is being committed is acknowledged");
        }
        if std::mem::take(&mut self.lose) {
            self.lost = true;
            self.session.lost();
        }
        if question == Question::Handshake && !self.lost {
            self.content = None;
            self.logged_in = false;
            self.commands = Commands::default();
            let parameters = Parameters {
                version: "TLSv1.3",
                cipher: "TLS_AES_256_GCM_SHA384".into(),
                bits: 256,
                group: None,
                resumed: false,
                client: common::tls::ClientCertificate::NotRequested,
            };
            return self.session.secured(parameters, self.now);
        }
        let answer = self.answer(question);
        self.session.answer(token, answer, self.now);
    }

    fn answer(&mut self, question: Question) -> Answer {
        let refused = |code, enhanced| Answer::Refused(Reply::fixed(code, enhanced, "not here"));
        match question {
            Question::Connect { .. } => {
                // Another client: logged in when the host in front says so.
                self.logged_in = self.session.login().is_some();
                Answer::Yes
            }
            Question::Login { initial, .. } => self.exchange(initial.map(|octets| octets.0)),
            Question::Response(octets) => self.exchange(Some(octets.0)),
            Question::Sender { sender, .. } => {
                assert!(self.logged_in || !self.required, "no mail from who has not logged in");
                if sender.address().is_some_and(|a| a.local_part().as_str() == "no") {
                    return refused(550, (5, 7, 1));
                }
                self.transaction = Some(Transaction { sender, recipients: Vec::new() });
                Answer::Yes
            }
            Question::Recipient { recipient, .. } => {
                let as_other = match recipient.local_part().as_str() {
                    "no" => return refused(550, (5, 1, 1)),
                    "later" => return refused(450, (4, 2, 0)),
                    "other" => Some("joe@elsewhere.example".parse::<Address>().unwrap()),
                    _ => None,
                };
                let meant = as_other.clone().unwrap_or(recipient);
                let list = &mut self.transaction.as_mut().expect("RCPT belongs to a transaction").recipients;
                if !list.contains(&meant) {
                    list.push(meant);
                }
                as_other.map_or(Answer::Yes, |address| Answer::YesAs(Recipient::new(address)))
            }
            Question::Commit { message_id } => {
                assert!(!message_id.chars().any(char::is_control));
                self.commit()
            }
            #[allow(unreachable_patterns, reason = "what the core learns to ask is answered with yes")]
            _ => Answer::Yes,
        }
    }

    /// What a mechanism would say.
    fn exchange(&mut self, said: Option<Vec<u8>>) -> Answer {
        match said.as_deref() {
            None | Some(b"more") => Answer::Challenge(b"more".to_vec()),
            Some(b"much") => Answer::Challenge(vec![0; 9210]),
            Some(b"too much") => Answer::Challenge(vec![0; 9211]),
            Some(b"end") => Answer::Refused(Reply::fixed(421, (4, 7, 0), "not you")),
            Some(b"late") => Answer::Refused(NO_LOGIN_NOW),
            Some([b'o', b'k', ..]) => {
                self.logged_in = true;
                Answer::LoggedIn(Login { name: "joe".into(), method: "PLAIN".into() })
            }
            Some(_) => Answer::Refused(LOGIN_FAILED),
        }
    }

    /// The message is whole: is it what the client sent?
    fn commit(&mut self) -> Answer {
        if self.lost {
            return Answer::Refused(WRITE_ERROR);
        }
        let message = self.open.take().expect("a message was begun");
        if self.chunks.is_some() {
            (self.meant, self.bare) = crate::model::whole_lines(&self.meant);
        }
        if !message.too_long && self.meant.len() <= COMPARED {
            assert!(message.handed_out == self.meant, "content comes out as it was meant");
            assert!(self.limit == 0 || self.meant.len() as u64 <= self.limit);
            assert!(!(self.reject_bare && self.bare), "a bare CR or LF is refused");
        }
        if let Some(refusal) = self.commit.take() {
            return Answer::Refused(refusal);
        }
        self.next_id += 1;
        Answer::Queued(QueueId::new(self.now, self.next_id))
    }

    fn begin(&mut self, start: MessageStart) {
        assert!(self.open.is_none(), "one message at a time");
        let transaction = self.transaction.take().expect("a message belongs to a transaction");
        assert_eq!(start.sender, transaction.sender);
        assert_eq!(start.login.is_some(), self.logged_in);
        let recipients: Vec<_> = start.recipients.iter().map(|r| r.address.clone()).collect();
        assert_eq!(recipients, transaction.recipients);
        assert!(!recipients.is_empty());
        self.open = Some(Message::default());
        self.meant.clear();
        self.bare = false;
    }

    /// Time passes; a deadline in between is met.
    fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        if let Some(deadline) = self.session.deadline().filter(|deadline| *deadline <= end) {
            self.session.expire(Timestamp(deadline.0 - 1));
            assert!(!self.session.is_closed(), "not before its time");
            self.session.expire(deadline);
            assert!(self.session.is_closed(), "not after its time");
        }
        self.now = end;
        self.act();
    }

    fn shut_down(&mut self, at_once: bool) {
        let in_content = self.session.stage().is_none() && !self.session.awaits_response();
        let done = self.session.shut_down(at_once);
        assert_eq!(done, self.closed || at_once || !in_content);
        self.act();
    }

    /// The client goes, or does not take replies any more.
    fn leave(&mut self, stalled: bool) {
        self.lost = true;
        if stalled {
            self.session.stalled()
        } else {
            self.session.lost()
        }
        self.act();
    }

    fn end(mut self) {
        if !self.closed {
            self.leave(false);
        }
        assert!(self.closed && self.session.is_closed(), "in the end every session ends");
        assert!(self.open.is_none(), "nothing remains of half a message");
        assert_eq!(self.session.deadline(), None);
        assert!(self.session.next_action().is_none());
        let taken = self.session.receive(b"NOOP\r\n", self.now);
        assert_eq!((taken.used, taken.content.len()), (6, 0), "what comes after the end is nothing");
        // A last word may come unasked; the question that was open when the client went has no reply.
        let fewest = self.due - usize::from(self.lost && self.due > 0);
        assert!((fewest..=self.due + 1).contains(&self.given), "{} replies to {}", self.given, self.due);
    }
}

fn here(so: bool) -> Networks {
    if so { Networks::this_machine() } else { Networks::default() }
}

/// `BDAT size [LAST]`.
fn chunk(line: &[u8]) -> Option<(u64, bool)> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace().skip(1);
    Some((words.next()?.parse().ok()?, words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"))))
}
