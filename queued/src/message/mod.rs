//! What is known about one message: its envelope with the journal folded into it, and what has to happen next.
//!
//! Pure. Recipients are known by number: those of the envelope first, then those that expansion added, in the journal's order. An entry that
//! names a recipient which does not exist, or which has come to its end already, changes nothing: a final state stays final, so that no
//! recipient gets the message twice because of an entry that was written twice.

mod member;

pub use member::{State, Success};

use common::address::ReversePath;
use common::dsn::{MessageDsn, Occasion};
use common::status::{EnhancedCode, Outcome, Status};
use common::time::Timestamp;
use member::Member;
use spool::envelope::{Body, ContentFacts, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::journal::Entry;
use std::time::Duration;

/// How long mail is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Mail with a sender.
    pub lifetime: Duration,
    /// Mail from the null sender.
    pub bounce_lifetime: Duration,
}

/// A message and what has become of its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: QueueId,
    /// Where notifications go.
    pub sender: ReversePath,
    /// When it was accepted.
    pub arrived: Timestamp,
    /// How it came in.
    pub origin: Origin,
    /// What MAIL said about the body.
    pub body: Body,
    /// What MAIL said about notifications.
    pub dsn: MessageDsn,
    /// What the content is like.
    pub facts: ContentFacts,
    /// Where in the file the content begins.
    pub content_offset: u64,
    /// Attempts that ended in a deferral.
    pub attempts: u32,
    in_envelope: u32,
    members: Vec<Member>,
}

/// What has to happen when an attempt is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tell that these recipients failed, then look again.
    Notify(Vec<u32>),
    /// Tell that these recipients have it, then look again.
    Confirm(Vec<u32>),
    /// Some recipients still wait.
    Defer,
    /// Nothing is owed any more.
    Remove,
}

impl Message {
    /// A message whose envelope and journal were read.
    pub fn new(
        id: QueueId,
        envelope: Envelope,
        facts: ContentFacts,
        content_offset: u64,
        journal: Vec<Entry>,
    ) -> Self {
        let members: Vec<_> = envelope.recipients.into_iter().map(Member::new).collect();
        let mut message = Self {
            id,
            sender: envelope.sender,
            arrived: envelope.arrived,
            origin: envelope.origin,
            body: envelope.body,
            dsn: envelope.dsn,
            facts,
            content_offset,
            attempts: 0,
            in_envelope: u32::try_from(members.len()).unwrap_or(u32::MAX),
            members,
        };
        for entry in journal {
            message.apply(entry);
        }
        message
    }

