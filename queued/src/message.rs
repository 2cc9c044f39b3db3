//! What is known about one message: its envelope with the journal folded into it, and what has to happen next.
//!
//! Pure. Recipients are known by number: those of the envelope first, then those that expansion added, in the journal's order. An entry that
//! names a recipient which does not exist, or which has come to its end already, changes nothing: a final state stays final, so that no
//! recipient gets the message twice because of an entry that was written twice.

use common::address::ReversePath;
use common::status::{EnhancedCode, Outcome, Status};
use common::time::Timestamp;
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
    /// What the content is like.
    pub facts: ContentFacts,
    /// Where in the file the content begins.
    pub content_offset: u64,
    /// Attempts that ended in a deferral.
    pub attempts: u32,
    members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    recipient: Recipient,
    state: State,
}

/// What has become of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not delivered yet; why not, when it was tried.
    Pending(Option<Status>),
    /// Replaced by others.
    Expanded,
    /// Done.
    Delivered,
    /// Failed; the sender has to be told.
    Failed(Status),
    /// Failed, and whoever had to be told was told.
    Notified,
}

/// What has to happen when an attempt is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tell about these recipients, then look again.
    Notify(Vec<u32>),
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
        let members = envelope.recipients.into_iter().map(Member::new).collect();
        let mut message = Self {
            id,
            sender: envelope.sender,
            arrived: envelope.arrived,
            origin: envelope.origin,
            body: envelope.body,
            facts,
            content_offset,
            attempts: 0,
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
                for (number, by) in replacements {
                    // A replacement counts only once; the numbers that it gave out stay given out.
                    let fresh = self.member(number).is_some_and(|m| matches!(m.state, State::Pending(_)));
                    if let Some(member) = self.member(number).filter(|_| fresh) {
                        member.state = State::Expanded;
                    }
                    self.members.extend(by.into_iter().map(|recipient| Member {
                        state: if fresh { State::Pending(None) } else { State::Expanded },
                        recipient,
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
            Entry::Retry { attempts, .. } => self.attempts = attempts,
            Entry::Held { .. } | Entry::Released { .. } => {}
        }
    }

    /// The outcome of an attempt for a recipient; `false` when it was not pending (the outcome is of no consequence then).
    pub fn record(&mut self, number: u32, status: Status) -> bool {
        let Some(member) = self.member(number).filter(|member| matches!(member.state, State::Pending(_)))
        else {
            return false;
        };
        member.state = match status.outcome {
            Outcome::Delivered => State::Delivered,
            Outcome::Deferred => State::Pending(Some(status)),
            Outcome::Failed => State::Failed(status),
        };
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
                member.state = State::Failed(status.clone());
                results.push((number, status));
            }
        }
        results
    }

    /// What has to happen now that no attempt is under way.
    pub fn next_step(&self) -> Step {
        let failed: Vec<u32> = (0..)
            .zip(&self.members)
            .filter_map(|(number, member)| matches!(member.state, State::Failed(_)).then_some(number))
            .collect();
        if !failed.is_empty() {
            Step::Notify(failed)
        } else if self.pending().next().is_some() {
            Step::Defer
        } else {
            Step::Remove
        }
    }

    fn member(&mut self, number: u32) -> Option<&mut Member> {
        self.members.get_mut(usize::try_from(number).ok()?)
    }
}

