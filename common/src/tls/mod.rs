//! TLS as both directions need it: which levels and policies there are, whom we trust, how a connection is described in the log.
//!
//! | module | is |
//! | --- | --- |
//! | [`policy`] | levels, and the table `tls_policy` |
//! | [`certificate`] | a server's own certificate and key |
//! | [`shown`], [`clientcerts`] | a certificate that a client has shown; those whose clients may relay |
//! | [`roots`] | certificates of authorities, from `ca_file` or the system |
//! | [`describe`] | `TLSv1.3 with cipher …`, Postfix's wording |
//!
//! One crypto provider ([`provider`]), TLS 1.2 and 1.3 only ([`VERSIONS`]). No sockets here.

pub mod certificate;
pub mod clientcerts;
pub mod describe;
pub mod policy;
pub mod roots;
pub mod shown;

pub use certificate::{CertificateError, Identity};
pub use clientcerts::ClientCerts;
pub use describe::Parameters;
pub use policy::{Level, Match, Policies, Policy};
pub use roots::Roots;
pub use shown::{ClientCertificate, Shown};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use std::sync::{Arc, LazyLock};

/// What is spoken: nothing older than TLS 1.2 (RFC 8996).
pub static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The one crypto provider of the house: aws-lc-rs, with its default suites and groups (hybrid post-quantum first).
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}
