//! The threads that do file work: who is woken for what is said in [`turns`](super::turns).

use super::turns::{Hand, Turns};
use super::{Disk, Done, Task};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many do file work. Most of their time is spent waiting for the disk.
const THREADS: usize = 8;

/// The threads, as the owner of the queue sees them.
#[derive(Debug)]
pub struct Pool {
    tasks: Arc<Tasks>,
    outstanding: usize,
    /// Given out, but nobody has been woken for it yet.
    fresh: Vec<Task>,
}

/// What waits for a thread.
#[derive(Debug)]
struct Tasks {
    turns: Mutex<Turns<Task>>,
    /// One for each thread.
    called: [Condvar; THREADS],
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, Turns<Task>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, threads: &[usize]) {
        threads.iter().filter_map(|thread| self.called.get(*thread)).for_each(Condvar::notify_one);
    }

    /// Waits for the next one; `None` when there will be none.
    fn next(&self, (thread, called): (usize, &Condvar), hand: &mut Hand) -> Option<Task> {
        let mut turns = self.lock();
        loop {
            let now = Instant::now();
            if let Some(task) = turns.take(hand, now) {
                let more = turns.call(now);
                drop(turns);
                self.wake(&more);
                return Some(task);
            }
            if turns.is_over() {
                return None;
            }
            turns.rest(thread);
            while !turns.get_up(thread) {
                turns = called.wait(turns).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// The threads end when they have done what they were given.
impl Drop for Pool {
    fn drop(&mut self) {
        self.wake();
        self.tasks.lock().end();
        self.tasks.called.iter().for_each(Condvar::notify_one);
    }
}

impl Pool {
    /// Starts them. `report` hands a result to the owner of the queue.
    pub fn start(disk: &Arc<Disk>, report: impl Fn(Done) + Clone + Send + 'static) -> io::Result<Self> {
        let tasks = Tasks { turns: Mutex::new(Turns::new(THREADS)), called: Default::default() };
        let pool = Self { tasks: Arc::new(tasks), outstanding: 0, fresh: Vec::new() };
        for number in 0..THREADS {
            let (disk, tasks, report) = (disk.clone(), pool.tasks.clone(), report.clone());
            std::thread::Builder::new().name(format!("disk-{number}")).spawn(move || {
                let (Some(called), mut hand) = (tasks.called.get(number), Hand::default()) else { return };
                while let Some(task) = tasks.next((number, called), &mut hand) {
                    report(disk.run(task));
                }
            })?;
        }
        Ok(pool)
    }

    /// Gives out a task, which begins after [`Pool::wake`]. Does not wait: the caller bounds how many are out.
    pub fn give(&mut self, task: Task) {
        self.outstanding += 1;
        self.fresh.push(task);
    }

    /// Lets begin what has been given out, and looks whether anything waits too long. Gives the time after which that has to be looked at again.
    pub fn wake(&mut self) -> Option<Duration> {
        if self.outstanding == 0 {
            return None;
        }
        let now = Instant::now();
        // Before the lock: it looks at all recipients.
        let quick: Vec<bool> = self.fresh.iter().map(Task::is_quick).collect();
        let mut turns = self.tasks.lock();
        for (task, quick) in self.fresh.drain(..).zip(quick) {
            turns.add(task, quick, now);
        }
        let threads = turns.call(now);
        let again = turns.look_again(now);
        drop(turns);
        self.tasks.wake(&threads);
        again
    }

    /// To be called for each result received.
    pub fn received(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// Tasks whose results have not been received.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }
}
