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
mod values;

pub use destinations::{Destinations, Override};
pub use error::ConfigError;
pub use introspection::Introspection;
pub use login::{AuthUsers, MechanismName, SmtpdAuth};
pub use networks::{Network, Networks};
pub use restrictions::Restrictions;
pub use served_name::ServedName;
pub use values::{ByteSize, Rate, TimeSpan};

use crate::address::Domain;
use crate::destination::Nexthop;
use crate::tls::Level;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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

/// `[smtpd]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Smtpd {
    /// The user it runs as when started by root. Default: ironpost-smtpd, or uid 61201 where that does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Largest message, "0" for no limit.
    pub message_size_limit: ByteSize,
    /// Most recipients of a message.
    pub recipient_limit: u32,
    /// Most sessions at once.
    pub max_connections: u32,
    /// Most sessions at once from one client address; not for trusted_networks.
    pub max_connections_per_client: u32,
    /// For a whole command line, and for each KiB of content: a byte now and then does not prolong it.
    pub idle_timeout: TimeSpan,
    /// What becomes of a bare LF or CR in content: "reject", or "normalize" to CRLF.
    pub bare_newlines: BareNewlines,
    /// Clients whose bare LF or CR becomes CRLF although bare_newlines is "reject".
    pub bare_newlines_networks: Networks,
    /// How messages become durable: small ones through a "log" that many share, or each as a "file".
    pub commit: CommitBy,
    /// Clients wait so long for the greeting, and who talks meanwhile is refused; not for trusted_networks.
    pub greeting_delay: TimeSpan,
    /// Clients that may speak for others with XCLIENT.
    pub xclient_networks: Networks,
    /// Content comes with so many octets a second on the whole, beside idle_timeout; "0": any.
    pub min_data_rate: ByteSize,
    /// Longest line of content, 64K at least; "0" for no limit.
    pub line_length_limit: ByteSize,
    /// Most messages in one session, then 421; 0 for no limit.
    pub transaction_limit: u32,
    /// Memory for recipients and content of all sessions together; beyond it 452.
    pub memory_limit: ByteSize,
    /// Proxies that are believed, on listeners with proxy_protocol, when they say who the client is.
    pub proxy_networks: Networks,
    /// Look up the names of clients (PTR, confirmed by A or AAAA): for the log, Received and restrictions.
    pub resolve_clients: bool,
    /// DNS servers, "127.0.0.1:5353". Default: those of deliverd.
    pub nameservers: Vec<SocketAddr>,
    /// Most connections in a time from one client network (IPv4 address, IPv6 /64): "60/m", or "none"; not for trusted_networks.
    pub client_connection_rate: Rate,
    /// The same for messages.
    pub client_message_rate: Rate,
    /// The same for recipients.
    pub client_recipient_rate: Rate,
    /// The same for failed logins: beyond it the network is turned away.
    pub client_auth_failure_rate: Rate,
    /// Most failed logins in a time by the name of one user; beyond it nobody is asked about that user, but from where it has logged in before.
    pub user_auth_failure_rate: Rate,
    /// Most messages in a time from one user who has logged in; client_message_rate is not for these.
    pub user_message_rate: Rate,
    /// The same for recipients.
    pub user_recipient_rate: Rate,
    /// Most sessions at once on submission listeners, beside max_connections.
    pub max_submission_connections: u32,
    /// Table: sender's address or @domain, then the logins that may write as it. A login may always write as its own addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_logins: Option<PathBuf>,
    /// Name in Received who has logged in.
    pub authenticated_header: bool,
    /// Who may send what to whom, stage by stage, on listeners of kind "mx".
    pub restrictions: Restrictions,
    /// The same on listeners of kind "submission".
    pub submission_restrictions: Restrictions,
    /// The lists behind "reject_dnsbl".
    pub dnsbl: Dnsbl,
    /// What "greylist" goes by.
    pub greylist: Greylist,
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// The certificate for TLS.
    pub tls: SmtpdTls,
    /// Who may log in.
    pub auth: SmtpdAuth,
}

/// `[smtpd.dnsbl]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dnsbl {
    /// DNS lists with weights: "bl.example.org*2", "wl.example.org=127.0.[0..255].[1..3]*-2".
    pub sites: Vec<restrictions::Site>,
    /// A client is refused when the weights of the lists that have it come to this.
    pub threshold: i32,
}

/// `[smtpd.greylist]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Greylist {
    /// A new client network, sender and recipient are refused for so long.
    pub delay: TimeSpan,
    /// They must come again within this time after the first try.
    pub retry_window: TimeSpan,
    /// Once they have, they are known for this time after the last message.
    pub lifetime: TimeSpan,
    /// A client network that came again with so many messages is not asked any more; 0: never.
    pub auto_allow: u32,
    /// Most entries that are remembered; the oldest new ones go first.
    pub entries: u32,
}

/// `commit`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitBy {
    /// Small messages are made durable together in the commit log; large ones as files.
    Log,
    /// Each message is synced as a file.
    File,
}

/// `bare_newlines`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareNewlines {
    /// The message is refused.
    Reject,
    /// It becomes CRLF.
    Normalize,
}

