//! Recipients that are deferred while others of their message hang, or wait.

use super::super::tests::{at, drain, id, loaded, refused, settings, share, with_message};
use super::super::{Facts, Settings, Source};
use super::*;
use std::time::Duration;

/// Message 7 with a job (1) for a host that hangs and one (2) for another, both in the worker's hands.
fn with_two() -> Scheduler {
    let mut s = with_message(vec![share("hangs.example", 0..1), share("a.example", 1..4)]);
    assert_eq!(drain(&mut s, at(0)).len(), 2);
    s
}

/// Job `job` is answered, and of its recipients these are deferred.
fn deferred(s: &mut Scheduler, job: u64, recipients: &[u32], now: Timestamp) {
    let ended = s.answered(1, job, None, now).unwrap();
    s.deferred_by(ended, recipients.to_vec(), now);
}

#[test]
fn who_is_deferred_comes_again_while_another_host_hangs() {
    let mut s = with_two();
    deferred(&mut s, 2, &[1, 3], at(5));
    let (mut now, mut times) = (at(5), vec![]);
    for job in 3..6 {
        assert!(drain(&mut s, now).is_empty());
        now = s.deadline().unwrap();
        times.push(now.seconds());
        assert_eq!(drain(&mut s, now), [format!("job {job} of 7 to 1 for a.example x2")]);
        deferred(&mut s, job, &[1, 3], now);
    }
    // As if it were the message: after 5 minutes, and then when it is twice as old.
    let pauses = [times[0] - 5, times[1] - times[0], times[2] - times[1]];
    for (pause, age) in pauses.into_iter().zip([300, times[0].max(300), times[1]]) {
        assert!((age * 9 / 10 - 1..=age * 11 / 10 + 1).contains(&pause), "{times:?}");
    }
    // The attempt's end is the end of that, too.
    s.answered(1, 1, None, now.after(Duration::from_secs(1)));
    let now = now.after(Duration::from_secs(1));
    assert_eq!(drain(&mut s, now), ["attempted 7"]);
    assert_eq!(s.deadline(), None);
    s.forget(id(7), now);
    assert!(s.again.is_empty());
}

#[test]
fn nobody_comes_again_who_is_done_or_whose_message_is_gone() {
    let mut s = with_two();
    deferred(&mut s, 2, &[], at(5));
    assert_eq!(s.again.len(), 0);
    let mut s = with_two();
    deferred(&mut s, 2, &[1], at(5));
    s.forget(id(7), at(6));
    assert_eq!(drain(&mut s, at(6)), ["cancel 1 at 1"]);
    assert!(s.again.is_empty() && drain(&mut s, at(4000)).is_empty());
    // The last one of all: the attempt is over, and the whole message is tried again.
    let mut s = with_two();
    s.answered(1, 1, None, at(5));
    deferred(&mut s, 2, &[1], at(5));
    assert_eq!(drain(&mut s, at(5)), ["attempted 7"]);
    assert!(s.again.is_empty() && s.deadline().is_none());
}

/// Held while a job was out, and released: the attempt that begins then has a job for everybody.
#[test]
fn what_an_earlier_attempt_says_late_brings_nobody_in_twice() {
    let mut s = with_two();
    s.forget(id(7), at(1));
    assert_eq!(drain(&mut s, at(1)).len(), 2, "both are called off");
    s.arrived(id(7), Source::Active);
    drain(&mut s, at(1));
    assert!(loaded(&mut s, 7, 4, vec![share("hangs.example", 0..1), share("a.example", 1..4)], at(1)));
    assert_eq!(drain(&mut s, at(1)).len(), 2);
    deferred(&mut s, 2, &[1, 2, 3], at(2));
    assert!(s.again.is_empty());
    deferred(&mut s, 4, &[1], at(3));
    assert_eq!(s.again.len(), 1);
}

#[test]
fn an_admin_has_them_come_now() {
    let mut s = with_two();
    assert!(!s.retry(id(7), at(1)), "all of it is being tried");
    deferred(&mut s, 2, &[1], at(5));
    assert!(s.retry(id(7), at(6)));
    assert_eq!(drain(&mut s, at(6)), ["job 3 of 7 to 1 for a.example x1"]);
    assert!(!s.retry(id(7), at(7)) && s.again.is_empty());
}

