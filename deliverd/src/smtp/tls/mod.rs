//! TLS towards other hosts: what is asked of a destination, and the handshake that fulfils it.
//!
//! | module | is |
//! | --- | --- |
//! | [`judge`] | what a server's certificate is worth, and whether that is enough; pure |
//! | [`handshake`] | the handshake itself |
//! | [`sessions`] | earlier sessions, to be taken up again |
//! | [`broken`] | hosts whose TLS does not work; pure |
//!
//! The certificate is judged after each handshake, also when an earlier session was taken up again (rustls does not
//! look at certificates then): what counts is the policy of now, the authorities of now and the time of now.

pub mod broken;
pub mod handshake;
pub mod judge;
pub mod sessions;

use super::client::{Encryption, Peer, Terms};
use broken::Broken;
use common::config::Config;
use common::destination::Nexthop;
use common::table::TableError;
use common::time::Timestamp;
use common::tls::{Level, Policies, Policy, Roots};
use common::watched::Watched;
use handshake::Secure;
use judge::Expected;
use sessions::Sessions;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The port of SMTP inside TLS (RFC 8314 3.3).
const IMPLICIT_PORT: u16 = 465;

/// What is asked for, by destination; replaced as a whole when the configuration is read anew.
#[derive(Debug)]
pub struct Outbound {
    level: Level,
    policies: Option<Watched<Policies>>,
    roots: Roots,
    memory: Arc<Memory>,
}

/// What outlives a change of the configuration.
#[derive(Debug)]
pub struct Memory {
    sessions: Sessions,
    broken: Mutex<Broken>,
}

/// What a session was opened under. Another transaction may use it only under the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Security {
    /// How well it is protected.
    pub policy: Policy,
    /// The authorities that counted, by [`Roots::id`].
    pub roots: u64,
}

impl Outbound {
    /// By the configuration. Errors: a file that cannot be used, with what is wrong in it.
    pub fn load(config: &Config, memory: Arc<Memory>) -> Result<Self, String> {
        let policies = config.deliverd.tls_policy.as_deref().map(read_policies).transpose();
        let roots = match &config.deliverd.ca_file {
            Some(path) => {
                Roots::from_file(path).map_err(|what| format!("ca_file {}: {what}", path.display()))?
            }
            None => system_roots(),
        };
        let policies = policies.map_err(|error| error.to_string())?;
        Ok(Self { level: config.deliverd.tls, policies, roots, memory })
    }

    /// The same level for every destination, with no authority.
    #[cfg(test)]
    pub fn of(level: Level) -> Self {
        Self { level, policies: None, roots: Roots::none(), memory: Memory::new().unwrap() }
    }

    /// What mail to `nexthop` needs.
    pub fn security(&self, nexthop: &Nexthop) -> Security {
        let policies = self.policies.as_ref().map(Watched::get);
        let policy = policies.as_ref().and_then(|policies| policies.find(nexthop)).cloned();
        Security { policy: policy.unwrap_or_else(|| Policy::of(self.level)), roots: self.roots.id }
    }

    /// How a session with `peer` begins. `plain`: TLS has just failed with it.
    pub fn terms(&self, security: &Security, address: SocketAddr, plain: bool) -> Terms {
        let policy = &security.policy;
        let implicit = policy.implicit || address.port() == IMPLICIT_PORT;
        let encryption = match policy.level {
            Level::None => Encryption::Never,
            _ if implicit => Encryption::FromStart,
            Level::May if plain || self.memory.broken().contains(address, Timestamp::now()) => {
                Encryption::Never
            }
            Level::May => Encryption::IfOffered,
            Level::Encrypt | Level::Fingerprint | Level::Verify | Level::Secure => Encryption::Required,
        };
        Terms { encryption }
    }

    /// The handshake with `peer` for mail to `nexthop`.
    pub fn secure(&self, security: &Security, nexthop: &Nexthop, peer: &Peer) -> Secure {
        let expected = Expected::new(&security.policy, nexthop, &peer.name);
        let config = self.memory.sessions.config(peer.address, nexthop, security);
        Secure::new(config, expected, self.roots.clone(), peer)
    }

    /// A handshake with this server failed. May it be tried without TLS? Then it will be, for a while, by everyone.
    pub fn goes_on_in_plain(&self, security: &Security, terms: &Terms, address: SocketAddr) -> bool {
        let may = security.policy.level == Level::May && terms.encryption == Encryption::IfOffered;
        if may {
            self.memory.broken().add(address, Timestamp::now());
        }
        may
    }
}

impl Memory {
    /// Knows nothing yet. Errors: the crypto provider lacks what it must have.
    pub fn new() -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self { sessions: Sessions::new()?, broken: Mutex::default() }))
    }

    fn broken(&self) -> MutexGuard<'_, Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_policies(path: &Path) -> Result<Watched<Policies>, TableError> {
    Watched::table(path, Policies::parse)
}

fn system_roots() -> Roots {
    let (roots, problems) = Roots::from_system();
    for problem in problems {
        common::warn!("certificates of the system's authorities: {problem}");
    }
    if roots.store.is_empty() {
        common::warn!(
            "no certificates of authorities found: no server can be verified; install ca-certificates, or set ca_file"
        );
    }
    roots
}

#[cfg(test)]
mod tests;
