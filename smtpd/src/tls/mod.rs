//! TLS towards clients: what each listener does about it.
//!
//! | module | is |
//! | --- | --- |
//! | [`certificates`] | our certificates, and which one a client is shown |
//! | [`self_signed`] | the one that is made where none is configured |
//!
//! Sessions can be resumed by tickets whose keys rotate and belong to one listener.

pub mod certificates;
pub mod self_signed;

pub use certificates::Certificates;

use common::config::ListenTls;
use common::tls::{VERSIONS, provider};
use rustls::ServerConfig;
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
