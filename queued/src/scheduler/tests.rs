//! Events in, actions out; then days of queue life in a simulation.

use super::backoff::Backoff;
use super::destinations::Lane;
use super::*;
use common::destination::{Destination, Nexthop};
use common::status::{EnhancedCode, Status};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

fn settings() -> Settings {
    Settings {
        backoff: Backoff { first_retry: Duration::from_secs(300), max_retry: Duration::from_secs(3600) },
        concurrency: 20,
        recipients: 50,
        active_limit: 20_000,
        recipient_limit: 200_000,
    }
}

fn id(n: u64) -> QueueId {
    QueueId::new(Timestamp(1), n)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn lane(name: &str) -> Lane {
    let nexthop = Nexthop::of_domain(&name.parse().unwrap());
    Lane { destination: Destination { transport: Transport::Smtp, nexthop }, mailbox: None }
}

fn share(name: &str, recipients: std::ops::Range<u32>) -> Share {
    Share { lane: lane(name), recipients: recipients.collect() }
}

fn refused() -> Option<Status> {
    Some(Status::local(EnhancedCode::new(4, 4, 1), "connect to a: Connection refused"))
}

/// All actions at `now`, in short words.
fn drain(scheduler: &mut Scheduler, now: Timestamp) -> Vec<String> {
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
fn with_message(shares: Vec<Share>) -> Scheduler {
    let mut scheduler = Scheduler::new(settings(), 1, at(0));
    scheduler.worker_came(1, Transport::Smtp, 100);
    scheduler.arrived(id(7), Source::Incoming);
    assert_eq!(drain(&mut scheduler, at(0)), ["load 7 Incoming"]);
    scheduler.loaded(id(7), 1, shares, at(0));
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
    assert_eq!(s.answered(1, 4, None, at(1)), Some((id(7), vec![120])));
    assert_eq!(s.answered(1, 4, None, at(1)), None, "answered twice");
    assert_eq!(s.answered(2, 1, None, at(1)), None, "by somebody else");
    s.answered(1, 1, None, at(1));
    s.answered(1, 2, None, at(1));
    assert!(drain(&mut s, at(1)).is_empty());
    s.answered(1, 3, None, at(1));
    assert_eq!(drain(&mut s, at(1)), ["attempted 7"]);
    let due = s.next_attempt(id(7), at(0), at(1));
    assert!((at(271)..=at(331)).contains(&due));
    s.postpone(id(7), Source::Deferred(due), due);
    assert_eq!(s.deadline(), Some(due));
    assert!(drain(&mut s, Timestamp(due.0 - 1)).is_empty());
    assert_eq!(drain(&mut s, due), ["load 7 Deferred"]);
    s.loaded(id(7), 1, vec![], due);
    assert_eq!(drain(&mut s, due), ["attempted 7"], "nothing for workers to do");
    s.forget(id(7));
    assert_eq!((s.active_len(), s.waiting_len(), s.deadline()), (0, 0, None));
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
    s.loaded(id(8), 1, vec![share("a.example", 0..3)], at(10));
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
    s.forget(id(7));
    s.arrived(id(7), Source::Incoming);
    drain(&mut s, at(71));
    s.loaded(id(7), 1, vec![share("a.example", 0..1)], at(71));
    assert_eq!(drain(&mut s, at(71)).len(), 2, "at once while it lasts");
    s.worker_came(2, Transport::Smtp, 1);
    s.forget(id(8));
    s.arrived(id(8), Source::Active);
    assert_eq!(drain(&mut s, at(72)), ["load 8 Active"]);
    s.loaded(id(8), 1, vec![share("a.example", 0..1)], at(72));
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
        s.loaded(id(n), 1, vec![share("a.example", 0..1)], at(0));
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
    let dues: HashSet<_> = (10..20).map(|n| s.next_attempt(id(n), at(0), at(5))).collect();
    assert!(dues.len() > 5 && dues.iter().all(|due| (at(275)..=at(340)).contains(due)), "{dues:?}");
    s.arrived(id(30), Source::Incoming);
    drain(&mut s, at(6));
    s.loaded(id(30), 1, vec![share("a.example", 0..1), share("b.example", 1..2)], at(6));
    let actions = drain(&mut s, at(6));
    assert!(actions[0].starts_with("suspend 30 x1") && actions[1].contains("for b.example"), "{actions:?}");
}

#[test]
fn deleting_cancels_what_is_in_hand_and_drops_what_is_queued() {
    let mut s = with_message(vec![share("a.example", 0..500)]);
    assert_eq!(drain(&mut s, at(0)).len(), 5);
    s.forget(id(7));
    let mut cancelled = drain(&mut s, at(0));
    cancelled.sort();
    assert_eq!(cancelled, (1..=5).map(|job| format!("cancel {job} at 1")).collect::<Vec<_>>());
    assert!(s.answered(1, 1, None, at(1)).is_some());
    s.worker_went(1, at(1));
    s.worker_came(2, Transport::Smtp, 10);
    assert!(drain(&mut s, at(1)).is_empty());
    assert_eq!((s.active_len(), s.in_hand(), s.jobs.len()), (0, 0, 0));
    s.arrived(id(9), Source::Incoming);
    s.forget(id(9));
    s.deferred(id(10), at(5));
    s.forget(id(10));
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
    s.forget(id(0));
    s.forget(id(100));
    let mut two = drain(&mut s, at(0));
    two.sort();
    assert_eq!(two, ["load 105 Incoming", "load 5 Deferred"]);
    s.set(Settings { active_limit: 1000, ..settings() });
    assert_eq!(drain(&mut s, at(0)).len(), MAX_LOADING - 10, "so many are read at once");
    s.loaded(id(101), 300_000, vec![share("a.example", 0..1)], at(0));
    assert!(drain(&mut s, at(0)).is_empty(), "too many recipients in memory");
    s.forget(id(101));
    assert_eq!(drain(&mut s, at(0)).len(), 1);
    assert!(s.retry(id(40), at(0)) && !s.retry(id(5), at(0)) && s.knows(id(40)) && !s.knows(id(0)));
}

/// Accepted at, destination, ended at (and delivered?).
type Simulated = (Timestamp, u32, Option<(Timestamp, bool)>);

/// What the world does to the simulated system.
struct World {
    scheduler: Scheduler,
    now: Timestamp,
    messages: Vec<Simulated>,
    numbers: HashMap<QueueId, usize>,
    answers: BinaryHeap<Reverse<(Timestamp, JobId, u32, usize)>>,
    delivered_now: HashSet<usize>,
    loads: u64,
}

const DAY: i64 = 86_400;
const LIFETIME: Duration = Duration::from_secs(5 * 86_400);

impl World {
    /// Destination 0 is down for ever, 1 to 9 for six hours now and then, the others never.
    fn is_down(destination: u32, now: Timestamp) -> bool {
        match destination {
            0 => true,
            1..=9 => (now.seconds() / 21_600 + i64::from(destination)) % 4 == 0,
            _ => false,
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.scheduler.next_action(self.now) {
            match action {
                Action::Load(id, _) => {
                    self.loads += 1;
                    let destination = self.messages[self.numbers[&id]].1;
                    self.scheduler.loaded(
                        id,
                        1,
                        vec![share(&format!("d{destination}.example"), 0..1)],
                        self.now,
                    );
                }
                Action::Dispatch { job, id, .. } => {
                    let number = self.numbers[&id];
                    let destination = self.messages[number].1;
                    let takes = if Self::is_down(destination, self.now) { 30 } else { 1 };
                    let answer = self.now.after(Duration::from_secs(takes));
                    self.answers.push(Reverse((answer, job, destination, number)));
                }
                Action::Attempted(id) => {
                    let number = self.numbers[&id];
                    let (arrived, _, end) = &mut self.messages[number];
                    if self.delivered_now.remove(&number) {
                        *end = Some((self.now, true));
                        self.scheduler.forget(id);
                    } else if self.now.since(*arrived) >= LIFETIME {
                        *end = Some((self.now, false));
                        self.scheduler.forget(id);
                    } else {
                        let due = self.scheduler.next_attempt(id, *arrived, self.now);
                        assert!(due > self.now);
                        self.scheduler.postpone(id, Source::Deferred(due), due);
                    }
                }
                Action::Suspend { .. } | Action::Cancel(..) => {}
            }
            assert!(self.scheduler.active_len() <= 2000 && self.scheduler.in_hand() <= 500);
        }
    }

    fn answer(&mut self, job: JobId, destination: u32, number: usize) {
        let failure = if Self::is_down(destination, self.now) { refused() } else { None };
        if failure.is_none() {
            self.delivered_now.insert(number);
        }
        self.scheduler.answered(1, job, failure, self.now);
    }
}

#[test]
fn days_of_a_hundred_thousand_messages() {
    const MESSAGES: usize = 100_000;
    let mut world = World {
        scheduler: Scheduler::new(Settings { active_limit: 2000, ..settings() }, 42, at(0)),
        now: at(0),
        messages: Vec::new(),
        numbers: HashMap::new(),
        answers: BinaryHeap::new(),
        delivered_now: HashSet::new(),
        loads: 0,
    };
    world.scheduler.worker_came(1, Transport::Smtp, 500);
    // Two days of mail, one message every 1.7 seconds; one in a hundred goes to the dead host, one in ten to a shaky one.
    let arrival = |n: usize| Timestamp(2 * DAY * 1_000_000 * n as i64 / MESSAGES as i64);
    let mut next = 0;
    loop {
        let events = [
            (next < MESSAGES).then(|| arrival(next)),
            world.answers.peek().map(|Reverse((time, ..))| *time),
            world.scheduler.deadline(),
        ];
        let Some(time) = events.into_iter().flatten().min() else { break };
        assert!(time >= world.now || events[2] == Some(time), "time runs backwards");
        world.now = world.now.max(time);
        while next < MESSAGES && arrival(next) <= world.now {
            let destination = if next % 100 == 0 { 0 } else { 1 + (next % 91) as u32 };
            world.messages.push((arrival(next), destination, None));
            world.numbers.insert(id(next as u64), next);
            world.scheduler.arrived(id(next as u64), Source::Incoming);
            next += 1;
        }
        while let Some(&Reverse((time, job, destination, number))) = world.answers.peek() {
            if time > world.now {
                break;
            }
            world.answers.pop();
            world.answer(job, destination, number);
        }
        world.act();
        assert!(world.now < at(9 * DAY), "wedged");
    }
    assert_eq!((world.scheduler.active_len(), world.scheduler.waiting_len()), (0, 0));
    let (mut slowest, mut loads_of_dead) = (0, 0);
    for (arrived, destination, end) in &world.messages {
        let (end, delivered) = end.expect("every message ends");
        let took = end.since(*arrived).as_secs();
        match destination {
            0 => {
                assert!(!delivered && took < 5 * 86_400 + 3600 * 2, "expired {took} s after arrival");
                loads_of_dead += 1;
            }
            1..=9 => {
                assert!(delivered && took < 6 * 3600 + 2 * 3960, "delivered after {took} s");
                slowest = slowest.max(took);
            }
            _ => assert!(delivered && took <= 60, "a healthy destination had to wait {took} s"),
        }
    }
    println!("slowest after an outage {slowest} s; {} loads, {loads_of_dead} expired", world.loads);
    assert!(world.loads < 400_000, "{} loads", world.loads);
}
