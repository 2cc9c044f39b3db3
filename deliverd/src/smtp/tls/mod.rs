//! TLS towards other hosts, and logging in: what is asked of a destination, and the handshake that fulfils it.
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

use super::client::{Encryption, Login, Peer, Terms};
use super::deadline::Deadline;
use super::oauth::Tokens;
use broken::Broken;
use common::address::ReversePath;
use common::config::Config;
use common::credentials::{Credentials, Table};
use common::destination::Nexthop;
use common::oauth::Secret;
use common::secret::Secrets;
use common::status::{EnhancedCode, Status};
use common::table::TableError;
use common::text::printable;
use common::time::Timestamp;
use common::tls::{Level, Policies, Policy, Roots};
use common::watched::Watched;
use handshake::Secure;
use judge::Expected;
use sessions::Sessions;
use spool::layout::Spool;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The port of SMTP inside TLS (RFC 8314 3.3).
const IMPLICIT_PORT: u16 = 465;

/// What is asked for, by destination; replaced as a whole when the configuration is read anew.
#[derive(Debug)]
pub struct Outbound {
    level: Level,
    policies: Option<Watched<Policies>>,
    credentials: Option<Watched<Table>>,
    relay_host: Option<Nexthop>,
    roots: Roots,
    memory: Arc<Memory>,
}

/// What outlives a change of the configuration.
#[derive(Debug)]
pub struct Memory {
    sessions: Sessions,
    broken: Mutex<Broken>,
    tokens: Arc<Tokens>,
    /// Logins that were refused when they were last tried: what to tell an admin, by line of the table.
    refused: Mutex<BTreeMap<String, String>>,
}

/// What a session was opened under. Another transaction may use it only under the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Security {
    /// How well it is protected.
    pub policy: Policy,
    /// The authorities that counted, by [`Roots::id`].
    pub roots: u64,
    /// Who we are there.
    pub login: Option<Arc<Credentials>>,
}

impl Outbound {
    /// By the configuration. Errors: a file that cannot be used, with what is wrong in it.
    pub fn load(config: &Config, memory: Arc<Memory>, secrets: &Arc<Secrets>) -> Result<Self, String> {
        let policies = config.deliverd.tls_policy.as_deref().map(read_policies).transpose();
        let roots = match &config.deliverd.ca_file {
            Some(path) => {
                Roots::from_file(path).map_err(|what| format!("ca_file {}: {what}", path.display()))?
            }
            None => system_roots(),
        };
        let policies = policies.map_err(|error| error.to_string())?;
        let credentials = config.deliverd.relay_credentials.as_deref();
        let folder = Spool::new(&config.spool_directory).deliverd_folder();
        let credentials = credentials.map(|path| memory.credentials(path, secrets, folder)).transpose();
        let credentials = credentials.map_err(|error| format!("relay_credentials: {error}"))?;
        let relay_host = config.deliverd.relay_host.clone();
        Ok(Self { level: config.deliverd.tls, policies, credentials, relay_host, roots, memory })
    }

    /// The same level for every destination, with no authority.
    #[cfg(test)]
    pub fn of(level: Level) -> Self {
        Self {
            level,
            policies: None,
            credentials: None,
            relay_host: None,
            roots: Roots::none(),
            memory: Memory::new().unwrap(),
        }
    }

    /// What mail from `sender` to `nexthop` needs. With a password the server must be who the policy says.
    pub fn security(&self, nexthop: &Nexthop, sender: &ReversePath) -> Security {
        let policies = self.policies.as_ref().map(Watched::get);
        let policy = policies.as_ref().and_then(|policies| policies.find(nexthop)).cloned();
        let policy = policy.unwrap_or_else(|| Policy::of(self.level));
        let is_relay_host = self.relay_host.as_ref() == Some(nexthop);
        let login = self
            .credentials
            .as_ref()
            .and_then(|credentials| credentials.get().find(nexthop, sender.address(), is_relay_host));
        let careful = login.as_ref().is_some_and(|login| !login.is_insecure());
        let policy = if careful { policy.authenticated() } else { policy };
        Security { policy, roots: self.roots.id, login }
    }

