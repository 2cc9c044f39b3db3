//! Which thread does what: pure, with a clock that is handed in.
//!
//! Quick tasks are done by one thread, one after the other: it finds everything in its caches, and to wake a second one would cost more than the
//! tasks do. Should the disk be in its way, so that they wait, another one helps, and one more each time that this lasts. Tasks that may take their time have the
//! other threads, each one. Neither kind can ever have all threads. Nobody is woken twice for the same thing: a thread that was called counts as up. Who went to
//! sleep last is called first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A quick task that has waited for so long is stuck behind another.
const STUCK: Duration = Duration::from_millis(10);

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Hand {
    #[default]
    Free,
    Quick,
    Slow,
}

/// What waits, and who does what.
#[derive(Debug)]
pub(super) struct Turns<T> {
    quick: VecDeque<(Instant, T)>,
    slow: VecDeque<T>,
    threads: usize,
    /// Threads at quick tasks, and how many there may be.
    quick_hands: usize,
    quick_places: usize,
    /// When a place was added last.
    added: Option<Instant>,
    /// Threads at other tasks.
    slow_hands: usize,
    /// Threads that sleep, by number, the last one to do so at the end; and those that have been called and are not up yet.
    asleep: Vec<usize>,
    called: Vec<usize>,
    over: bool,
}

