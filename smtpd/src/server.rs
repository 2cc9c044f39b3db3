//! Takes connections, within limits, and lets each have a task of its own.
//!
//! On SIGTERM nothing more is taken; sessions between commands get 421, content on its way may still come for
//! [`FINISH`], and a message being committed is always acknowledged. A panic in one session is logged and
//! ends that session alone.

use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::connections::{Busy, Connections, Place};
use crate::driver::Connection;
use crate::greylist::Greylist;
use crate::judge;
use crate::login::Acquaintances;
use crate::message::Store;
use crate::proxy;
use crate::rates::{Kind, Rates};
use crate::rules::{Entrance, Rules};
use crate::session::Client;
use crate::session::reply::{self, Reply};
use crate::tls::Door;
use common::config::{Listen, Network};
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
    /// Who has come again.
    pub greylist: Greylist,
    /// How often clients do what.
    pub rates: Rates,
    /// Who is connected for mail from others.
    pub connections: Arc<Connections>,
    /// Who is connected to submit mail: strangers on the other listeners never take these places.
    pub submissions: Arc<Connections>,
    /// From where users have logged in.
    pub acquaintances: Acquaintances,
    ceiling: u32,
    doors: Vec<Door>,
    rules: RwLock<Arc<Rules>>,
}

impl Shared {
    /// Nothing is connected yet. `ceiling`: connections that there can be at most, whatever the rules say.
    pub fn new(rules: Rules, store: Store, ceiling: u32) -> Self {
        Self {
            clock: Clock::new(),
            buffers: Buffers::default(),
            store: Arc::new(store),
            greylist: Greylist::default(),
            rates: Rates::default(),
            connections: Arc::default(),
            submissions: Arc::default(),
            acquaintances: Acquaintances::default(),
            ceiling,
            doors: Vec::new(),
            rules: RwLock::new(Arc::new(rules)),
        }
    }

    /// Connections that there can be on listeners of this kind.
    fn most(&self, entrance: Entrance, rules: &Rules) -> u32 {
        let (all, own) = (rules.max_connections, rules.max_submission_connections);
        let wanted = if entrance.is_submission() { own } else { all };
        let sum = u64::from(all) + u64::from(if rules.has_submission() { own } else { 0 });
        if sum <= u64::from(self.ceiling) {
            return wanted;
        }
        // What there is is shared as the wishes are.
        let share = u64::from(self.ceiling) * u64::from(wanted) / sum.max(1);
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    }

    /// Who is connected to listeners of this kind.
    pub fn pool(&self, entrance: Entrance) -> &Arc<Connections> {
        if entrance.is_submission() { &self.submissions } else { &self.connections }
    }

    /// Is there room for this client, too? Counts it. `known`: its address says who it is, and is not that of a proxy which does not say for whom it
    /// speaks. Hosts that speak for others have no limits of their own: those come with each client that they name.
    pub fn admits(
        &self,
        place: &mut Place,
        (client, known): (IpAddr, bool),
        (entrance, rules): (Entrance, &Rules),
    ) -> Result<(), Busy> {
        let speaks_for_others = known && rules.settings.xclient_networks.contains(client);
        let free = known && rules.trusts(client) || speaks_for_others;
        place.belongs_to(client, if free { None } else { Some(rules.per_client) })?;
        // A proxy that names nobody mostly looks whether we are there, and must not find that we are not because strangers are.
        if !known || rules.trusts(client) {
            return Ok(());
        }
        // The last tenth is for those who may send to anywhere: strangers never shut them out.
        let most = self.most(entrance, rules);
        if self.pool(entrance).total() > most - most / 10 {
            return Err(Busy::Total);
        }
        if speaks_for_others {
            return Ok(());
        }
        let (network, limit) = (Network::of_client(client), rules.rates.connections);
        if self.rates.allows(Kind::Connection, network, limit.rate, self.clock.now()) {
            return Ok(());
        }
        if limit.warn {
            let refusal = too_busy(client, Busy::Rate, rules);
            common::info!(
                "NOQUEUE: reject_warning: CONNECT from {}: {refusal}; proto=SMTP",
                Client::new(client)
            );
            return Ok(());
        }
        Err(Busy::Rate)
    }

