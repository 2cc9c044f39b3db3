use super::*;

type TestPool = Pool<&'static str, &'static str>;

fn work(id: u64, owner: &'static str, mailbox: &'static str) -> Work<&'static str, &'static str> {
    Work { id: WorkId(id), owner, mailbox, width: 1 }
}

/// Does what the pool asks for until it asks for nothing, and writes it down.
fn steps(pool: &mut TestPool, now: Instant) -> Vec<String> {
    let mut said = Vec::new();
    while let Some(step) = pool.next_step(now) {
        match step {
            Step::Start(owner) => {
                let id = pool.started(owner, now);
                said.push(format!("start {owner} {}", id.0));
            }
            Step::Give(child, work) => said.push(format!("give {} {}", child.0, work.0)),
            Step::Retire(child) => said.push(format!("retire {}", child.0)),
        }
        assert!(said.len() < 100, "no end: {said:?}");
    }
    said
}

#[test]
fn a_child_is_started_kept_reused_and_retired() {
    let (mut pool, t) = (TestPool::new(3), Instant::now());
    assert!(pool.is_idle() && pool.next_expiry().is_none());
    pool.add(work(1, "ann", "a"));
    assert_eq!(steps(&mut pool, t), ["start ann 0", "give 0 1"]);
    assert_eq!(pool.child_of(WorkId(1)), Some(ChildId(0)));
    assert!(!pool.is_idle());
    pool.finished(ChildId(0), t);
    assert!(pool.is_idle());
    pool.add(work(2, "ann", "a"));
    assert_eq!(steps(&mut pool, t), ["give 0 2"]);
    pool.finished(ChildId(0), t);
    assert_eq!(pool.next_expiry(), Some(t + IDLE));
    assert!(steps(&mut pool, t + IDLE - Duration::from_millis(1)).is_empty());
    assert_eq!(steps(&mut pool, t + IDLE), ["retire 0"]);
    assert_eq!(pool.gone(ChildId(0)), None);
}

#[test]
fn a_busy_mailbox_is_passed_by() {
    let (mut pool, t) = (TestPool::new(3), Instant::now());
    pool.add(work(1, "ann", "a"));
    pool.add(work(2, "ann", "a"));
    pool.add(work(3, "ann", "b"));
    pool.add(Work { width: 2, ..work(4, "bob", "c") });
    assert_eq!(
        steps(&mut pool, t),
        ["start ann 0", "give 0 1", "start ann 1", "give 1 3", "start bob 2", "give 2 4"]
    );
    pool.add(Work { width: 2, ..work(5, "bob", "c") });
    pool.finished(ChildId(1), t);
    // Child 1 is ann's, and her mailbox a is still busy: its place goes to bob, whose mailbox takes two.
    assert_eq!(steps(&mut pool, t), ["retire 1", "start bob 3", "give 3 5"]);
    pool.finished(ChildId(0), t);
    assert_eq!(steps(&mut pool, t), ["give 0 2"]);
}

#[test]
fn at_most_the_limit_of_children() {
    let (mut pool, t) = (TestPool::new(2), Instant::now());
    for (id, owner) in [(1, "ann"), (2, "bob"), (3, "cat"), (4, "bob")] {
        pool.add(work(id, owner, owner));
    }
    assert_eq!(steps(&mut pool, t), ["start ann 0", "give 0 1", "start bob 1", "give 1 2"]);
    pool.finished(ChildId(1), t);
    // A child that is there is used before one is ended for another owner.
    assert_eq!(steps(&mut pool, t), ["give 1 4"]);
    pool.finished(ChildId(0), t);
    assert_eq!(steps(&mut pool, t), ["retire 0", "start cat 2", "give 2 3"]);
}

#[test]
fn a_child_that_dies_gives_its_delivery_back_and_a_killed_one_keeps_its_place_until_it_is_gone() {
    let (mut pool, t) = (TestPool::new(1), Instant::now());
    pool.add(work(1, "ann", "a"));
    steps(&mut pool, t);
    assert_eq!(pool.gone(ChildId(0)), Some(WorkId(1)));
    pool.add(work(2, "ann", "a"));
    pool.add(work(3, "ann", "a"));
    assert_eq!(steps(&mut pool, t), ["start ann 1", "give 1 2"]);
    pool.killed(ChildId(1));
    assert_eq!(pool.child_of(WorkId(2)), None);
    // A late answer does not bring it back.
    pool.finished(ChildId(1), t);
    assert!(steps(&mut pool, t).is_empty());
    assert_eq!(pool.gone(ChildId(1)), None);
    assert_eq!(steps(&mut pool, t), ["start ann 2", "give 2 3"]);
}

#[test]
fn what_waits_can_be_withdrawn() {
    let (mut pool, t) = (TestPool::new(1), Instant::now());
    pool.add(work(1, "ann", "a"));
    steps(&mut pool, t);
    pool.add(work(2, "ann", "a"));
    assert!(pool.withdraw(WorkId(2)));
    assert!(!pool.withdraw(WorkId(2)));
    assert!(!pool.withdraw(WorkId(1)));
    pool.finished(ChildId(0), t);
    assert!(steps(&mut pool, t).is_empty() && pool.is_idle());
}

#[test]
fn what_waits_behind_a_delivery_can_be_withdrawn() {
    let (mut pool, t) = (TestPool::new(2), Instant::now());
    pool.add(work(1, "ann", "a"));
    pool.add(work(2, "ann", "a"));
    pool.add(work(3, "ann", "b"));
    pool.add(work(4, "ann", "a"));
    pool.add(work(5, "ann", "b"));
    steps(&mut pool, t);
    assert_eq!(pool.withdraw_behind(WorkId(4)), [], "it does not run");
    assert_eq!(pool.withdraw_behind(WorkId(1)), [WorkId(2), WorkId(4)]);
    pool.finished(ChildId(0), t);
    pool.finished(ChildId(1), t);
    assert_eq!(pool.withdraw_behind(WorkId(1)), [], "nor does this one any more");
    assert_eq!(steps(&mut pool, t), ["give 0 5"]);
}

#[test]
fn after_a_failed_start_there_is_a_pause_but_children_that_run_go_on() {
    let (mut pool, t) = (TestPool::new(2), Instant::now());
    pool.add(work(1, "ann", "a"));
    assert_eq!(steps(&mut pool, t), ["start ann 0", "give 0 1"]);
    pool.add(work(2, "bob", "b"));
    pool.add(work(3, "ann", "c"));
    assert_eq!(pool.next_step(t), Some(Step::Start("bob")));
    pool.not_started(t);
    assert!(steps(&mut pool, t).is_empty());
    assert_eq!(pool.next_expiry(), Some(t + PAUSE));
    pool.finished(ChildId(0), t);
    assert_eq!(steps(&mut pool, t), ["give 0 3"]);
    assert_eq!(steps(&mut pool, t + PAUSE), ["start bob 1", "give 1 2"]);
}
