//! Days of queue life with a million messages, in seconds: the scheduler is driven by a world with a clock of its own.
//!
//! The world has hosts that are dead, that fail now and then, that hang, and that an admin has limited; mail comes evenly and in bursts, some of it
//! in mailings. Nothing here sleeps and nothing is random but by a fixed seed, so every run is the same one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use common::destination::{Destination, Nexthop, Transport};
use common::status::{EnhancedCode, Status};
use common::time::Timestamp;
use queued::message::Lifetimes;
use queued::scheduler::backoff::Backoff;
use queued::scheduler::destinations::Lane;
use queued::scheduler::limits::{Limit, Limits};
use queued::scheduler::{Action, Facts, JobId, Scheduler, Settings, Share, Source};
use spool::id::QueueId;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

const MESSAGES: usize = 1_000_000;
/// Mail comes for so many days.
const DAYS: i64 = 3;
const DAY: i64 = 86_400;
const LIFETIME: i64 = 2 * DAY;
const BOUNCE_LIFETIME: i64 = DAY / 2;
const ACTIVE: usize = 20_000;
const PLACES: usize = 500;
const HOSTS: usize = 200;

/// Host 0 is dead for ever.
const DEAD: usize = 0;
/// Hosts 1 to 5 are away for six hours of every day.
const SHAKY: std::ops::RangeInclusive<usize> = 1..=5;
/// Host 6 takes five minutes for every message.
const TARPIT: usize = 6;
/// Host 7 takes one message in two seconds, by the admin's word.
const LIMITED: usize = 7;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Open,
    Delivered,
    Expired,
}

struct Message {
    arrived: Timestamp,
    host: usize,
    null_sender: bool,
    recipients: u32,
    /// Recipients that are not delivered; they are its last ones.
    open: u32,
    end: End,
    ended: Timestamp,
}

struct World {
    scheduler: Scheduler,
    now: Timestamp,
    messages: Vec<Message>,
    lanes: Vec<Lane>,
    answers: BinaryHeap<Reverse<(Timestamp, JobId, usize, usize)>>,
    limited_begun: Vec<i64>,
    loads: [usize; 2],
    attempts: u64,
    most_active: usize,
}

/// The time of arrival in microseconds and the number are the message's name.
fn id(number: usize, arrived: Timestamp) -> QueueId {
    QueueId::new(arrived, number as u64)
}

/// Steps of a fixed linear congruential sequence: where mail goes and what it is like.
fn random(number: usize) -> usize {
    (number as u64).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) as usize
        >> 24
}

impl World {
    fn new() -> Self {
        let lane = |host: usize| {
            let nexthop: Nexthop = format!("h{host}.example").parse().unwrap();
            Lane { destination: Destination { transport: Transport::Smtp, nexthop }, mailbox: None }
        };
        let lanes: Vec<Lane> = (0..HOSTS).map(lane).collect();
        let all = Limit { concurrency: 20, recipients: 50, gap: Duration::ZERO };
        let limited = Limit { gap: Duration::from_secs(2), ..all };
        let settings = Settings {
            backoff: Backoff { first_retry: Duration::from_secs(300), max_retry: Duration::from_secs(3600) },
            lifetimes: Lifetimes {
                lifetime: Duration::from_secs(LIFETIME as u64),
                bounce_lifetime: Duration::from_secs(BOUNCE_LIFETIME as u64),
            },
            limits: Limits {
                all,
                of: HashMap::from([(lanes[LIMITED].destination.nexthop.clone(), limited)]),
            },
            active_limit: ACTIVE,
            recipient_limit: 200_000,
        };
        let mut scheduler = Scheduler::new(settings, 42, at(0));
        scheduler.worker_came(1, Transport::Smtp, PLACES);
        Self {
            scheduler,
            now: at(0),
            messages: Vec::with_capacity(MESSAGES),
            lanes,
            answers: BinaryHeap::new(),
            limited_begun: Vec::new(),
            loads: [0; 2],
            attempts: 0,
            most_active: 0,
        }
    }

