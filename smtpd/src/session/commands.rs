//! What each command does, once its line is whole (RFC 5321 4.1.1).

use super::action::{Action, Answer, Hello, MessageStart, Question};
use super::auth::Offer;
use super::command::{self, Command};
use super::data::Decoder;
use super::header::HeaderScan;
use super::limits::{Lease, Pace};
use super::line;
use super::offer;
use super::reply::{self, Reply};
use super::transaction::{Content, Framing, Transaction};
use super::verbs::{self, Stage, Verb};
use super::{After, Asked, Phase, Session};
use common::address::{Address, ReversePath};
use common::dsn::{MessageDsn, RecipientDsn};
use spool::envelope::{Body, Recipient};
use std::sync::Arc;

/// How a command ended, when it was not refused.
pub(super) enum Done {
    /// With this reply.
    Reply(Reply),
    /// With what was done already: a question, or several actions.
    Silent,
}

impl Session {
    /// Carries out one command line. `rest`: what arrived with it.
    pub(super) fn command(&mut self, line: &[u8], rest: &[u8]) {
        let (word, args) = command::split(line);
        let found = verbs::find(word);
        self.after = found.map_or(After::Unknown, |(verb, _)| After::Verb(verb));
        self.tally.came(found.map(|(verb, _)| verb));
        let Some((verb, rule)) = found else {
            if line::announces_chunk(line) {
                return self.lose_track(unknown(line));
            }
            if !rest.is_empty() && !self.may_pipeline() {
                return self.out_of_turn(rest);
            }
            self.refuse(unknown(line));
            return self.check_patience();
        };
        if rule.verb == Verb::Foreign {
            return self.foreign(line);
        }
        if !rest.is_empty() && !self.may_go_on(rule) {
            return self.out_of_turn(rest);
        }
        match self.run(rule, args) {
            Ok(Done::Reply(reply)) => {
                self.tally.went_well(verb);
                self.say(reply);
            }
            Ok(Done::Silent) => {}
            Err(refusal) => self.refuse(refusal),
        }
        if rule.ends_group && !self.is_closed() {
            self.actions.push_back(Action::Flush);
        }
        self.check_patience();
    }

    /// May more follow this command before its reply (RFC 2920 3.1)?
    fn may_go_on(&self, rule: &verbs::Rule) -> bool {
        match rule.verb {
            // Were DATA refused, this content would be taken for commands.
            Verb::Data => false,
            // Whoever sits on the line could have put it there, to be taken for what comes encrypted.
            Verb::StartTls => false,
            // RFC 4954 4: the last of a group. What follows it would be taken for a response.
            Verb::Auth => false,
            // Nobody will read it.
            Verb::Quit => true,
            _ => self.is_trusted() || (self.may_pipeline() && !rule.ends_group),
        }
    }

    /// PIPELINING is offered in the reply to EHLO.
    fn may_pipeline(&self) -> bool {
        self.is_trusted() || self.hello.as_ref().is_some_and(|hello| hello.extended)
    }

