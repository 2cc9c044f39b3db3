//! How many connections there are, in all and from each client, and whether one more may come.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections. An entry exists only while its client is connected.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    clients: HashMap<IpAddr, u32>,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// The limit of all connections is reached.
    Total,
    /// This client's limit is reached.
    Client,
}

/// One connection: counted as long as this lives.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Connections {
    /// Counts one more connection, unless that is one too many. `per_client`: `None` for clients without a
    /// limit of their own.
    pub fn enter(
        self: &Arc<Self>,
        client: IpAddr,
        total: u32,
        per_client: Option<u32>,
    ) -> Result<Place, Busy> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= total {
            return Err(Busy::Total);
        }
        let of_client = counts.clients.get(&client).copied().unwrap_or(0);
        if per_client.is_some_and(|limit| of_client >= limit) {
            return Err(Busy::Client);
        }
        counts.total += 1;
        counts.clients.insert(client, of_client.saturating_add(1));
        Ok(Place { connections: self.clone(), client })
    }

    /// How many there are now.
    pub fn total(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        if let Some(count) = counts.clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_places_are_given_back() {
        let connections = Arc::new(Connections::default());
        let [a, b]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let first = connections.enter(a, 3, Some(2)).unwrap();
        let second = connections.enter(a, 3, Some(2)).unwrap();
        assert_eq!(connections.enter(a, 3, Some(2)).unwrap_err(), Busy::Client);
        let third = connections.enter(a, 3, None).unwrap();
        assert_eq!(connections.enter(b, 3, Some(2)).unwrap_err(), Busy::Total);
        drop((first, second));
        let _fourth = connections.enter(b, 3, Some(2)).unwrap();
        assert_eq!(connections.total(), 2);
        drop(third);
        assert_eq!(connections.0.lock().unwrap().clients.len(), 1, "no entry for who is gone");
    }
}
