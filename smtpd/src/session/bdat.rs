//! BDAT (RFC 3030): content in chunks that are counted, not ended by a dot.
//!
//! Whatever is answered, the octets of a chunk are taken as content and never as commands: those of a refused
//! one are read and forgotten before its reply is sent. A chunk that is refused within a transaction fails
//! the message: no later chunk can make a message without it, and each gets the same reply, up to LAST or
//! RSET. What cannot be read, or is too long to be passed over, ends the session.

use super::action::{Action, Answer, Question};
use super::chunk::{self, Chunks};
use super::commands::Done;
use super::content::{DISCARD_AT_LEAST, PROGRESS};
use super::limits::Pace;
use super::reply::{self, Reply};
use super::transaction::{Content, Framing, Transaction, Unwanted};
use super::{Asked, Phase, Session};
use common::time::Timestamp;

/// A refused chunk on its way: its octets, the reply to it, and what is gone back to.
#[derive(Debug)]
pub(super) struct Skipped {
    left: u64,
    since_progress: u64,
    pace: Pace,
    reply: Reply,
    pub(super) then: Phase,
}

impl Session {
    /// `refusal`: the table's, when BDAT is out of place.
    pub(super) fn bdat(&mut self, args: &[u8], refusal: Option<Reply>) -> Result<Done, Reply> {
        let (size, last) = match chunk::parse(args) {
            Ok(parsed) => parsed,
            Err(reply) => {
                self.lose_track(reply);
                return Ok(Done::Silent);
            }
        };
        if size == 0 && !last {
            self.tally.junk();
        }
        if let Some(refusal) = refusal {
            return self.skip(size, refusal);
        }
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Chunks(content) => self.chunk(content, size, last),
            Phase::Open(transaction) => {
                let question = Question::Data { recipients: transaction.recipients.len() };
                self.ask(Asked::FirstChunk(transaction, size, last), question);
            }
            // The table has seen to it that this cannot be.
            other => {
                self.phase = other;
                return self.skip(size, reply::NEED_RCPT);
            }
        }
        Ok(Done::Silent)
    }

    pub(super) fn first_chunk_answered(
        &mut self,
        transaction: Transaction,
        size: u64,
        last: bool,
        answer: Answer,
    ) {
        let refused = match answer {
            Answer::Refused(reply) => {
                self.log_data_reject(&transaction, &reply);
                Some(Unwanted::Refused(reply))
            }
            _ => self.is_too_much(0, size).then_some(Unwanted::TooLarge),
        };
        let (mut content, start) = self.begin(transaction, Framing::Chunks(Chunks::new()));
        content.logged = matches!(refused, Some(Unwanted::Refused(_)));
        content.unwanted = refused;
        if content.unwanted.is_none() {
            self.actions.push_back(Action::Begin(start));
        }
        self.chunk(content, size, last);
    }

    /// A chunk follows.
    fn chunk(&mut self, mut content: Box<Content>, size: u64, last: bool) {
        if content.unwanted.is_none() && self.is_too_much(content.length, size) {
            content.unwanted = Some(Unwanted::TooLarge);
            self.actions.push_back(Action::Discard);
        }
        let hopeless = self.is_hopeless(&content, size);
        if let Framing::Chunks(chunks) = &mut content.framing {
            chunks.begin(size, last);
        }
        if size == 0 {
            return self.end_of_chunk(content);
        }
        self.phase = Phase::Content(content);
        if hopeless {
            self.too_much();
        }
    }

    fn is_too_much(&self, length: u64, size: u64) -> bool {
        let limit = self.settings.message_size_limit;
        limit > 0 && length.saturating_add(size) > limit
    }

    /// A whole chunk has come.
    pub(super) fn end_of_chunk(&mut self, mut content: Box<Content>) {
        let Framing::Chunks(chunks) = &mut content.framing else {
            return self.end_of_data(content);
        };
        let (size, last) = (chunks.size(), chunks.is_last());
        if last {
            let missing = chunks.finish();
            if content.unwanted.is_none() {
                content.header.see(missing);
                self.judge(&mut content);
            }
            if content.unwanted.is_none() && !missing.is_empty() {
                self.actions.push_back(Action::Append(missing));
            }
            return self.end_of_data(content);
        }
        match &content.unwanted {
            None => self.accept(reply::chunk_taken(size)),
            Some(unwanted) => {
                let reply = unwanted.reply(&self.settings.hostname);
                self.log_content_reject(&mut content, &reply);
                self.refuse_by_class(reply);
            }
        }
        self.phase = Phase::Chunks(content);
        self.check_patience();
    }

    /// Refuses a chunk out of place: first its octets, then the reply; the state stays as it was.
    fn skip(&mut self, size: u64, reply: Reply) -> Result<Done, Reply> {
        if size == 0 {
            return Err(reply);
        }
        if size > DISCARD_AT_LEAST || self.is_worn_out(size) {
            self.tally.error();
            self.say(reply);
            self.too_much();
            return Ok(Done::Silent);
        }
        let then = std::mem::replace(&mut self.phase, Phase::Idle);
        let skipped = Skipped { left: size, since_progress: 0, pace: Pace::default(), reply, then };
        self.phase = Phase::Skipping(Box::new(skipped));
        Ok(Done::Silent)
    }

    pub(super) fn receive_skipped(&mut self, input: &[u8], now: Timestamp) -> usize {
        let Phase::Skipping(mut skipped) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return 0;
        };
        let used = usize::try_from(skipped.left).unwrap_or(usize::MAX).min(input.len());
        let octets: u64 = used.try_into().unwrap_or(u64::MAX);
        skipped.left = skipped.left.saturating_sub(octets);
        self.discarded = self.discarded.saturating_add(octets);
        skipped.since_progress = skipped.since_progress.saturating_add(octets);
        if skipped.since_progress >= PROGRESS || skipped.left == 0 {
            skipped.since_progress = 0;
            self.progress(now);
        }
        if skipped.left > 0 {
            // Wanted or not, it has to come at a rate.
            self.keep_up(&mut skipped.pace, octets, now);
            self.phase = Phase::Skipping(skipped);
            return used;
        }
        self.phase = skipped.then;
        self.refuse(skipped.reply);
        self.check_patience();
        used
    }
}
