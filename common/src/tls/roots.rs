//! The authorities whose certificates we trust: those of `ca_file`, or the system's.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Largest `ca_file` that is read, in octets.
const MAX_FILE: u64 = 16 << 20;

/// Authorities, and a number that tells one set of them from another.
#[derive(Debug, Clone)]
pub struct Roots {
    /// For verifying chains.
    pub store: Arc<RootCertStore>,
    /// The certificates themselves: a server that shows one of them is trusted, whatever else it says of itself. Only
    /// those of a `ca_file`.
    pub itself: Arc<Vec<CertificateDer<'static>>>,
    /// The same for the same certificates.
    pub id: u64,
}

impl Roots {
    /// No authority: nothing can be verified.
    pub fn none() -> Self {
        Self::of(&[], false)
    }

    /// Those of a PEM file, which must have at least one certificate. Errors say what is wrong, without the path.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let pem = read(path).map_err(|error| format!("cannot read: {error}"))?;
        let list: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("not PEM: {error}"))?;
        let roots = Self::of(&list, true);
        if list.is_empty() {
            return Err("has no certificate in PEM form".into());
        }
        if roots.store.is_empty() {
            return Err("none of its certificates can be used".into());
        }
        Ok(roots)
    }

    /// The system's. What cannot be used is left out; with it come texts about what could not be read.
    pub fn from_system() -> (Self, Vec<String>) {
        let found = rustls_native_certs::load_native_certs();
        (Self::of(&found.certs, false), found.errors.iter().map(ToString::to_string).collect())
    }

    fn of(list: &[CertificateDer<'static>], named: bool) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(list.iter().cloned());
        let mut hasher = DefaultHasher::new();
        list.hash(&mut hasher);
        let itself = if named { list.to_vec() } else { Vec::new() };
        Self { store: Arc::new(store), itself: Arc::new(itself), id: hasher.finish() }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(Roots::from_file(&path).unwrap_err().starts_with("cannot read: "));
        for (text, says) in [
            ("", "has no certificate"),
            ("hello\n", "has no certificate"),
            ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "not PEM"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "none of its certificates"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Roots::from_file(&path).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn certificates_are_told_apart_by_their_set() {
        let ca = |name: &str| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let one = ca("one");
        std::fs::write(&path, &one).unwrap();
        let first = Roots::from_file(&path).unwrap();
        assert_eq!(first.store.len(), 1);
        assert_eq!(Roots::from_file(&path).unwrap().id, first.id);
        std::fs::write(&path, one + &ca("two")).unwrap();
        let second = Roots::from_file(&path).unwrap();
        assert_eq!(second.store.len(), 2);
        assert_ne!(second.id, first.id);
    }
}
