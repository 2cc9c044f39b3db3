//! `ironpost.toml`: every setting of every program, its default, and what is wrong with a bad one.
//!
//! A key that is not built yet is unknown here and refused, so that nobody relies on a setting that does nothing. Errors say
//! `file:line:column`, show the line with a caret, and what would be right; see [`ConfigError`]. The doc comment of a
//! field is the text for admins.

pub mod destinations;
mod error;
mod introspection;
mod load;
mod login;
mod networks;
pub mod restrictions;
mod secrets;
mod served_name;
mod smtpd;
mod values;

pub use destinations::{Destinations, Override};
pub use error::ConfigError;
pub use introspection::Introspection;
pub use login::{AuthUsers, MechanismName, SmtpdAuth};
pub use networks::{Network, Networks};
pub use restrictions::Restrictions;
pub use served_name::ServedName;
pub use smtpd::{
    BareNewlines, ClientCertificates, CommitBy, Dnsbl, Greylist, Listen, ListenKind, ListenTls,
    NamedCertificate, Smtpd, SmtpdTls,
};
pub use values::{ByteSize, Rate, RateLimit, TimeSpan};

use crate::address::Domain;
use crate::destination::Nexthop;
use crate::tls::Level;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the configuration is looked for.
pub const DEFAULT_PATH: &str = "/etc/ironpost/ironpost.toml";

/// The whole configuration, complete: absent keys have their defaults, paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This machine's name in the greeting, EHLO and Received. Default: its full name.
    pub hostname: Domain,
    /// Completes bare addresses. Default: /etc/mailname, else hostname.
    pub mail_name: Domain,
    /// Domains whose mail is for this machine. Default: mail_name, hostname, localhost.
    pub local_domains: Vec<Domain>,
    /// Domains accepted from anyone and passed on.
    pub relay_domains: Vec<Domain>,
    /// Clients that may send to any domain. Default: this machine only.
    pub trusted_networks: Networks,
    /// Where the queue is.
    pub spool_directory: PathBuf,
    /// The SMTP server.
    pub smtpd: Smtpd,
    /// The queue manager.
    pub queued: Queued,
    /// The SMTP client.
    pub deliverd: Deliverd,
    /// Mailboxes of this machine.
    pub local: Local,
    /// The log.
    pub log: Log,
}

/// `[queued]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queued {
    /// The user it runs as when started by root. Default: ironpost-queued, or uid 61202 where that does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Time to the first retry; later ones come after longer and longer intervals.
    pub first_retry: TimeSpan,
    /// Longest interval between retries.
    pub max_retry: TimeSpan,
    /// Undeliverable mail is returned after this time.
    pub lifetime: TimeSpan,
    /// The same for mail from the null sender, which is given up.
    pub bounce_lifetime: TimeSpan,
    /// The sender is told once when mail is not delivered after this time; "0s": never.
    pub delay_warning: TimeSpan,
    /// Undeliverable mail up to this size comes back whole, larger mail as its header.
    pub bounce_size_limit: ByteSize,
    /// File with texts of notifications that replace the built-in ones. Absent: built-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_templates: Option<PathBuf>,
    /// Limits for every destination.
    pub destinations: Destinations,
}

/// `[deliverd]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Deliverd {
    /// The user it runs as when started by root. Default: ironpost-deliverd, or uid 61203 where that does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Host for all mail to other machines, "[smtp.example.net]:587"; brackets: no MX look-up. Absent: deliver by MX.
    #[serde(skip_serializing_if = "Option::is_none", with = "as_text")]
    pub relay_host: Option<Nexthop>,
    /// Table with names and passwords (or tokens) for next hosts, for its owner alone (mode 600).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_credentials: Option<PathBuf>,
    /// Threads of `deliverd smtp`; 0: one for every two processors.
    pub workers: u16,
    /// TCP port of other mail servers.
    pub smtp_port: u16,
    /// Encryption: "none", "may", "encrypt" (any certificate), "verify" (valid for the exchange or the destination), "secure" (valid for the
    /// destination).
    #[serde(deserialize_with = "level")]
    pub tls: Level,
    /// Table: destination, then a level of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_policy: Option<PathBuf>,
    /// Authorities for "verify" and "secure", a PEM file. Absent: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Table: domain or address, then transport:nexthop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<PathBuf>,
    /// DNS servers, "127.0.0.1:5353". Default: those of /etc/resolv.conf.
    pub nameservers: Vec<SocketAddr>,
}

