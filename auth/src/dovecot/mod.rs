//! Dovecot's authentication service, asked over its socket (`auth-client`): every mechanism that it offers is passed on as it is.
//!
//! One connection for all sessions, made when it is first needed, and again when it is gone. Everything that comes from the socket is bounded and checked; who does not
//! speak the protocol is hung up on. Each answer has a deadline. When Dovecot is down that is a temporary failure with path and reason, and there is a second between two
//! attempts to reach it.

pub mod line;
pub(crate) mod link;

use crate::exchange::{Channel, Failure};
use common::text::printable;
use link::{Link, Request};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

/// Until the handshake is over.
const CONNECT: Duration = Duration::from_secs(5);
/// For each answer. Dovecot delays failures by some seconds, on purpose.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_secs(1);
/// What is offered until Dovecot has said what it has.
const UNTIL_KNOWN: [&str; 2] = ["PLAIN", "LOGIN"];

/// The way to one Dovecot.
pub struct Dovecot {
    path: PathBuf,
    link: Mutex<State>,
    /// The mechanisms of the last connection, in Dovecot's order.
    mechanisms: RwLock<Option<Vec<String>>>,
}

enum State {
    Open(Arc<Link>),
    Closed,
    Failed(Instant, String),
}

impl Dovecot {
    /// Behind this socket. Does nothing yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), link: Mutex::new(State::Closed), mechanisms: RwLock::default() }
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it offers, as it said last; the simplest ones until it has said something. Inside a runtime, this is when it is asked.
    pub fn mechanisms(self: &Arc<Self>) -> Vec<String> {
        let known = self.mechanisms.read().unwrap_or_else(PoisonError::into_inner).clone();
        known.unwrap_or_else(|| {
            if let Ok(runtime) = Handle::try_current() {
                let this = self.clone();
                runtime.spawn(async move { this.prepare().await });
            }
            UNTIL_KNOWN.map(str::to_owned).to_vec()
        })
    }

    /// Connects, when that has not been done. Errors: path and reason.
    pub async fn prepare(&self) -> Result<(), String> {
        self.link().await.map(drop)
    }

    async fn link(&self) -> Result<Arc<Link>, String> {
        let mut state = self.link.lock().await;
        match &*state {
            State::Open(link) if link.is_open() => return Ok(link.clone()),
            State::Failed(when, why) if when.elapsed() < PAUSE => return Err(why.clone()),
            State::Open(_) | State::Closed | State::Failed(..) => {}
        }
        let connected = tokio::time::timeout(CONNECT, Link::connect(&self.path)).await;
        match connected.unwrap_or_else(|_| Err("it does not answer".into())) {
            Ok((link, mechanisms)) => {
                *self.mechanisms.write().unwrap_or_else(PoisonError::into_inner) = Some(mechanisms);
                *state = State::Open(link.clone());
                Ok(link)
            }
            Err(why) => {
                let why = format!("Dovecot behind {}: {}", self.path.display(), printable(&why, 300));
                *state = State::Failed(Instant::now(), why.clone());
                Err(why)
            }
        }
    }

    /// A login. Gives Dovecot's first answer, and the request for what follows.
    pub(crate) async fn begin(
        &self,
        mechanism: &str,
        channel: &Channel,
        response: Option<&[u8]>,
    ) -> Result<(Request, line::Answer), Failure> {
        // A connection may have died unnoticed: another one is tried once.
        for last in [false, true] {
            let link = self.link().await.map_err(Failure::Unavailable)?;
            let addresses = (channel.client, channel.local);
            let request = link
                .request(|id| line::auth(id, mechanism, channel.tls, addresses, response))
                .await
                .map_err(|what| self.failed(what))?;
            let Some(mut request) = request else { continue };
            match self.next(&mut request).await {
                Ok(answer) => return Ok((request, answer)),
                Err(Failure::Unavailable(_)) if !last && !link.is_open() => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Unavailable(format!(
            "Dovecot behind {}: the connection was closed",
            self.path.display()
        )))
    }

    /// The client's response to a challenge.
    pub(crate) async fn go_on(
        &self,
        request: &mut Request,
        response: &[u8],
    ) -> Result<line::Answer, Failure> {
        request.respond(response).await.map_err(|what| self.failed(what))?;
        self.next(request).await
    }

    async fn next(&self, request: &mut Request) -> Result<line::Answer, Failure> {
        let answer = tokio::time::timeout(ANSWER, request.answer()).await;
        let why = match answer {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => "the connection was closed",
            Err(_) => "no answer within a minute",
        };
        Err(Failure::Unavailable(format!("Dovecot behind {}: {why}", self.path.display())))
    }

    fn failed(&self, what: link::SendError) -> Failure {
        match what {
            link::SendError::TooLong => Failure::Malformed("the response is too long"),
            link::SendError::Closed => Failure::Unavailable(format!(
                "Dovecot behind {}: the connection was closed",
                self.path.display()
            )),
        }
    }
}

impl fmt::Debug for Dovecot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dovecot").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests;
