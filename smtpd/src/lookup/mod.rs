//! Finds what restrictions ask for: in the DNS, in tables, in the greylist. The only place where they meet I/O.

pub mod dns;
pub mod files;
pub mod users;

use crate::greylist::Greylist;
use crate::restrictions::{Finding, Key, Need};
use crate::rules::Rules;
use common::time::Timestamp;
use dns::Dns;
use files::AccessTables;
use users::Turns;

/// Where facts come from, under one configuration.
#[derive(Debug)]
pub struct Lookups {
    /// Names and lists.
    pub dns: Dns,
    /// Access tables.
    pub tables: AccessTables,
    /// Recipients here.
    pub users: Turns,
}

impl Lookups {
    /// Finds one fact; as long as that takes, which is bounded.
    pub async fn find(&self, need: &Need, rules: &Rules, greylist: &Greylist) -> Finding {
        match need {
            Need::ClientName(ip) => Finding::ClientName(self.dns.client_name(*ip).await),
            Need::Domain(domain) => Finding::Domain(self.dns.mail_domain(domain).await),
            Need::Listed(name) => Finding::Listed(self.dns.listed(name).await),
            Need::Reason(name) => Finding::Reason(self.dns.reason(name).await),
            Need::Standing(address) => Finding::Standing(rules.standing(address).await),
            Need::Owners(sender) => Finding::Owners(rules.owners(sender)),
            Need::Table(path, key) => {
                let table = self.tables.get(path);
                let delimiter = rules.delimiter();
                let action = match key {
                    Key::Client(ip, name) => table.client(*ip, name.as_deref()),
                    Key::Certificate(fingerprints) => table.certificate(fingerprints),
                    Key::Name(name) => table.name(name.strip_suffix('.').unwrap_or(name)),
                    Key::Sender(sender) => table.sender(sender, delimiter),
                    Key::Recipient(recipient) => table.mailbox(recipient, delimiter),
                };
                Finding::Table(action.cloned())
            }
            Need::Greylist { client, sender, recipient } => {
                let settings = &rules.greylist;
                Finding::Greylist(greylist.meet(*client, sender, recipient, settings, Timestamp::now()))
            }
        }
    }
}