    /// What each listener does about TLS, in their order; plain text where nothing is said.
    #[must_use]
    pub fn with_doors(mut self, doors: Vec<Door>) -> Self {
        self.doors = doors;
        self
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
pub async fn serve(listeners: Vec<(TcpListener, Listen)>, shared: Arc<Shared>, stop: watch::Sender<Stop>) {
    let mut acceptors = JoinSet::new();
    for (number, (listener, how)) in listeners.into_iter().enumerate() {
        let door = shared.doors.get(number).cloned().unwrap_or_default();
        acceptors.spawn(accept(listener, (number, how, door), shared.clone(), stop.subscribe()));
    }
    let mut stopping = stop.subscribe();
    stopped(&mut stopping).await;
    let finished = async { while acceptors.join_next().await.is_some() {} };
    tokio::pin!(finished);
    if timeout(FINISH, &mut finished).await.is_err() {
        stop.send_replace(Stop::AtOnce);
        if timeout(GOODBYE, &mut finished).await.is_err() {
            let sessions = shared.connections.total().saturating_add(shared.submissions.total());
            common::warn!("{sessions} sessions do not end in time");
        }
    }
}

/// Takes connections until told to stop; returns when the last of them is over.
async fn accept(
    listener: TcpListener,
    (number, how, door): (usize, Listen, Door),
    shared: Arc<Shared>,
    stop: watch::Receiver<Stop>,
) {
    let mut sessions = JoinSet::new();
    let mut stopping = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let rules = shared.rules();
                    let entrance = rules.entrance(number);
                    let place = (entrance, how.proxy_protocol);
                    if let Some(arrival) = admit((stream, &door), peer, place, rules, &shared, &stop) {
                        // Boxed: on its way into the runtime a task is copied from hand to hand.
                        sessions.spawn(Box::pin(arrival.serve()));
                    }
                }
                Err(error) => refused(&error).await,
            },
            Some(_) = sessions.join_next() => {}
            () = stopped(&mut stopping) => break,
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
}

/// Returns when the server is to stop (or its end is certain, because nobody could tell it any more).
async fn stopped(stop: &mut watch::Receiver<Stop>) {
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
}

/// Held by a session: a panic ends that one alone, and drops what it held, this too.
struct Witness {
    client: IpAddr,
    tell: fn(String),
}

impl Witness {
    fn of(client: IpAddr) -> Self {
        Self { client, tell: |text| common::error!("{text}") }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.tell)(format!("bug: the session of {} ended by a panic; the others go on", self.client));
        }
    }
}

/// A connection that was not there any more when we came to it is nothing to speak of; anything else is.
async fn refused(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        common::error!("cannot take a connection: {error}");
        sleep(EXHAUSTED).await;
    }
}

/// A connection that has been taken, before its session.
struct Arrival {
    stream: TcpStream,
    door: Door,
    peer: IpAddr,
    local: IpAddr,
    /// A proxy is to say who the client is.
    proxied: bool,
    entrance: Entrance,
    place: Place,
    rules: Arc<Rules>,
    shared: Arc<Shared>,
    stop: watch::Receiver<Stop>,
}

impl Arrival {
    async fn serve(mut self) {
        let (mut client, mut local, mut trusted) = (self.peer, self.local, true);
        let mut witness = Witness::of(client);
        if self.proxied {
            match proxy::read(&mut self.stream).await {
                Ok(Some(ends)) => {
                    client = ends.source.ip().to_canonical();
                    local = ends.destination.ip().to_canonical();
                }
                // Nobody knows for whom it speaks.
                Ok(None) => trusted = false,
                Err(error) => {
                    common::warn!("no PROXY header from {}: {error}", self.peer);
                    return;
                }
            }
            let who = (client, trusted);
            if let Err(busy) = self.shared.admits(&mut self.place, who, (self.entrance, &self.rules)) {
                return turn_away((self.stream, &self.door), client, busy, &self.rules);
            }
            witness.client = client;
        }
        let client = Box::pin(judge::named(client, &self.rules, self.entrance)).await;
        let Self { stream, door, entrance, place, rules, shared, stop, .. } = self;
        let door = (stream, door, entrance);
        let mut connection = Connection::new(door, (client, place), local, rules, shared, stop);
        if !trusted {
            connection.distrust();
        }
        Box::new(connection).serve().await;
    }
}

