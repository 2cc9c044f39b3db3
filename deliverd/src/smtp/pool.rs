//! Open sessions kept for the next job to the same nexthop and host under the same policy, for a moment.
//!
//! A session is given to one job at a time; what the server closed meanwhile is thrown away when it is
//! asked for. Sessions that nobody takes within [`IDLE`] (and a little more) end with QUIT: one task looks after all of them,
//! since a task that sleeps for each session given would be two seconds' worth of jobs in memory.

use super::driver::Session;
use super::tls::Security;
use common::destination::Nexthop;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long a session waits for the next job (Postfix's smtp_connection_cache_time_limit).
pub const IDLE: Duration = Duration::from_secs(2);
/// Sessions whose time is over are looked for no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Most sessions kept, over all nexthops; with more, the one given ends at once.
const MAX_IDLE: usize = 500;

/// One for the process.
#[derive(Debug)]
pub struct Pool<S>(Mutex<Inner<S>>);

/// What a session is good for: mail for this nexthop that may go to this host, protected like this.
type Key = (Nexthop, SocketAddr, Security);

#[derive(Debug)]
struct Inner<S> {
    /// In each list those given first come first.
    idle: HashMap<Key, Vec<Kept<S>>>,
    count: usize,
    closed: bool,
    /// Does a task look after them?
    watched: bool,
}

#[derive(Debug)]
struct Kept<S> {
    session: Box<Session<S>>,
    until: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Pool<S> {
    /// Empty.
    pub fn new() -> Arc<Self> {
        let inner = Inner { idle: HashMap::new(), count: 0, closed: false, watched: false };
        Arc::new(Self(Mutex::new(inner)))
    }

    /// A session with the host at `address` for `nexthop` that is still open: the one used last.
    pub async fn take(
        &self,
        nexthop: &Nexthop,
        address: SocketAddr,
        security: &Security,
    ) -> Option<Box<Session<S>>> {
        let key = (nexthop.clone(), address, security.clone());
        loop {
            let mut session = self.remove(&key)?;
            if session.is_alive().await {
                return Some(session);
            }
        }
    }

    /// Keeps `session` for a moment, or ends it in the background when it is used up.
    pub fn give(self: &Arc<Self>, nexthop: &Nexthop, security: &Security, session: Box<Session<S>>) {
        let key = (nexthop.clone(), session.peer().address, security.clone());
        let mut inner = self.inner();
        if !session.is_reusable() || inner.count >= MAX_IDLE || inner.closed {
            drop(inner);
            tokio::spawn(session.quit());
            return;
        }
        inner.count += 1;
        inner.idle.entry(key).or_default().push(Kept { session, until: Instant::now() + IDLE });
        let unwatched = !std::mem::replace(&mut inner.watched, true);
        drop(inner);
        if unwatched {
            tokio::spawn(self.clone().watch());
        }
    }

    /// Ends the sessions whose time is over, until there are none left.
    async fn watch(self: Arc<Self>) {
        while let Some(next) = self.retire(Instant::now()) {
            sleep_until(next.max(Instant::now() + LOOK_EVERY)).await;
        }
    }

    /// Ends those whose time is over; gives the time of the next one. `None`: there is none, and nobody looks after those that come.
    fn retire(&self, now: Instant) -> Option<Instant> {
        let mut over = Vec::new();
        let mut inner = self.inner();
        inner.idle.retain(|_, list| {
            let fresh = list.iter().position(|kept| kept.until > now).unwrap_or(list.len());
            over.extend(list.drain(..fresh));
            !list.is_empty()
        });
        inner.count = inner.count.saturating_sub(over.len());
        let next = inner.idle.values().filter_map(|list| list.first()).map(|kept| kept.until).min();
        inner.watched = next.is_some();
        drop(inner);
        for kept in over {
            tokio::spawn(kept.session.quit());
        }
        next
    }

    /// Ends all sessions with QUIT, and those given from now on.
    pub async fn close(&self) {
        let idle = {
            let mut inner = self.inner();
            inner.closed = true;
            inner.count = 0;
            std::mem::take(&mut inner.idle)
        };
        let mut farewells = JoinSet::new();
        for kept in idle.into_values().flatten() {
            farewells.spawn(kept.session.quit());
        }
        while farewells.join_next().await.is_some() {}
    }

    /// Takes out the one that was given last.
    fn remove(&self, key: &Key) -> Option<Box<Session<S>>> {
        let mut inner = self.inner();
        let list = inner.idle.get_mut(key)?;
        let kept = list.pop();
        if list.is_empty() {
            inner.idle.remove(key);
        }
        let kept = kept?;
        inner.count = inner.count.saturating_sub(1);
        Some(kept.session)
    }

    fn inner(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::{Encryption, Peer, Terms};
    use super::super::driver::Opening;
    use super::super::testing::{Log, count, minute, serve};
    use super::*;
    use common::tls::{Level, Policy};
    use tokio::io::{DuplexStream, duplex};

    async fn session(log: &Log) -> Box<Session<DuplexStream>> {
        let (stream, theirs) = duplex(1000);
        tokio::spawn(serve(theirs, &[], log.clone()));
        let opening = Opening {
            stream,
            peer: Peer { name: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() },
            hello_name: "me.example".parse().unwrap(),
            terms: Terms { encryption: Encryption::Never, login: None },
            secure: None,
        };
        Session::open(opening, &mut minute()).await.unwrap()
    }

    /// The clock jumps whenever everything waits for it.
    #[tokio::test(start_paused = true)]
    async fn sessions_end_when_nobody_has_taken_them_for_a_while() {
        let (pool, log) = (Pool::new(), Log::default());
        let nexthop: Nexthop = "x.example".parse().unwrap();
        let security = Security { policy: Policy::of(Level::May), roots: 0, login: None };
        let address = "192.0.2.1:25".parse().unwrap();
        for round in 1..3 {
            for _ in 0..2 {
                let session = session(&log).await;
                pool.give(&nexthop, &security, session);
            }
            tokio::time::sleep(IDLE - Duration::from_millis(1)).await;
            let taken = pool.take(&nexthop, address, &security).await.unwrap();
            assert_eq!((pool.inner().count, count(&log, "QUIT")), (1, (round - 1) * 2));
            tokio::time::sleep(LOOK_EVERY).await;
            assert!(pool.take(&nexthop, address, &security).await.is_none());
            // What is given late has its own time, and the task that looked after the others looks after it, too.
            pool.give(&nexthop, &security, taken);
            tokio::time::sleep(IDLE - Duration::from_millis(1)).await;
            assert_eq!((pool.inner().count, count(&log, "QUIT")), (1, round * 2 - 1));
            tokio::time::sleep(LOOK_EVERY + Duration::from_millis(1)).await;
            let inner = pool.inner();
            assert_eq!((inner.count, inner.watched, inner.idle.len()), (0, false, 0));
            drop(inner);
            assert_eq!(count(&log, "QUIT"), round * 2);
        }
    }
}
