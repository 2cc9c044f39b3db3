//! What is known about one message: its envelope with the journal folded into it, and what has to happen next.
//!
//! Pure. Recipients are known by number: those of the envelope first, then those that expansion added, in the journal's order. An entry that
//! names a recipient which does not exist, or which has come to its end already, changes nothing: a final state stays final, so that no
//! recipient gets the message twice because of an entry that was written twice.

use common::address::ReversePath;
use common::dsn::{MessageDsn, Occasion};
use common::status::{EnhancedCode, Outcome, Status};
use common::time::Timestamp;
use spool::envelope::{Body, ContentFacts, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::journal::{Entry, News};
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

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    recipient: Recipient,
    state: State,
    /// The sender knows that it is late.
    warned: bool,
    /// The sender knows of the success, or hears of it from the next host.
    success_told: bool,
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
    /// Failed, and whoever had to be told was told (or nobody wants to know).
    Notified,
    /// Delivered or expanded; the sender wants to be told.
    Succeeded(Success, Status),
}

/// How the mail for a recipient went on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// It is in the mailbox.
    Delivered,
    /// Another system took it that sends no notifications.
    Relayed,
    /// It goes to other addresses instead.
    Expanded,
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

impl Member {
    fn new(recipient: Recipient) -> Self {
        Self { recipient, state: State::Pending(None), warned: false, success_told: false }
    }

    /// `tells`: is there a sender who could be told? A status of another host means that it went there.
    fn delivered(&mut self, status: Status, tells: bool) {
        let how = if status.remote.is_some() { Success::Relayed } else { Success::Delivered };
        let wanted = tells && !self.success_told && self.recipient.dsn.notify.wants(Occasion::Success);
        self.state = if wanted { State::Succeeded(how, status) } else { State::Delivered };
    }

    /// One address for another passes NOTIFY on, so there is nothing to tell yet (RFC 3461 5.2.7).
    fn expanded(&mut self, into: usize, tells: bool) {
        let wanted = tells && !self.success_told && self.recipient.dsn.notify.wants(Occasion::Success);
        self.state = if wanted && into != 1 {
            let text = match into {
                0 => "goes to recipients that were named besides".to_owned(),
                n => format!("goes to {n} other addresses"),
            };
            State::Succeeded(Success::Expanded, Status::local(EnhancedCode::new(2, 0, 0), text))
        } else {
            State::Expanded
        };
    }

    fn failed(&mut self, status: Status) {
        let wanted = self.recipient.dsn.notify.wants(Occasion::Failure);
        self.state = if wanted { State::Failed(status) } else { State::Notified };
    }

    fn told(&mut self, news: News) {
        match news {
            News::Delayed => self.warned = true,
            News::Succeeded => self.success_told = true,
        }
        if let (News::Succeeded, State::Succeeded(how, _)) = (news, &self.state) {
            self.state = if *how == Success::Expanded { State::Expanded } else { State::Delivered };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::dsn::RecipientDsn;

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
            dsn: Default::default(),
        };
        Message::new(QueueId::new(Timestamp(0), 1), envelope, ContentFacts::default(), 0, journal)
    }

