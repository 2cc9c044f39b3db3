//! Which back end there is, and which mechanisms it can do on a connection.
//!
//! Opened while the process may still read what is root's alone, and cheap to clone for every session. A users file is read anew within seconds of a change; what is
//! wrong in it is logged with its line, and the others go on.

use crate::dovecot::Dovecot;
use crate::exchange::{Channel, Exchange, Failure, OAUTHBEARER, SCRAM, SCRAM_PLUS, XOAUTH2};
use crate::hash::verifier::{Key, mac};
use crate::hash::{self, Hash, Verifier};
use crate::introspection::Introspector;
use crate::name;
use crate::pam::{self, Pam};
use crate::pool::Pool;
use crate::prepare::Password;
use crate::users::Users;
use common::config::{AuthUsers, Config, MechanismName};
use common::secret::{SecretFile, Secrets};
use common::table::TableError;
use common::watched::Watched;
use std::path::Path;
use std::sync::Arc;

/// So many lines of a users file are told to be wrong; of the others, how many they are.
const TOLD: usize = 20;
/// What a name that nobody has is checked against where there are no users at all.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyBpdA$6Fqnn9M4QXRYYE6fVXpDZPZLfVd9JmBQIbYqwrFWVXE";

/// Shared by all sessions.
#[derive(Debug, Clone)]
pub struct Authenticator {
    shared: Arc<Shared>,
}

/// What all exchanges need.
#[derive(Debug)]
pub(crate) struct Shared {
    back_end: BackEnd,
    /// Who says whose a token is.
    introspector: Option<Introspector>,
    wanted: Option<Vec<MechanismName>>,
    pool: Arc<Pool>,
    /// For what names that nobody has are answered with.
    secret: Key,
}

/// Who knows names and passwords.
#[derive(Debug)]
enum BackEnd {
    /// Nobody has a password here: tokens only.
    Nobody,
    Users(UsersFile),
    Dovecot(Arc<Dovecot>),
    System(Arc<Pam>),
}

/// A users file, followed.
#[derive(Debug)]
struct UsersFile {
    watched: Watched<Users>,
}

impl Authenticator {
    /// By the configuration; `None` where nobody may log in. Before privileges are dropped. Errors: one line that names the file and the reason.
    pub fn open(config: &Config, secrets: &Secrets) -> Result<Option<Self>, String> {
        Self::make(config, secrets, None, false)
    }

    /// The same when the configuration is read anew: connections and secrets of `old`, which is the one until now, stay.
    pub fn open_again(
        config: &Config,
        secrets: &Secrets,
        old: Option<&Self>,
    ) -> Result<Option<Self>, String> {
        Self::make(config, secrets, old, true)
    }

    fn make(
        config: &Config,
        secrets: &Secrets,
        old: Option<&Self>,
        again: bool,
    ) -> Result<Option<Self>, String> {
        let auth = &config.smtpd.auth;
        let old_back_end = old.map(|old| &old.shared.back_end);
        let introspector = Introspector::open(&auth.introspection, secrets)?;
        let back_end = match &auth.users {
            None if introspector.is_some() => BackEnd::Nobody,
            None => return Ok(None),
            Some(AuthUsers::File(path)) => {
                let file = secrets.file(path).and_then(UsersFile::open);
                BackEnd::Users(file.map_err(|error| format!("[smtpd.auth] users: {error}"))?)
            }
            Some(AuthUsers::Dovecot(path)) => match old_back_end {
                Some(BackEnd::Dovecot(dovecot)) if dovecot.path() == path => {
                    BackEnd::Dovecot(dovecot.clone())
                }
                _ => BackEnd::Dovecot(Arc::new(Dovecot::new(path))),
            },
            Some(AuthUsers::System) => match old_back_end {
                Some(BackEnd::System(old)) if old.service() == auth.pam_service => {
                    BackEnd::System(old.clone())
                }
                // What is started now would not be root.
                _ if again => {
                    return Err(
                        "[smtpd.auth] users = \"system\" takes effect when smtpd is started again".into()
                    );
                }
                _ => match pam::find(&auth.pam_service).and_then(|path| Pam::start(&path, &auth.pam_service))
                {
                    Ok(pam) => BackEnd::System(Arc::new(pam)),
                    Err(why) => return Err(format!("[smtpd.auth] users = \"system\": {why}")),
                },
            },
        };
        let pool = old.map(|old| old.shared.pool.clone()).unwrap_or_default();
        let secret = match old {
            Some(old) => old.shared.secret,
            None => hash::random().map_err(str::to_owned)?,
        };
        let shared = Shared { back_end, introspector, wanted: auth.mechanisms.clone(), pool, secret };
        Ok(Some(Self { shared: Arc::new(shared) }))
    }

