//! What a server's certificate is worth to a policy. Pure: certificates, authorities and time are handed in.
//!
//! The chain must lead to a known authority and be valid now; the certificate must be for one of the names that the policy
//! takes (RFC 6125: DNS names with a wildcard as the whole first label, IP addresses literally; the common name does not count). At level
//! `fingerprint` the certificate or its public key must be a known one, and nothing else counts.

use common::destination::{Host, Nexthop};
use common::text::printable;
use common::tls::policy::{Fingerprint, name_of};
use common::tls::{Level, Match, Policy, Roots, provider};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};
use std::net::IpAddr;
use webpki::EndEntityCert;

/// How well a server is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Anyone could be there; why.
    Untrusted(String),
    /// Somebody whom a known authority knows; why it is not more.
    Trusted(String),
    /// The one whom the policy names.
    Verified,
}

impl Trust {
    /// Postfix's word in `… TLS connection established to …`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Untrusted(_) => "Untrusted",
            Self::Trusted(_) => "Trusted",
            Self::Verified => "Verified",
        }
    }
}

/// A name that a certificate may be for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Exactly(ServerName<'static>),
    /// `.example.com`
    Below(String),
}

/// What the policy expects of the server that was connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The policy's.
    pub level: Level,
    names: Vec<Name>,
    fingerprints: Vec<Fingerprint>,
    host: Option<ServerName<'static>>,
}

impl Expected {
    /// By the policy for `nexthop`, at the host of this name (or address).
    pub fn new(policy: &Policy, nexthop: &Nexthop, host: &str) -> Self {
        let host = server_name(host);
        let nexthop_name = name_of(nexthop).and_then(|name| match name {
            Host::Name(name) => server_name(name.as_str()),
            Host::Ip(ip) => Some(ServerName::IpAddress(ip.into())),
        });
        let names = policy.matches.iter().filter_map(|name| match name {
            Match::Hostname => host.clone().map(Name::Exactly),
            Match::Nexthop => nexthop_name.clone().map(Name::Exactly),
            Match::Name(name) => server_name(name.as_str()).map(Name::Exactly),
            Match::BelowNexthop => match &nexthop_name {
                Some(ServerName::DnsName(name)) => Some(below(name.as_ref())),
                _ => None,
            },
            Match::Below(name) => Some(below(name.as_str())),
        });
        Self { level: policy.level, names: names.collect(), fingerprints: policy.fingerprints.clone(), host }
    }

    /// The name to tell the server (RFC 6066 3): the first one that is looked for in its certificate, else the
    /// host's. `None`: there is no name.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        let named = self.names.iter().find_map(|name| match name {
            Name::Exactly(name) => Some(name.clone()),
            Name::Below(_) => None,
        });
        named.or_else(|| self.host.clone())
    }

    /// What a certificate, first of its chain, is worth at `now`.
    pub fn judge(&self, chain: &[CertificateDer<'_>], roots: &Roots, now: UnixTime) -> Trust {
        let Some((first, rest)) = chain.split_first() else {
            return Trust::Untrusted("the server showed none".into());
        };
        if self.level == Level::Fingerprint {
            return self.by_fingerprint(first);
        }
        let (parsed, certificate) = match (ParsedCertificate::try_from(first), EndEntityCert::try_from(first))
        {
            (Ok(parsed), Ok(certificate)) => (parsed, certificate),
            (Err(error), _) => return Trust::Untrusted(words(&error, None)),
            (_, Err(error)) => return Trust::Untrusted(format!("it cannot be read: {error}")),
        };
        let algorithms = provider().signature_verification_algorithms.all;
        let valid = if roots.itself.contains(first) {
            // As with OpenSSL, a server's own certificate in ca_file counts, also one that calls itself an
            // authority, as `openssl req -x509` makes them.
            valid_at(first, now)
        } else {
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots.store, rest, now, algorithms)
        };
        if let Err(error) = valid {
            return Trust::Untrusted(words(&error, Some(&certificate)));
        }
        if self.names.iter().any(|name| is_for(&certificate, name)) {
            return Trust::Verified;
        }
        let wanted: Vec<String> = self.names.iter().map(shown).collect();
        let has: Vec<&str> = certificate.valid_dns_names().take(5).collect();
        Trust::Trusted(match wanted.as_slice() {
            [] => "no name was asked for".into(),
            _ => printable(&format!("it is for {}, not for {}", list(&has), wanted.join(" or ")), 500),
        })
    }

    /// Is that enough? Errors: Postfix's words for the status, with the reason.
    pub fn suffices(&self, trust: &Trust) -> Result<(), String> {
        match (self.level, trust) {
            (Level::None | Level::May | Level::Encrypt, _) | (_, Trust::Verified) => Ok(()),
            (Level::Fingerprint, Trust::Untrusted(why)) | (_, Trust::Trusted(why)) => {
                Err(format!("Server certificate not verified: {why}"))
            }
            (_, Trust::Untrusted(why)) => Err(format!("Server certificate not trusted: {why}")),
        }
    }

    fn by_fingerprint(&self, certificate: &CertificateDer<'_>) -> Trust {
        let print = sha256(certificate.as_ref());
        let key = EndEntityCert::try_from(certificate).ok();
        let key = key.map(|certificate| sha256(certificate.subject_public_key_info().as_ref()));
        let known = |print: &Fingerprint| self.fingerprints.contains(print);
        if known(&print) || key.as_ref().is_some_and(known) {
            return Trust::Verified;
        }
        let pairs: Vec<String> = print.iter().map(|octet| format!("{octet:02x}")).collect();
        Trust::Untrusted(format!("its fingerprint is {}", pairs.join(":")))
    }
}

/// Is it within its time?
fn valid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let wrong = |what| Err(Error::InvalidCertificate(what));
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return wrong(CertificateError::BadEncoding);
    };
    let (begin, end) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    match i64::try_from(now.as_secs()) {
        Ok(now) if now < begin => wrong(CertificateError::NotValidYet),
        Ok(now) if now <= end => Ok(()),
        _ => wrong(CertificateError::Expired),
    }
}

fn sha256(octets: &[u8]) -> Fingerprint {
    let mut print = [0; 32];
    for (to, from) in
        print.iter_mut().zip(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets).as_ref())
    {
        *to = *from;
    }
    print
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(ServerName::IpAddress(ip.into())),
        Err(_) => ServerName::try_from(host.trim_end_matches('.').to_owned()).ok(),
    }
}

fn below(name: &str) -> Name {
    Name::Below(format!(".{}", name.to_ascii_lowercase()))
}

fn is_for(certificate: &EndEntityCert<'_>, name: &Name) -> bool {
    match name {
        Name::Exactly(name) => certificate.verify_is_valid_for_subject_name(name).is_ok(),
        Name::Below(suffix) => {
            certificate.valid_dns_names().any(|name| name.to_ascii_lowercase().ends_with(suffix))
        }
    }
}

fn shown(name: &Name) -> String {
    match name {
        Name::Exactly(name) => name.to_str().into_owned(),
        Name::Below(suffix) => suffix.clone(),
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "no name".into() } else { names.join(", ") }
}

/// Why a chain is not good, in an admin's words.
fn words(error: &Error, certificate: Option<&EndEntityCert<'_>>) -> String {
    let self_signed = certificate.is_some_and(|c| c.issuer() == c.subject());
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) if self_signed => {
            "it is self-signed".into()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => "its issuer is not known".into(),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "it has expired".into()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "it is not valid yet".into(),
        Error::InvalidCertificate(other) if self_signed => format!("it is self-signed ({other})"),
        Error::InvalidCertificate(other) => format!("{other}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
