//! Meeting the delivery agents: `private/dispatch`.
//!
//! Each connection has a thread that reads and one that writes what has to wait, so that a worker which does not read its socket holds up nobody but itself. How
//! much can be outstanding is bounded by the capacity that the worker names when it connects. Who may be a worker is decided by the kernel's word about the peer.

mod connection;
mod open_file;

pub use connection::{Outgoing, Worker};
pub use open_file::OpenFile;

use crate::manager::Event;
use crate::scheduler::WorkerId;
use common::destination::Transport;
use common::identity::Identities;
use common::packet::{PacketListener, PacketSocket};
use common::time::Timestamp;
use spool::layout::Spool;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Most connections at once; a worker process has one.
const MAX_WORKERS: usize = 32;
/// A worker says who it is within this time.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// Longest attempt for a small message. RFC 5321 4.5.3.2 adds up to about that for one host with all its time-outs.
const ATTEMPT: Duration = Duration::from_secs(30 * 60);
/// Slowest transmission, in octets a second, that a large message is given time for.
const SLOWEST: u64 = 10 * 1024;
/// How long after its deadline a job may stay unanswered before its worker counts as stuck.
pub const ANSWER_GRACE: Duration = Duration::from_secs(60);

/// When an attempt that begins now has to be over.
pub fn deadline(now: Timestamp, size: u64) -> Timestamp {
    now.after(ATTEMPT + Duration::from_secs(size / SLOWEST))
}

/// Who may deliver.
#[derive(Debug, Clone, Copy)]
pub struct Peers {
    own: u32,
    deliverd: u32,
}

impl Peers {
    /// By the identities of this system.
    pub fn new(ids: &Identities) -> Self {
        Self { own: ids.queued.uid.as_raw(), deliverd: ids.deliverd.uid.as_raw() }
    }

    /// May a process of this user deliver by this transport? Where the daemons have users of their own, mailboxes are root's work.
    pub fn may(&self, uid: u32, transport: Transport) -> bool {
        let separated = self.own != self.deliverd;
        match transport {
            Transport::Smtp => uid == 0 || uid == self.deliverd || (uid == self.own && !separated),
            Transport::Local => uid == 0 || (uid == self.own && !separated),
            Transport::Discard | Transport::Error => false,
        }
    }
}

/// Accepts workers until the process ends.
pub fn serve(listener: PacketListener, peers: Peers, spool: Spool, events: Sender<Event>) -> io::Result<()> {
    let connected = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        let mut next: WorkerId = 1;
        loop {
            let socket = match listener.accept() {
                Ok(socket) => socket,
                Err(error) => {
                    // Out of descriptors, most likely: they come back when deliveries end.
                    common::error!("cannot accept delivery agents: {error}");
                    std::thread::sleep(Duration::from_secs(1));
                    continue;
                }
            };
            if connected.fetch_add(1, Ordering::SeqCst) >= MAX_WORKERS {
                connected.fetch_sub(1, Ordering::SeqCst);
                common::warn!("more than {MAX_WORKERS} delivery agents: one refused");
                continue;
            }
            let (id, spool, events, count) = (next, spool.clone(), events.clone(), connected.clone());
            next += 1;
            let started = std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || {
                connection::run(id, Arc::new(socket), peers, &spool, &events);
                count.fetch_sub(1, Ordering::SeqCst);
            });
            if let Err(error) = started {
                connected.fetch_sub(1, Ordering::SeqCst);
                common::error!("cannot start a thread for a delivery agent: {error}");
            }
        }
    };
    std::thread::Builder::new().name("dispatch".into()).spawn(accept)?;
    Ok(())
}

/// Calls on this socket give up after `time`; `None`: never.
pub(crate) fn set_timeout(socket: &PacketSocket, time: Option<Duration>) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    use nix::sys::time::{TimeVal, TimeValLike};
    let seconds = time.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let value = TimeVal::seconds(seconds);
    setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &value)?;
    setsockopt(&socket.as_fd(), sockopt::SendTimeout, &value)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_users_deliver() {
        let separated = Peers { own: 61202, deliverd: 61203 };
        let together = Peers { own: 1000, deliverd: 1000 };
        for (peers, uid, smtp, local) in [
            (separated, 0, true, true),
            (separated, 61203, true, false),
            (separated, 61202, false, false),
            (separated, 1000, false, false),
            (together, 1000, true, true),
            (together, 0, true, true),
            (together, 1001, false, false),
        ] {
            assert_eq!(peers.may(uid, Transport::Smtp), smtp, "{peers:?} {uid}");
            assert_eq!(peers.may(uid, Transport::Local), local, "{peers:?} {uid}");
            assert!(!peers.may(uid, Transport::Discard) && !peers.may(uid, Transport::Error));
        }
    }

    #[test]
    fn large_messages_get_more_time() {
        let now = Timestamp::from_seconds(1000);
        assert_eq!(deadline(now, 0), Timestamp::from_seconds(2800));
        assert_eq!(deadline(now, 10 * 1024 * 60), Timestamp::from_seconds(2860));
    }
}