    /// To be called once inside the runtime, before the first client comes: finds out what the back end offers. A back end that is down is logged, and does not keep the daemon
    /// from its other work.
    pub async fn prepare(&self) {
        if let BackEnd::Dovecot(dovecot) = &self.shared.back_end
            && let Err(why) = dovecot.prepare().await
        {
            common::error!("nobody can log in: {why}");
        }
    }

    /// Names for the EHLO line, strongest first; empty: AUTH is not offered on this channel.
    pub fn mechanisms(&self, channel: &Channel) -> Vec<String> {
        if channel.is_safe() { self.shared.mechanisms(channel) } else { Vec::new() }
    }

    /// A login with this mechanism (of any case). `None`: it is unknown, or not offered on this channel (504 5.5.4).
    pub fn begin(&self, mechanism: &str, channel: &Channel) -> Option<Exchange> {
        let mechanism = mechanism.to_ascii_uppercase();
        let offered = self.mechanisms(channel).contains(&mechanism);
        offered.then(|| Exchange::begin(self.shared.clone(), &mechanism, channel)).flatten()
    }

    /// Would there be more with TLS on this channel than there is now (538 5.7.11)?
    pub fn needs_tls(&self, mechanism: &str, channel: &Channel) -> bool {
        !channel.is_safe() && self.shared.mechanisms(channel).contains(&mechanism.to_ascii_uppercase())
    }
}

impl Shared {
    fn mechanisms(&self, channel: &Channel) -> Vec<String> {
        let named = |name: &str| {
            self.wanted.as_ref().map(|wanted| wanted.iter().any(|wanted| wanted.as_str() == name))
        };
        let (possible, all_scram) = match &self.back_end {
            BackEnd::Users(users) => {
                let own = [SCRAM_PLUS, SCRAM, "PLAIN", "LOGIN"].map(str::to_owned);
                (own.to_vec(), users.watched.get().all_scram())
            }
            BackEnd::Dovecot(dovecot) => (by_strength(dovecot.mechanisms()), true),
            BackEnd::System(_) => (["PLAIN", "LOGIN"].map(str::to_owned).to_vec(), false),
            BackEnd::Nobody => (Vec::new(), false),
        };
        let offered = |name: &String| match name.as_str() {
            SCRAM_PLUS => channel.binding.is_some() && named(SCRAM_PLUS).unwrap_or(all_scram),
            SCRAM => named(SCRAM).unwrap_or(all_scram),
            other => named(other).unwrap_or(true),
        };
        let mut names: Vec<String> = possible.into_iter().filter(offered).collect();
        if self.introspector.is_some() {
            // Before what sends a password that is good for longer.
            names.retain(|name| name != OAUTHBEARER && name != XOAUTH2);
            let at = names.iter().position(|name| !name.starts_with("SCRAM-")).unwrap_or(names.len());
            let tokens = [OAUTHBEARER, XOAUTH2].into_iter().filter(|name| named(name).unwrap_or(true));
            names.splice(at..at, tokens.map(str::to_owned));
        }
        names
    }

    /// Who says whose a token is.
    pub(crate) fn introspector(&self) -> Option<&Introspector> {
        self.introspector.as_ref()
    }

    /// The service that speaks the mechanisms itself.
    pub(crate) fn dovecot(&self) -> Option<&Arc<Dovecot>> {
        match &self.back_end {
            BackEnd::Dovecot(dovecot) => Some(dovecot),
            BackEnd::Users(_) | BackEnd::System(_) | BackEnd::Nobody => None,
        }
    }

