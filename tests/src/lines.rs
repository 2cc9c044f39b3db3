//! Lines of text that a process writes, kept and waited for: the events that the tests are driven by.
//!
//! Any number of threads may feed and read one [`Lines`]. It never forgets a line, so a wait cannot miss an
//! event that came early.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::DEADLINE;

/// A growing list of lines. Clones share the list.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    inner: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Lines {
    /// Feeds all lines of `source` into this list from a thread of its own, until the source ends.
    pub fn follow(&self, source: impl Read + Send + 'static) {
        let lines = self.clone();
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while matches!(source.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                lines.push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
                line.clear();
            }
        });
    }

    /// Adds one line and wakes those who wait.
    pub fn push(&self, line: String) {
        self.inner.0.lock().unwrap().push(line);
        self.inner.1.notify_all();
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.inner.0.lock().unwrap().clone()
    }

    /// How many lines so far satisfy `is`.
    pub fn count(&self, is: impl Fn(&str) -> bool) -> usize {
        self.inner.0.lock().unwrap().iter().filter(|line| is(line)).count()
    }

    /// The number of lines so far: a place to wait [`after`](Self::wait_after).
    pub fn mark(&self) -> usize {
        self.inner.0.lock().unwrap().len()
    }

    /// Waits for the first line that `find` makes something of. Panics after the deadline.
    pub fn wait<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait_after(0, what, find)
    }

    /// As [`wait`](Self::wait), looking only at lines after the first `mark`.
    pub fn wait_after<T>(&self, mark: usize, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let mut seen = mark;
        self.wait_for(what, |lines| {
            let found = lines.iter().skip(seen).find_map(|line| find(line));
            seen = lines.len();
            found
        })
    }

    /// Waits for a line that contains `text`, and gives it.
    pub fn wait_text(&self, text: &str) -> String {
        self.wait(text, |line| line.contains(text).then(|| line.to_owned()))
    }

    /// Waits until at least `count` lines satisfy `is`.
    pub fn wait_count(&self, count: usize, what: &str, is: impl Fn(&str) -> bool) {
        let (mut seen, mut counted) = (0, 0);
        self.wait_for(what, |lines| {
            counted += lines.iter().skip(seen).filter(|line| is(line)).count();
            seen = lines.len();
            (counted >= count).then_some(())
        });
    }

    /// Waits until `find` makes something of the world; it is asked anew whenever a line comes, and now and then without.
    pub fn wait_until<T>(&self, what: &str, mut find: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + *DEADLINE;
        loop {
            let mark = self.mark();
            if let Some(found) = find() {
                return found;
            }
            assert!(Instant::now() < end, "waited in vain for: {what}");
            let lines = self.inner.0.lock().unwrap();
            if lines.len() == mark {
                drop(self.inner.1.wait_timeout(lines, Duration::from_millis(50)).unwrap());
            }
        }
    }

    /// Waits until `find` makes something of all lines so far; it is asked anew whenever one comes. It must not use the list itself.
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&[String]) -> Option<T>) -> T {
        let end = Instant::now() + *DEADLINE;
        let mut lines = self.inner.0.lock().unwrap();
        loop {
            if let Some(found) = find(&lines) {
                return found;
            }
            let now = Instant::now();
            if now >= end {
                let tail = lines.iter().rev().take(10).rev().cloned().collect::<Vec<_>>().join("\n");
                drop(lines);
                panic!("waited in vain for: {what}\nthe last lines were:\n{tail}");
            }
            let pause = (end - now).min(Duration::from_secs(1));
            lines = self.inner.1.wait_timeout(lines, pause).unwrap().0;
        }
    }
}