/// `[local]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Local {
    /// "system", or a file with one user name a line.
    pub users: Users,
    /// Where mailboxes are; a trailing slash means Maildir. Placeholders: {user} {domain} {home} {extension}.
    pub mailbox: String,
    /// The aliases file.
    pub aliases: PathBuf,
    /// Separates user and extension in an address; "" for none.
    #[serde(with = "delimiter")]
    pub recipient_delimiter: Option<char>,
}

/// `users`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Users {
    /// The users of the operating system.
    System,
    /// Those in a file, one name a line.
    File(PathBuf),
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The part before the slash in program names.
    pub name: String,
    /// "syslog", "stderr", or the path of a file.
    pub to: LogTo,
    /// "text" (Postfix's wording), or "json" (one object a line).
    pub format: LogFormat,
}

/// `to`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum LogTo {
    /// /dev/log, facility mail.
    Syslog,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// `format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Postfix's wording.
    Text,
    /// One object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        let hostname = load::machine_name();
        Self {
            mail_name: hostname.clone(),
            local_domains: Vec::new(),
            relay_domains: Vec::new(),
            trusted_networks: Networks::this_machine(),
            spool_directory: "/var/spool/ironpost".into(),
            smtpd: Smtpd::default(),
            queued: Queued::default(),
            deliverd: Deliverd::default(),
            local: Local::default(),
            log: Log::default(),
            hostname,
        }
    }
}

impl Default for Queued {
    fn default() -> Self {
        Self {
            user: None,
            first_retry: TimeSpan::from_secs(300),
            max_retry: TimeSpan::from_secs(3600),
            lifetime: TimeSpan::from_secs(5 * 86400),
            bounce_lifetime: TimeSpan::from_secs(86400),
            delay_warning: TimeSpan::from_secs(4 * 3600),
            bounce_size_limit: ByteSize(50_000),
            notification_templates: None,
            destinations: Destinations::default(),
        }
    }
}

impl Default for Deliverd {
    fn default() -> Self {
        Self {
            user: None,
            relay_host: None,
            relay_credentials: None,
            workers: 0,
            smtp_port: 25,
            tls: Level::May,
            tls_policy: None,
            ca_file: None,
            transport: None,
            nameservers: Vec::new(),
        }
    }
}

impl Default for Local {
    fn default() -> Self {
        Self {
            users: Users::System,
            mailbox: "/var/mail/{user}".into(),
            aliases: "/etc/aliases".into(),
            recipient_delimiter: Some('+'),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { name: "ironpost".into(), to: LogTo::Syslog, format: LogFormat::Text }
    }
}

impl From<String> for Users {
    fn from(text: String) -> Self {
        if text == "system" { Self::System } else { Self::File(text.into()) }
    }
}

impl From<Users> for String {
    fn from(users: Users) -> Self {
        match users {
            Users::System => "system".into(),
            Users::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl From<String> for LogTo {
    fn from(text: String) -> Self {
        match text.as_str() {
            "syslog" => Self::Syslog,
            "stderr" => Self::Stderr,
            _ => Self::File(text.into()),
        }
    }
}

impl From<LogTo> for String {
    fn from(to: LogTo) -> Self {
        match to {
            LogTo::Syslog => "syslog".into(),
            LogTo::Stderr => "stderr".into(),
            LogTo::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// A level for all destinations: fingerprints are for single ones.
fn level<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Level, D::Error> {
    match Level::deserialize(deserializer)? {
        Level::Fingerprint => Err(serde::de::Error::custom(
            "tls = \"fingerprint\" is a level for single destinations: put it into the table tls_policy",
        )),
        level => Ok(level),
    }
}

mod as_text {
    //! A nexthop as its text.
    use crate::destination::Nexthop;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &Option<Nexthop>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&value.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Nexthop>, D::Error> {
        String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
    }
}

mod delimiter {
    //! One character, or none.
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &Option<char>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&value.map(String::from).unwrap_or_default())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<char>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (None, _) => Ok(None),
            (Some(c), None) if c.is_ascii_punctuation() && c != '@' && c != '/' && c != '.' => Ok(Some(c)),
            _ => Err(D::Error::custom(format!(
                "recipient_delimiter = {text:?}: wanted one punctuation character, or \"\" for none"
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
