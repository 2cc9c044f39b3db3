//! The configuration as sessions see it: one value, replaced as a whole on reload; a session keeps the one
//! that it began with, while the tables inside are read anew when they change.

use crate::lookup::Lookups;
use crate::lookup::dns::Dns;
use crate::lookup::files::AccessTables;
use crate::lookup::users::Turns;
use crate::policy::Standing;
use crate::session::Settings;
use crate::session::limits::{Budget, Limits};
use auth::Authenticator;
use common::address::{Address, Domain};
use common::config::{Config, Dnsbl, Greylist, Listen, ListenKind, Networks, RateLimit, Restrictions, Smtpd};
use common::relay_recipients::RelayRecipients;
use common::routing::{AddressClass, Existence};
use common::sender_logins::{Owners, SenderLogins};
use common::table::TableError;
use common::tables::Tables;
use common::tls::ClientCerts;
use common::tls::policy::Fingerprint;
use common::watched::Watched;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What sessions go by.
#[derive(Debug)]
pub struct Rules {
    /// For the core.
    pub settings: Arc<Settings>,
    /// How long a stranger has to be silent before it is greeted.
    pub greeting_delay: Duration,
    /// Most connections at once.
    pub max_connections: u32,
    /// The same on submission listeners, which have places of their own.
    pub max_submission_connections: u32,
    /// The lists, stage by stage, of listeners for mail from others.
    pub restrictions: Restrictions,
    /// Those of submission listeners.
    pub submission_restrictions: Restrictions,
    /// Who may log in.
    pub authenticator: Option<Authenticator>,
    /// Does `Received` name who has logged in?
    pub authenticated_header: bool,
    /// For `reject_dnsbl`.
    pub dnsbl: Dnsbl,
    /// For `greylist`.
    pub greylist: Greylist,
    /// Where facts are found.
    pub lookups: Lookups,
    /// Limits in time.
    pub rates: ClientRates,
    /// Are names looked up for the log and the header?
    pub resolve_clients: bool,
    /// Who may say who the client is.
    pub proxies: Networks,
    /// A domain of this machine, for mail to its address.
    pub home: Option<Domain>,
    /// Connections of one client network, where it is not trusted.
    pub per_client: u32,
    trusted: Networks,
    clientcerts: Option<Watched<ClientCerts>>,
    tables: Tables,
    sender_logins: Option<Watched<SenderLogins>>,
    /// Recipients in relay domains; `None`: all.
    relay_recipients: Option<Watched<RelayRecipients>>,
    /// In the order of the listeners.
    entrances: Vec<Entrance>,
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entrance {
    /// For mail programs that log in, or for other servers?
    pub kind: ListenKind,
    /// Can clients log in although it is for servers?
    pub auth: bool,
    /// Also in plain text?
    pub auth_without_tls: bool,
    /// Is it kept to ourselves from where those who have logged in send?
    pub hide_client: bool,
}

impl Entrance {
    /// Is it for those who log in, and nobody else?
    pub fn is_submission(self) -> bool {
        self.kind == ListenKind::Submission
    }

