//! Events in, actions out. Days of queue life are in `queued/tests/simulation.rs`.

use super::backoff::Backoff;
use super::destinations::Lane;
use super::limits::{Limit, Limits};
use super::*;
use crate::message::Lifetimes;
use common::destination::{Destination, Nexthop};
use common::status::{EnhancedCode, Status};

pub(super) fn settings() -> Settings {
    Settings {
        backoff: Backoff { first_retry: Duration::from_secs(300), max_retry: Duration::from_secs(3600) },
        lifetimes: Lifetimes {
            lifetime: Duration::from_secs(5 * 86_400),
            bounce_lifetime: Duration::from_secs(86_400),
        },
        limits: Limits {
            all: Limit { concurrency: 20, recipients: 50, gap: Duration::ZERO },
            of: HashMap::new(),
        },
        active_limit: 20_000,
        recipient_limit: 200_000,
    }
}

pub(super) fn id(n: u64) -> QueueId {
    QueueId::new(Timestamp(1), n)
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

pub(super) fn lane(name: &str) -> Lane {
    let nexthop = Nexthop::of_domain(&name.parse().unwrap());
    Lane { destination: Destination { transport: Transport::Smtp, nexthop }, mailbox: None }
}

pub(super) fn share(name: &str, recipients: std::ops::Range<u32>) -> Share {
    Share { lane: lane(name), recipients: recipients.collect() }
}

fn ended(n: u64, name: &str, recipients: std::ops::Range<u32>) -> Ended {
    Ended { id: id(n), lane: Arc::new(lane(name)), recipients: recipients.collect(), orphan: false }
}

pub(super) fn refused() -> Option<Status> {
    Some(Status::local(EnhancedCode::new(4, 4, 1), "connect to a: Connection refused"))
}

/// Tells that a message was loaded that arrived just now.
pub(super) fn loaded(
    s: &mut Scheduler,
    n: u64,
    recipients: usize,
    shares: Vec<Share>,
    now: Timestamp,
) -> bool {
    s.loaded(id(n), Facts { arrived: now, null_sender: false, recipients }, shares, now)
}

/// All actions at `now`, in short words.
pub(super) fn drain(scheduler: &mut Scheduler, now: Timestamp) -> Vec<String> {
    let number = |id: QueueId| (0..100_000).find(|n| super::tests::id(*n) == id).unwrap();
    std::iter::from_fn(|| scheduler.next_action(now))
        .map(|action| match action {
            Action::Load(id, source) => match source {
                Source::Deferred(_) => format!("load {} Deferred", number(id)),
                _ => format!("load {} {source:?}", number(id)),
            },
            Action::Dispatch { worker, job, id, lane, recipients } => format!(
                "job {job} of {} to {worker} for {} x{}",
                number(id),
                lane.destination.nexthop,
                recipients.len()
            ),
            Action::Suspend { id, recipients, reason } => {
                format!("suspend {} x{}: {} {}", number(id), recipients.len(), reason.code, reason.text)
            }
            Action::Cancel(worker, job) => format!("cancel {job} at {worker}"),
            Action::Attempted(id) => format!("attempted {}", number(id)),
        })
        .collect()
}

/// A scheduler with a worker and one message loaded with these shares.
pub(super) fn with_message(shares: Vec<Share>) -> Scheduler {
    let mut scheduler = Scheduler::new(settings(), 1, at(0));
    scheduler.worker_came(1, Transport::Smtp, 100);
    scheduler.arrived(id(7), Source::Incoming);
    assert_eq!(drain(&mut scheduler, at(0)), ["load 7 Incoming"]);
    assert!(loaded(&mut scheduler, 7, 1, shares, at(0)));
    scheduler
}

#[test]
fn a_message_goes_through() {
    let mut s = with_message(vec![share("a.example", 0..120), share("b.example", 120..121)]);
    assert_eq!(
        drain(&mut s, at(0)),
        [
            "job 1 of 7 to 1 for a.example x50",
            "job 4 of 7 to 1 for b.example x1",
            "job 2 of 7 to 1 for a.example x50",
            "job 3 of 7 to 1 for a.example x20",
        ]
    );
    assert_eq!(s.in_hand(), 4);
    assert_eq!(s.answered(1, 4, None, at(1)), Some(ended(7, "b.example", 120..121)));
    assert_eq!(s.answered(1, 4, None, at(1)), None, "answered twice");
    assert_eq!(s.answered(2, 1, None, at(1)), None, "by somebody else");
    s.answered(1, 1, None, at(1));
    s.answered(1, 2, None, at(1));
    assert!(drain(&mut s, at(1)).is_empty());
    s.answered(1, 3, None, at(1));
    assert_eq!(drain(&mut s, at(1)), ["attempted 7"]);
    let due = s.next_attempt(id(7), at(1));
    assert!((at(271)..=at(331)).contains(&due));
    s.postpone(id(7), Source::Deferred(due), due, at(1));
    assert_eq!(s.deadline(), Some(due));
    assert!(drain(&mut s, Timestamp(due.0 - 1)).is_empty());
    assert_eq!(drain(&mut s, due), ["load 7 Deferred"]);
    assert!(loaded(&mut s, 7, 1, vec![], due));
    assert_eq!(drain(&mut s, due), ["attempted 7"], "nothing for workers to do");
    s.forget(id(7), at(0));
    assert_eq!((s.active_len(), s.waiting_len(), s.deadline()), (0, 0, None));
}

/// Held while it waited for memory, and released: it lies elsewhere now.
#[test]
fn a_message_that_is_known_again_is_loaded_from_where_it_lies_then() {
    let mut s = Scheduler::new(settings(), 1, at(0));
    s.arrived(id(1), Source::Incoming);
    s.arrived(id(2), Source::Incoming);
    s.forget(id(1), at(0));
    s.arrived(id(1), Source::Active);
    assert_eq!(drain(&mut s, at(0)), ["load 1 Active", "load 2 Incoming"]);
}

/// A file that cannot be opened says nothing about a host that is dead.
#[test]
fn a_job_that_was_not_sent_opens_no_throttled_destination() {
    let mut s = with_message(vec![share("a.example", 0..1)]);
    drain(&mut s, at(0));
    assert_eq!(s.unsent(2, 1, at(1)), None, "not this worker's");
    assert_eq!(s.unsent(1, 1, at(1)), Some(ended(7, "a.example", 0..1)));
    assert_eq!(s.unsent(1, 1, at(1)), None, "twice");
    assert_eq!(drain(&mut s, at(1)), ["attempted 7"]);
}

#[test]
fn jobs_of_a_dead_worker_go_to_another_twice_and_are_then_deferred() {
    let mut s = with_message(vec![share("a.example", 0..1), share("b.example", 1..2)]);
    for worker in 1..=3 {
        assert_eq!(drain(&mut s, at(0)).len(), 2, "worker {worker}");
        s.worker_went(worker, at(0));
        if worker < 3 {
            s.worker_came(worker + 1, Transport::Smtp, 100);
        }
    }
    let actions = drain(&mut s, at(0));
    assert_eq!(
        actions.iter().filter(|a| a.contains("agent ended before it answered")).count(),
        2,
        "{actions:?}"
    );
    assert_eq!(actions.last().unwrap(), "attempted 7");
}

#[test]
fn without_a_worker_mail_waits_a_minute_and_is_deferred_then() {
    let mut s = with_message(vec![share("a.example", 0..1)]);
    s.worker_went(1, at(10));
    s.arrived(id(8), Source::Incoming);
    assert_eq!(drain(&mut s, at(10)), ["load 8 Incoming"]);
    assert!(loaded(&mut s, 8, 1, vec![share("a.example", 0..3)], at(10)));
    assert!(drain(&mut s, at(69)).is_empty());
    assert_eq!(s.deadline(), Some(at(70)));
    assert_eq!(
        drain(&mut s, at(70)),
        [
            "suspend 7 x1: 4.3.0 mail transport unavailable: smtp",
            "attempted 7",
            "suspend 8 x3: 4.3.0 mail transport unavailable: smtp",
            "attempted 8"
        ]
    );
    assert_eq!(s.deadline(), None, "no busy waiting");
    s.forget(id(7), at(0));
    s.arrived(id(7), Source::Incoming);
    drain(&mut s, at(71));
    assert!(loaded(&mut s, 7, 1, vec![share("a.example", 0..1)], at(71)));
    assert_eq!(drain(&mut s, at(71)).len(), 2, "at once while it lasts");
    s.worker_came(2, Transport::Smtp, 1);
    s.forget(id(8), at(0));
    s.arrived(id(8), Source::Active);
    assert_eq!(drain(&mut s, at(72)), ["load 8 Active"]);
    assert!(loaded(&mut s, 8, 1, vec![share("a.example", 0..1)], at(72)));
    assert_eq!(drain(&mut s, at(72)).len(), 1);
}

#[test]
fn a_throttled_destination_suspends_its_mail_until_the_probe() {
    let mut s = with_message(vec![share("a.example", 0..1)]);
    for n in 10..20 {
        s.arrived(id(n), Source::Incoming);
    }
    drain(&mut s, at(0));
    for n in 10..20 {
        assert!(loaded(&mut s, n, 1, vec![share("a.example", 0..1)], at(0)));
    }
    assert_eq!(drain(&mut s, at(0)).len(), 4, "the window is 5");
    for job in 1..=5 {
        s.answered(1, job, refused(), at(5));
    }
    let actions = drain(&mut s, at(5));
    assert_eq!(actions.iter().filter(|a| a.starts_with("attempted")).count(), 11);
    assert_eq!(actions.iter().filter(|a| a.starts_with("suspend")).count(), 6);
    assert!(
        actions
            .iter()
            .any(|a| a.ends_with("4.4.1 delivery temporarily suspended: connect to a: Connection refused"))
    );
    // Suspended mail comes back when the pause is over and not all at once.
    let dues: HashSet<_> = (10..20).map(|n| s.next_attempt(id(n), at(5))).collect();
    assert!(dues.len() > 5 && dues.iter().all(|due| (at(275)..=at(340)).contains(due)), "{dues:?}");
    s.arrived(id(30), Source::Incoming);
    drain(&mut s, at(6));
    assert!(loaded(&mut s, 30, 1, vec![share("a.example", 0..1), share("b.example", 1..2)], at(6)));
    let actions = drain(&mut s, at(6));
    assert!(actions[0].starts_with("suspend 30 x1") && actions[1].contains("for b.example"), "{actions:?}");
}

#[test]
fn deleting_cancels_what_is_in_hand_and_drops_what_is_queued() {
    let mut s = with_message(vec![share("a.example", 0..500)]);
    assert_eq!(drain(&mut s, at(0)).len(), 5);
    s.forget(id(7), at(0));
    let mut cancelled = drain(&mut s, at(0));
    cancelled.sort();
    assert_eq!(cancelled, (1..=5).map(|job| format!("cancel {job} at 1")).collect::<Vec<_>>());
    assert!(s.answered(1, 1, None, at(1)).is_some());
    s.worker_went(1, at(1));
    s.worker_came(2, Transport::Smtp, 10);
    assert!(drain(&mut s, at(1)).is_empty());
    assert_eq!((s.active_len(), s.in_hand(), s.jobs.len()), (0, 0, 0));
    s.arrived(id(9), Source::Incoming);
    s.forget(id(9), at(0));
    s.deferred(id(10), at(5));
    s.forget(id(10), at(0));
    assert!(drain(&mut s, at(100)).is_empty() && s.waiting_len() == 0);
}

#[test]
fn memory_is_bounded_and_new_mail_is_not_starved_by_deferred_mail() {
    let mut s = Scheduler::new(Settings { active_limit: 10, ..settings() }, 1, at(0));
    for n in 0..50 {
        s.deferred(id(n), at(0));
        s.deferred(id(n), at(1));
    }
    assert_eq!(drain(&mut s, at(0)).len(), 5, "deferred mail takes half of the room");
    for n in 100..150 {
        s.arrived(id(n), Source::Incoming);
        s.arrived(id(n), Source::Incoming);
    }
    assert_eq!((drain(&mut s, at(0)).len(), s.active_len(), s.waiting_len()), (5, 10, 90));
    s.forget(id(0), at(0));
    s.forget(id(100), at(0));
    let mut two = drain(&mut s, at(0));
    two.sort();
    assert_eq!(two, ["load 105 Incoming", "load 5 Deferred"]);
    s.set(Settings { active_limit: 1000, ..settings() }, at(0));
    assert_eq!(drain(&mut s, at(0)).len(), MAX_LOADING - 10, "so many are read at once");
    assert!(s.retry(id(40), at(0)) && !s.retry(id(5), at(0)) && s.knows(id(40)) && !s.knows(id(0)));
}

/// The disk hangs over what is due: new mail is read all the same.
#[test]
fn deferred_mail_that_is_being_read_leaves_room_for_new_mail_to_be_read() {
    let mut s = Scheduler::new(settings(), 1, at(0));
    for n in 0..50 {
        s.deferred(id(n), at(0));
    }
    assert_eq!(drain(&mut s, at(0)).len(), MAX_LOADING / 2);
    assert_eq!(s.load_deadline(), None, "what is due does not wake anybody meanwhile");
    for n in 100..150 {
        s.arrived(id(n), Source::Incoming);
    }
    assert_eq!(drain(&mut s, at(0)).len(), MAX_LOADING / 2);
    // Read, and gone without having been read: both make room, which is taken in turns.
    assert!(loaded(&mut s, 0, 1, vec![share("a.example", 0..1)], at(0)));
    s.forget(id(1), at(0));
    s.forget(id(100), at(0));
    let mut three = drain(&mut s, at(0));
    three.sort();
    assert_eq!(three, ["load 116 Incoming", "load 117 Incoming", "load 16 Deferred"]);
}

#[test]
fn recipients_in_memory_are_bounded_and_mailings_do_not_keep_small_messages_out() {
    let mut s = Scheduler::new(settings(), 1, at(0));
    s.worker_came(1, Transport::Smtp, 1000);
    for n in 0..20 {
        s.arrived(id(n), Source::Incoming);
    }
    assert_eq!(drain(&mut s, at(0)).len(), 20);
    let one = || vec![share("a.example", 0..1)];
    assert!(loaded(&mut s, 0, 300_000, one(), at(0)), "the first large one always has room");
    assert!(!loaded(&mut s, 1, 1001, one(), at(0)) && s.knows(id(1)) && !s.is_loading(id(1)));
    assert!(!loaded(&mut s, 2, 1001, one(), at(0)));
    assert_eq!(drain(&mut s, at(0)), ["job 1 of 0 to 1 for a.example x1"]);
    for n in 3..20 {
        assert!(loaded(&mut s, n, 1000, one(), at(0)), "a small one has");
    }
    s.forget(id(2), at(0));
    s.forget(id(0), at(0));
    let actions = drain(&mut s, at(0));
    assert!(actions.contains(&"load 1 Active".to_owned()) && !actions.contains(&"load 2 Active".to_owned()));
    assert!(loaded(&mut s, 1, 1001, one(), at(0)));
    // Small ones that fill their half leave no more in.
    for n in 100..200 {
        s.arrived(id(n), Source::Incoming);
    }
    let mut let_in = 17;
    while let Some(action) = s.next_action(at(0)) {
        if let Action::Load(id, _) = action {
            let facts = Facts { arrived: at(0), null_sender: false, recipients: 1000 };
            assert!(s.loaded(id, facts, one(), at(0)));
            let_in += 1;
        }
    }
    assert_eq!((let_in, s.waiting_len()), (100, 17));
}

/// Deferred mail, mailings and one small message, all for one destination.
#[test]
fn a_small_message_waits_for_a_bounded_number_of_transactions() {
    let mut s = Scheduler::new(settings(), 1, at(0));
    s.worker_came(1, Transport::Smtp, 1);
    let (deferred, mailings) = (500, 3);
    for n in 0..deferred {
        s.deferred(id(1000 + n), at(0));
    }
    for n in 0..mailings {
        s.arrived(id(n), Source::Incoming);
    }
    let (mut transactions, mut before) = (0, None);
    while let Some(action) = s.next_action(at(0)) {
        match action {
            Action::Load(id, _) => {
                let large = id < super::tests::id(10);
                let to = share("a.example", 0..if large { 30_000 } else { 1 });
                let facts = Facts { arrived: at(0), null_sender: false, recipients: to.recipients.len() };
                assert!(s.loaded(id, facts, vec![to], at(0)));
            }
            Action::Dispatch { job, id, .. } => {
                transactions += 1;
                if transactions == 100 {
                    s.arrived(super::tests::id(50), Source::Incoming);
                }
                if id == super::tests::id(50) {
                    before = Some(transactions - 100);
                }
                s.answered(1, job, None, at(0)).unwrap();
            }
            Action::Attempted(id) => s.forget(id, at(0)),
            other => panic!("{other:?}"),
        }
    }
    let bound = 2 * mailings + 1;
    println!("{before:?} of {transactions} transactions before the small message, the bound is {bound}");
    // One more goes out in the same breath before the message is read.
    assert!(before.is_some_and(|before| before <= bound + 1), "{before:?}");
    assert_eq!(transactions, 500 + 3 * 600 + 1, "nothing is left over");
}

#[test]
fn waiting_for_a_turn_ends_with_the_lifetime() {
    let day = Duration::from_secs(86_400);
    let slow = Limit { concurrency: 20, recipients: 50, gap: day };
    let mut s =
        Scheduler::new(Settings { limits: Limits { all: slow, of: HashMap::new() }, ..settings() }, 1, at(0));
    s.worker_came(1, Transport::Smtp, 10);
    for (n, null_sender, arrived) in [(1, false, 0), (2, true, 0), (3, false, -10), (4, true, -90_000)] {
        s.arrived(id(n), Source::Incoming);
        s.next_action(at(0));
        let facts = Facts { arrived: at(arrived), null_sender, recipients: 1 };
        assert!(s.loaded(id(n), facts, vec![share("a.example", 0..1)], at(0)));
    }
    assert_eq!(drain(&mut s, at(0)), ["job 1 of 1 to 1 for a.example x1"]);
    assert_eq!(s.deadline(), Some(at(60)), "one that is too old already has a minute");
    let late = "4.4.7 lifetime ended while the message waited for its turn";
    assert_eq!(drain(&mut s, at(60)), [format!("suspend 4 x1: {late}"), "attempted 4".into()]);
    s.forget(id(4), at(60));
    // A day later the bounce is over; the message with a sender has its turn.
    assert_eq!(
        drain(&mut s, at(86_400)),
        [format!("suspend 2 x1: {late}"), "attempted 2".into(), "job 3 of 3 to 1 for a.example x1".into()]
    );
    // What a worker has is not taken from it; its wall-clock limit ends that.
    assert!(drain(&mut s, at(6 * 86_400)).is_empty());
}

#[test]
fn the_last_attempt_is_made_when_the_lifetime_ends() {
    for (null_sender, lifetime) in [(false, 5 * 86_400), (true, 86_400)] {
        let mut s = Scheduler::new(settings(), 1, at(0));
        let (mut now, mut attempts) = (at(0), vec![]);
        s.arrived(id(1), Source::Incoming);
        while now < at(lifetime) {
            assert_eq!(drain(&mut s, now).len(), 1);
            attempts.push(now.seconds());
            assert!(s.loaded(id(1), Facts { arrived: at(0), null_sender, recipients: 1 }, vec![], now));
            drain(&mut s, now);
            let due = s.next_attempt(id(1), now);
            assert!(due > now && s.deadline().is_none());
            s.postpone(id(1), Source::Deferred(due), due, now);
            now = s.deadline().unwrap();
            assert_eq!(now, due);
        }
        println!("attempts, seconds after arrival, lifetime {lifetime}: {attempts:?}");
        assert_eq!(now, at(lifetime), "not a second later");
        assert_eq!(attempts[..2], [0, attempts[1]]);
        let pauses: Vec<i64> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.iter().all(|pause| (270..=3961).contains(pause)), "{pauses:?}");
        assert!((lifetime / 3961..lifetime / 3200 + 8).contains(&(attempts.len() as i64)));
    }
}