    /// The token to log in with, where there is one instead of a password. Errors: it cannot be had now; mail waits.
    pub async fn token(
        &self,
        security: &Security,
        deadline: &mut Deadline,
    ) -> Result<Option<Secret>, Status> {
        const CODE: EnhancedCode = EnhancedCode::new(4, 7, 0);
        let Some(file) = security.login.as_ref().and_then(|login| login.token_file()) else {
            return Ok(None);
        };
        let got = tokio::select! {
            biased;
            got = self.memory.tokens.get(file) => got,
            _ = deadline.passed() => Err("no OAuth token came within the time limit".into()),
        };
        got.map(Some).map_err(|why| Status::local(CODE, format!("SASL authentication failed: {why}")))
    }

    /// A server refused this token. May another one be had?
    pub fn token_refused(&self, security: &Security, token: Option<&Secret>) -> bool {
        let file = security.login.as_ref().and_then(|login| login.token_file());
        file.zip(token).is_some_and(|(file, token)| self.memory.tokens.refused(file, token))
    }

    /// How a session with a server begins. `plain`: TLS has just failed with it. Errors: no randomness.
    pub fn terms(
        &self,
        security: &Security,
        token: Option<&Secret>,
        address: SocketAddr,
        plain: bool,
    ) -> Result<Terms, String> {
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
        let login = match &security.login {
            Some(credentials) => {
                Some(Login { credentials: credentials.clone(), token: token.cloned(), nonce: nonce()? })
            }
            None => None,
        };
        Ok(Terms { encryption, login })
    }

    /// Says what an admin has to do about a login that failed.
    pub fn complain(&self, security: &Security, nexthop: &Nexthop, status: &Status) {
        let Some(login) = &security.login else { return };
        let user = printable(login.user(), 100);
        let mend = match login.token_file() {
            Some(file) => format!("{}, which the line {} names,", file.display(), login.key()),
            None => format!("the line {}", login.key()),
        };
        let what = format!("cannot log in as {user:?} for {nexthop}, mail for it waits: {}", status.text);
        let told = format!("{what}; mend {mend} and then: ironpost queue retry --all");
        common::warn!("relay_credentials: {told}");
        self.memory.refused().insert(login.key().to_owned(), told);
    }

    /// A session was opened: what was said about its login is settled.
    pub fn logged_in(&self, security: &Security) {
        if let Some(login) = &security.login {
            self.memory.refused().remove(login.key());
        }
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
        Ok(Arc::new(Self {
            sessions: Sessions::new()?,
            broken: Mutex::default(),
            tokens: Arc::default(),
            refused: Mutex::default(),
        }))
    }

    /// The table, through a descriptor that stays open, and the files that it names.
    fn credentials(
        &self,
        path: &Path,
        secrets: &Arc<Secrets>,
        folder: PathBuf,
    ) -> Result<Watched<Table>, TableError> {
        let file = secrets.file(path)?;
        let (tokens, secrets) = (self.tokens.clone(), secrets.clone());
        Watched::new(path, move |path| {
            let table = Table::parse(path, &file.read()?)?;
            tokens.open(&table, &secrets, &folder)?;
            Ok(table)
        })
    }

    /// The tokens that take the place of passwords.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// What an admin should know: logins that were refused, tokens that end.
    pub fn warnings(&self) -> Vec<String> {
        let refused =
            self.refused().values().map(|what| format!("relay_credentials: {what}")).collect::<Vec<_>>();
        let tokens = self.tokens.warnings(Timestamp::now());
        let token = |(path, what): (PathBuf, String)| {
            // Some texts begin with the path already.
            let path = path.display().to_string();
            if what.starts_with(&path) { what } else { format!("{path}: {what}") }
        };
        refused.into_iter().chain(tokens.into_iter().map(token)).collect()
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> MutexGuard<'_, Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_policies(path: &Path) -> Result<Watched<Policies>, TableError> {
    Watched::table(path, Policies::parse)
}

fn nonce() -> Result<String, String> {
    let mut octets = [0; 18];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| "the system has no randomness".to_owned())?;
    Ok(data_encoding::BASE64.encode(&octets))
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
