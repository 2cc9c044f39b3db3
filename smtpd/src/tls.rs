//! TLS towards clients: which certificate, and what each listener does with it.
//!
//! The certificate is read while the process may still read a key that is root's alone, and again when its file changes or on
//! SIGHUP; what is wrong with a new one is logged, and the old one stays in force. Where none is configured a self-signed one
//! is made, and kept in the spool. Sessions can be resumed by tickets whose keys rotate and belong to one listener.

use common::config::{Config, ListenTls};
use common::table::TableError;
use common::time::Timestamp;
use common::tls::{Identity, VERSIONS, provider};
use common::watched::Watched;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use spool::layout::Spool;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The self-signed certificate and its key, below the spool.
const SELF_SIGNED: &str = "private/smtpd-self-signed.pem";
/// So long a self-signed certificate is valid, in years.
const YEARS: i32 = 10;
/// What clients may name in the handshake (ALPN): whoever names other protocols only is no mail client, or is sent here by somebody
/// who wants it to talk to us (the ALPACA attack).
const PROTOCOLS: [&[u8]; 2] = [b"smtp", b"esmtp"];

/// Our certificate.
#[derive(Debug)]
pub enum Certificates {
    /// From files.
    Watched(Box<Watched<Identity>>),
    /// Made here.
    SelfSigned(Box<Identity>),
}

impl Certificates {
    /// Reads or makes it; `None` where no listener needs one. Errors are one line, with the file at fault.
    pub fn open(config: &Config, spool: &Spool) -> Result<Option<Self>, String> {
        if config.smtpd.listen.iter().all(|one| one.tls == ListenTls::None) {
            return Ok(None);
        }
        let tls = &config.smtpd.tls;
        let (Some(certificate), Some(key)) = (&tls.certificate, &tls.private_key) else {
            let path = spool.root().join(SELF_SIGNED);
            return Ok(Some(Self::SelfSigned(Box::new(self_signed(config.hostname.as_str(), &path)?))));
        };
        let (shown, key) = (certificate.clone(), key.clone());
        let read = move |certificate: &Path| {
            Identity::load(certificate, &key).map_err(|error| TableError::file(&shown, &error.to_string()))
        };
        // The first error without the name of the file that is watched in front of that of the file at fault.
        let identity = Identity::load(certificate, tls.private_key.as_deref().unwrap_or(certificate));
        let identity = identity.map_err(|error| error.to_string())?;
        if let Some(problem) = identity.problem(Timestamp::now()) {
            common::warn!(
                "{}: {problem}; clients that look at it will not believe it",
                certificate.display()
            );
        }
        let watched = Watched::new(certificate, read).map_err(|error| error.to_string())?;
        Ok(Some(Self::Watched(Box::new(watched))))
    }

    /// Looks whether the files have changed, as a handshake does.
    pub fn look(&self) {
        if let Self::Watched(watched) = self {
            watched.get();
        }
    }

    /// Reads the files now.
    pub fn refresh(&self) {
        if let Self::Watched(watched) = self
            && let Err(error) = watched.refresh()
        {
            common::error!("certificate not read anew, the old one stays in force: {error}");
        }
    }

    fn current(&self) -> Arc<CertifiedKey> {
        match self {
            Self::Watched(watched) => watched.get().key.clone(),
            Self::SelfSigned(identity) => identity.key.clone(),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// What a listener does about TLS.
#[derive(Debug, Clone, Default)]
pub enum Door {
    /// Nothing.
    #[default]
    Plain,
    /// It is offered.
    StartTls(Arc<ServerConfig>),
    /// It comes first.
    Implicit(Arc<ServerConfig>),
}

impl Door {
    /// For a listener, with ticket keys of its own.
    pub fn new(kind: ListenTls, certificates: Option<&Arc<Certificates>>) -> Result<Self, rustls::Error> {
        let Some(certificates) = certificates.filter(|_| kind != ListenTls::None) else {
            return Ok(Self::Plain);
        };
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(certificates.clone());
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let config = Arc::new(config);
        Ok(if kind == ListenTls::Implicit { Self::Implicit(config) } else { Self::StartTls(config) })
    }

    /// For a handshake.
    pub fn config(&self) -> Option<Arc<ServerConfig>> {
        match self {
            Self::Plain => None,
            Self::StartTls(config) | Self::Implicit(config) => Some(config.clone()),
        }
    }
}

/// The one that was made before, or a new one when that is gone or its time is over.
fn self_signed(hostname: &str, path: &Path) -> Result<Identity, String> {
    match Identity::load(path, path) {
        Ok(identity) if identity.problem(Timestamp::now()).is_none() => return Ok(identity),
        Ok(_) => {}
        Err(_) if !path.exists() => {}
        Err(error) => common::warn!("{error}; made anew"),
    }
    let made = |error: rcgen::Error| format!("cannot make a self-signed certificate: {error}");
    let key = rcgen::KeyPair::generate().map_err(made)?;
    let mut params = rcgen::CertificateParams::new(vec![hostname.to_owned()]).map_err(made)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, hostname);
    let year = this_year();
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    let certificate = params.self_signed(&key).map_err(made)?;
    match write(path, &format!("{}{}", certificate.pem(), key.serialize_pem())) {
        Ok(()) => common::info!("{}: self-signed certificate for {hostname} made", path.display()),
        // It serves all the same, until the next start.
        Err(error) => common::warn!("{}: cannot keep the self-signed certificate: {error}", path.display()),
    }
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Identity::new(vec![certificate.der().clone()], key, path, path).map_err(|error| error.to_string())
}

/// To a name of its own first: a half-written key is no key.
fn write(path: &Path, pem: &str) -> io::Result<()> {
    let new = PathBuf::from(format!("{}.new", path.display()));
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn this_year() -> i32 {
    // 365.2425 days; at a turn of the year a day more or less does not matter.
    let years = Timestamp::now().seconds() / 31_556_952;
    1970 + i32::try_from(years).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_self_signed_certificate_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        let first = self_signed("mail.example", &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = self_signed("mail.example", &path).unwrap();
        assert_eq!(first.key.cert, again.key.cert);
        fs::write(&path, "damaged").unwrap();
        assert_ne!(self_signed("mail.example", &path).unwrap().key.cert, first.key.cert);
        assert_eq!(first.problem(Timestamp::now()), None);
        // Where it cannot be kept it serves all the same.
        assert!(self_signed("mail.example", &folder.path().join("no/such/folder")).is_ok());
    }
}