    fn run(&mut self, rule: &verbs::Rule, args: &[u8]) -> Result<Done, Reply> {
        let stage = self.stage().unwrap_or(Stage::Fresh);
        if rule.verb == Verb::Auth && self.auth == Offer::Absent {
            return Err(reply::NOT_IMPLEMENTED);
        }
        let refusal = rule.refusal_in(stage).map(|refusal| self.refusal_of_stage(rule.verb, refusal));
        let refusal = match stage {
            Stage::Fresh => refusal.or_else(|| self.login_missing(rule)),
            _ => self.login_missing(rule).or(refusal),
        };
        if rule.verb == Verb::Bdat {
            return self.bdat(args, refusal);
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if args.contains(&b'\r') {
            return Err(reply::BARE_CR);
        }
        let utf8 = matches!(&self.phase, Phase::Open(transaction) if transaction.body == Body::Utf8);
        match rule.verb {
            Verb::Xclient => return self.xclient(args),
            Verb::StartTls => return self.start_tls(args),
            Verb::Auth => return self.auth(args),
            _ => {}
        }
        let Some(command) = command::parse(rule.verb, args, &self.settings.mail_name, utf8) else {
            return Err(reply::NOT_IMPLEMENTED);
        };
        match command? {
            Command::Helo(name) => Ok(self.ask_hello(Hello { name, extended: false })),
            Command::Ehlo(name) => Ok(self.ask_hello(Hello { name, extended: true })),
            Command::Mail { sender, size, body, dsn, submitter } => {
                self.mail((sender, size), body, dsn, submitter)
            }
            Command::Rcpt { recipient, bare_postmaster, dsn } => self.rcpt(recipient, bare_postmaster, dsn),
            Command::Data => self.data(),
            Command::Rset => {
                self.reset();
                Ok(Done::Reply(reply::OK))
            }
            Command::Noop => Ok(Done::Reply(reply::OK)),
            Command::Vrfy(text) => {
                let code = common::status::EnhancedCode::new(2, 0, 0);
                Ok(Done::Reply(Reply::new(252, code, text)))
            }
            Command::Help => Ok(Done::Reply(reply::HELP)),
            Command::Quit => {
                if let After::Verb(verb) = self.after {
                    self.tally.went_well(verb);
                }
                self.close(reply::BYE);
                Ok(Done::Silent)
            }
        }
    }

    /// The table's refusal, but for DATA and BDAT after recipients that were all refused: there the reason is another.
    fn refusal_of_stage(&self, verb: Verb, refusal: &Reply) -> Reply {
        match &self.phase {
            Phase::Open(transaction) if matches!(verb, Verb::Data | Verb::Bdat) && transaction.refused => {
                reply::NO_VALID_RECIPIENTS
            }
            _ => refusal.clone(),
        }
    }

    /// Before the greeting: may this client come?
    pub(super) fn connect(&mut self) {
        self.ask(Asked::Connect, Question::Connect { client: self.client.clone() });
    }

    fn connect_answered(&mut self, answer: Answer) {
        self.phase = Phase::Idle;
        match answer {
            Answer::Refused(reply) => {
                self.log_reject("CONNECT", &reply, None, None);
                self.close(reply);
            }
            _ if self.after == After::Connect => {
                if self.is_trusted() {
                    self.greet();
                } else {
                    self.ask(Asked::Quiet, Question::Quiet);
                }
            }
            _ => self.greet(),
        }
    }

    fn quiet_answered(&mut self, answer: Answer) {
        self.phase = Phase::Idle;
        match answer {
            // RFC 5321 3.1: the client waits for the greeting.
            Answer::Refused(_) => self.out_of_turn(b""),
            _ => self.greet(),
        }
    }

    fn greet(&mut self) {
        self.say(reply::greeting(&self.settings.hostname));
        self.actions.push_back(Action::Flush);
    }

    /// What was before stays until the answer is there: a transaction, too.
    fn ask_hello(&mut self, hello: Hello) -> Done {
        let question = Question::Hello { name: hello.name.clone() };
        let before = Box::new(std::mem::replace(&mut self.phase, Phase::Idle));
        self.ask(Asked::Hello(hello, before), question);
        Done::Silent
    }

    fn hello_answered(&mut self, hello: Hello, before: Phase, answer: Answer) {
        self.phase = before;
        match answer {
            Answer::Refused(reply) => {
                let verb = if hello.extended { "EHLO" } else { "HELO" };
                self.log_reject(verb, &reply, None, None);
                self.refuse_by_class(reply);
            }
            _ => {
                let reply = self.hello(hello);
                self.accept(reply);
            }
        }
        self.actions.push_back(Action::Flush);
    }

    /// RFC 5321 4.1.4: a greeting in the middle of a transaction ends it.
    fn hello(&mut self, hello: Hello) -> Reply {
        self.reset();
        let extended = hello.extended;
        self.hello = Some(Arc::new(hello));
        let hostname = &self.settings.hostname;
        if !extended {
            return Reply::plain(250, hostname.to_string().into());
        }
        let mut lines = vec![hostname.to_string()];
        lines.extend(offer::keywords(&self.settings, self.offers_tls(), self.mechanisms(), self.xclient));
        Reply::plain(250, lines.join("\n").into())
    }

    fn mail(
        &mut self,
        (sender, size): (ReversePath, Option<u64>),
        body: Body,
        dsn: MessageDsn,
        submitter: Option<ReversePath>,
    ) -> Result<Done, Reply> {
        if submitter.is_some() && self.auth == Offer::Absent && self.login.is_none() {
            return Err(reply::unsupported_option("AUTH"));
        }
        let limit = self.settings.message_size_limit;
        if limit > 0 && size.is_some_and(|size| size > limit) {
            self.log_reject("MAIL", &reply::TOO_LARGE, Some(sender.to_string()), None);
            return Err(reply::TOO_LARGE);
        }
        let limits = &self.settings.limits;
        if limits.transactions > 0 && self.transactions >= limits.transactions {
            self.log_end("too many messages");
            let text = "Error: too many messages in one session";
            self.close(reply::closing((7, 0), &self.settings.hostname, text));
            return Ok(Done::Silent);
        }
        let mut transaction = Transaction::new(sender.clone(), body, dsn, Lease::new(limits.memory.clone()));
        // RFC 4954 5: whoever has not logged in and is not trusted is not believed.
        transaction.submitter = submitter.filter(|_| self.login.is_some() || self.is_trusted());
        self.ask(Asked::Sender(Box::new(transaction)), Question::Sender { sender, size });
        Ok(Done::Silent)
    }

    fn rcpt(&mut self, recipient: Address, bare_postmaster: bool, dsn: RecipientDsn) -> Result<Done, Reply> {
        let Phase::Open(transaction) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            // The table has seen to it that this cannot be.
            return Err(reply::NEED_MAIL);
        };
        if transaction.accepted >= self.settings.recipient_limit {
            self.phase = Phase::Open(transaction);
            self.refuse_by_class(reply::TOO_MANY_RECIPIENTS);
            return Ok(Done::Silent);
        }
        let question = Question::Recipient { recipient: recipient.clone(), bare_postmaster };
        self.ask(Asked::Recipient(transaction, Recipient { dsn, ..Recipient::new(recipient) }), question);
        Ok(Done::Silent)
    }

