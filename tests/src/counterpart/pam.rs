//! PAM services of tests: files in /etc/pam.d, which only root can write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A PAM service of a test, which goes with it.
#[derive(Debug)]
pub struct Service {
    folder: tempfile::TempDir,
    name: String,
    path: PathBuf,
}

impl Service {
    /// Named after the process and `kind`; `text` is given its folder.
    pub fn new(kind: &str, text: impl Fn(&Path) -> String) -> Self {
        let folder = tempfile::Builder::new().prefix("ironpost-pam-").tempdir().unwrap();
        let name = format!("ironpost-test-{}-{kind}", std::process::id());
        let path = Path::new("/etc/pam.d").join(&name);
        fs::write(&path, text(folder.path())).unwrap();
        Self { folder, name, path }
    }

    /// One where a script decides, run with the password as its input.
    pub fn script(kind: &str, script: &str) -> Self {
        let service = Self::new(kind, |folder| {
            let script = folder.join("script");
            format!(
                "auth [success=1 default=ignore] pam_exec.so quiet expose_authtok {}\nauth requisite pam_deny.so\n\
                 auth required pam_permit.so\naccount [success=ok default=die] pam_exec.so quiet {}\n",
                script.display(),
                script.display()
            )
        });
        let path = service.folder.path().join("script");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        service
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder of its own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
