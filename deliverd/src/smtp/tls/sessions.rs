//! Earlier TLS sessions, kept to be taken up again: for each server, destination and policy its own, so that none is taken up under another policy.
//!
//! Bounded to [`MAX`] servers with a few tickets each; the ones longest unused go first.

use super::Security;
use super::handshake::AnyCertificate;
use common::destination::Nexthop;
use rustls::ClientConfig;
use rustls::client::Resumption;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Most servers (each with destination and policy) that sessions are kept for.
pub const MAX: usize = 1000;
/// Names for which one of them keeps tickets: it is asked for one.
const NAMES: usize = 1;

type Key = (SocketAddr, Nexthop, Security);

/// One for the process.
#[derive(Debug)]
pub struct Sessions {
    base: ClientConfig,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// With the number of its last use.
    configs: HashMap<Key, (u64, Arc<ClientConfig>)>,
    uses: u64,
}

impl Sessions {
    /// None yet. Errors: see [`AnyCertificate::config`].
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self { base: AnyCertificate::config()?, inner: Mutex::default() })
    }

    /// What a handshake with this server for this destination under this policy is made with.
    pub fn config(&self, server: SocketAddr, nexthop: &Nexthop, security: &Security) -> Arc<ClientConfig> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let uses = inner.uses;
        let key = (server, nexthop.clone(), security.clone());
        if inner.configs.len() >= MAX && !inner.configs.contains_key(&key) {
            inner.forget_oldest();
        }
        let fresh = || {
            let mut config = self.base.clone();
            config.resumption = Resumption::in_memory_sessions(NAMES);
            config
        };
        let entry = inner.configs.entry(key).or_insert_with(|| (uses, Arc::new(fresh())));
        entry.0 = uses;
        entry.1.clone()
    }
}

impl Inner {
    /// A tenth at once, so that this happens seldom.
    fn forget_oldest(&mut self) {
        let mut uses: Vec<u64> = self.configs.values().map(|(last, _)| *last).collect();
        let tenth = uses.len() / 10;
        let (_, limit, _) = uses.select_nth_unstable(tenth);
        let limit = *limit;
        self.configs.retain(|_, (last, _)| *last > limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::tls::{Level, Policy};

    #[test]
    fn each_server_destination_and_policy_has_its_own_and_not_too_many() {
        let sessions = Sessions::new().unwrap();
        let server = |n: u32| SocketAddr::new(std::net::Ipv4Addr::from(n).into(), 25);
        let of = |level| Security { policy: Policy::of(level), roots: 1, login: None };
        let nexthop: Nexthop = "a.example".parse().unwrap();
        let config =
            |n, nexthop: &Nexthop, security: &Security| sessions.config(server(n), nexthop, security);
        let first = config(1, &nexthop, &of(Level::May));
        assert!(Arc::ptr_eq(&first, &config(1, &nexthop, &of(Level::May))));
        for other in [
            config(2, &nexthop, &of(Level::May)),
            config(1, &"b.example".parse().unwrap(), &of(Level::May)),
            config(1, &nexthop, &of(Level::Secure)),
            config(1, &nexthop, &Security { roots: 2, ..of(Level::May) }),
        ] {
            assert!(!Arc::ptr_eq(&first, &other));
        }
        for n in 10..10 + u32::try_from(MAX).unwrap() {
            config(n, &nexthop, &of(Level::May));
            config(1, &nexthop, &of(Level::May));
        }
        assert!(sessions.inner.lock().unwrap().configs.len() <= MAX);
        assert!(Arc::ptr_eq(&first, &config(1, &nexthop, &of(Level::May))), "what is in use stays");
    }
}
