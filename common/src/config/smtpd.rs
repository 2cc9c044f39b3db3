//! `[smtpd]`: listeners, certificates, limits, and what they are unless said. Data alone: lists of restrictions, logins and names have files of
//! their own beside this one.

use super::{ByteSize, Networks, Rate, RateLimit, Restrictions, ServedName, SmtpdAuth, TimeSpan};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

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
    /// Threads that serve sessions; 0: one for every two processors.
    pub workers: u16,
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
    /// Content comes with so many octets a second: whoever is slower uses up idle_timeout, which what comes faster makes good for; "0": any.
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
    /// With "warn:" before it ("warn:60/m"), as with the other rates here, what it would refuse is only logged.
    pub client_connection_rate: RateLimit,
    /// The same for messages.
    pub client_message_rate: RateLimit,
    /// The same for recipients.
    pub client_recipient_rate: RateLimit,
    /// The same for failed logins: beyond it the network is turned away.
    pub client_auth_failure_rate: RateLimit,
    /// Most failed logins in a time by the name of one user; beyond it nobody is asked about that user, but from where it has logged in before.
    pub user_auth_failure_rate: RateLimit,
    /// Most messages in a time from one user who has logged in; client_message_rate is not for these.
    pub user_message_rate: RateLimit,
    /// The same for recipients.
    pub user_recipient_rate: RateLimit,
    /// Most sessions at once on submission listeners, beside max_connections.
    pub max_submission_connections: u32,
    /// Table: sender's address or @domain, then the logins that may write as it. A login may always write as its own addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_logins: Option<PathBuf>,
    /// Table: recipients in relay_domains, an address or @domain a line; others there are refused. Without it all are taken, and the next
    /// host's refusals become notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_recipients: Option<PathBuf>,
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
    pub sites: Vec<super::restrictions::Site>,
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
            workers: 0,
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
            client_connection_rate: RateLimit::NONE,
            client_message_rate: RateLimit::NONE,
            client_recipient_rate: RateLimit::NONE,
            client_auth_failure_rate: RateLimit::new(Rate::new(10, 600)),
            user_auth_failure_rate: RateLimit::new(Rate::new(50, 3600)),
            user_message_rate: RateLimit::NONE,
            user_recipient_rate: RateLimit::NONE,
            max_submission_connections: 1000,
            sender_logins: None,
            relay_recipients: None,
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
