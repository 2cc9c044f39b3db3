//! The configuration as sessions see it: one value, replaced as a whole on reload; a session keeps the one
//! that it began with, while the tables inside are read anew when they change.

use crate::policy::{self, Standing};
use crate::session::{Answer, Settings};
use common::address::{Address, Domain};
use common::config::{Config, Networks, Smtpd};
use common::routing::{AddressClass, Existence, Router};
use common::table::TableError;
use common::tables::Tables;
use common::users::Users;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// What sessions go by.
#[derive(Debug)]
pub struct Rules {
    /// For the core.
    pub settings: Arc<Settings>,
    /// How long a stranger has to be silent before it is greeted.
    pub greeting_delay: Duration,
    /// Most connections at once.
    pub max_connections: u32,
    per_client: u32,
    trusted: Networks,
    tables: Tables,
    /// A domain of this machine, for mail to its address.
    home: Option<Domain>,
}

impl Rules {
    /// Reads the tables too.
    pub fn load(config: &Config) -> Result<Self, TableError> {
        let Smtpd {
            message_size_limit, recipient_limit, idle_timeout, bare_newlines, greeting_delay, ..
        } = config.smtpd;
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
            }),
            greeting_delay: *greeting_delay,
            max_connections: config.smtpd.max_connections,
            per_client: config.smtpd.max_connections_per_client,
            trusted: config.trusted_networks.clone(),
            tables: Tables::load(config)?,
            home: [&config.hostname, &config.mail_name]
                .into_iter()
                .find(is_local)
                .or(config.local_domains.first())
                .cloned(),
        })
    }

    /// The connection limit of a client; trusted ones have none.
    pub fn limit_of(&self, client: IpAddr) -> Option<u32> {
        if self.trusted.contains(client) { None } else { Some(self.per_client) }
    }

    /// MAIL: is there room, with so many octets free?
    pub fn sender(&self, size: Option<u64>, free: Option<u64>) -> Answer {
        policy::room(size, free).map_or_else(Answer::Refused, |()| Answer::Yes)
    }

    /// RCPT: is this recipient taken from this client, which has connected to `local`?
    pub async fn recipient(
        &self,
        client: IpAddr,
        local: IpAddr,
        address: Address,
        bare_postmaster: bool,
    ) -> Answer {
        let router = self.tables.router();
        let (address, rewritten) = match policy::at_our_address(&address, local, self.home.as_ref()) {
            Some(meant) if router.class(address.domain()) != AddressClass::Local => {
                (meant.address.clone(), Some(meant))
            }
            _ => (address, None),
        };
        let standing = standing(router, &address).await;
        if let Standing::Unsure(reason) = &standing {
            common::warn!("cannot say whether {address} exists: {reason}");
        }
        let accepted = if bare_postmaster {
            Ok(())
        } else {
            policy::recipient(self.trusted.contains(client), &address, &standing)
        };
        match (accepted, rewritten) {
            (Err(refusal), _) => Answer::Refused(refusal),
            (Ok(()), Some(meant)) => Answer::YesAs(meant),
            (Ok(()), None) => Answer::Yes,
        }
    }
}

async fn standing(router: Arc<Router>, address: &Address) -> Standing {
    match router.class(address.domain()) {
        AddressClass::Relay => return Standing::Relay,
        AddressClass::Default => return Standing::Elsewhere,
        AddressClass::Local => {}
    }
    let existence = if matches!(router.users, Users::System) {
        // The name service may ask over the network.
        let address = address.clone();
        spawn_blocking(move || router.recipient_exists(&address))
            .await
            .unwrap_or_else(|error| Existence::Unknown(error.to_string()))
    } else {
        router.recipient_exists(address)
    };
    match existence {
        Existence::Yes => Standing::Known,
        Existence::No => Standing::Unknown,
        Existence::Unknown(reason) => Standing::Unsure(reason),
    }
}