fn admit(
    (stream, door): (TcpStream, &Door),
    peer: SocketAddr,
    (entrance, proxied): (Entrance, bool),
    rules: Arc<Rules>,
    shared: &Arc<Shared>,
    stop: &watch::Receiver<Stop>,
) -> Option<Arrival> {
    let peer = peer.ip().to_canonical();
    if proxied && !rules.proxies.contains(peer) {
        common::warn!("connection from {peer}, which is not in proxy_networks");
        return None;
    }
    let most = shared.most(entrance, &rules);
    let admitted = shared.pool(entrance).enter(most).and_then(|mut place| {
        if !proxied {
            shared.admits(&mut place, (peer, true), (entrance, &rules))?;
        }
        Ok(place)
    });
    match admitted {
        Ok(place) => {
            let local = stream.local_addr().map_or(peer, |address| address.ip().to_canonical());
            let (door, shared, stop) = (door.clone(), shared.clone(), stop.clone());
            Some(Arrival { stream, door, peer, local, proxied, entrance, place, rules, shared, stop })
        }
        Err(busy) => {
            turn_away((stream, door), peer, busy, &rules);
            None
        }
    }
}

/// What a client is told whom [`Shared::admits`] has no room for.
pub fn too_busy(client: IpAddr, busy: Busy, rules: &Rules) -> Reply {
    let text = match busy {
        Busy::Client | Busy::Rate => format!("Error: too many connections from {client}"),
        Busy::Total => "Error: too many connections".to_owned(),
    };
    reply::closing((7, 0), &rules.settings.hostname, &text)
}

/// 421 without a session: it costs one write. Where a handshake comes first, nothing is said that would stand in its place.
fn turn_away((stream, door): (TcpStream, &Door), client: IpAddr, busy: Busy, rules: &Rules) {
    let reply = too_busy(client, busy, rules);
    common::info!("NOQUEUE: reject: CONNECT from {}: {reply}; proto=SMTP", Client::new(client));
    if matches!(door, Door::Implicit(_)) {
        return;
    }
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    // The socket's buffer is empty, so this does not wait; a client that is gone already needs no reply.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(&wire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_its_session_alone_and_gives_its_place_back_and_is_told_with_the_client() {
        static TOLD: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
        let witness =
            |client: [u8; 4]| Witness { client: client.into(), tell: |text| TOLD.lock().unwrap().push(text) };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let connections = Arc::new(Connections::default());
            let (go_on, waits) = tokio::sync::oneshot::channel::<()>();
            let mut sessions = JoinSet::new();
            let held = (connections.enter(10).unwrap(), witness([192, 0, 2, 1]));
            sessions.spawn(async move {
                let _held = held;
                waits.await.unwrap();
            });
            let held = (connections.enter(10).unwrap(), witness([192, 0, 2, 2]));
            sessions.spawn(async move {
                let _held = held;
                // As deep as in a session.
                Box::pin(async { panic!("as a test") }).await
            });
            assert!(sessions.join_next().await.unwrap().is_err());
            let told = ["bug: the session of 192.0.2.2 ended by a panic; the others go on"];
            assert_eq!(*TOLD.lock().unwrap(), told);
            assert_eq!(connections.total(), 1);
            go_on.send(()).unwrap();
            sessions.join_next().await.unwrap().unwrap();
            assert_eq!(connections.total(), 0);
            assert_eq!(*TOLD.lock().unwrap(), told);
        });
    }
}
