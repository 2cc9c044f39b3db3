//! Content on its way in: handed out piece by piece, watched for its limits, and answered after its end (RFC
//! 5321 4.1.1.4, RFC 3030 2).

use super::action::{Action, Answer, Question};
use super::limits::{HELD, Pace};
use super::reply;
use super::transaction::{Content, Framing, HEADER_LIMIT, HOP_LIMIT, Unwanted};
use super::{After, Asked, Phase, Session, Taken};
use common::config::BareNewlines;
use common::time::Timestamp;
use memchr::memchr;

/// The idle time-out is for so many octets of content.
pub(super) const PROGRESS: u64 = 1024;
/// Unwanted content is read to its end, so that the client learns the reason, but not for ever: so many times
/// the size limit, and at least the other figure, in octets, from the refusal on and in all of a session.
const DISCARD_FACTOR: u64 = 8;
pub(super) const DISCARD_AT_LEAST: u64 = 64 * 1024 * 1024;

impl Session {
    pub(super) fn receive_content<'a>(&mut self, input: &'a [u8], now: Timestamp) -> Taken<'a> {
        let Phase::Content(mut content) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return Taken { used: 0, content: b"" };
        };
        let piece = content.framing.next(input);
        content.since_progress = content.since_progress.saturating_add(piece.used.try_into().unwrap_or(0));
        if content.since_progress >= PROGRESS || piece.ended {
            content.since_progress = 0;
            self.progress(now);
        }
        let octets = piece.content.len().try_into().unwrap_or(0);
        self.keep_up(&mut content.pace, octets, now);
        content.length = content.length.saturating_add(octets);
        if content.unwanted.is_some() {
            self.discarded = self.discarded.saturating_add(octets);
        } else {
            content.header.see(piece.content);
            let too_long = self.is_line_too_long(&mut content, piece.content);
            self.judge(&mut content);
            if content.unwanted.is_none() && (too_long || !hold(&mut content)) {
                content.unwanted = Some(if too_long { Unwanted::LineTooLong } else { Unwanted::NoMemory });
                self.actions.push_back(Action::Discard);
            }
        }
        let wanted = content.unwanted.is_none();
        if piece.ended {
            match content.framing {
                Framing::Dot(_) => self.end_of_data(content),
                Framing::Chunks(_) => self.end_of_chunk(content),
            }
        } else if self.is_hopeless(&content, 0) {
            self.phase = Phase::Content(content);
            self.too_much();
        } else {
            self.phase = Phase::Content(content);
        }
        Taken { used: piece.used, content: if wanted { piece.content } else { b"" } }
    }

    /// Moves the deadline forward where content, of which so much has come now, is too slow.
    pub(super) fn keep_up(&mut self, pace: &mut Pace, octets: u64, now: Timestamp) {
        if let Some(due) = pace.due(octets, self.settings.limits.min_data_rate, now, self.patience) {
            self.deadline = self.deadline.map(|deadline| deadline.min(due));
        }
    }

    /// Is the content still wanted? If not, nothing of it may remain.
    pub(super) fn judge(&mut self, content: &mut Content) {
        content.unwanted = self.verdict(content);
        if content.unwanted.is_some() {
            self.actions.push_back(Action::Discard);
        }
    }

    /// Counts the octets of lines.
    fn is_line_too_long(&self, content: &mut Content, piece: &[u8]) -> bool {
        let limit = self.settings.limits.line_length;
        if limit == 0 {
            return false;
        }
        let octets = |part: &[u8]| u64::try_from(part.len()).unwrap_or(u64::MAX);
        let mut longest = 0;
        let mut rest = piece;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at_checked(end + 1).unwrap_or((rest, b""));
            longest = longest.max(content.line.saturating_add(octets(line)));
            content.line = 0;
            rest = after;
        }
        content.line = content.line.saturating_add(octets(rest));
        longest.max(content.line) > limit
    }

    /// Ends a session that would go on with unwanted content for too long.
    pub(super) fn too_much(&mut self) {
        self.log_end("too much content");
        let text = "Error: message size exceeds fixed limit";
        self.close(reply::closing((3, 4), &self.settings.hostname, text));
    }

    fn verdict(&self, content: &Content) -> Option<Unwanted> {
        let limit = self.settings.message_size_limit;
        if let Some(what) = content.framing.bare_newline()
            && self.settings.bare_newlines == BareNewlines::Reject
            && !self.is_in(&self.settings.bare_newlines_networks)
        {
            Some(Unwanted::Bare(what))
        } else if limit > 0 && content.length > limit {
            Some(Unwanted::TooLarge)
        } else if content.header.hops() > HOP_LIMIT {
            Some(Unwanted::TooManyHops)
        } else if content.header.size() > HEADER_LIMIT {
            Some(Unwanted::HeaderTooLarge)
        } else {
            None
        }
    }

    /// With so many octets more: is it unwanted, and more than is worth being read?
    pub(super) fn is_hopeless(&self, content: &Content, more: u64) -> bool {
        content.unwanted.is_some() && self.is_worn_out(more)
    }

    /// With so many octets more: is it more than is worth being thrown away?
    pub(super) fn is_worn_out(&self, more: u64) -> bool {
        let most = self.settings.message_size_limit.saturating_mul(DISCARD_FACTOR).max(DISCARD_AT_LEAST);
        self.discarded.saturating_add(more) > most
    }

    /// All of the message has come.
    pub(super) fn end_of_data(&mut self, mut content: Box<Content>) {
        match &content.unwanted {
            None => {
                let message_id = content.header.message_id();
                self.ask(Asked::Commit(content), Question::Commit { message_id });
            }
            Some(unwanted) => {
                self.phase = Phase::Idle;
                let reply = unwanted.reply(&self.settings.hostname);
                self.log_content_reject(&mut content, &reply);
                self.after = After::EndOfMessage;
                self.refuse_by_class(reply);
                self.actions.push_back(Action::Flush);
                self.check_patience();
            }
        }
    }

    pub(super) fn commit_answered(&mut self, content: &mut Content, answer: Answer) {
        self.phase = Phase::Idle;
        match answer {
            Answer::Queued(id) => {
                self.tally.forgive();
                self.accept(reply::queued(id));
            }
            Answer::Refused(reply) => {
                self.log_content_reject(content, &reply);
                self.refuse_by_class(reply);
            }
            // Without an ID there is no message.
            _ => self.say(reply::WRITE_ERROR),
        }
        self.after = After::EndOfMessage;
        self.actions.push_back(Action::Flush);
    }

    /// Writes it to the log, once for each message.
    pub(super) fn log_content_reject(&mut self, content: &mut Content, reply: &reply::Reply) {
        if std::mem::replace(&mut content.logged, true) {
            return;
        }
        let recipient = content.recipient.as_ref().map(ToString::to_string);
        self.log_reject("END-OF-MESSAGE", reply, Some(content.sender.to_string()), recipient);
    }
}

/// Takes memory for what is held of the content, as it comes. `false`: there is none.
fn hold(content: &mut Content) -> bool {
    let more = content.length.min(HELD).saturating_sub(content.held);
    if more == 0 {
        return true;
    }
    let taken = content.lease.grow(more);
    if taken {
        content.held = content.held.saturating_add(more);
    }
    taken
}