    /// Most mail comes evenly; every tenth message in one of six bursts.
    fn arrival(number: usize) -> Timestamp {
        let even = DAYS * DAY * 1_000_000 / MESSAGES as i64 * number as i64;
        Timestamp(even)
    }

    fn message(number: usize) -> Message {
        let random = random(number);
        let burst = (number / (MESSAGES / 12)) % 2 == 1;
        let host = match random % 1000 {
            0..2 => DEAD,
            2..22 => 1 + random / 1000 % 5,
            22..24 => TARPIT,
            24..54 => LIMITED,
            _ => 8 + random / 1000 % (HOSTS - 8),
        };
        // Every second twelfth of the mail comes at the beginning of its time.
        let slot = MESSAGES / 12;
        let arrived = if burst {
            Self::arrival(number / slot * slot + number % slot / 1000)
        } else {
            Self::arrival(number)
        };
        let recipients = if host >= 8 && number.is_multiple_of(50_000) { 20_000 } else { 1 };
        Message {
            arrived,
            host,
            null_sender: (random / 7).is_multiple_of(10),
            recipients,
            open: recipients,
            end: End::Open,
            ended: at(0),
        }
    }

    fn is_up(host: usize, now: Timestamp) -> bool {
        match host {
            DEAD => false,
            host if SHAKY.contains(&host) => (now.seconds() % DAY) / 21_600 != host as i64 % 4,
            _ => true,
        }
    }

    fn act(&mut self) {
        let now = self.now;
        while let Some(action) = self.scheduler.next_action(now) {
            match action {
                Action::Load(id, source) => {
                    self.loads[usize::from(matches!(source, Source::Deferred(_)))] += 1;
                    let message = &self.messages[number(id)];
                    assert_eq!(message.end, End::Open);
                    let facts = Facts {
                        arrived: message.arrived,
                        null_sender: message.null_sender,
                        recipients: message.recipients as usize,
                    };
                    let lane = self.lanes[message.host].clone();
                    let recipients = (message.recipients - message.open..message.recipients).collect();
                    // What has no room comes again.
                    let _ = self.scheduler.loaded(id, facts, vec![Share { lane, recipients }], now);
                }
                Action::Dispatch { job, id, recipients, .. } => {
                    self.attempts += 1;
                    let number = number(id);
                    let host = self.messages[number].host;
                    let takes = match host {
                        TARPIT => 300_000,
                        LIMITED => {
                            self.limited_begun.push(now.0);
                            200
                        }
                        host if !Self::is_up(host, now) => 30_000,
                        _ => 200,
                    };
                    let answer = now.after(Duration::from_millis(takes));
                    self.answers.push(Reverse((answer, job, number, recipients.len())));
                }
                Action::Attempted(id) => self.attempted(id),
                Action::Suspend { .. } | Action::Cancel(..) => {}
            }
            self.most_active = self.most_active.max(self.scheduler.active_len());
        }
        assert!(self.scheduler.active_len() <= ACTIVE && self.scheduler.in_hand() <= PLACES);
    }

    /// What `disk::settle` does.
    fn attempted(&mut self, id: QueueId) {
        let now = self.now;
        let message = &mut self.messages[number(id)];
        let life = if message.null_sender { BOUNCE_LIFETIME } else { LIFETIME };
        message.end = match message.open {
            0 => End::Delivered,
            _ if now.since(message.arrived).as_secs() >= life as u64 => End::Expired,
            _ => {
                let due = self.scheduler.next_attempt(id, now);
                assert!(due > now && due <= message.arrived.after(Duration::from_secs(life as u64)));
                self.scheduler.postpone(id, Source::Deferred(due), due, now);
                return;
            }
        };
        message.ended = now;
        self.scheduler.forget(id, now);
    }

    fn answer(&mut self, job: JobId, number: usize, recipients: usize) {
        let message = &mut self.messages[number];
        let failure = if Self::is_up(message.host, self.now) {
            message.open -= recipients as u32;
            None
        } else {
            Some(Status::local(EnhancedCode::new(4, 4, 1), "Connection refused"))
        };
        self.scheduler.answered(1, job, failure, self.now).expect("the worker has it");
    }

