//! Our certificates, and which one a client is shown: the one whose name it asks for (SNI, RFC 6066 3), else the first.
//!
//! They are read while the process may still read keys that are root's alone, and again when their files change, on SIGHUP and by
//! `ironpost reload`, which hands over what this process cannot open any more. What is wrong with a new one is said, and the old one
//! stays in force. Where none is configured a self-signed one is made.

use super::self_signed;
use common::config::{Config, ListenTls, SmtpdTls};
use common::reload::{Daemon, Report};
use common::secret::Secrets;
use common::table::TableError;
use common::time::Timestamp;
use common::tls::Identity;
use common::watched::Watched;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use spool::layout::Spool;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// All of them.
#[derive(Debug)]
pub struct Certificates {
    secrets: Arc<Secrets>,
    /// The first one is the default.
    list: RwLock<Arc<Vec<Entry>>>,
}

/// One of them.
#[derive(Debug)]
struct Entry {
    source: Source,
    /// Instead of those that the certificate bears.
    names: Vec<String>,
    current: Current,
}

/// Where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Files { certificate: PathBuf, key: PathBuf },
    SelfSigned,
}

#[derive(Debug, Clone)]
enum Current {
    Watched(Arc<Watched<Identity>>),
    Fixed(Arc<Identity>),
}

/// A certificate as it is configured.
struct Wanted {
    certificate: PathBuf,
    key: PathBuf,
    names: Vec<String>,
}

impl Certificates {
    /// Reads or makes them; `None` where no listener needs one. Errors are one line, with the file at fault.
    pub fn open(config: &Config, spool: &Spool, secrets: &Arc<Secrets>) -> Result<Option<Self>, String> {
        if config.smtpd.listen.iter().all(|one| one.tls == ListenTls::None) {
            return Ok(None);
        }
        let mut list = Vec::new();
        for wanted in wanted(&config.smtpd.tls) {
            list.push(Entry::read(wanted, secrets)?);
        }
        if list.is_empty() {
            let identity =
                self_signed::identity(config.hostname.as_str(), &spool.root().join(self_signed::FILE))?;
            let current = Current::Fixed(Arc::new(identity));
            list.push(Entry { source: Source::SelfSigned, names: Vec::new(), current });
        }
        Ok(Some(Self { secrets: secrets.clone(), list: RwLock::new(Arc::new(list)) }))
    }

    /// Looks whether the files have changed, as a handshake does.
    pub fn look(&self) {
        for entry in self.list().iter() {
            entry.identity();
        }
    }

    /// Reads all of them now, by this configuration. One that is broken stays as it was; a new one that is broken changes nothing at all.
    pub fn reload(&self, tls: &SmtpdTls, report: &mut Report) {
        let before = self.list();
        let mut list = Vec::new();
        let mut read = 0;
        for wanted in wanted(tls) {
            let source = wanted.source();
            let names = wanted.names.clone();
            match Entry::read(wanted, &self.secrets) {
                Ok(entry) => {
                    read += 1;
                    list.push(entry);
                }
                Err(error) => {
                    let old = before.iter().find(|entry| entry.source == source);
                    report.kept(&format!("certificate not read anew, the old one stays in force: {error}"));
                    let Some(old) = old else { return };
                    list.push(Entry { source, names, current: old.current.clone() });
                }
            }
        }
        if list.is_empty() {
            match before.first() {
                Some(Entry { source: Source::SelfSigned, .. }) => {}
                // It is made, or lies, where this process does not reach.
                _ => report.later("smtpd.tls.certificate", Daemon::Smtpd),
            }
            return;
        }
        match read {
            0 => {}
            1 => report.done("certificate read anew"),
            _ => report.done(&format!("{read} certificates read anew")),
        }
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
    }

    fn list(&self) -> Arc<Vec<Entry>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one for a client that asks for this name and can check these signatures.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let list = self.list();
        let identities: Vec<_> = list.iter().map(|entry| (entry, entry.identity())).collect();
        let suits = |identity: &Identity| identity.key.key.choose_scheme(schemes).is_some();
        let best = |matches: &dyn Fn(&str) -> bool| {
            let mut found = identities.iter().filter(|(entry, identity)| {
                let names = if entry.names.is_empty() { identity.names() } else { &entry.names };
                names.iter().any(|name| matches(name))
            });
            let first = found.clone().next();
            found.find(|(_, identity)| suits(identity)).or(first)
        };
        let named = name.and_then(|wanted| {
            let behind = wanted.split_once('.').map(|(_, rest)| rest);
            let is_below = |name: &str| {
                name.strip_prefix("*.").zip(behind).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
            };
            best(&|name| name.eq_ignore_ascii_case(wanted)).or_else(|| best(&is_below))
        });
        named.or(identities.first()).map(|(_, identity)| identity.key.clone())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

impl Wanted {
    fn source(&self) -> Source {
        Source::Files { certificate: self.certificate.clone(), key: self.key.clone() }
    }
}

impl Entry {
    fn read(wanted: Wanted, secrets: &Arc<Secrets>) -> Result<Self, String> {
        let source = wanted.source();
        let Wanted { certificate, key, names } = wanted;
        // The first error without the name of the file that is watched in front of that of the file at fault.
        let identity =
            Identity::load_secret(secrets, &certificate, &key).map_err(|error| error.to_string())?;
        if let Some(problem) = identity.problem(Timestamp::now()) {
            let path = certificate.display();
            common::warn!("{path}: {problem}; clients that look at it will not believe it");
        }
        let (shown, secrets) = (certificate.clone(), secrets.clone());
        let read = move |certificate: &Path| {
            Identity::load_secret(&secrets, certificate, &key)
                .map_err(|error| TableError::file(&shown, &error.to_string()))
        };
        let watched = Watched::new(&certificate, read).map_err(|error| error.to_string())?;
        Ok(Self { source, names, current: Current::Watched(Arc::new(watched)) })
    }

    fn identity(&self) -> Arc<Identity> {
        match &self.current {
            Current::Watched(watched) => watched.get(),
            Current::Fixed(identity) => identity.clone(),
        }
    }
}

/// In their order, the default first.
fn wanted(tls: &SmtpdTls) -> Vec<Wanted> {
    let default = tls.certificate.clone().zip(tls.private_key.clone());
    let default = default.map(|(certificate, key)| Wanted { certificate, key, names: Vec::new() });
    let others = tls.certificates.iter().map(|one| Wanted {
        certificate: one.certificate.clone(),
        key: one.private_key.clone(),
        names: one.names.iter().map(ToString::to_string).collect(),
    });
    default.into_iter().chain(others).collect()
}