impl Member {
    fn new(recipient: Recipient) -> Self {
        Self { recipient, state: State::Pending(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes =
        Lifetimes { lifetime: Duration::from_secs(500), bounce_lifetime: Duration::from_secs(100) };

    fn recipient(name: &str) -> Recipient {
        Recipient::new(format!("{name}@example.com").parse().unwrap())
    }

    fn status(class: u8) -> Status {
        Status::local(EnhancedCode::new(class, 1, 1), format!("class {class}"))
    }

    fn attempted(results: &[(u32, u8)]) -> Entry {
        let results = results.iter().map(|(number, class)| (*number, status(*class))).collect();
        Entry::Attempted { at: Timestamp(1), results }
    }

    fn notified(recipients: &[u32]) -> Entry {
        Entry::Notified { at: Timestamp(2), recipients: recipients.to_vec(), notification: None }
    }

    fn message(sender: &str, names: &[&str], journal: Vec<Entry>) -> Message {
        let envelope = Envelope {
            sender: sender.parse().unwrap(),
            arrived: Timestamp(0),
            origin: Origin::Bounce,
            body: Body::SevenBit,
            recipients: names.iter().map(|name| recipient(name)).collect(),
        };
        Message::new(QueueId::new(Timestamp(0), 1), envelope, ContentFacts::default(), 0, journal)
    }

    /// One letter a recipient: pending, expanded, delivered, failed, notified.
    fn letters(message: &Message) -> String {
        let letter = |member: &Member| match member.state {
            State::Pending(None) => 'p',
            State::Pending(Some(_)) => 'w',
            State::Expanded => 'e',
            State::Delivered => 'd',
            State::Failed(_) => 'f',
            State::Notified => 'n',
        };
        message.members.iter().map(letter).collect()
    }

    #[test]
    fn journals_are_folded_into_states_and_steps() {
        let expand = |number, names: &[&str]| {
            Entry::Expanded(vec![(number, names.iter().map(|name| recipient(name)).collect())])
        };
        for (journal, states, step) in [
            (vec![], "ppp", Step::Defer),
            (vec![attempted(&[(0, 2), (1, 2), (2, 2)])], "ddd", Step::Remove),
            (vec![attempted(&[(0, 2), (1, 4)])], "dwp", Step::Defer),
            (vec![attempted(&[(0, 2), (1, 5), (2, 5)])], "dff", Step::Notify(vec![1, 2])),
            (vec![attempted(&[(0, 2), (1, 5), (2, 4)])], "dfw", Step::Notify(vec![1])),
            (vec![attempted(&[(0, 2), (1, 5), (2, 4)]), notified(&[1])], "dnw", Step::Defer),
            (vec![attempted(&[(0, 2), (1, 5), (2, 2)]), notified(&[1])], "dnd", Step::Remove),
            (vec![expand(1, &["x", "y"])], "peppp", Step::Defer),
            (vec![expand(1, &[])], "pep", Step::Defer),
            (
                vec![expand(1, &["x"]), attempted(&[(0, 2), (2, 2), (3, 5)]), notified(&[3])],
                "dedn",
                Step::Remove,
            ),
            // Written twice, or out of turn: final states stay.
            (vec![expand(1, &["x"]), expand(1, &["x"])], "peppe", Step::Defer),
            (vec![attempted(&[(0, 2)]), attempted(&[(0, 5)]), notified(&[0, 1])], "dpp", Step::Defer),
            (
                vec![attempted(&[(77, 2), (u32::MAX, 5)]), notified(&[99]), expand(50, &["x"])],
                "pppe",
                Step::Defer,
            ),
            (vec![expand(0, &["x"]), attempted(&[(0, 5)])], "eppp", Step::Defer),
        ] {
            let message = message("a@b", &["a", "b", "c"], journal.clone());
            assert_eq!((letters(&message).as_str(), message.next_step()), (states, step), "{journal:?}");
        }
    }

    #[test]
    fn whoever_is_pending_fails_when_the_time_is_over() {
        for (sender, seconds, states) in
            [("a@b", 499, "dwp"), ("a@b", 500, "dff"), ("", 99, "dwp"), ("", 100, "dff")]
        {
            let mut message = message(sender, &["a", "b", "c"], vec![attempted(&[(0, 2), (1, 4)])]);
            let results = message.expire(Timestamp::from_seconds(seconds), &LIFETIMES);
            assert_eq!(letters(&message), states, "{sender} {seconds}");
            if states == "dff" {
                let texts: Vec<_> =
                    results.iter().map(|(n, s)| format!("{n} {} {}", s.code, s.text)).collect();
                assert_eq!(
                    texts,
                    ["1 5.4.7 class 4", "2 5.4.7 message expired before it could be delivered"]
                );
            }
        }
    }

    #[test]
    fn pending_recipients_keep_their_numbers() {
        let journal = vec![
            Entry::Expanded(vec![(0, vec![recipient("x")])]),
            Entry::Retry { attempts: 3, due: Timestamp(9) },
        ];
        let mut message = message("a@b", &["a", "b"], journal);
        let numbers: Vec<_> = message.pending().map(|(n, r)| format!("{n} {}", r.address)).collect();
        assert_eq!((numbers.join(","), message.attempts), ("1 b@example.com,2 x@example.com".into(), 3));
        assert!(
            message.record(2, status(2)) && !message.record(2, status(4)) && !message.record(0, status(2))
        );
        assert_eq!(letters(&message), "epd");
    }
}
