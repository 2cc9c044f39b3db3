//! Connects to the candidates of a [`Plan`]: the first that accepts wins, slower ones are dropped, and the
//! next is at hand when the winner turns out not to want to talk.

use super::client::Peer;
use super::deadline::Deadline;
use super::memory::Memory;
use super::plan::Plan;
use super::resolve::Candidate;
use common::status::{EnhancedCode, Status};
use nix::errno::Errno;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// For one address (Postfix's smtp_connect_timeout).
pub const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A connection, and since when it was tried for.
#[derive(Debug)]
pub struct Connected {
    /// Nothing read or written yet.
    pub stream: TcpStream,
    /// Who is there.
    pub peer: Peer,
    /// The candidate that it is with.
    pub candidate: Candidate,
    /// When the attempt to connect began.
    pub began: Instant,
}

/// One attempt's way through its candidates.
#[derive(Debug)]
pub struct Dialer {
    plan: Plan,
    memory: Arc<Memory>,
    failure: Option<Status>,
}

struct Racer {
    candidate: Candidate,
    began: Instant,
    handle: AbortHandle,
}

impl Dialer {
    /// Over the given candidates.
    pub fn new(candidates: Vec<Candidate>, memory: Arc<Memory>) -> Self {
        Self { plan: Plan::new(candidates), memory, failure: None }
    }

    /// The next connection; `None` when no candidate is left or the time is over.
    pub async fn next(&mut self, deadline: &mut Deadline) -> Option<Connected> {
        let mut race: JoinSet<io::Result<TcpStream>> = JoinSet::new();
        let mut racers: Vec<Racer> = Vec::new();
        let mut next_start = Instant::now();
        loop {
            // What is hardly begun before it is over says nothing about a host.
            if race.is_empty() && deadline.is_over() {
                return None;
            }
            if race.is_empty() {
                next_start = Instant::now();
            }
            if next_start <= Instant::now() {
                if let Some(candidate) = self.plan.start() {
                    racers.push(start(&mut race, candidate));
                } else if race.is_empty() {
                    return None;
                }
            }
            let last_began = racers.last().map_or_else(Instant::now, |racer| racer.began);
            let delay = self.plan.delay();
            next_start = last_began + delay.unwrap_or(CONNECT_LIMIT);
            let (id, result) = tokio::select! {
                biased;
                Some(ended) = race.join_next_with_id() => match ended {
                    Ok((id, result)) => (id, result),
                    Err(error) => (error.id(), Err(io::Error::other("connecting was given up"))),
                },
                _ = deadline.passed() => {
                    for racer in &racers {
                        self.memory.outrun(racer.candidate.address.ip(), racer.began.elapsed());
                        self.note(racer, &io::ErrorKind::TimedOut.into());
                    }
                    return None;
                }
                () = sleep_until(next_start), if delay.is_some() => continue,
            };
            let Some(i) = racers.iter().position(|racer| racer.handle.id() == id) else { continue };
            let racer = racers.swap_remove(i);
            match result {
                Ok(stream) => {
                    self.drop_losers(racers);
                    // Commands are written as whole groups; waiting for more would only cost time.
                    let _ = stream.set_nodelay(true);
                    let peer = peer(&racer.candidate);
                    let Racer { candidate, began, .. } = racer;
                    return Some(Connected { stream, peer, candidate, began });
                }
                Err(error) => {
                    self.failed(&racer, &error);
                    // RFC 8305 5: a failure starts the next one at once, unless others still run that are
                    // preferred to it.
                    if delay == Some(super::plan::SAME_PREFERENCE) {
                        next_start = Instant::now();
                    }
                }
            }
        }
    }

    /// The connection to this server was of no use, and another one may be: it comes next.
    pub fn again(&mut self, candidate: Candidate) {
        self.plan.put_back(candidate);
    }

    /// Why no connection came about, as far as one was tried.
    pub fn failure(&mut self) -> Option<Status> {
        self.failure.take()
    }

    fn failed(&mut self, racer: &Racer, error: &io::Error) {
        if is_ours(error) {
            self.plan.forgive();
            if self.failure.is_some() {
                return;
            }
        } else {
            self.memory.failed(racer.candidate.address.ip());
        }
        self.note(racer, error);
    }

    fn note(&mut self, racer: &Racer, error: &io::Error) {
        let (peer, port) = (peer(&racer.candidate), racer.candidate.address.port());
        let text = format!("connect to {peer}:{port}: {}", words(error));
        self.failure = Some(Status::local(EnhancedCode::new(4, 4, 1), text));
    }

    fn drop_losers(&mut self, mut racers: Vec<Racer>) {
        // Put back in reverse, so that they come again in the order they were started.
        racers.sort_by_key(|racer| std::cmp::Reverse(racer.began));
        for racer in racers {
            self.memory.outrun(racer.candidate.address.ip(), racer.began.elapsed());
            self.plan.put_back(racer.candidate);
        }
    }
}

fn start(race: &mut JoinSet<io::Result<TcpStream>>, candidate: Candidate) -> Racer {
    let address = candidate.address;
    let handle = race.spawn(async move {
        timeout(CONNECT_LIMIT, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    });
    Racer { candidate, began: Instant::now(), handle }
}

fn peer(candidate: &Candidate) -> Peer {
    Peer { name: candidate.name.clone(), address: candidate.address }
}

/// Is it our side that cannot (no IPv6 here, for instance)?
fn is_ours(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::ENETUNREACH | Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

/// The C library's words, without a number.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_owned(),
        None if error.kind() == io::ErrorKind::TimedOut => Errno::ETIMEDOUT.desc().to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
