//! Who delivers: the connected workers, what each holds, and since when a transport has none.

use super::{JobId, TRANSPORT_GRACE, WorkerId};
use common::destination::Transport;
use common::time::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The transports that workers deliver by.
pub(super) const TRANSPORTS: [Transport; 2] = [Transport::Local, Transport::Smtp];

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Workers {
    connected: BTreeMap<WorkerId, Worker>,
    /// When the last worker of a transport went.
    absent: HashMap<Transport, Timestamp>,
    started: Timestamp,
}

#[derive(Debug)]
struct Worker {
    transport: Transport,
    capacity: usize,
    jobs: HashSet<JobId>,
}

impl Workers {
    pub(super) fn new(started: Timestamp) -> Self {
        Self { connected: BTreeMap::new(), absent: HashMap::new(), started }
    }

    pub(super) fn came(&mut self, worker: WorkerId, transport: Transport, capacity: usize) {
        self.absent.remove(&transport);
        self.connected.insert(worker, Worker { transport, capacity: capacity.max(1), jobs: HashSet::new() });
    }

    /// Gives the jobs that it held, in the order in which they were made; `None` for a stranger.
    pub(super) fn went(&mut self, worker: WorkerId, now: Timestamp) -> Option<Vec<JobId>> {
        let gone = self.connected.remove(&worker)?;
        if !self.has(gone.transport) {
            self.absent.insert(gone.transport, now);
        }
        let mut jobs: Vec<JobId> = gone.jobs.into_iter().collect();
        jobs.sort_unstable();
        Some(jobs)
    }

    /// What those that are connected deliver by, one each.
    pub(super) fn transports(&self) -> impl Iterator<Item = Transport> {
        self.connected.values().map(|worker| worker.transport)
    }

    /// Jobs that all workers of this transport together can hold.
    pub(super) fn capacity(&self, transport: Transport) -> usize {
        self.connected.values().filter(|worker| worker.transport == transport).map(|w| w.capacity).sum()
    }

    /// The worker of this transport that has most room.
    pub(super) fn free(&self, transport: Transport) -> Option<WorkerId> {
        self.connected
            .iter()
            .filter(|(_, worker)| worker.transport == transport && worker.jobs.len() < worker.capacity)
            .max_by_key(|(_, worker)| worker.capacity - worker.jobs.len())
            .map(|(id, _)| *id)
    }

    pub(super) fn hold(&mut self, worker: WorkerId, job: JobId) {
        if let Some(holder) = self.connected.get_mut(&worker) {
            holder.jobs.insert(job);
        }
    }

    /// The worker has answered this job; `false` when it does not hold it.
    pub(super) fn release(&mut self, worker: WorkerId, job: JobId) -> bool {
        self.connected.get_mut(&worker).is_some_and(|holder| holder.jobs.remove(&job))
    }

    /// Jobs in the hands of all workers.
    pub(super) fn in_hand(&self) -> usize {
        self.connected.values().map(|worker| worker.jobs.len()).sum()
    }

    /// When jobs of this transport stop waiting for a worker; `None` while it has one.
    pub(super) fn grace_ends(&self, transport: Transport) -> Option<Timestamp> {
        if self.has(transport) {
            return None;
        }
        Some(self.absent.get(&transport).copied().unwrap_or(self.started).after(TRANSPORT_GRACE))
    }

    fn has(&self, transport: Transport) -> bool {
        self.connected.values().any(|worker| worker.transport == transport)
    }
}
