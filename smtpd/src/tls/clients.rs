//! Clients' certificates: who is asked for one, and what one is worth.
//!
//! A listener asks, or insists. Any certificate is taken for which the client has the key: its fingerprint counts in tables, whoever
//! issued it. Where authorities are given (`client_ca_file`), whether one of them vouches for it is said, too, and a listener that
//! insists takes no other. A session that was taken up again has the certificate that it began with (it is in the ticket), which is
//! judged anew: by the authorities and the time of now.

use common::config::ClientCertificates;
use common::table::TableError;
use common::time::Timestamp;
use common::tls::{ClientCertificate, Roots, Shown, provider};
use common::watched::Watched;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// The authorities for clients, of all listeners.
#[derive(Debug, Default)]
pub struct Authorities(RwLock<Option<Arc<Watched<Authority>>>>);

/// What the file `client_ca_file` says.
#[derive(Debug)]
pub struct Authority {
    roots: Roots,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authorities {
    /// Reads the file, where there is one. Errors are one line.
    pub fn open(file: Option<&Path>) -> Result<Self, String> {
        Ok(Self(RwLock::new(file.map(Authority::watch).transpose()?.map(Arc::new))))
    }

    /// By the file of a new configuration, from now on. Errors: it cannot be used, and nothing has changed.
    pub fn reload(&self, file: Option<&Path>) -> Result<(), String> {
        let new = file.map(Authority::watch).transpose()?.map(Arc::new);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn current(&self) -> Option<Arc<Authority>> {
        let watched = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        watched.map(|watched| watched.get())
    }

    /// Why none of them vouches for this certificate now; `None`: one does.
    fn distrust(&self, chain: &[CertificateDer<'_>], shown: &Shown) -> Option<String> {
        let Some(authority) = self.current() else { return Some("no authorities are known".into()) };
        let (first, rest) = chain.split_first()?;
        if authority.roots.itself.iter().any(|one| one == first) {
            // As with OpenSSL, a client's own certificate in the file counts.
            return (!shown.is_current(Timestamp::now())).then(|| "it is not within its time".into());
        }
        match authority.verifier.verify_client_cert(first, rest, UnixTime::now()) {
            Ok(_) => None,
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                Some("its issuer is not known".into())
            }
            Err(error) => Some(common::text::printable(&error.to_string(), 200)),
        }
    }
}

impl Authority {
    fn watch(file: &Path) -> Result<Watched<Self>, String> {
        let watched = Watched::new(file, |path| {
            let roots = Roots::from_file(path).map_err(|what| TableError::file(path, &what))?;
            let builder = WebPkiClientVerifier::builder_with_provider(roots.store.clone(), provider());
            let verifier = builder.build().map_err(|e| TableError::file(path, &e.to_string()))?;
            Ok(Self { roots, verifier })
        });
        watched.map_err(|error| format!("client_ca_file {error}"))
    }
}

/// How one listener asks.
#[derive(Debug)]
pub struct Clients {
    authorities: Arc<Authorities>,
    required: bool,
    /// What clients are told that we know, by the file of the start.
    hints: Vec<DistinguishedName>,
}

impl Clients {
    /// `None`: it does not.
    pub fn new(how: ClientCertificates, authorities: &Arc<Authorities>) -> Option<Arc<Self>> {
        if how == ClientCertificates::None {
            return None;
        }
        let hints = authorities.current().map(|authority| authority.verifier.root_hint_subjects().to_vec());
        let required = how == ClientCertificates::Require;
        Some(Arc::new(Self { authorities: authorities.clone(), required, hints: hints.unwrap_or_default() }))
    }

    /// What came of a handshake that showed this chain. Errors: such a client is not taken.
    pub fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<ClientCertificate, String> {
        let Some(first) = chain.first() else {
            return if self.required { Err("no certificate".into()) } else { Ok(ClientCertificate::Absent) };
        };
        let mut shown = Shown::read(first).ok_or("its certificate cannot be read")?;
        shown.distrust = self.authorities.distrust(chain, &shown);
        match &shown.distrust {
            Some(why) if self.insists() => Err(format!("certificate verification failed: {why}")),
            _ => Ok(ClientCertificate::Shown(Arc::new(shown))),
        }
    }

    /// Must somebody vouch for a client?
    fn insists(&self) -> bool {
        self.required && self.authorities.current().is_some()
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(first.clone()).chain(rest.iter().cloned()).collect();
        match self.judge(&chain) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(_) => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
