//! Servers whose TLS does not work: at level `may` they get mail in plain text for a while, without losing time in another
//! handshake. Pure: time is handed in. Bounded to [`MAX`]; the oldest goes first.

use common::time::Timestamp;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one is remembered.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// Most that are remembered.
pub const MAX: usize = 1000;

/// When the last handshake failed, by server.
#[derive(Debug, Default)]
pub struct Broken(HashMap<SocketAddr, Timestamp>);

impl Broken {
    /// A handshake failed now.
    pub fn add(&mut self, server: SocketAddr, now: Timestamp) {
        if self.0.len() >= MAX {
            self.0.retain(|_, at| now.since(*at) < LIFETIME);
        }
        if self.0.len() >= MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at).map(|(server, _)| *server)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(server, now);
    }

    /// Did one fail lately?
    pub fn contains(&self, server: SocketAddr, now: Timestamp) -> bool {
        self.0.get(&server).is_some_and(|at| now.since(*at) < LIFETIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_remembered_for_a_while_and_in_bounds() {
        let server = |n: u32| SocketAddr::new(std::net::Ipv4Addr::from(n).into(), 25);
        let at = |seconds: i64| Timestamp::from_seconds(seconds);
        let mut broken = Broken::default();
        broken.add(server(1), at(0));
        assert!(broken.contains(server(1), at(599)) && !broken.contains(server(1), at(600)));
        assert!(!broken.contains(server(2), at(1)));
        for n in 0..3000 {
            broken.add(server(n), at(i64::from(n) / 100));
            assert!(broken.0.len() <= MAX);
        }
        assert!(broken.contains(server(2999), at(30)) && broken.contains(server(2100), at(30)));
        assert!(!broken.contains(server(0), at(30)));
    }
}
