//! An Ironpost's configuration and folder, before it is started.
//!
//! What a test does not set is set so that nothing outside the temporary folder and the loopback interface is
//! touched: kernel-chosen port, no name server, mailboxes and users in files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::ironpost::Ironpost;
use crate::is_root;

/// The user who owns the mailboxes when the tests run as root.
pub const MAILBOX_OWNER: u32 = 61210;

/// The domain whose mail is local in every set-up.
pub const DOMAIN: &str = "example.test";

/// A configuration to be.
#[derive(Debug)]
pub struct Setup {
    folder: TempDir,
    sections: BTreeMap<String, BTreeMap<String, String>>,
    /// Address, and `tls` where it is not the default.
    listeners: Vec<(String, Option<String>)>,
    /// Lines of listeners behind those, each on a free port of 127.0.0.1.
    entrances: Vec<String>,
    proxied: bool,
    /// `client_certificate` of all listeners.
    asking: Option<String>,
    more: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// A folder with users alice, bob, carol, dave and postmaster, and a configuration that delivers to them.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("ironpost-test-").tempdir().unwrap();
        // The daemons' own users must be able to pass through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mail = folder.path().join("mail");
        fs::create_dir(&mail).unwrap();
        if is_root() {
            chown(&mail, Some(MAILBOX_OWNER), Some(MAILBOX_OWNER)).unwrap();
        }
        let setup = Self {
            folder,
            sections: BTreeMap::new(),
            listeners: vec![("127.0.0.1:0".to_owned(), None)],
            entrances: Vec::new(),
            proxied: false,
            asking: None,
            more: String::new(),
        };
        setup
            .file("users", "alice\nbob\ncarol\ndave\npostmaster\n")
            .file("aliases", "")
            .set("", "hostname", "\"mail.example.test\"")
            .set("", "mail_name", "\"example.test\"")
            .set("", "local_domains", "[\"example.test\"]")
            .set("", "spool_directory", "\"spool\"")
            .set("deliverd", "nameservers", "[\"127.0.0.1:9\"]")
            .set("local", "users", "\"users\"")
            .set("local", "mailbox", "\"mail/{user}/\"")
            .set("local", "aliases", "\"aliases\"")
            .set("log", "to", "\"stderr\"")
    }

    /// Sets a key of a section (`""`: the top) to a value, written as TOML.
    pub fn set(mut self, section: &str, key: &str, value: &str) -> Self {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets a key of a section to a string.
    pub fn text(self, section: &str, key: &str, value: &str) -> Self {
        let quoted = format!("\"{value}\"");
        self.set(section, key, &quoted)
    }

    /// Takes a key of a section back, so that its default counts.
    pub fn unset(mut self, section: &str, key: &str) -> Self {
        self.sections.entry(section.to_owned()).or_default().remove(key);
        self
    }

    /// Writes a file beside the configuration: a table, users, aliases.
    pub fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    /// As [`file`](Self::file), for its owner alone.
    pub fn secret(self, name: &str, text: &str) -> Self {
        let setup = self.file(name, text);
        let path = setup.folder.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        setup
    }

    /// Listens on these addresses instead of a free port of 127.0.0.1.
    pub fn listen(mut self, addresses: &[&str]) -> Self {
        self.listeners = addresses.iter().map(|address| ((*address).to_owned(), None)).collect();
        self
    }

    /// A listener on a free port of 127.0.0.1 for each of these values of `tls`.
    pub fn listen_tls(mut self, kinds: &[&str]) -> Self {
        let listener = |kind: &&str| ("127.0.0.1:0".to_owned(), Some((*kind).to_owned()));
        self.listeners = kinds.iter().map(listener).collect();
        self
    }

    /// All listeners ask clients for certificates in this way.
    pub fn asking(mut self, how: &str) -> Self {
        self.asking = Some(how.to_owned());
        self
    }

    /// TOML behind everything else: for sections that are lists.
    pub fn more(mut self, text: &str) -> Self {
        self.more.push_str(text);
        self
    }

    /// One listener more, on a free port of 127.0.0.1, with these lines: `kind = "submission"`.
    pub fn entrance(mut self, lines: &str) -> Self {
        self.entrances.push(lines.to_owned());
        self
    }

    /// Lets these log in, with these passwords, by a users file with hashes of this scheme.
    pub fn logins(self, scheme: &str, users: &[(&str, &str)]) -> Self {
        let file = self.path().join("logins").display().to_string();
        for (user, password) in users {
            let mut command = std::process::Command::new(crate::tools::binary("ironpost"));
            command.args(["user", "add", user, "--scheme", scheme, "--file", &file]);
            crate::process::run(&mut command, format!("{password}\n").as_bytes()).ok();
        }
        self.text("smtpd.auth", "users", "logins")
    }

    /// A proxy says who the client is, on all listeners.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Everything that is not local goes to this host and port.
    pub fn relay_to(self, host: std::net::SocketAddr) -> Self {
        let value = format!("[{}]:{}", host.ip(), host.port());
        self.text("deliverd", "relay_host", &value)
    }

    /// Name look-ups go to this server, and mail to this port of the hosts found.
    pub fn dns(self, server: std::net::SocketAddr, smtp_port: u16) -> Self {
        let servers = format!("[\"{server}\"]");
        self.set("deliverd", "nameservers", &servers).set("deliverd", "smtp_port", &smtp_port.to_string())
    }

    /// Retries come quickly: for tests in which the other side recovers.
    pub fn quick_retries(self) -> Self {
        self.text("queued", "first_retry", "1s").text("queued", "max_retry", "2s")
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration's text.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        let top = self.sections.get("").cloned().unwrap_or_default();
        for (key, value) in top {
            let _ = writeln!(text, "{key} = {value}");
        }
        for (address, tls) in &self.listeners {
            let _ = writeln!(text, "[[smtpd.listen]]\naddress = \"{address}\"");
            if let Some(how) = &self.asking {
                let _ = writeln!(text, "client_certificate = \"{how}\"");
            }
            if self.proxied {
                text.push_str("proxy_protocol = true\n");
            }
            if let Some(tls) = tls {
                let _ = writeln!(text, "tls = \"{tls}\"");
            }
        }
        for lines in &self.entrances {
            let _ = writeln!(text, "[[smtpd.listen]]\naddress = \"127.0.0.1:0\"\n{lines}");
        }
        for (section, keys) in self.sections.iter().filter(|(name, _)| !name.is_empty()) {
            let _ = writeln!(text, "[{section}]");
            for (key, value) in keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text + &self.more
    }

    /// Writes the configuration and gives its path.
    pub fn write(&self) -> PathBuf {
        let path = self.path().join("ironpost.toml");
        fs::write(&path, self.toml()).unwrap();
        path
    }

    /// Writes the configuration and starts Ironpost with it, ready for mail.
    pub fn start(self) -> Ironpost {
        let config = self.write();
        let listeners = self.listeners.len() + self.entrances.len();
        let mut ironpost = Ironpost::new(self.folder, config, listeners);
        ironpost.start();
        ironpost
    }

    /// Writes the configuration, for tests of what works while the daemons are down.
    pub fn stopped(self) -> Ironpost {
        let config = self.write();
        Ironpost::new(self.folder, config, self.listeners.len() + self.entrances.len())
    }
}