impl<T> Turns<T> {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            quick: VecDeque::new(),
            slow: VecDeque::new(),
            threads,
            quick_hands: 0,
            quick_places: 1,
            added: None,
            slow_hands: 0,
            asleep: Vec::with_capacity(threads),
            called: Vec::new(),
            over: false,
        }
    }

    pub(super) fn add(&mut self, task: T, quick: bool, now: Instant) {
        if quick { self.quick.push_back((now, task)) } else { self.slow.push_back(task) }
    }

    /// The next task for a thread, which is done with what it had. `None`: there is nothing for it to do.
    pub(super) fn take(&mut self, hand: &mut Hand, now: Instant) -> Option<T> {
        match std::mem::take(hand) {
            Hand::Free => {}
            Hand::Quick => self.quick_hands -= 1,
            Hand::Slow => self.slow_hands -= 1,
        }
        self.add_place(now);
        if self.quick_hands < self.quick_places
            && let Some((_, task)) = self.quick.pop_front()
        {
            self.quick_hands += 1;
            *hand = Hand::Quick;
            return Some(task);
        }
        if self.quick.is_empty() {
            // Those that are stuck have theirs still: the next task need not wait for another.
            self.quick_places = (self.quick_hands + 1).min(self.most());
        }
        if self.slow_hands < self.most()
            && let Some(task) = self.slow.pop_front()
        {
            self.slow_hands += 1;
            *hand = Hand::Slow;
            return Some(task);
        }
        None
    }

    /// Which threads are to be woken: they count as up from now on.
    pub(super) fn call(&mut self, now: Instant) -> Vec<usize> {
        self.add_place(now);
        let quick = self.quick.len().min(self.quick_places.saturating_sub(self.quick_hands));
        let slow = self.slow.len().min(self.most().saturating_sub(self.slow_hands));
        let wanted = (quick + slow).saturating_sub(self.called.len()).min(self.asleep.len());
        let called = self.asleep.split_off(self.asleep.len() - wanted);
        self.called.extend(&called);
        called
    }

    /// After what time [`Self::call`] may have something to do that it has not now, though nothing comes.
    pub(super) fn look_again(&self, now: Instant) -> Option<Duration> {
        let left = self.stuck_at()?.saturating_duration_since(now);
        // Zero: somebody who was called is on the way to them.
        Some(if left.is_zero() { STUCK } else { left })
    }

    /// When another place is due for what waits now.
    fn stuck_at(&self) -> Option<Instant> {
        let (since, _) = self.quick.front().filter(|_| self.quick_places < self.most())?;
        Some(self.added.map_or(*since, |added| added.max(*since)) + STUCK)
    }

    fn add_place(&mut self, now: Instant) {
        let stuck = self.stuck_at().is_some_and(|at| at <= now);
        if stuck && self.quick_hands >= self.quick_places {
            self.quick_places += 1;
            self.added = Some(now);
        }
    }

    /// Threads that one kind of task may have.
    fn most(&self) -> usize {
        self.threads.saturating_sub(1).max(1)
    }

    /// This thread goes to sleep.
    pub(super) fn rest(&mut self, thread: usize) {
        self.asleep.push(thread);
    }

    /// May this sleeping thread get up?
    pub(super) fn get_up(&mut self, thread: usize) -> bool {
        let called = self.called.iter().position(|other| *other == thread);
        called.map(|index| self.called.swap_remove(index)).is_some() || self.over
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resting(threads: usize) -> Turns<u32> {
        let mut turns = Turns::new(threads);
        (0..threads).rev().for_each(|thread| turns.rest(thread));
        turns
    }

    #[test]
    fn one_thread_does_the_quick_tasks_and_each_other_task_has_its_own() {
        let (now, mut turns) = (Instant::now(), resting(4));
        (0..3).for_each(|task| turns.add(task, true, now));
        assert_eq!((turns.call(now), turns.call(now)), (vec![0], vec![]), "nobody is woken twice");
        assert!(!turns.get_up(1) && turns.get_up(0) && !turns.get_up(0));
        let mut first = Hand::default();
        assert_eq!(turns.take(&mut first, now), Some(0));
        turns.add(10, false, now);
        turns.add(11, false, now);
        assert_eq!(turns.call(now), [2, 1]);
        assert_eq!(turns.take(&mut first, now), Some(1));
        let (mut second, mut third) = (Hand::default(), Hand::default());
        assert_eq!(turns.take(&mut second, now), Some(10));
        assert_eq!(turns.take(&mut third, now), Some(11));
        assert_eq!(turns.take(&mut third, now), None, "the quick ones have their thread");
        assert_eq!(turns.take(&mut first, now), Some(2));
        assert_eq!(turns.take(&mut first, now), None);
        assert_eq!((turns.quick_hands, turns.slow_hands), (0, 1));
        turns.rest(2);
        turns.rest(0);
        turns.add(3, true, now);
        assert!(turns.get_up(1) && turns.get_up(2));
        assert_eq!(turns.call(now), [0], "whose caches are warm");
    }

    #[test]
    fn slow_tasks_never_have_all_threads() {
        let (now, mut turns) = (Instant::now(), resting(3));
        (0..5).for_each(|task| turns.add(task, false, now));
        assert_eq!(turns.call(now), [1, 0]);
        let mut hands = [Hand::default(); 3];
        assert_eq!(hands.each_mut().map(|hand| turns.take(hand, now)), [Some(0), Some(1), None]);
        turns.add(10, true, now);
        assert_eq!(turns.take(&mut hands[2], now), Some(10));
        assert_eq!(turns.take(&mut hands[0], now), Some(2));
    }

    #[test]
    fn what_is_stuck_is_helped_by_one_more_each_time() {
        let (start, mut turns) = (Instant::now(), resting(4));
        (0..9).for_each(|task| turns.add(task, true, start));
        assert_eq!((turns.call(start), turns.look_again(start)), (vec![0], Some(STUCK)));
        assert_eq!(turns.call(start + STUCK), [], "the first one is still on its way");
        let mut hands = [Hand::default(); 4];
        assert!(turns.get_up(0));
        assert_eq!(turns.take(&mut hands[0], start), Some(0));
        let mut now = start;
        for (thread, task) in [(1, 1), (2, 2)] {
            assert_eq!(turns.call(now + STUCK / 2), []);
            now += STUCK;
            assert_eq!((turns.call(now), turns.call(now)), (vec![thread], vec![]));
            assert!(turns.get_up(thread));
            assert_eq!(turns.take(&mut hands[thread], now), Some(task));
        }
        let late = now + 9 * STUCK;
        assert_eq!(
            (turns.call(late), turns.look_again(late)),
            (vec![], None),
            "one thread is left for others"
        );
        turns.add(10, false, late);
        assert_eq!((turns.call(late), turns.get_up(3)), (vec![3], true));
        assert_eq!(turns.take(&mut hands[3], late), Some(10));
        for task in 3..9 {
            assert_eq!(turns.take(&mut hands[0], late), Some(task));
        }
        assert_eq!((turns.take(&mut hands[0], late), turns.take(&mut hands[1], late)), (None, None));
        turns.rest(0);
        turns.rest(1);
        // The third is stuck still, and nobody who comes waits behind it.
        turns.add(9, true, late);
        assert_eq!((turns.call(late), turns.get_up(1)), (vec![1], true));
        assert_eq!(turns.take(&mut hands[1], late), Some(9));
        assert_eq!((turns.take(&mut hands[2], late), turns.take(&mut hands[1], late)), (None, None));
        assert_eq!((turns.look_again(late), turns.quick_places), (None, 1), "and it is as before");
    }

    #[test]
    fn who_comes_from_slow_work_helps_what_is_stuck() {
        let (now, mut turns) = (Instant::now(), resting(3));
        let mut hands = [Hand::default(); 2];
        turns.add(10, false, now);
        turns.add(0, true, now);
        assert_eq!(turns.take(&mut hands[0], now), Some(0));
        assert_eq!(turns.take(&mut hands[1], now), Some(10));
        turns.add(1, true, now);
        turns.add(11, false, now);
        assert_eq!(turns.take(&mut hands[1], now + STUCK), Some(1));
    }

    #[test]
    fn all_is_done_before_the_end() {
        let (now, mut turns) = (Instant::now(), resting(2));
        turns.add(1, true, now);
        turns.add(2, false, now);
        turns.end();
        let mut hand = Hand::default();
        assert!(turns.is_over() && turns.get_up(0) && turns.get_up(1));
        assert_eq!(turns.take(&mut hand, now), Some(1));
        assert_eq!(turns.take(&mut hand, now), Some(2));
        assert_eq!(turns.take(&mut hand, now), None);
    }
}