/// `[[smtpd.listen]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port; `"[::]:25"` listens for IPv4 as well. Port 0 takes a free one and logs it.
    pub address: SocketAddr,
    /// What the listener is for.
    #[serde(default)]
    pub kind: ListenKind,
    /// Encryption.
    #[serde(default)]
    pub tls: ListenTls,
    /// Clients' certificates: "none", "ask" for one, or "require" one (of client_ca_file, where that is set).
    #[serde(default)]
    pub client_certificate: ClientCertificates,
    /// A proxy that speaks the PROXY protocol (version 1 or 2) is in front of it; see proxy_networks.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Clients may log in on this listener of kind "mx", too; see [smtpd.auth].
    #[serde(default)]
    pub auth: bool,
    /// Clients may log in without encryption: for networks in which nobody listens.
    #[serde(default)]
    pub auth_without_tls: bool,
    /// Received does not tell from where a client that has logged in has sent.
    #[serde(default)]
    pub hide_client: bool,
}

/// `kind`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenKind {
    /// Takes mail from anyone for our domains, and from trusted networks for any.
    #[default]
    Mx,
    /// Takes mail from those who log in, for any domain.
    Submission,
}

/// `tls` of a listener
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenTls {
    /// Plain text.
    None,
    /// Plain text, and TLS for clients that say STARTTLS.
    #[default]
    StartTls,
    /// TLS from the first octet.
    Implicit,
}

/// `client_certificate`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Nobody is asked.
    #[default]
    None,
    /// Clients are asked; none is an answer, too.
    Ask,
    /// No TLS without one.
    Require,
}

/// `[smtpd.tls]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpdTls {
    /// The certificate with its chain, PEM. Absent: a self-signed one, made at the first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM, without a passphrase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PathBuf>,
    /// Authorities that vouch for clients, a PEM file; for listeners with client_certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    /// Table: fingerprints of certificates whose clients may send to any domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_clientcerts: Option<PathBuf>,
    /// Further certificates, for clients that ask for their names.
    pub certificates: Vec<NamedCertificate>,
}

/// `[[smtpd.tls.certificates]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedCertificate {
    /// The certificate with its chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, without a passphrase.
    pub private_key: PathBuf,
    /// Clients that ask for one of these names are shown it; "*.example.com" is any name one label longer. Empty: the names in the certificate.
    #[serde(default)]
    pub names: Vec<ServedName>,
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

impl Default for Smtpd {
    fn default() -> Self {
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 25);
        Self {
            user: None,
            listen: vec![Listen {
                address: any,
                kind: ListenKind::Mx,
                tls: ListenTls::default(),
                client_certificate: ClientCertificates::None,
                proxy_protocol: false,
                auth: false,
                auth_without_tls: false,
                hide_client: false,
            }],
            tls: SmtpdTls::default(),
            auth: SmtpdAuth::default(),
            message_size_limit: ByteSize(50 << 20),
            recipient_limit: 1000,
            max_connections: 10_000,
            max_connections_per_client: 50,
            idle_timeout: TimeSpan::from_secs(300),
            bare_newlines: BareNewlines::Reject,
            commit: CommitBy::Log,
            bare_newlines_networks: Networks::default(),
            greeting_delay: TimeSpan::from_secs(0),
            xclient_networks: Networks::default(),
            min_data_rate: ByteSize(500),
            line_length_limit: ByteSize(1 << 20),
            transaction_limit: 10_000,
            memory_limit: ByteSize(256 << 20),
            proxy_networks: Networks::this_machine(),
            resolve_clients: true,
            nameservers: Vec::new(),
            client_connection_rate: Rate::NONE,
            client_message_rate: Rate::NONE,
            client_recipient_rate: Rate::NONE,
            client_auth_failure_rate: Rate::new(10, 600),
            user_auth_failure_rate: Rate::new(50, 3600),
            user_message_rate: Rate::NONE,
            user_recipient_rate: Rate::NONE,
            max_submission_connections: 1000,
            sender_logins: None,
            authenticated_header: false,
            restrictions: Restrictions::default(),
            submission_restrictions: Restrictions::default(),
            dnsbl: Dnsbl::default(),
            greylist: Greylist::default(),
        }
    }
}

impl Smtpd {
    /// All lists of restrictions.
    pub fn all_restrictions(&self) -> [&Restrictions; 2] {
        [&self.restrictions, &self.submission_restrictions]
    }

    /// The files of access tables, each once.
    pub fn access_tables(&self) -> impl Iterator<Item = &PathBuf> {
        let paths: std::collections::BTreeSet<_> =
            self.all_restrictions().into_iter().flat_map(Restrictions::tables).collect();
        paths.into_iter()
    }
}

impl Default for Dnsbl {
    fn default() -> Self {
        Self { sites: Vec::new(), threshold: 1 }
    }
}

impl Default for Greylist {
    fn default() -> Self {
        Self {
            delay: TimeSpan::from_secs(300),
            retry_window: TimeSpan::from_secs(2 * 86400),
            lifetime: TimeSpan::from_secs(5 * 7 * 86400),
            auto_allow: 5,
            entries: 100_000,
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
