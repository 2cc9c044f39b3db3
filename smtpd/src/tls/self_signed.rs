//! The certificate that is made where none is configured, so that STARTTLS always works: for ten years, kept in the spool. Where it
//! cannot be kept it serves all the same, until the next start.

use common::time::Timestamp;
use common::tls::Identity;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The certificate and its key, below the spool.
pub const FILE: &str = "private/smtpd-self-signed.pem";
/// So long it is valid, in years.
const YEARS: i32 = 10;

/// The one that was made before, or a new one when that is gone or its time is over. Errors are one line.
pub fn identity(hostname: &str, path: &Path) -> Result<Identity, String> {
    match Identity::load(path, path) {
        Ok(identity) if identity.problem(Timestamp::now()).is_none() => return Ok(identity),
        Ok(_) => {}
        Err(_) if !path.exists() => {}
        Err(error) => common::warn!("{error}; made anew"),
    }
    let made = |error: rcgen::Error| format!("cannot make a self-signed certificate: {error}");
    let key = rcgen::KeyPair::generate().map_err(made)?;
    let mut params = rcgen::CertificateParams::new(vec![hostname.to_owned()]).map_err(made)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, hostname);
    let year = this_year();
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    let certificate = params.self_signed(&key).map_err(made)?;
    match write(path, &format!("{}{}", certificate.pem(), key.serialize_pem())) {
        Ok(()) => common::info!("{}: self-signed certificate for {hostname} made", path.display()),
        // It serves all the same, until the next start.
        Err(error) => common::warn!("{}: cannot keep the self-signed certificate: {error}", path.display()),
    }
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Identity::new(vec![certificate.der().clone()], key, path, path).map_err(|error| error.to_string())
}

/// To a name of its own first: a half-written key is no key.
fn write(path: &Path, pem: &str) -> io::Result<()> {
    let new = PathBuf::from(format!("{}.new", path.display()));
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn this_year() -> i32 {
    // 365.2425 days; at a turn of the year a day more or less does not matter.
    let years = Timestamp::now().seconds() / 31_556_952;
    1970 + i32::try_from(years).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_self_signed_certificate_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        let first = identity("mail.example", &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = identity("mail.example", &path).unwrap();
        assert_eq!(first.key.cert, again.key.cert);
        fs::write(&path, "damaged").unwrap();
        assert_ne!(identity("mail.example", &path).unwrap().key.cert, first.key.cert);
        assert_eq!(first.problem(Timestamp::now()), None);
        // Where it cannot be kept it serves all the same.
        assert!(identity("mail.example", &folder.path().join("no/such/folder")).is_ok());
    }
}