    /// Folds one fact in.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Expanded(replacements) => {
                let tells = !self.sender.is_null();
                for (number, by) in replacements {
                    // A replacement counts only once; the numbers that it gave out stay given out.
                    let fresh = self.member(number).is_some_and(|m| matches!(m.state, State::Pending(_)));
                    if let Some(member) = self.member(number).filter(|_| fresh) {
                        member.expanded(by.len(), tells);
                    }
                    self.members.extend(by.into_iter().map(|recipient| {
                        let state = if fresh { State::Pending(None) } else { State::Expanded };
                        Member { state, ..Member::new(recipient) }
                    }));
                }
            }
            Entry::Attempted { results, .. } => {
                for (number, status) in results {
                    self.record(number, status);
                }
            }
            Entry::Notified { recipients, .. } => {
                for number in recipients {
                    if let Some(member) = self.member(number)
                        && matches!(member.state, State::Failed(_))
                    {
                        member.state = State::Notified;
                    }
                }
            }
            Entry::Told { news, recipients, .. } => {
                for number in recipients {
                    if let Some(member) = self.member(number) {
                        member.told(news);
                    }
                }
            }
            Entry::Retry { attempts, .. } => self.attempts = attempts,
            Entry::Held { .. } | Entry::Released { .. } | Entry::ExpandedV1(_) => {}
        }
    }

    /// The outcome of an attempt for a recipient; `false` when it was not pending (the outcome is of no consequence then).
    pub fn record(&mut self, number: u32, status: Status) -> bool {
        let tells = !self.sender.is_null();
        let Some(member) = self.member(number).filter(|member| matches!(member.state, State::Pending(_)))
        else {
            return false;
        };
        match status.outcome {
            Outcome::Delivered => member.delivered(status, tells),
            Outcome::Deferred => member.state = State::Pending(Some(status)),
            Outcome::Failed => member.failed(status),
        }
        true
    }

    /// Recipients that want delivery, with their numbers.
    pub fn pending(&self) -> impl Iterator<Item = (u32, &Recipient)> {
        (0..).zip(&self.members).filter_map(|(number, member)| {
            matches!(member.state, State::Pending(_)).then_some((number, &member.recipient))
        })
    }

    /// All recipients in the order of their numbers: is delivery still wanted?
    pub fn members(&self) -> impl Iterator<Item = (&Recipient, bool)> {
        self.members.iter().map(|member| (&member.recipient, matches!(member.state, State::Pending(_))))
    }

    /// A recipient and its state.
    pub fn recipient(&self, number: u32) -> Option<(&Recipient, &State)> {
        let member = self.members.get(usize::try_from(number).ok()?)?;
        Some((&member.recipient, &member.state))
    }

    /// How many recipients the envelope names; they have the first numbers.
    pub fn in_envelope(&self) -> u32 {
        self.in_envelope
    }

    /// How many recipients there are, all states counted.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Has it no recipients at all? (Never so for a file that was read.)
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// After an attempt: a message that has outlived its time fails for whoever is still pending, with the words of the last attempt.
    /// Gives what was changed, as results for the journal.
    pub fn expire(&mut self, now: Timestamp, lifetimes: &Lifetimes) -> Vec<(u32, Status)> {
        let lifetime = if self.sender.is_null() { lifetimes.bounce_lifetime } else { lifetimes.lifetime };
        if now.since(self.arrived) < lifetime {
            return Vec::new();
        }
        let mut results = Vec::new();
        for (number, member) in (0..).zip(&mut self.members) {
            if let State::Pending(last) = &mut member.state {
                // RFC 3463 3.5: 4.7 is "delivery time expired"; the words stay those of the last attempt.
                let code = EnhancedCode::new(5, 4, 7);
                let status = match last.take() {
                    Some(last) => Status { code, ..last.into_failed() },
                    None => Status::local(code, "message expired before it could be delivered"),
                };
                member.failed(status.clone());
                results.push((number, status));
            }
        }
        results
    }

    /// What has to happen now that no attempt is under way.
    pub fn next_step(&self) -> Step {
        let failed = self.numbers(|member| matches!(member.state, State::Failed(_)));
        let succeeded = self.numbers(|member| matches!(member.state, State::Succeeded(..)));
        if !failed.is_empty() {
            Step::Notify(failed)
        } else if !succeeded.is_empty() {
            Step::Confirm(succeeded)
        } else if self.pending().next().is_some() {
            Step::Defer
        } else {
            Step::Remove
        }
    }

    /// Recipients about whom the sender is to be warned, once each: tried, late by now, and not told to be silent. `warning` is the time
    /// after which mail is late; zero: never.
    pub fn late(&self, now: Timestamp, warning: Duration) -> Vec<u32> {
        if warning.is_zero() || self.sender.is_null() || now.since(self.arrived) < warning {
            return Vec::new();
        }
        self.numbers(|member| {
            let tried = matches!(member.state, State::Pending(Some(_)));
            tried && !member.warned && member.recipient.dsn.notify.wants(Occasion::Delay)
        })
    }

    fn numbers(&self, which: impl Fn(&Member) -> bool) -> Vec<u32> {
        (0..).zip(&self.members).filter(|(_, member)| which(member)).map(|(number, _)| number).collect()
    }

    fn member(&mut self, number: u32) -> Option<&mut Member> {
        self.members.get_mut(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests;
