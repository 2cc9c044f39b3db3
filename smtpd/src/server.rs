//! Takes connections, within limits, and lets each have a task of its own.
//!
//! On SIGTERM nothing more is taken; sessions between commands get 421, content on its way may still come for
//! [`FINISH`], and a message being committed is always acknowledged. A panic in one session is logged and
//! ends that session alone.

use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::connections::{Busy, Connections, Place};
use crate::driver::Connection;
use crate::message::Store;
use crate::rules::Rules;
use crate::session::{Client, reply};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// After SIGTERM, so long may content that is on its way still come.
pub const FINISH: Duration = Duration::from_secs(12);
/// So long after that may sessions take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Without file descriptors or memory nothing can be taken; looked at again after this time.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// Is the server going down?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// No.
    No,
    /// Yes, once what is in hand is finished.
    Finish,
    /// Yes, now.
    AtOnce,
}

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// Time for sessions.
    pub clock: Clock,
    /// Read buffers.
    pub buffers: Buffers,
    /// Where messages go.
    pub store: Arc<Store>,
    connections: Arc<Connections>,
    ceiling: u32,
    rules: RwLock<Arc<Rules>>,
}

impl Shared {
    /// Nothing is connected yet. `ceiling`: connections that there can be at most, whatever the rules say.
    pub fn new(rules: Rules, store: Store, ceiling: u32) -> Self {
        Self {
            clock: Clock::new(),
            buffers: Buffers::default(),
            store: Arc::new(store),
            connections: Arc::default(),
            ceiling,
            rules: RwLock::new(Arc::new(rules)),
        }
    }

    /// The rules for a session that begins now.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sessions that begin from now on go by these.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}

/// Serves until told to stop; then returns when everything is finished, within [`FINISH`] and a little more.
pub async fn serve(listeners: Vec<TcpListener>, shared: Arc<Shared>, stop: watch::Sender<Stop>) {
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        acceptors.spawn(accept(listener, shared.clone(), stop.subscribe()));
    }
    let mut stopping = stop.subscribe();
    stopped(&mut stopping).await;
    let finished = async { while acceptors.join_next().await.is_some() {} };
    tokio::pin!(finished);
    if timeout(FINISH, &mut finished).await.is_err() {
        stop.send_replace(Stop::AtOnce);
        if timeout(GOODBYE, &mut finished).await.is_err() {
            common::warn!("{} sessions do not end in time", shared.connections.total());
        }
    }
}

/// Takes connections until told to stop; returns when the last of them is over.
async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: watch::Receiver<Stop>) {
    let mut sessions = JoinSet::new();
    let mut stopping = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some((place, connection)) = admit(stream, peer, &shared, &stop) {
                        sessions.spawn(async move {
                            connection.serve().await;
                            drop(place);
                        });
                    }
                }
                Err(error) => refused(&error).await,
            },
            Some(ended) = sessions.join_next() => report(ended),
            () = stopped(&mut stopping) => break,
        }
    }
    drop(listener);
    while let Some(ended) = sessions.join_next().await {
        report(ended);
    }
}

/// Returns when the server is to stop (or its end is certain, because nobody could tell it any more).
async fn stopped(stop: &mut watch::Receiver<Stop>) {
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        common::error!("bug: a session ended by a panic; the others go on");
    }
}

/// A connection that was not there any more when we came to it is nothing to speak of; anything else is.
async fn refused(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        common::error!("cannot take a connection: {error}");
        sleep(EXHAUSTED).await;
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    stop: &watch::Receiver<Stop>,
) -> Option<(Place, Connection)> {
    let client = peer.ip().to_canonical();
    let rules = shared.rules();
    let total = rules.max_connections.min(shared.ceiling);
    match shared.connections.enter(client, total, rules.limit_of(client)) {
        Ok(place) => {
            // Replies are collected here; the kernel need not do that too.
            let _ = stream.set_nodelay(true);
            let local = stream.local_addr().map_or(client, |address| address.ip().to_canonical());
            let connection = Connection::new(stream, client, local, rules, shared.clone(), stop.clone());
            Some((place, connection))
        }
        Err(busy) => {
            turn_away(stream, client, busy, &rules);
            None
        }
    }
}

/// 421 without a session: it costs one write.
fn turn_away(stream: TcpStream, client: IpAddr, busy: Busy, rules: &Rules) {
    let text = match busy {
        Busy::Client => format!("Error: too many connections from {client}"),
        Busy::Total => "Error: too many connections".to_owned(),
    };
    let reply = reply::closing((7, 0), &rules.settings.hostname, &text);
    common::info!("NOQUEUE: reject: CONNECT from {}: {reply}; proto=SMTP", Client::new(client));
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    // The socket's buffer is empty, so this does not wait; a client that is gone already needs no reply.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(&wire);
    }
}