    fn run(&mut self) {
        let mut coming: Vec<Message> = (0..MESSAGES).map(Self::message).collect();
        coming.sort_by_key(|message| message.arrived);
        let mut coming = coming.into_iter().peekable();
        loop {
            let events = [
                coming.peek().map(|message| message.arrived),
                self.answers.peek().map(|Reverse((time, ..))| *time),
                self.scheduler.deadline(),
            ];
            let Some(time) = events.into_iter().flatten().min() else { break };
            // A deadline that has passed without anything to do would be a busy loop.
            assert!(time > self.now || events[2] != Some(time) || self.now == at(0), "spinning at {time:?}");
            self.now = self.now.max(time);
            while coming.peek().is_some_and(|message| message.arrived <= self.now) {
                let message = coming.next().unwrap();
                self.scheduler.arrived(id(self.messages.len(), message.arrived), Source::Incoming);
                self.messages.push(message);
            }
            while let Some(&Reverse((_, job, number, recipients))) =
                self.answers.peek().filter(|Reverse((time, ..))| *time <= self.now)
            {
                self.answers.pop();
                self.answer(job, number, recipients);
            }
            self.act();
            assert!(self.now < at(DAYS * DAY + LIFETIME + DAY), "wedged");
        }
    }
}

/// The number that the name's last part says.
fn number(id: QueueId) -> usize {
    const DIGITS: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
    id.as_str().as_bytes()[10..].iter().fold(0, |n, c| n * 52 + DIGITS.binary_search(c).unwrap())
}

#[test]
fn a_million_messages_in_three_days() {
    let mut world = World::new();
    world.run();
    assert_eq!(world.messages.len(), MESSAGES);
    let open = (world.scheduler.active_len(), world.scheduler.waiting_len(), world.scheduler.in_hand());
    assert_eq!(open, (0, 0, 0), "nothing is left over");
    // Slowest delivery (or expiry) in seconds and number of messages, by kind of host.
    let mut kinds: HashMap<&str, (u64, usize, usize)> = HashMap::new();
    for message in &world.messages {
        let took = message.ended.since(message.arrived).as_secs();
        let kind = match message.host {
            DEAD => "dead",
            TARPIT => "tarpit",
            LIMITED => "limited",
            host if SHAKY.contains(&host) => "shaky",
            _ => "healthy",
        };
        let entry = kinds.entry(kind).or_default();
        *entry = (entry.0.max(took), entry.1 + 1, entry.2 + usize::from(message.end == End::Expired));
        let life = (if message.null_sender { BOUNCE_LIFETIME } else { LIFETIME }) as u64;
        assert_ne!(message.end, End::Open);
        // An attempt that is under way is not broken off; the tarpit's take longest.
        assert!(took <= life + 301, "{kind}: ended {took} s after arrival");
        match kind {
            "dead" => assert_eq!((message.end, took >= life), (End::Expired, true)),
            "healthy" => assert!(message.end == End::Delivered && took <= 60, "{took} s for a healthy host"),
            "shaky" => {
                assert!(message.end == End::Delivered, "expired");
                assert!(took <= 6 * 3600 + 2 * 3960, "{took} s, an outage takes six hours");
            }
            _ => {}
        }
    }
    for (kind, (slowest, messages, expired)) in &kinds {
        println!("{kind}: {messages} messages, {expired} expired, slowest {slowest} s");
    }
    let begun = &world.limited_begun;
    assert!(begun.windows(2).all(|pair| pair[1] - pair[0] >= 1_900_000), "the admin's rate");
    println!(
        "{} loads of new mail, {} of deferred mail, {} attempts, at most {} in memory",
        world.loads[0], world.loads[1], world.attempts, world.most_active
    );
    assert_eq!(world.most_active, ACTIVE, "the bursts fill memory");
    assert!(world.loads[0] + world.loads[1] < 5 * MESSAGES / 2, "{:?} loads", world.loads);
}
