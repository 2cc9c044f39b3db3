use super::*;
use common::dsn::RecipientDsn;
use spool::journal::News;

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
        (vec![expand(1, &["x"]), attempted(&[(0, 2), (2, 2), (3, 5)]), notified(&[3])], "dedn", Step::Remove),
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
            let texts: Vec<_> = results.iter().map(|(n, s)| format!("{n} {} {}", s.code, s.text)).collect();
            assert_eq!(texts, ["1 5.4.7 class 4", "2 5.4.7 message expired before it could be delivered"]);
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
    assert!(message.record(2, status(2)) && !message.record(2, status(4)) && !message.record(0, status(2)));
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
