//! How the queue is, for `ironpost status`: what only its owner knows.

use super::{Event, Manager};
use crate::scheduler::destinations::Lane;
use common::destination::Transport;
use common::text::printable;
use common::time::Timestamp;
use spool::control::{Lately, MAX_PAUSED, Paused};
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::time::Duration;

/// Longest reason, in octets: an answer has to fit into one packet.
const MAX_REASON: usize = 500;

/// What only the owner of the queue knows.
#[derive(Debug, Clone)]
pub struct Known {
    /// Since when it runs.
    pub since: Timestamp,
    /// Deliveries under way.
    pub in_hand: u64,
    /// Which delivery agents are connected.
    pub agents: Vec<Transport>,
    /// Over the last minutes.
    pub lately: Lately,
    /// Destinations that nothing goes to for now, and how many there are.
    pub paused: (Vec<Paused>, u64),
}

/// Asks the owner of the queue. `None`: it does not answer in time.
pub fn ask(events: &Sender<Event>, patience: Duration) -> Option<Known> {
    let (reply, known) = sync_channel(1);
    events.send(Event::Status(reply)).ok()?;
    known.recv_timeout(patience).ok()
}

impl Manager {
    /// Somebody asks.
    pub(super) fn tell_status(&self, reply: &SyncSender<Known>, now: Timestamp) {
        let (paused, total) = self.scheduler.paused(MAX_PAUSED);
        let paused = paused.into_iter().map(|(lane, until, reason)| Paused {
            destination: name(lane),
            until,
            reason: printable(&reason.text, MAX_REASON),
        });
        let known = Known {
            since: self.since,
            in_hand: self.scheduler.in_hand() as u64,
            agents: self.scheduler.agents(),
            lately: self.lately.sum(now),
            paused: (paused.collect(), total as u64),
        };
        // Whoever does not wait any more does not want to know.
        let _ = reply.send(known);
    }
}

fn name(lane: &Lane) -> String {
    let destination = &lane.destination;
    let nexthop = destination.nexthop.to_string();
    let name = match &lane.mailbox {
        Some(mailbox) => format!("{}:{mailbox}", destination.transport.name()),
        None => format!("{}:{nexthop}", destination.transport.name()),
    };
    printable(&name, 400)
}
