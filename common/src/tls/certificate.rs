//! A server's certificate and its key, from PEM files or as they were made, with the checks that save an evening: can both be read,
//! do they belong together, is it time.
//!
//! Errors name the file at fault, in one line. A certificate whose time is over can still be used: mail goes on while somebody
//! renews it, and [`Identity::problem`] says what is wrong.

use super::provider;
use crate::secret::Secrets;
use crate::time::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// Largest file that is read, in octets.
const MAX_FILE: u64 = 1 << 20;

/// Who a server is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Chain and key, known to belong together.
    pub key: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
    names: Vec<String>,
}

/// A certificate or a key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(String);

impl CertificateError {
    fn of(path: &Path, what: impl std::fmt::Display) -> Self {
        Self(format!("{}: {what}", path.display()))
    }
}

impl Identity {
    /// Reads the certificate (its chain behind it) and its key; both may be in one file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        Self::load_by(certificate, key, read)
    }

    /// The same with files that were handed over, where there are some.
    pub fn load_secret(secrets: &Secrets, certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        Self::load_by(certificate, key, |path| secrets.read(path, MAX_FILE))
    }

    fn load_by(
        certificate: &Path,
        key: &Path,
        read: impl Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, CertificateError> {
        let read =
            |path: &Path| read(path).map_err(|e| CertificateError::of(path, format!("cannot read: {e}")));
        let pem = read(certificate)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| CertificateError::of(certificate, format!("not PEM: {error}")))?;
        let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| {
            CertificateError::of(key, "has no private key in PEM form, or it needs a passphrase")
        })?;
        Self::new(chain, private, certificate, key)
    }

    /// From what was made or read already; the paths are for errors.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        private: PrivateKeyDer<'static>,
        certificate: &Path,
        key: &Path,
    ) -> Result<Self, CertificateError> {
        let Some(first) = chain.first() else {
            return Err(CertificateError::of(certificate, "has no certificate in PEM form"));
        };
        let (validity, names) = match x509_parser::parse_x509_certificate(first) {
            Ok((_, parsed)) => (parsed.validity().clone(), names(&parsed)),
            Err(_) => return Err(CertificateError::of(certificate, "its first certificate cannot be read")),
        };
        let key = CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let what = format!("does not belong to the certificate in {}", certificate.display());
                CertificateError::of(key, what)
            }
            other => CertificateError::of(key, format!("cannot be used: {other}")),
        })?;
        Ok(Self {
            key: Arc::new(key),
            not_before: Timestamp::from_seconds(validity.not_before.timestamp()),
            not_after: Timestamp::from_seconds(validity.not_after.timestamp()),
            names,
        })
    }

    /// The DNS names that it is for, as it has them: `*.example.com` stands for all that are one label longer.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When it ends.
    pub fn ends(&self) -> Timestamp {
        self.not_after
    }

    /// Why clients that look at the time will not believe it.
    pub fn problem(&self, now: Timestamp) -> Option<String> {
        if now > self.not_after {
            Some(format!("the certificate expired on {}", self.not_after.rfc5322()))
        } else if now < self.not_before {
            Some(format!("the certificate is not valid before {}", self.not_before.rfc5322()))
        } else {
            None
        }
    }
}

/// The alternative names; where there are none, as in certificates of old, the common names.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.map(|names| &names.value.general_names);
    let dns = alternative.into_iter().flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let dns: Vec<String> = dns.collect();
    if !dns.is_empty() {
        return dns;
    }
    certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok().map(str::to_owned))
        .collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn made(last_year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["mail.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let (good, good_key) = made(2090);
        let (_, other_key) = made(2090);
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (certificate, private, says) in [
            (None, None, "cert.pem: cannot read: No such file"),
            (Some(good.as_str()), None, "key.pem: cannot read: No such file"),
            (Some(""), Some(good_key.as_str()), "cert.pem: has no certificate"),
            (Some("hello"), Some(&*good_key), "cert.pem: has no certificate"),
            (Some(junk), Some(&*good_key), "cert.pem: its first certificate cannot be read"),
            (Some(&good), Some(""), "key.pem: has no private key"),
            (Some(&good), Some(&*good), "key.pem: has no private key"),
            (Some(&good), Some(&*other_key), "key.pem: does not belong to the certificate in "),
        ] {
            for (path, text) in [(&cert, certificate), (&key, private)] {
                let _ = std::fs::remove_file(path);
                text.iter().for_each(|text| std::fs::write(path, text).unwrap());
            }
            let error = Identity::load(&cert, &key).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains('\n'), "{says}: {error}");
        }
        std::fs::write(&key, format!("{good}{good_key}")).unwrap();
        let identity = Identity::load(&key, &key).unwrap();
        assert_eq!(identity.problem(Timestamp::from_seconds(1_800_000_000)), None);
        assert_eq!(identity.names(), ["mail.example"]);
        let early = identity.problem(Timestamp(0)).unwrap();
        assert!(early.starts_with("the certificate is not valid before Wed, 01 Jan 2020"), "{early}");
    }

    #[test]
    fn an_expired_one_is_told_and_can_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.pem");
        let (cert, key) = made(2021);
        std::fs::write(&path, cert + &key).unwrap();
        let problem = Identity::load(&path, &path).unwrap().problem(Timestamp::now()).unwrap();
        assert!(problem.starts_with("the certificate expired on "), "{problem}");
    }
}