/// The burst of a mailing list: the mailbox has more than its part of memory, and one of its messages goes to a host that hangs as well.
#[test]
fn what_was_too_much_comes_again_when_there_is_room() {
    let mut s = Scheduler::new(Settings { active_limit: 40, ..settings() }, 1, at(0));
    s.worker_came(1, common::destination::Transport::Smtp, 100);
    for n in 0..20 {
        s.arrived(id(n), Source::Incoming);
        drain(&mut s, at(0));
        assert!(loaded(&mut s, n, 1, vec![share("slow.example", 0..1)], at(0)));
    }
    assert!(drain(&mut s, at(0)).is_empty(), "all but five wait");
    s.arrived(id(50), Source::Incoming);
    drain(&mut s, at(301));
    let to = vec![share("slow.example", 0..1), share("hangs.example", 1..2)];
    assert!(loaded(&mut s, 50, 2, to, at(301)));
    let too_much = "suspend 50 x1: 4.3.2 too much mail waits for this destination";
    assert_eq!(drain(&mut s, at(301)), [too_much, "job 21 of 50 to 1 for hangs.example x1"]);
    let due = s.again.first().unwrap().0;
    assert!((at(571)..=at(631)).contains(&due));
    // Still too much; and then there is room.
    assert_eq!(drain(&mut s, due), [too_much]);
    for job in 1..=5 {
        s.answered(1, job, None, due);
    }
    drain(&mut s, due);
    for job in 6..=20 {
        s.answered(1, job, None, due);
        drain(&mut s, due);
    }
    let due = s.again.first().unwrap().0;
    assert_eq!(drain(&mut s, due), ["job 22 of 50 to 1 for slow.example x1"]);
}

#[test]
fn a_dead_destination_is_met_again_behind_its_pause() {
    let mut s = with_two();
    for n in 8..12 {
        s.arrived(id(n), Source::Incoming);
        drain(&mut s, at(0));
        assert!(loaded(&mut s, n, 1, vec![share("a.example", 0..1)], at(0)));
        drain(&mut s, at(0));
    }
    // Its own failure comes first, the others close the lane behind it.
    for job in [2, 3, 4, 5, 6] {
        let ended = s.answered(1, job, refused(), at(5)).unwrap();
        let recipients = ended.recipients.clone();
        s.deferred_by(ended, recipients, at(5));
    }
    drain(&mut s, at(5));
    let due = s.again.first().unwrap().0;
    assert!(due >= at(275), "{due:?}");
    assert_eq!(drain(&mut s, due).len(), 1, "the probe");
    assert_eq!(s.again.len(), 0);
}

#[test]
fn the_lifetime_ends_it() {
    let five_days = 5 * 86_400;
    let mut s = Scheduler::new(settings(), 1, at(0));
    s.worker_came(1, common::destination::Transport::Smtp, 100);
    s.arrived(id(7), Source::Incoming);
    drain(&mut s, at(five_days - 100));
    let facts = Facts { arrived: at(0), null_sender: false, recipients: 2 };
    let to = vec![share("hangs.example", 0..1), share("a.example", 1..2)];
    assert!(s.loaded(id(7), facts, to, at(five_days - 100)));
    assert_eq!(drain(&mut s, at(five_days - 100)).len(), 2);
    deferred(&mut s, 2, &[1], at(five_days - 50));
    // The last attempt is made at the end, and waits for a turn no longer than a message would.
    assert_eq!(drain(&mut s, at(five_days)), ["job 3 of 7 to 1 for a.example x1"]);
    assert_eq!(s.deadline(), Some(at(five_days + 60)));
    deferred(&mut s, 3, &[1], at(five_days + 1));
    assert!(s.again.is_empty());
    assert!(drain(&mut s, at(five_days + 60)).is_empty());
    s.answered(1, 1, None, at(five_days + 70));
    assert_eq!(drain(&mut s, at(five_days + 70)), ["attempted 7"]);
}
