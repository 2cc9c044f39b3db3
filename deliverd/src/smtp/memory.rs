//! What all attempts of this process share about hosts: measured latencies, and the dice. The clock's side
//! of [`super::latency`].

use super::latency::Latencies;
use super::random::Random;
use super::resolve::{Host, order};
use common::time::Timestamp;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Hosts that take so long, or failed lately, do not keep mail from open sessions with the next ones.
const TROUBLED: Duration = Duration::from_secs(5);

/// One for the process.
#[derive(Debug)]
pub struct Memory {
    latencies: Mutex<Latencies>,
    random: Mutex<Random>,
}

impl Memory {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self { latencies: Mutex::default(), random: Mutex::new(Random::from_system()) }
    }

    /// The order in which to try the addresses of equally preferred hosts, now.
    pub fn order(&self, hosts: Vec<Host>) -> Vec<(String, IpAddr)> {
        let now = Timestamp::now();
        let latencies = self.latencies();
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        order(hosts, |address| latencies.estimate(address, now), &mut random)
    }

    /// Was it lately of no use to try this address?
    pub fn is_troubled(&self, address: IpAddr) -> bool {
        self.latencies().estimate(address, Timestamp::now()).is_some_and(|expected| expected >= TROUBLED)
    }

    /// See [`Latencies::succeeded`].
    pub fn succeeded(&self, address: IpAddr, took: Duration) {
        self.latencies().succeeded(address, took, Timestamp::now());
    }

    /// See [`Latencies::outrun`].
    pub fn outrun(&self, address: IpAddr, waited: Duration) {
        self.latencies().outrun(address, waited, Timestamp::now());
    }

    /// See [`Latencies::failed`].
    pub fn failed(&self, address: IpAddr) {
        self.latencies().failed(address, Timestamp::now());
    }

    fn latencies(&self) -> MutexGuard<'_, Latencies> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}
