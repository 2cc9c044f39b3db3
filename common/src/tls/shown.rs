//! A certificate that a client has shown, as rules, the log and `Received` need it. What is in it the client chose: texts are printable and
//! short.

use super::policy::Fingerprint;
use crate::text::printable;
use crate::time::Timestamp;
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;
use std::sync::Arc;
use x509_parser::x509::X509Name;

/// Longest name that is shown, in octets.
const MAX_NAME: usize = 100;

/// What a client has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It was not asked.
    #[default]
    NotRequested,
    /// None, although it was asked.
    Absent,
    /// This one; it has the key for it.
    Shown(Arc<Shown>),
}

impl ClientCertificate {
    /// Where there is one.
    pub fn shown(&self) -> Option<&Arc<Shown>> {
        if let Self::Shown(shown) = self { Some(shown) } else { None }
    }

    /// Postfix's word in `… TLS connection established from …`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotRequested | Self::Absent => "Anonymous",
            Self::Shown(shown) => shown.word(),
        }
    }
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The subject's common name; empty where there is none.
    pub subject: String,
    /// The issuer's common name, else its organization.
    pub issuer: String,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// SHA-256 of its public key (SubjectPublicKeyInfo).
    pub key_fingerprint: Fingerprint,
    /// Why no authority that counts here vouches for it; `None`: one does.
    pub distrust: Option<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Shown {
    /// Reads one, without judging it.
    pub fn read(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self {
            subject: common_name(parsed.subject()),
            issuer: common_name(parsed.issuer()),
            fingerprint: sha256(certificate),
            key_fingerprint: sha256(parsed.public_key().raw),
            distrust: Some("nobody was asked".into()),
            not_before: Timestamp::from_seconds(validity.not_before.timestamp()),
            not_after: Timestamp::from_seconds(validity.not_after.timestamp()),
        })
    }

    /// Is it within its time?
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Postfix's word.
    pub fn word(&self) -> &'static str {
        if self.distrust.is_none() { "Trusted" } else { "Untrusted" }
    }

    /// Certificate and key: either may be in a table.
    pub fn fingerprints(&self) -> [Fingerprint; 2] {
        [self.fingerprint, self.key_fingerprint]
    }
}

impl fmt::Display for Shown {
    /// Postfix's line about it, behind the client's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, issuer, fingerprint, key_fingerprint, .. } = self;
        write!(
            f,
            "{}: subject_CN={subject}, issuer={issuer}, fingerprint={}, pkey_fingerprint={}",
            self.word(),
            shown(fingerprint),
            shown(key_fingerprint)
        )
    }
}

/// `AB:CD:…`, as OpenSSL and Postfix write it.
pub fn shown(fingerprint: &Fingerprint) -> String {
    fingerprint.iter().map(|octet| format!("{octet:02X}")).collect::<Vec<_>>().join(":")
}

fn sha256(octets: &[u8]) -> Fingerprint {
    let mut print = [0; 32];
    for (to, from) in print.iter_mut().zip(digest(&SHA256, octets).as_ref()) {
        *to = *from;
    }
    print
}

fn common_name(name: &X509Name<'_>) -> String {
    let first = name.iter_common_name().chain(name.iter_organization()).find_map(|part| part.as_str().ok());
    printable(first.unwrap_or_default(), MAX_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_and_tamed() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("a\r\nb{}", "x".repeat(500)));
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let read = Shown::read(certificate.der()).unwrap();
        assert!(read.subject.len() < 200 && !read.subject.contains(['\r', '\n']), "{}", read.subject);
        assert!(read.is_current(Timestamp::from_seconds(1_800_000_000)));
        assert!(!read.is_current(Timestamp::from_seconds(2_000_000_000)));
        assert_eq!(shown(&read.fingerprint).len(), 95);
        let line = read.to_string();
        assert!(
            line.starts_with("Untrusted: subject_CN=a") && line.contains(", pkey_fingerprint="),
            "{line}"
        );
        assert_eq!(Shown::read(b"nonsense"), None);
        assert_eq!(ClientCertificate::Absent.word(), "Anonymous");
    }
}
