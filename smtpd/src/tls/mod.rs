//! TLS towards clients: what each listener does about it.
//!
//! | module | is |
//! | --- | --- |
//! | [`certificates`] | our certificates, and which one a client is shown |
//! | [`clients`] | certificates of clients, where they are asked for one |
//! | [`self_signed`] | the one that is made where none is configured |
//!
//! Sessions can be resumed by tickets whose keys rotate and belong to one listener.

pub mod certificates;
pub mod clients;
pub mod self_signed;

pub use certificates::Certificates;
pub use clients::{Authorities, Clients};

use common::config::{Listen, ListenTls};
use common::tls::{ClientCertificate, VERSIONS, provider};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use std::sync::Arc;

/// What clients may name in the handshake (ALPN): whoever names other protocols only is no mail client, or is sent here by somebody
/// who wants it to talk to us (the ALPACA attack).
const PROTOCOLS: [&[u8]; 2] = [b"smtp", b"esmtp"];

/// What a listener does about TLS.
#[derive(Debug, Clone, Default)]
pub enum Door {
    /// Nothing.
    #[default]
    Plain,
    /// It is offered.
    StartTls(Arc<Secure>),
    /// It comes first.
    Implicit(Arc<Secure>),
}

/// How a handshake is made.
#[derive(Debug)]
pub struct Secure {
    /// With what.
    pub config: Arc<ServerConfig>,
    clients: Option<Arc<Clients>>,
}

impl Secure {
    /// What a client's certificate is worth, after a handshake, also of a session that was taken up again. Errors: such a client is not taken.
    pub fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<ClientCertificate, String> {
        self.clients.as_ref().map_or(Ok(ClientCertificate::NotRequested), |clients| clients.judge(chain))
    }
}

impl Door {
    /// For a listener, with ticket keys of its own.
    pub fn new(
        listen: &Listen,
        certificates: Option<&Arc<Certificates>>,
        authorities: &Arc<Authorities>,
    ) -> Result<Self, rustls::Error> {
        let Some(certificates) = certificates.filter(|_| listen.tls != ListenTls::None) else {
            return Ok(Self::Plain);
        };
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS)?;
        let clients = Clients::new(listen.client_certificate, authorities);
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(clients.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(certificates.clone());
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let secure = Arc::new(Secure { config: Arc::new(config), clients });
        Ok(if listen.tls == ListenTls::Implicit { Self::Implicit(secure) } else { Self::StartTls(secure) })
    }

    /// For a handshake.
    pub fn secure(&self) -> Option<Arc<Secure>> {
        match self {
            Self::Plain => None,
            Self::StartTls(secure) | Self::Implicit(secure) => Some(secure.clone()),
        }
    }
}
