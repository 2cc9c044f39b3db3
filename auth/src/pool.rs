//! Hashing takes time and memory by design: a few hashes at once, some more wait, the rest is told to come again.
//!
//! The work is done on the runtime's threads for blocking work. A login that is given up while it waits leaves its place; one that is being computed is computed to its
//! end. Code that panics over a hash is a failed attempt, not the end of the daemon.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// At most so many hashes are computed at once, and no more than there are processors.
const MOST: usize = 4;
/// So many more may wait.
const QUEUE: usize = 128;
/// So long.
const PATIENCE: Duration = Duration::from_secs(15);

/// The pool.
#[derive(Debug)]
pub struct Pool {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolError {
    /// Too many wait already, or it took too long.
    Busy,
    /// The code behind it panicked.
    Broken,
}

impl PoolError {
    /// For the log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Busy => "too many logins at once: passwords are being checked as fast as this machine can",
            Self::Broken => "checking a password failed in the code: this is a mistake in Ironpost",
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(processors.min(MOST), QUEUE)
    }
}

impl Pool {
    /// With so many places at work, and so many to wait.
    pub fn new(places: usize, queue: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), waiting: AtomicUsize::new(0), queue }
    }

    /// Has `work` done.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let _waiting = Waiting::enter(&self.waiting, self.queue).ok_or(PoolError::Busy)?;
                let place = tokio::time::timeout(PATIENCE, self.places.clone().acquire_owned()).await;
                place.ok().and_then(Result::ok).ok_or(PoolError::Busy)?
            }
        };
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            catch_unwind(AssertUnwindSafe(work))
        });
        done.await.ok().and_then(Result::ok).ok_or(PoolError::Broken)
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let more = |now: usize| (now < limit).then_some(now + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{channel, sync_channel};

    #[tokio::test]
    async fn a_few_work_some_wait_and_the_rest_is_refused() {
        let pool = Arc::new(Pool::new(1, 1));
        let (started, begun) = channel();
        let (go, wait) = sync_channel::<()>(0);
        let work = move || {
            started.send(()).unwrap();
            wait.recv().unwrap();
            1
        };
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(work).await }
        });
        tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| 2).await }
        });
        while pool.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| 3).await, Err(PoolError::Busy));
        // One that gives up makes room.
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        let third = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| 4).await }
        });
        tokio::task::spawn_blocking(move || go.send(()).unwrap()).await.unwrap();
        assert_eq!((first.await.unwrap(), third.await.unwrap()), (Ok(1), Ok(4)));
    }

    #[tokio::test]
    async fn a_panic_takes_nothing_with_it() {
        let pool = Pool::new(1, 0);
        let broken: Result<(), _> = pool.run(|| panic!("a panic that a test wants")).await;
        assert_eq!(broken, Err(PoolError::Broken));
        assert_eq!(pool.run(|| 5).await, Ok(5));
    }
}