    /// Can clients log in?
    pub fn offers_auth(self) -> bool {
        self.auth || self.is_submission()
    }
}

impl From<&Listen> for Entrance {
    fn from(listen: &Listen) -> Self {
        let Listen { kind, auth, auth_without_tls, hide_client, .. } = *listen;
        Self { kind, auth, auth_without_tls, hide_client }
    }
}

/// How often a client network, or a user who has logged in, may do what.
#[derive(Debug, Clone, Copy)]
pub struct ClientRates {
    /// Connect.
    pub connections: RateLimit,
    /// Begin a message.
    pub messages: RateLimit,
    /// Name a recipient.
    pub recipients: RateLimit,
    /// Fail to log in.
    pub client_failures: RateLimit,
    /// Begin a message, as a user.
    pub user_messages: RateLimit,
    /// Name a recipient, as a user.
    pub user_recipients: RateLimit,
    /// Fail to log in, by the name of a user.
    pub user_failures: RateLimit,
}

impl Rules {
    /// Reads the tables too.
    pub fn load(config: &Config) -> Result<Self, TableError> {
        let Smtpd {
            message_size_limit, recipient_limit, idle_timeout, bare_newlines, greeting_delay, ..
        } = config.smtpd;
        let smtpd = &config.smtpd;
        let is_local = |domain: &&Domain| config.local_domains.contains(domain);
        Ok(Self {
            settings: Arc::new(Settings {
                hostname: config.hostname.clone(),
                mail_name: config.mail_name.clone(),
                message_size_limit: *message_size_limit,
                recipient_limit,
                idle_timeout: *idle_timeout,
                bare_newlines,
                bare_newlines_networks: config.smtpd.bare_newlines_networks.clone(),
                trusted_networks: config.trusted_networks.clone(),
                xclient_networks: config.smtpd.xclient_networks.clone(),
                limits: Limits {
                    min_data_rate: *smtpd.min_data_rate,
                    line_length: *smtpd.line_length_limit,
                    transactions: smtpd.transaction_limit,
                    memory: Some(Arc::new(Budget::new(*smtpd.memory_limit))),
                },
            }),
            greeting_delay: *greeting_delay,
            max_connections: smtpd.max_connections,
            max_submission_connections: smtpd.max_submission_connections,
            restrictions: smtpd.restrictions.clone(),
            submission_restrictions: smtpd.submission_restrictions.clone(),
            authenticator: None,
            authenticated_header: smtpd.authenticated_header,
            dnsbl: smtpd.dnsbl.clone(),
            greylist: smtpd.greylist.clone(),
            lookups: Lookups {
                dns: Dns::new(&smtpd.nameservers),
                tables: AccessTables::load(smtpd.access_tables())?,
                users: Turns::default(),
            },
            rates: ClientRates {
                connections: smtpd.client_connection_rate,
                messages: smtpd.client_message_rate,
                recipients: smtpd.client_recipient_rate,
                client_failures: smtpd.client_auth_failure_rate,
                user_messages: smtpd.user_message_rate,
                user_recipients: smtpd.user_recipient_rate,
                user_failures: smtpd.user_auth_failure_rate,
            },
            resolve_clients: smtpd.resolve_clients,
            proxies: smtpd.proxy_networks.clone(),
            home: [&config.hostname, &config.mail_name]
                .into_iter()
                .find(is_local)
                .or(config.local_domains.first())
                .cloned(),
            per_client: smtpd.max_connections_per_client,
            trusted: config.trusted_networks.clone(),
            clientcerts: smtpd
                .tls
                .relay_clientcerts
                .as_deref()
                .map(|path| Watched::table(path, ClientCerts::parse))
                .transpose()?,
            tables: Tables::load(config)?,
            sender_logins: smtpd
                .sender_logins
                .as_deref()
                .map(|path| Watched::table(path, SenderLogins::parse))
                .transpose()?,
            relay_recipients: smtpd
                .relay_recipients
                .as_deref()
                .map(|path| Watched::table(path, RelayRecipients::parse))
                .transpose()?,
            entrances: smtpd.listen.iter().map(Entrance::from).collect(),
        })
    }

    /// The same, with those who may log in.
    #[must_use]
    pub fn with_authenticator(self, authenticator: Option<Authenticator>) -> Self {
        Self { authenticator, ..self }
    }

    /// What the listener with this number is for.
    pub fn entrance(&self, number: usize) -> Entrance {
        self.entrances.get(number).copied().unwrap_or_default()
    }

    /// Is there a submission listener?
    pub fn has_submission(&self) -> bool {
        self.entrances.iter().any(|entrance| entrance.is_submission())
    }

    /// Who may write as this sender?
    pub fn owners(&self, address: &Address) -> Owners {
        let (local, delimiter) = (self.is_local(address.domain()), self.delimiter());
        match &self.sender_logins {
            Some(table) => table.get().owners(address, local, delimiter),
            None => SenderLogins::default().owners(address, local, delimiter),
        }
    }

    /// Is the client in `trusted_networks`?
    pub fn trusts(&self, client: IpAddr) -> bool {
        self.trusted.contains(client)
    }

    /// Is one of these in `relay_clientcerts`?
    pub fn has_clientcert(&self, fingerprints: &[Fingerprint]) -> bool {
        self.clientcerts.as_ref().is_some_and(|table| table.get().has(fingerprints))
    }

    /// Separates user and extension.
    pub fn delimiter(&self) -> Option<char> {
        self.tables.router().delimiter
    }

    /// Is the domain local or a relay domain?
    pub fn is_ours(&self, domain: &Domain) -> bool {
        self.tables.router().class(domain) != AddressClass::Default
    }

    /// Is the domain one of this machine's own?
    pub fn is_local(&self, domain: &Domain) -> bool {
        self.tables.router().class(domain) == AddressClass::Local
    }

    /// What the tables say about a recipient.
    pub async fn standing(&self, address: &Address) -> Standing {
        let router = self.tables.router();
        match router.class(address.domain()) {
            AddressClass::Relay => {
                let there =
                    |table: &Watched<RelayRecipients>| table.get().contains(address, router.delimiter);
                let listed = self.relay_recipients.as_ref().is_none_or(there);
                return if listed { Standing::Relay } else { Standing::UnknownRelay };
            }
            AddressClass::Default => return Standing::Elsewhere,
            AddressClass::Local => {}
        }
        match self.lookups.users.exists(router, address).await {
            Existence::Yes => Standing::Known,
            Existence::No => Standing::Unknown,
            Existence::Unknown(reason) => Standing::Unsure(reason),
        }
    }
}
