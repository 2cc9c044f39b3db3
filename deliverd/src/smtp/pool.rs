//! Open sessions kept for the next job to the same nexthop and host under the same policy, for a moment.
//!
//! A session is given to one job at a time; what the server closed meanwhile is thrown away when it is
//! asked for. Sessions that nobody takes within [`IDLE`] end with QUIT.

use super::driver::Session;
use super::tls::Security;
use common::destination::Nexthop;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

/// How long a session waits for the next job (Postfix's smtp_connection_cache_time_limit).
pub const IDLE: Duration = Duration::from_secs(2);
/// Most sessions kept, over all nexthops; with more, the one given ends at once.
const MAX_IDLE: usize = 500;

/// One for the process.
#[derive(Debug)]
pub struct Pool<S>(Mutex<Inner<S>>);

/// What a session is good for: mail for this nexthop that may go to this host, protected like this.
type Key = (Nexthop, SocketAddr, Security);

#[derive(Debug)]
struct Inner<S> {
    idle: HashMap<Key, Vec<(u64, Session<S>)>>,
    count: usize,
    last: u64,
    closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Pool<S> {
    /// Empty.
    pub fn new() -> Arc<Self> {
        let inner = Inner { idle: HashMap::new(), count: 0, last: 0, closed: false };
        Arc::new(Self(Mutex::new(inner)))
    }

    /// A session with the host at `address` for `nexthop` that is still open: the one used last.
    pub async fn take(
        &self,
        nexthop: &Nexthop,
        address: SocketAddr,
        security: &Security,
    ) -> Option<Session<S>> {
        let key = (nexthop.clone(), address, security.clone());
        loop {
            let mut session = self.remove(&key, None)?;
            if session.is_alive().await {
                return Some(session);
            }
        }
    }

    /// Keeps `session` for a moment, or ends it in the background when it is used up.
    pub fn give(self: &Arc<Self>, nexthop: &Nexthop, security: &Security, session: Session<S>) {
        let key = (nexthop.clone(), session.peer().address, security.clone());
        let mut inner = self.inner();
        if !session.is_reusable() || inner.count >= MAX_IDLE || inner.closed {
            drop(inner);
            tokio::spawn(session.quit());
            return;
        }
        inner.last += 1;
        inner.count += 1;
        let number = inner.last;
        inner.idle.entry(key.clone()).or_default().push((number, session));
        drop(inner);
        let pool = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            if let Some(session) = pool.remove(&key, Some(number)) {
                session.quit().await;
            }
        });
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
        for (_, session) in idle.into_values().flatten() {
            farewells.spawn(session.quit());
        }
        while farewells.join_next().await.is_some() {}
    }

    fn remove(&self, key: &Key, number: Option<u64>) -> Option<Session<S>> {
        let mut inner = self.inner();
        let list = inner.idle.get_mut(key)?;
        let found = match number {
            None => list.pop(),
            Some(number) => list.iter().position(|(n, _)| *n == number).map(|i| list.remove(i)),
        };
        if list.is_empty() {
            inner.idle.remove(key);
        }
        let (_, session) = found?;
        inner.count = inner.count.saturating_sub(1);
        Some(session)
    }

    fn inner(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
