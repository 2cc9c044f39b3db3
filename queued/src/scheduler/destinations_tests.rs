//! Lanes: turns, windows, pauses, probes, rates, memory.

use super::super::limits::Limit;
use super::*;
use common::destination::{Destination, Nexthop};
use common::status::EnhancedCode;

const PAUSES: Pauses = Pauses {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(3240),
    memory: Duration::from_secs(7200),
};

fn lane(name: &str) -> Arc<Lane> {
    let destination =
        Destination { transport: Transport::Smtp, nexthop: Nexthop::of_domain(&name.parse().unwrap()) };
    Arc::new(Lane { destination, mailbox: None })
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn refused() -> Option<Status> {
    Some(Status::local(EnhancedCode::new(4, 4, 1), "connection refused"))
}

fn limits(concurrency: u32, gap: u64) -> Limits {
    let all = Limit { concurrency, recipients: 50, gap: Duration::from_millis(gap) };
    Limits { all, of: HashMap::new() }
}

fn push(all: &mut Destinations, number: u64, jobs: impl IntoIterator<Item = JobId>, now: Timestamp) {
    jobs.into_iter().for_each(|job| all.push(number, vec![job], false, now));
}

/// A lane with `jobs` jobs numbered from 1, each of a message of its own.
fn filled(concurrency: u32, jobs: JobId) -> (Destinations, u64) {
    let mut all = Destinations::new(limits(concurrency, 0), PAUSES);
    let number = all.number(&lane("a.example"));
    push(&mut all, number, 1..=jobs, at(0));
    (all, number)
}

fn take_at(all: &mut Destinations, now: Timestamp) -> Vec<JobId> {
    std::iter::from_fn(|| all.next_job(Transport::Smtp, 10, now, &|_| true)).map(|(_, job)| job).collect()
}

fn take(all: &mut Destinations) -> Vec<JobId> {
    take_at(all, at(0))
}

/// Lets a lane fail until it is throttled.
fn kill(all: &mut Destinations, number: u64, now: Timestamp) {
    while all.closed(number, now).is_none_or(|throttle| throttle.until <= now) {
        push(all, number, 1000..1001, now);
        assert!(!take_at(all, now).is_empty());
        all.answered(number, refused(), now);
    }
}

#[test]
fn lanes_take_turns_and_keep_their_order() {
    let (mut all, _) = filled(20, 3);
    let other = all.number(&lane("b.example"));
    push(&mut all, other, [11, 12], at(0));
    assert_eq!(take(&mut all), [1, 11, 2, 12, 3]);
}

#[test]
fn the_window_bounds_what_is_out() {
    let (mut all, number) = filled(7, 1000);
    assert_eq!(take(&mut all).len(), 5);
    let mut seen = vec![];
    for _ in 0..20 {
        all.answered(number, None, at(0));
        seen.push(take(&mut all).len());
    }
    assert_eq!(seen, [1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(filled(2, 10).0.next_job(Transport::Local, 9, at(0), &|_| true), None);
    assert_eq!(take(&mut filled(2, 10).0).len(), 2);
}

#[test]
fn a_cohort_of_failures_throttles_and_one_probe_decides() {
    let (mut all, number) = filled(20, 10);
    assert_eq!(take(&mut all).len(), 5);
    for _ in 0..4 {
        assert!(all.answered(number, refused(), at(10)).0.is_empty());
    }
    assert!(take(&mut all).len() <= 4, "the window is smaller");
    let suspended = all.answered(number, refused(), at(10)).0;
    assert!(!suspended.is_empty() && suspended.last() == Some(&10));
    assert_eq!(all.closed(number, at(10)).unwrap().until, at(70));
    // Those that were out meanwhile fail as well, and change nothing.
    while all.lanes[&number].in_hand > 0 {
        assert!(all.answered(number, refused(), at(40)).0.is_empty());
    }
    assert_eq!(all.deadline(), Some(at(70)));
    all.expire(at(69));
    assert!(take_at(&mut all, at(69)).is_empty() && all.closed(number, at(69)).is_some());
    all.expire(at(70));
    push(&mut all, number, 20..40, at(70));
    assert_eq!(take_at(&mut all, at(70)), [20], "one probe only");
    let full = all.closed(number, at(70)).expect("many wait for the probe already");
    assert_eq!((full.until, full.reason.text.as_str()), (at(70), "connection refused"));
    assert_eq!(all.answered(number, refused(), at(80)).0.len(), 19, "the probe failed");
    assert_eq!(all.closed(number, at(80)).unwrap().until, at(200), "the second pause is twice as long");
    all.end_pauses(at(90));
    assert!(all.closed(number, at(90)).is_none(), "an admin's word ends the pause");
    push(&mut all, number, 50..60, at(90));
    assert_eq!(take_at(&mut all, at(90)), [50]);
    all.answered(number, None, at(91));
    assert_eq!(take_at(&mut all, at(91)).len(), 5, "open again, and the window starts anew");
}

#[test]
fn the_pauses_as_a_list() {
    let (mut all, number) = filled(20, 0);
    let (mut now, mut list) = (at(0), vec![]);
    kill(&mut all, number, now);
    for _ in 0..9 {
        let until = all.deadline().unwrap();
        list.push(until.since(now).as_secs());
        now = until;
        all.expire(now);
        push(&mut all, number, 1..2, now);
        assert_eq!(take_at(&mut all, now), [1]);
        all.answered(number, refused(), now);
    }
    println!("pauses of a dead destination, seconds: {list:?}");
    assert_eq!(list, [60, 120, 240, 480, 960, 1920, 3240, 3240, 3240]);
    assert_eq!(PAUSES.pause(u32::MAX), PAUSES.longest);
}

#[test]
fn failures_of_an_idle_lane_are_forgotten_in_time_and_healthy_ones_at_once() {
    let (mut all, number) = filled(20, 1);
    take(&mut all);
    all.answered(number, refused(), at(0));
    assert_eq!((all.len(), all.deadline()), (1, Some(at(7200))));
    all.expire(at(7200));
    assert!(all.is_empty() && all.deadline().is_none());
    let (mut all, number) = filled(20, 1);
    take(&mut all);
    all.answered(number, None, at(0));
    assert!(all.is_empty());
}

#[test]
fn the_memory_of_dead_destinations_is_bounded() {
    let mut all = Destinations::new(limits(1, 0), PAUSES);
    for n in 0..3 * MAX_IDLE {
        let number = all.number(&lane(&format!("d{n}.example")));
        kill(&mut all, number, at(0));
    }
    assert!(all.len() <= MAX_IDLE + 1024 && all.len() > MAX_IDLE / 2, "{}", all.len());
    assert!(
        all.rings.values().map(VecDeque::len).sum::<usize>() < 10
            && all.doubtful.values().sum::<usize>() == 0
    );
}

#[test]
fn a_job_given_back_goes_first() {
    let (mut all, number) = filled(1, 2);
    assert_eq!(take(&mut all), [1]);
    all.give_back(number, 1, at(0));
    assert_eq!(take(&mut all), [1]);
    all.dropped(number, at(0));
    assert_eq!(take(&mut all), [2]);
    push(&mut all, number, [3], at(0));
    assert_eq!(all.drain(Transport::Smtp, at(0)), [3]);
    assert!(!all.has_jobs(Transport::Smtp));
    all.dropped(number, at(0));
    assert!(all.is_empty());
}

#[test]
fn dead_destinations_have_half_of_the_places() {
    let mut all = Destinations::new(limits(20, 0), PAUSES);
    for n in 0..30 {
        let number = all.number(&lane(&format!("dead{n}.example")));
        kill(&mut all, number, at(0));
        push(&mut all, number, [n], at(0));
    }
    all.expire(at(60));
    let good = all.number(&lane("good.example"));
    push(&mut all, good, 100..104, at(60));
    let out = take_at(&mut all, at(60));
    assert_eq!(out.iter().filter(|job| **job < 100).count(), 10);
    assert_eq!(out.iter().filter(|job| **job >= 100).count(), 4);
    // One that is back does not count any more, and needs not wait for the others.
    let back = all.number(&lane(&format!("dead{}.example", out[0])));
    push(&mut all, back, 200..203, at(60));
    assert!(take_at(&mut all, at(60)).is_empty());
    all.answered(back, None, at(61));
    let out = take_at(&mut all, at(61));
    assert_eq!((out.len(), out.iter().filter(|job| **job >= 200).count()), (4, 3), "{out:?}");
}

#[test]
fn hosts_that_hang_have_half_of_the_places() {
    let mut all = Destinations::new(limits(20, 0), PAUSES);
    let hanging: Vec<u64> = (0..4).map(|n| all.number(&lane(&format!("hang{n}.example")))).collect();
    for (n, number) in (0..).zip(&hanging) {
        push(&mut all, *number, 100 * n..100 * n + 50, at(0));
    }
    // Nothing is known yet: five jobs of each go out, which is all that a worker for 20 can hold.
    assert_eq!(take_at(&mut all, at(0)).len(), 20);
    // Two of them answer late: their places go to another destination, and not to the next job of theirs.
    let good = all.number(&lane("good.example"));
    push(&mut all, good, 1000..1010, at(30));
    for number in &hanging[..2] {
        all.answered(*number, Some(refused().unwrap()), at(30));
    }
    let out = take_at(&mut all, at(30));
    assert!(out.len() == 5 && out.iter().all(|job| *job >= 1000), "{out:?}");
    // What answers is trusted again.
    all.answered(hanging[0], None, at(31));
    assert!(take_at(&mut all, at(31)).iter().any(|job| *job < 100));
}

#[test]
fn a_rate_spaces_transactions_and_outlives_an_idle_moment() {
    let mut all = Destinations::new(limits(20, 1000), PAUSES);
    let number = all.number(&lane("a.example"));
    push(&mut all, number, 1..=3, at(100));
    assert_eq!(take_at(&mut all, at(100)), [1]);
    let next = all.deadline().unwrap();
    assert_eq!(next.since(at(100)), Duration::from_millis(900), "the clock may be late");
    all.expire(next);
    assert_eq!(take_at(&mut all, next), [2]);
    assert_eq!(all.deadline().unwrap().since(next), Duration::from_secs(1));
    all.expire(at(102));
    assert_eq!(take_at(&mut all, at(102)), [3]);
    (0..3).for_each(|_| drop(all.answered(number, None, at(102))));
    assert_eq!(all.len(), 1, "remembered for its pace");
    push(&mut all, number, [4], at(102));
    assert!(take_at(&mut all, at(102)).is_empty());
    let next = all.deadline().unwrap();
    all.expire(next);
    assert_eq!(take_at(&mut all, next), [4]);
    all.answered(number, None, next);
    all.expire(at(200));
    assert!(all.is_empty() && all.deadline().is_none());
}

#[test]
fn a_nexthop_has_its_own_limits_also_after_a_change() {
    let own = Limit { concurrency: 1, recipients: 2, gap: Duration::ZERO };
    let mut with = limits(20, 0);
    with.of.insert("A.example".parse().unwrap(), own);
    let mut all = Destinations::new(with, PAUSES);
    let (a, b) = (all.number(&lane("a.example")), all.number(&lane("b.example")));
    push(&mut all, a, 1..10, at(0));
    push(&mut all, b, 11..20, at(0));
    assert_eq!((take(&mut all).len(), all.recipients(a), all.recipients(b)), (1 + 5, 2, 50));
    all.set_limits(limits(20, 0), PAUSES, at(0));
    (0..2).for_each(|_| drop(all.answered(a, None, at(0))));
    assert!(!take(&mut all).is_empty() && all.recipients(a) == 50);
}

#[test]
fn a_crowded_lane_is_relieved_when_it_is_slow() {
    let (mut all, number) = filled(20, 100);
    let room = |slow| Room { slow, silent: 10, patience: Duration::from_secs(300) };
    assert!(all.relieve(room(50), at(299), &|_| true).is_empty(), "not slow yet");
    assert!(all.relieve(room(100), at(300), &|_| true).is_empty(), "not crowded");
    // One of the young ones was withdrawn before.
    all.withdraw(number, at(1));
    let mut out = all.relieve(room(50), at(300), &|job| job != 100);
    out.sort_unstable();
    assert_eq!(out, (51..100).collect::<Vec<_>>());
    assert!(all.is_crowded(number, room(50), at(300)) && !all.is_crowded(number, room(51), at(300)));
}

#[test]
fn a_silent_lane_is_relieved_soon_and_of_more() {
    let (mut all, number) = filled(20, 100);
    let room = Room { slow: 50, silent: 10, patience: Duration::from_secs(300) };
    assert!(all.relieve(room, at(60), &|_| true).is_empty(), "nothing was asked of it, so it is not silent");
    assert_eq!(take(&mut all).len(), 5);
    // An answer breaks the silence, a failure to reach it does not.
    assert!(all.answered(number, None, at(8)).0.is_empty());
    assert!(all.answered(number, refused(), at(17)).0.is_empty());
    assert!(all.relieve(room, at(17), &|_| true).is_empty());
    assert_eq!(all.relieve(room, at(18), &|_| true).len(), 100 - 5 - 10);
    assert!(all.is_crowded(number, room, at(18)) && !all.is_crowded(number, room, at(17)));
}
