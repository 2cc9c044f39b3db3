//! `ironpost status`: are the daemons up, what is queued, what goes nowhere for now, what an admin should do something about.
//!
//! | file | what |
//! | --- | --- |
//! | this one | asks everybody |
//! | [`warnings`] | what can be seen without a daemon: certificates, disk, unreadable messages |
//! | [`text`], [`json`] | the answer for people, and for programs |
//!
//! Root and the daemons' user ask each daemon itself; anyone else learns what queued tells everybody. Nothing is changed, and no daemon can make it wait for
//! longer than its time limits. Exit code 69 when a daemon is down or does not answer.

pub mod json;
pub mod text;
pub mod warnings;

use crate::control::{self, Conversation, Unreachable};
use crate::exit;
use crate::failure::Failure;
use crate::queue::source::may_read;
use common::config::Config;
use common::destination::Transport;
use common::reload::call::{self, Unanswered};
use common::reload::{Daemon, State};
use common::time::Timestamp;
use spool::control::{Answer, Counts, QueueStatus, Request};
use spool::layout::Spool;
use std::io::Write;

/// Everything that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Each daemon.
    pub daemons: Vec<(Daemon, Health)>,
    /// The queue, as far as it can be seen.
    pub queue: Queue,
    /// What an admin should do something about, one line each.
    pub warnings: Vec<String>,
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It says so itself.
    Up(State),
    /// Queued says so.
    Seen,
    /// Nobody answers.
    Down,
    /// It runs, and does not answer as it should.
    Stuck(String),
    /// This user cannot see it.
    Hidden,
}

/// How the queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    /// In queued's words.
    Told(Box<QueueStatus>),
    /// Queued does not tell: names in the folders.
    Counted(Counts),
    /// It cannot be seen, for this reason.
    Unknown(String),
}

/// `ironpost status`
pub fn run(config: &Config, json: bool) -> Result<(), Failure> {
    let overview = ask(config);
    let told = if json { json::line(&overview) } else { text::report(&overview) };
    let mut out = std::io::stdout().lock();
    out.write_all(told.as_bytes()).and_then(|()| out.flush()).map_err(|e| Failure::output(&e))?;
    if overview.is_up() { Ok(()) } else { Err(Failure::new(exit::UNAVAILABLE, "")) }
}

impl Overview {
    /// Does every daemon that this user can see run, and answer?
    pub fn is_up(&self) -> bool {
        !self.daemons.iter().any(|(_, health)| matches!(health, Health::Down | Health::Stuck(_)))
    }
}

fn ask(config: &Config) -> Overview {
    let spool = Spool::new(&config.spool_directory);
    let (queue, reachable) = queue(&spool);
    let daemons: Vec<_> =
        Daemon::ALL.map(|daemon| (daemon, health(daemon, &spool, &queue, reachable))).into_iter().collect();
    let mut warnings: Vec<String> = Vec::new();
    for (daemon, health) in &daemons {
        if let Health::Up(state) = health {
            if state.version != env!("CARGO_PKG_VERSION") {
                let (name, theirs, ours) = (daemon.name(), &state.version, env!("CARGO_PKG_VERSION"));
                warnings
                    .push(format!("{name} is of version {theirs}, this command of {ours}: start it again"));
            }
            warnings.extend(state.warnings.iter().cloned());
        }
    }
    let counts = match &queue {
        Queue::Told(status) => Some(status.counts),
        Queue::Counted(counts) => Some(*counts),
        Queue::Unknown(_) => None,
    };
    warnings.extend(warnings::all(config, &spool, counts, Timestamp::now()));
    Overview { daemons, queue, warnings }
}

/// What queued tells, else what can be counted; and whether queued takes connections.
fn queue(spool: &Spool) -> (Queue, bool) {
    let counted = || match may_read(spool) {
        Ok(true) => Counts::of(spool).ok().map(Queue::Counted),
        _ => None,
    };
    let socket = match control::connect(spool) {
        Ok(socket) => socket,
        Err(unreachable) => {
            let down = matches!(unreachable, Unreachable::Down);
            let why = unreachable.failure(spool).text;
            return (counted().unwrap_or(Queue::Unknown(why)), !down);
        }
    };
    let answer = Conversation::begin(socket, &Request::Status, &[]).map(|mut answers| answers.next());
    let why = match answer {
        Ok(Some(Ok(Answer::Status(status)))) => return (Queue::Told(status), true),
        Ok(Some(Err(failure))) | Err(failure) => failure.text,
        Ok(_) => "queued answers another question: start it again".to_owned(),
    };
    (counted().unwrap_or(Queue::Unknown(why)), true)
}

fn health(daemon: Daemon, spool: &Spool, queue: &Queue, reachable: bool) -> Health {
    match call::state(&spool.reload_socket(daemon)) {
        Ok(state) => Health::Up(state),
        Err(Unanswered::Down) => Health::Down,
        Err(Unanswered::Lost(what)) => Health::Stuck(what),
        Err(Unanswered::Barred(_)) => {
            let agent = |transport| match queue {
                Queue::Told(status) if status.agents.contains(&transport) => Health::Seen,
                Queue::Told(_) => Health::Down,
                Queue::Counted(_) | Queue::Unknown(_) => Health::Hidden,
            };
            match (daemon, queue) {
                (Daemon::Queued, Queue::Told(_)) => Health::Seen,
                (Daemon::Queued, _) if !reachable => Health::Down,
                (Daemon::Queued | Daemon::Smtpd, _) => Health::Hidden,
                (Daemon::DeliverdSmtp, _) => agent(Transport::Smtp),
                (Daemon::DeliverdLocal, _) => agent(Transport::Local),
            }
        }
    }
}
