//! One handshake: makes an encrypted connection of a plain one, and says what the server's certificate is worth.
//!
//! rustls is told to take any certificate (but to check that the server has its key); [`Expected`] judges it afterwards. So
//! the log can say what a server at level `may` is worth, and a session that was taken up again is judged like any other.

use super::super::client::Peer;
use super::judge::{Expected, Trust};
use common::tls::{Level, Parameters, Roots, VERSIONS, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a handshake is made with.
#[derive(Debug, Clone)]
pub struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    expected: Expected,
    roots: Roots,
}

/// What came of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// What the server's certificate is worth.
    pub trust: Trust,
    /// What was agreed upon.
    pub parameters: Option<Parameters>,
}

impl Established {
    /// Postfix's line, with the level that was asked for; the first word is what was reached.
    pub fn log_line(&self, relay: &str, level: Level) -> String {
        let word = self.trust.word();
        let mut line = format!("{word} TLS connection established to {relay}:");
        if let Some(parameters) = &self.parameters {
            let resumed = if parameters.resumed { ", resumed" } else { "" };
            line.push_str(&format!(" {parameters}, level={level}{resumed}"));
        }
        line
    }
}

impl Secure {
    /// A handshake with `peer`.
    pub fn new(config: Arc<ClientConfig>, expected: Expected, roots: Roots, peer: &Peer) -> Self {
        // A numeric name is not told to the server, but keeps tickets apart.
        let numeric = ServerName::IpAddress(peer.address.ip().into());
        Self { config, name: expected.server_name().unwrap_or(numeric), expected, roots }
    }

    /// Does it. Errors: it did not come to its end. Whether the outcome is good enough is for the caller to ask
    /// ([`Self::expected`]).
    pub async fn with<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Established)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.config.clone());
        let stream = connector.connect(self.name.clone(), stream).await?;
        let (_, state) = stream.get_ref();
        let chain = state.peer_certificates().unwrap_or_default();
        let trust = self.expected.judge(chain, &self.roots, UnixTime::now());
        let parameters = Parameters::of(state);
        Ok((stream, Established { trust, parameters }))
    }

    /// What is expected of the server.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }
}

/// Takes every certificate for now. That the server has the certificate's key is checked as ever.
#[derive(Debug)]
pub struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    /// A configuration with it. Errors: the provider lacks what it must have.
    pub fn config() -> Result<ClientConfig, Error> {
        let provider = provider();
        let verifier = Arc::new(Self(provider.signature_verification_algorithms));
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(VERSIONS)?;
        Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