#[test]
fn a_silent_destination_gives_memory_back() {
    let mut s = Scheduler::new(Settings { active_limit: 40, ..settings() }, 1, at(0));
    s.worker_came(1, Transport::Smtp, 100);
    let load = |s: &mut Scheduler, name: &str, now| {
        let mut log = Vec::new();
        while let Some(action) = s.next_action(now) {
            match action {
                Action::Load(id, _) => {
                    let facts = Facts { arrived: now, null_sender: false, recipients: 1 };
                    assert!(s.loaded(id, facts, vec![share(name, 0..1)], now));
                    log.push("load".to_owned());
                }
                Action::Suspend { reason, .. } => log.push(reason.text),
                Action::Dispatch { lane, .. } => log.push(lane.destination.nexthop.to_string()),
                Action::Attempted(id) => s.forget(id, now),
                Action::Cancel(..) => {}
            }
        }
        log
    };
    for n in 0..40 {
        s.arrived(id(n), Source::Incoming);
    }
    assert_eq!(load(&mut s, "slow.example", at(0)).len(), 40 + 5);
    for n in 40..50 {
        s.arrived(id(n), Source::Incoming);
    }
    assert!(load(&mut s, "b.example", at(9)).is_empty(), "there is no room, and it may be quick");
    let deadline = s.deadline().unwrap();
    assert!(deadline > at(9) && deadline <= at(11));
    let log = load(&mut s, "b.example", at(11));
    let count = |text: &str| log.iter().filter(|line| *line == text).count();
    assert_eq!(
        (count("too much mail waits for this destination"), count("load"), count("b.example")),
        (33, 10, 5),
        "{log:?}"
    );
    s.arrived(id(60), Source::Incoming);
    let log = load(&mut s, "slow.example", at(12));
    assert_eq!(log, ["load", "too much mail waits for this destination"], "it takes no more");
}
