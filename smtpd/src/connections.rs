//! How many connections there are, in all and from each client network (IPv4 address, IPv6 /64), and whether
//! one more may come.

use common::config::Network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Counts connections. An entry exists only while its client is connected.
#[derive(Debug)]
pub struct Connections {
    counts: Mutex<Counts>,
    /// Are there nearly as many as there can be?
    crowded: watch::Sender<bool>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { counts: Mutex::default(), crowded: watch::Sender::new(false) }
    }
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    /// The limit at the last arrival.
    most: u32,
    clients: HashMap<Network, u32>,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// The limit of all connections is reached.
    Total,
    /// This client's limit is reached.
    Client,
    /// This client comes too often.
    Rate,
}

/// One connection: counted as long as this lives.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    /// Not known at first behind a proxy.
    client: Option<Network>,
}

impl Connections {
    /// Counts one more connection, unless there are `total`.
    pub fn enter(self: &Arc<Self>, total: u32) -> Result<Place, Busy> {
        let mut counts = self.lock();
        if counts.total >= total {
            return Err(Busy::Total);
        }
        counts.total += 1;
        counts.most = total;
        self.tell(&counts);
        Ok(Place { connections: self.clone(), client: None })
    }

    /// Tells when it gets crowded (nine tenths of all places are taken), and when it no longer is (eight tenths).
    pub fn crowded(&self) -> watch::Receiver<bool> {
        self.crowded.subscribe()
    }

    fn tell(&self, counts: &Counts) {
        let (total, most) = (u64::from(counts.total), u64::from(counts.most));
        self.crowded.send_if_modified(|crowded| {
            let now = total * 10 > most * if *crowded { 8 } else { 9 };
            std::mem::replace(crowded, now) != now
        });
    }

    /// How many there are now.
    pub fn total(&self) -> u32 {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts it for its client, unless that has `limit` already; `None` for clients without a limit of their own.
    pub fn belongs_to(&mut self, client: IpAddr, limit: Option<u32>) -> Result<(), Busy> {
        let client = Network::of_client(client);
        let mut counts = self.connections.lock();
        counts.leave(self.client.take());
        let count = counts.clients.get(&client).copied().unwrap_or(0);
        if limit.is_some_and(|limit| count >= limit) {
            return Err(Busy::Client);
        }
        counts.clients.insert(client, count.saturating_add(1));
        self.client = Some(client);
        Ok(())
    }
}

impl Counts {
    fn leave(&mut self, client: Option<Network>) {
        if let Some(client) = client
            && let Some(count) = self.clients.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&client);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.lock();
        counts.total = counts.total.saturating_sub(1);
        self.connections.tell(&counts);
        counts.leave(self.client.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_places_are_given_back() {
        let connections = Arc::new(Connections::default());
        let [a, b, c, d]: [IpAddr; 4] =
            ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::ffff:2"].map(|ip| ip.parse().unwrap());
        let enter = |client, total, limit| {
            let mut place = connections.enter(total)?;
            place.belongs_to(client, limit).map(|()| place)
        };
        let first = enter(a, 3, Some(2)).unwrap();
        let second = enter(a, 3, Some(2)).unwrap();
        assert_eq!(enter(a, 3, Some(2)).unwrap_err(), Busy::Client);
        let third = enter(a, 3, None).unwrap();
        assert_eq!(enter(b, 3, Some(2)).unwrap_err(), Busy::Total);
        drop((first, second));
        let _fourth = enter(b, 3, Some(2)).unwrap();
        assert_eq!(connections.total(), 2);
        drop(third);
        assert_eq!(connections.lock().clients.len(), 1, "no entry for who is gone");
        let _fifth = enter(c, 3, Some(1)).unwrap();
        assert_eq!(enter(d, 3, Some(1)).unwrap_err(), Busy::Client, "one network");
    }

    #[test]
    fn it_is_crowded_from_nine_tenths_to_eight() {
        let connections = Arc::new(Connections::default());
        let mut crowded = connections.crowded();
        let mut places: Vec<Place> = (0..18).map(|_| connections.enter(20).unwrap()).collect();
        assert!(!crowded.has_changed().unwrap());
        places.push(connections.enter(20).unwrap());
        assert!(crowded.has_changed().unwrap() && *crowded.borrow_and_update());
        places.truncate(17);
        assert!(!crowded.has_changed().unwrap());
        places.truncate(16);
        assert!(crowded.has_changed().unwrap() && !*crowded.borrow_and_update());
    }
}