    /// One letter a recipient: pending, expanded, delivered, failed, notified, succeeded.
    fn letters(message: &Message) -> String {
        let letter = |member: &Member| match member.state {
            State::Pending(None) => 'p',
            State::Pending(Some(_)) => 'w',
            State::Expanded => 'e',
            State::Delivered => 'd',
            State::Failed(_) => 'f',
            State::Notified => 'n',
            State::Succeeded(..) => 's',
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

    #[test]
    fn what_the_sender_asked_to_be_told_is_owed_once() {
        let told = |news, recipients: &[u32]| Entry::Told {
            at: Timestamp(3),
            news,
            recipients: recipients.to_vec(),
            notification: None,
        };
        let into =
            |names: &[&str]| Entry::Expanded(vec![(0, names.iter().map(|name| recipient(name)).collect())]);
        for (sender, notify, journal, states, step) in [
            ("a@b", "SUCCESS", vec![attempted(&[(0, 2)])], "s", Step::Confirm(vec![0])),
            ("a@b", "SUCCESS", vec![attempted(&[(0, 2)]), told(News::Succeeded, &[0])], "d", Step::Remove),
            // The next host takes care of it: noted before the outcome.
            ("a@b", "SUCCESS", vec![told(News::Succeeded, &[0]), attempted(&[(0, 2)])], "d", Step::Remove),
            (
                "a@b",
                "SUCCESS",
                vec![attempted(&[(0, 2)]), told(News::Delayed, &[0, 9])],
                "s",
                Step::Confirm(vec![0]),
            ),
            ("", "SUCCESS", vec![attempted(&[(0, 2)])], "d", Step::Remove),
            ("a@b", "FAILURE", vec![attempted(&[(0, 2)])], "d", Step::Remove),
            ("a@b", "SUCCESS", vec![attempted(&[(0, 5)])], "n", Step::Remove),
            ("a@b", "NEVER", vec![attempted(&[(0, 5)])], "n", Step::Remove),
            ("", "NEVER", vec![attempted(&[(0, 5)])], "n", Step::Remove),
            ("a@b", "FAILURE", vec![attempted(&[(0, 5)])], "f", Step::Notify(vec![0])),
            ("a@b", "SUCCESS", vec![into(&["x"])], "ep", Step::Defer),
            ("a@b", "SUCCESS", vec![into(&["x", "y"])], "spp", Step::Confirm(vec![0])),
            ("a@b", "FAILURE", vec![into(&["x", "y"])], "epp", Step::Defer),
            ("", "SUCCESS", vec![into(&["x", "y"])], "epp", Step::Defer),
            (
                "a@b",
                "SUCCESS",
                vec![into(&["x", "y"]), told(News::Succeeded, &[0]), attempted(&[(1, 2), (2, 5)])],
                "edf",
                Step::Notify(vec![2]),
            ),
        ] {
            let envelope = Envelope {
                sender: sender.parse().unwrap(),
                arrived: Timestamp(0),
                origin: Origin::Local { uid: 0 },
                body: Body::SevenBit,
                recipients: vec![Recipient {
                    dsn: RecipientDsn { notify: notify.parse().unwrap(), original: None },
                    ..recipient("a")
                }],
                dsn: Default::default(),
            };
            let id = QueueId::new(Timestamp(0), 1);
            let message = Message::new(id, envelope, ContentFacts::default(), 0, journal.clone());
            let found = (letters(&message), message.next_step());
            assert_eq!(found, (states.to_owned(), step), "{sender} {notify} {journal:?}");
        }
    }

    #[test]
    fn success_is_relayed_when_another_host_said_it() {
        let mut envelope_recipient = recipient("a");
        envelope_recipient.dsn.notify = "SUCCESS".parse().unwrap();
        let mut message = message("a@b", &[], vec![]);
        message.members = vec![Member::new(envelope_recipient.clone()), Member::new(envelope_recipient)];
        message.record(0, status(2));
        message.record(1, Status { remote: Some("x[192.0.2.1]:25".into()), ..status(2) });
        let how: Vec<_> = (0..2).map(|n| message.recipient(n).unwrap().1.clone()).collect();
        assert!(matches!(how[0], State::Succeeded(Success::Delivered, _)), "{how:?}");
        assert!(matches!(how[1], State::Succeeded(Success::Relayed, _)), "{how:?}");
    }

    #[test]
    fn the_sender_is_warned_once_of_each_late_recipient() {
        let warned =
            Entry::Told { at: Timestamp(3), news: News::Delayed, recipients: vec![1], notification: None };
        let journal = vec![attempted(&[(0, 2), (1, 4), (2, 4), (3, 4)])];
        let after_warning = [journal.clone(), vec![warned]].concat();
        for (sender, journal, seconds, warning, late) in [
            ("a@b", &journal, 99, 100, vec![]),
            ("a@b", &journal, 100, 100, vec![1, 3]),
            ("a@b", &after_warning, 1000, 100, vec![3]),
            ("a@b", &journal, 1000, 0, vec![]),
            ("", &journal, 1000, 100, vec![]),
        ] {
            let mut message = message(sender, &["a", "b", "c", "d", "untried"], journal.clone());
            message.members[2].recipient.dsn.notify = "FAILURE".parse().unwrap();
            message.members[3].recipient.dsn.notify = "DELAY".parse().unwrap();
            let found = message.late(Timestamp::from_seconds(seconds), Duration::from_secs(warning));
            assert_eq!(found, late, "{sender} {seconds} {warning}");
        }
    }
}