    /// Is SCRAM with channel binding offered on this channel?
    pub(crate) fn offers_plus(&self, channel: &Channel) -> bool {
        self.mechanisms(channel).iter().any(|name| name == SCRAM_PLUS)
    }

    /// For SCRAM: the verifier of this name, and the name as the back end has it. A name that nobody has gets a verifier too, the same each time, which no password fits: so it
    /// cannot be told from the others.
    pub(crate) fn verifier(&self, name: &str) -> (Verifier, Result<String, &'static str>) {
        let users = self.users();
        let user = users.get(name);
        if let Some((user, verifier)) = user.and_then(|user| Some((user, user.hash.verifier()?))) {
            return (verifier.clone(), Ok(user.name.clone()));
        }
        let key = name::key(name);
        let made = |what: &str| mac(&self.secret, &[what.as_bytes(), key.as_bytes()]);
        let usual = users.usual().and_then(Hash::verifier);
        let length = usual.map_or(16, |verifier| verifier.salt().len());
        let iterations = usual.map_or(hash::verifier::OUR_ITERATIONS, Verifier::iterations);
        let salt = [made("salt "), made("more ")].concat().into_iter().take(length).collect();
        let verifier = Verifier::new(iterations, salt, made("stored "), made("server "));
        let why = if user.is_some() { "this user has a hash that is none for SCRAM" } else { "no such user" };
        (verifier, Err(why))
    }

    /// Those of the users file; nobody where there is none.
    fn users(&self) -> Arc<Users> {
        match &self.back_end {
            BackEnd::Users(users) => users.watched.get(),
            BackEnd::Dovecot(_) | BackEnd::System(_) | BackEnd::Nobody => Arc::default(),
        }
    }

    /// Name and password: gives the name as the back end has it.
    pub(crate) async fn check(
        &self,
        name: &str,
        password: Password,
        channel: &Channel,
    ) -> Result<String, Failure> {
        if let BackEnd::System(pam) = &self.back_end {
            return pam.check(name, &password, channel.client).await;
        }
        let users = self.users();
        let user = users.get(name).cloned();
        let known = user.is_some();
        let work = {
            let user = user.clone();
            move || match user {
                Some(user) => user.hash.fits(&password),
                None => {
                    // As long as for somebody.
                    match users.usual() {
                        Some(hash) => hash.fits(&password),
                        None => Hash::parse(NOBODY).is_ok_and(|hash| hash.fits(&password)),
                    };
                    false
                }
            }
        };
        match (self.pool.run(work).await, user) {
            (Ok(true), Some(user)) => Ok(user.name.clone()),
            (Ok(_), _) if known => Err(Failure::wrong(Some(name), "wrong password")),
            (Ok(_), _) => Err(Failure::wrong(Some(name), "no such user")),
            (Err(error), _) => Err(Failure::Unavailable(error.text().into())),
        }
    }
}

impl UsersFile {
    fn open(secret: Arc<SecretFile>) -> Result<Self, TableError> {
        let file = secret.clone();
        let read = move |path: &Path| file.read().map(|text| told(Users::parse(path, &text)));
        Ok(Self { watched: Watched::new(secret.path(), read)? })
    }
}

/// Says what is wrong in the file.
fn told(users: Users) -> Users {
    let problems = users.problems();
    problems.iter().take(TOLD).for_each(|problem| common::error!("{problem}; the other users go on"));
    if problems.len() > TOLD {
        common::error!(
            "and {} more lines of the users file that are wrong: see ironpost check",
            problems.len() - TOLD
        );
    }
    users
}

/// Those whose password stays with the client first, those that send it last.
fn by_strength(mut mechanisms: Vec<String>) -> Vec<String> {
    let weakness = |name: &String| match name.as_str() {
        "PLAIN" => 2,
        "LOGIN" => 3,
        name if name.starts_with("SCRAM-") => 0,
        _ => 1,
    };
    mechanisms.sort_by_key(weakness);
    mechanisms
}

#[cfg(test)]
mod tests;