    fn data(&mut self) -> Result<Done, Reply> {
        let Phase::Open(transaction) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return Err(reply::NEED_RCPT);
        };
        let question = Question::Data { recipients: transaction.recipients.len() };
        self.ask(Asked::Data(transaction), question);
        Ok(Done::Silent)
    }

    fn data_answered(&mut self, transaction: Box<Transaction>, answer: Answer) {
        match answer {
            Answer::Refused(reply) => {
                self.log_data_reject(&transaction, &reply);
                self.phase = Phase::Open(transaction);
                self.refuse_by_class(reply);
            }
            _ => {
                let (content, start) = self.begin(*transaction, Framing::Dot(Decoder::default()));
                self.phase = Phase::Content(content);
                self.actions.push_back(Action::Begin(start));
                self.say(reply::START_CONTENT);
            }
        }
        self.actions.push_back(Action::Flush);
    }

    pub(super) fn log_data_reject(&mut self, transaction: &Transaction, reply: &Reply) {
        let sender = transaction.sender.to_string();
        let recipient = match transaction.recipients.as_slice() {
            [only] => Some(only.original().to_string()),
            _ => None,
        };
        self.log_reject("DATA", reply, Some(sender), recipient);
    }

    /// The transaction's content begins: what is kept of it, and what the driver is told.
    pub(super) fn begin(
        &self,
        transaction: Transaction,
        framing: Framing,
    ) -> (Box<Content>, Box<MessageStart>) {
        let Transaction { sender, body, dsn, submitter, recipients, lease, .. } = transaction;
        let hello = self.hello.clone().unwrap_or_else(|| {
            // MAIL is refused before HELO, so there is one.
            Arc::new(Hello { name: String::new(), extended: false })
        });
        let content = Content {
            sender: sender.clone(),
            recipient: recipients.first().map(|r| r.original().clone()),
            framing,
            header: HeaderScan::default(),
            length: 0,
            unwanted: None,
            logged: false,
            since_progress: 0,
            pace: Pace::default(),
            line: 0,
            lease,
            held: 0,
        };
        let (tls, login) = (self.tls(), self.login.clone());
        let start = MessageStart { sender, body, dsn, recipients, hello, tls, login, submitter };
        (Box::new(content), Box::new(start))
    }

    /// Goes on after a question.
    pub(super) fn answered(&mut self, asked: Asked, answer: Answer) {
        match asked {
            Asked::Connect => self.connect_answered(answer),
            Asked::Quiet => self.quiet_answered(answer),
            // The driver has said that it cannot.
            Asked::Handshake => self.end_unheard("lost connection"),
            Asked::Login => self.login_answered(answer),
            Asked::Hello(hello, before) => self.hello_answered(hello, *before, answer),
            Asked::Data(transaction) => self.data_answered(transaction, answer),
            Asked::FirstChunk(transaction, size, last) => {
                self.first_chunk_answered(*transaction, size, last, answer);
            }
            Asked::Sender(transaction) => self.sender_answered(transaction, answer),
            Asked::Recipient(transaction, recipient) => {
                self.recipient_answered(transaction, recipient, answer);
            }
            Asked::Commit(mut content) => self.commit_answered(&mut content, answer),
        }
        self.check_patience();
    }

    fn sender_answered(&mut self, transaction: Box<Transaction>, answer: Answer) {
        match answer {
            Answer::Refused(reply) => {
                self.phase = Phase::Idle;
                self.log_reject("MAIL", &reply, Some(transaction.sender.to_string()), None);
                self.refuse_by_class(reply);
            }
            _ => {
                self.transactions = self.transactions.saturating_add(1);
                self.phase = Phase::Open(transaction);
                self.accept(reply::SENDER_OK);
            }
        }
    }

    fn recipient_answered(
        &mut self,
        mut transaction: Box<Transaction>,
        recipient: Recipient,
        answer: Answer,
    ) {
        match answer {
            Answer::Refused(reply) => {
                transaction.refused = true;
                let (from, to) = (transaction.sender.to_string(), recipient.address.to_string());
                self.phase = Phase::Open(transaction);
                self.log_reject("RCPT", &reply, Some(from), Some(to));
                self.refuse_by_class(reply);
            }
            Answer::YesAs(meant) => {
                self.recipient_taken(transaction, Recipient { dsn: recipient.dsn, ..meant });
            }
            _ => self.recipient_taken(transaction, recipient),
        }
    }

    fn recipient_taken(&mut self, mut transaction: Box<Transaction>, recipient: Recipient) {
        let taken = transaction.add(recipient);
        self.phase = Phase::Open(transaction);
        if taken {
            self.accept(reply::RECIPIENT_OK);
        } else {
            self.warn(format!("memory_limit is reached: a recipient from {} has to wait", self.client));
            self.refuse_by_class(reply::NO_MEMORY);
        }
    }

    /// The last command went well.
    pub(super) fn accept(&mut self, reply: Reply) {
        if let After::Verb(verb) = self.after {
            self.tally.went_well(verb);
        }
        self.say(reply);
    }

    /// Our own trouble is not the client's error, unless there is no end to it.
    pub(super) fn refuse_by_class(&mut self, reply: Reply) {
        if reply.code() >= 500 {
            return self.refuse(reply);
        }
        self.say(reply);
        self.tally.deferral();
    }
}

fn unknown(line: &[u8]) -> Reply {
    if line.trim_ascii().is_empty() {
        reply::BAD_SYNTAX
    } else if line.contains(&b'\r') {
        reply::BARE_CR
    } else {
        reply::UNKNOWN_COMMAND
    }
}
