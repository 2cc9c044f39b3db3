//! A real Dovecot, of which only the authentication service runs: who may log in to a Postfix.
//!
//! Its master insists on root; tests that use it are skipped for everyone else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::lines::Lines;
use crate::process::Process;
use crate::tools::unpacked;

/// A running authentication service.
#[derive(Debug)]
pub struct Dovecot {
    // First: it must be gone before its folder.
    _process: Process,
    folder: TempDir,
}

impl Dovecot {
    /// Starts one that knows these names and passwords, and offers these mechanisms (`plain login scram-sha-256`).
    pub fn start(users: &[(&str, &str)], mechanisms: &str) -> Self {
        let users: String =
            users.iter().map(|(name, password)| format!("{name}:{{PLAIN}}{password}\n")).collect();
        Self::start_with(mechanisms, "driver = passwd-file\n  args = scheme=PLAIN {passdb}", &users)
    }

    /// Starts one that asks about tokens there (RFC 7662), and offers these mechanisms (`xoauth2 oauthbearer`).
    pub fn start_oauth(introspection: &str, mechanisms: &str) -> Self {
        let settings = format!(
            "introspection_mode = post\nintrospection_url = {introspection}\nusername_attribute = username\n\
             active_attribute = active\nactive_value = true\n"
        );
        let passdb = format!("driver = oauth2\n  mechanisms = {mechanisms}\n  args = {{passdb}}");
        Self::start_with(mechanisms, &passdb, &settings)
    }

    fn start_with(mechanisms: &str, passdb: &str, file: &str) -> Self {
        let programs = unpacked().join("dovecot-core");
        assert!(programs.exists(), "Dovecot is not there: run tests/tools.sh");
        let folder = tempfile::Builder::new().prefix("ironpost-dovecot-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("run")).unwrap();
        fs::write(folder.path().join("passdb"), file).unwrap();
        let passdb = passdb.replace("{passdb}", &folder.path().join("passdb").display().to_string());
        let config = folder.path().join("dovecot.conf");
        fs::write(&config, text(folder.path(), &programs, mechanisms, &passdb)).unwrap();
        // What `dovecot` does by itself, had it been installed: doveconf reads the configuration and starts it.
        let mut command = Command::new(programs.join("usr/bin/doveconf"));
        command.args(["-f", "service=master", "-c"]).arg(&config).args(["-m", "master", "-e"]);
        command.arg(programs.join("usr/sbin/dovecot")).args(["-F", "-c"]).arg(&config);
        let libraries = programs.join("usr/lib/dovecot");
        let old = libraries.join("modules/old-stats");
        command.env("LD_LIBRARY_PATH", format!("{}:{}", old.display(), libraries.display()));
        let mut process = Process::start_group(&mut command);
        let dovecot_socket = folder.path().join("auth");
        Lines::default().wait_until("Dovecot's socket", || {
            let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            if let Some(status) = process.poll() {
                panic!("Dovecot ended with {status}: {:?}\n{}", process.err.all(), log());
            }
            dovecot_socket.exists().then_some(())
        });
        Self { _process: process, folder }
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Where servers ask.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("auth")
    }
}

fn text(folder: &Path, programs: &Path, mechanisms: &str, passdb: &str) -> String {
    format!(
        "base_dir = {0}/run
state_dir = {0}/run
libexec_dir = {1}/usr/lib/dovecot
mail_plugin_dir = {1}/usr/lib/dovecot/modules
auth_mechanisms = {mechanisms}
import_environment = LD_LIBRARY_PATH
protocols =
log_path = {0}/log
default_internal_user = daemon
default_internal_group = daemon
default_login_user = nobody
ssl = no
disable_plaintext_auth = no
passdb {{
  {passdb}
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  user = root
  unix_listener {0}/auth {{
    mode = 0666
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
",
        folder.display(),
        programs.display()
    )
}
