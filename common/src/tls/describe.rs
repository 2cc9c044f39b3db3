//! The words for an encrypted connection, as Postfix writes them into its log and into Received.

use super::shown::ClientCertificate;
use rustls::{CommonState, HandshakeKind, NamedGroup, ProtocolVersion, SupportedCipherSuite};
use std::fmt;

/// What was agreed upon in a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// `TLSv1.3`
    pub version: &'static str,
    /// The suite's name: in TLS 1.3 that of RFC 8446, in TLS 1.2 the IANA name.
    pub cipher: String,
    /// Bits of its key.
    pub bits: u16,
    /// The key exchange, `X25519` for instance; `None` when nothing was exchanged (a TLS 1.2 session that was resumed).
    pub group: Option<String>,
    /// Was an earlier session taken up again?
    pub resumed: bool,
    /// What the client showed; of servers this says nothing.
    pub client: ClientCertificate,
}

impl Parameters {
    /// Reads them from a connection; `None` before the end of the handshake.
    pub fn of(state: &CommonState) -> Option<Self> {
        let suite = state.negotiated_cipher_suite()?;
        Some(Self {
            version: match state.protocol_version()? {
                ProtocolVersion::TLSv1_3 => "TLSv1.3",
                ProtocolVersion::TLSv1_2 => "TLSv1.2",
                // No other one is ever spoken.
                _ => "TLS",
            },
            cipher: suite_name(suite),
            bits: bits(suite),
            group: state.negotiated_key_exchange_group().map(|group| group_name(group.name())),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            client: ClientCertificate::NotRequested,
        })
    }
}

impl fmt::Display for Parameters {
    /// `TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with cipher {} ({}/{} bits)", self.version, self.cipher, self.bits, self.bits)?;
        match &self.group {
            Some(group) => write!(f, " key-exchange {group}"),
            None => Ok(()),
        }
    }
}

fn suite_name(suite: SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or(name.clone(), |rest| format!("TLS_{rest}"))
}

fn bits(suite: SupportedCipherSuite) -> u16 {
    let name = format!("{:?}", suite.suite());
    if name.contains("AES_128") { 128 } else { 256 }
}

fn group_name(group: NamedGroup) -> String {
    match group {
        // OpenSSL's names, which are in Postfix's log.
        NamedGroup::secp256r1 => "prime256v1".into(),
        other => format!("{other:?}"),
    }
}
