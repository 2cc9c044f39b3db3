//! A refresh token that the endpoint has replaced (RFC 6749 6), on disk: the one in the admin's file is of no use from then on.
//!
//! One file per token file in a folder that is deliverd's alone. It belongs to the refresh token in the admin's file: as soon as that is another one,
//! what is kept here is of no account. Written whole or not at all, synced, and in place before the new token is used.

use aws_lc_rs::digest::{SHA256, digest};
use common::oauth::Secret;
use common::time::Timestamp;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Largest file that is read, in octets.
const MAX_FILE: u64 = 64 * 1024;

/// Where the replacement for one token file is.
#[derive(Debug, Clone)]
pub struct Place(PathBuf);

/// The replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The newest refresh token.
    pub token: Secret,
    /// When it ends, as far as the endpoint has said that.
    pub ends: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    /// Of the refresh token in the admin's file.
    instead_of: String,
    refresh_token: String,
    ends: Option<i64>,
}

impl Place {
    /// In `folder`, for the token file at `path`.
    pub fn new(folder: &Path, path: &Path) -> Self {
        let name = HEXLOWER.encode(digest(&SHA256, path.as_os_str().as_bytes()).as_ref());
        Self(folder.join(format!("oauth-{name}")))
    }

    /// What takes the place of `given`, when there is something. Errors: the file is there and cannot be read; its path, and why.
    pub fn read(&self, given: &Secret) -> Result<Option<Kept>, String> {
        let wrong = |what: &str| format!("{}: {what}", self.0.display());
        let meta = match fs::symlink_metadata(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| wrong(&error.to_string()))?,
        };
        if !meta.is_file() || meta.len() > MAX_FILE {
            return Err(wrong("this is not what was written here"));
        }
        let bytes = fs::read(&self.0).map_err(|error| wrong(&error.to_string()))?;
        // The parser's words might show what is in it.
        let written: Written =
            serde_json::from_slice(&bytes).map_err(|_| wrong("this is not what was written here"))?;
        let token = Secret::new(&written.refresh_token);
        let token = token.ok_or_else(|| wrong("this is not what was written here"))?;
        let ends = written.ends.map(Timestamp::from_seconds);
        Ok((written.instead_of == fingerprint(given)).then_some(Kept { token, ends }))
    }

    /// Keeps what takes the place of `given`. Errors: the path, and why it cannot.
    pub fn write(&self, given: &Secret, kept: &Kept) -> Result<(), String> {
        let written = Written {
            instead_of: fingerprint(given),
            refresh_token: kept.token.expose().to_owned(),
            ends: kept.ends.map(Timestamp::seconds),
        };
        self.replace(&written).map_err(|error| format!("{}: {error}", self.0.display()))
    }

    fn replace(&self, written: &Written) -> io::Result<()> {
        let new = self.0.with_extension("new");
        // What is left of an attempt that was cut off. It need not be there.
        let _ = fs::remove_file(&new);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        let text = serde_json::to_vec(written)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.0)?;
        File::open(self.0.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}

fn fingerprint(secret: &Secret) -> String {
    HEXLOWER.encode(digest(&SHA256, secret.expose().as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn secret(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    #[test]
    fn what_is_kept_belongs_to_one_file_and_one_token() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path(), Path::new("/etc/a.toml"));
        let other = Place::new(folder.path(), Path::new("/etc/b.toml"));
        let given = secret("given");
        assert_eq!(place.read(&given), Ok(None));
        for (token, ends) in [("second", None), ("third", Some(Timestamp::from_seconds(12)))] {
            let kept = Kept { token: secret(token), ends };
            place.write(&given, &kept).unwrap();
            assert_eq!(place.read(&given), Ok(Some(kept)));
        }
        assert_eq!(place.read(&secret("an-admins-new-one")), Ok(None));
        assert_eq!(other.read(&given), Ok(None));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(fs::metadata(&names[0]).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_was_not_written_here_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path(), Path::new("/etc/a.toml"));
        let given = secret("given");
        for text in ["", "{}", "{\"instead_of\":\"x\",\"refresh_token\":\"\",\"ends\":null}", "hush"] {
            fs::write(&place.0, text).unwrap();
            let error = place.read(&given).unwrap_err();
            assert!(error.contains("not what was written here") && !error.contains("hush"), "{error}");
        }
        fs::remove_file(&place.0).unwrap();
        fs::create_dir(&place.0).unwrap();
        assert!(place.read(&given).is_err());
        assert!(place.write(&given, &Kept { token: given.clone(), ends: None }).is_err());
    }
}
