//! What is known of a session when a restriction looks at it, and what can be asked for.

use crate::policy::Standing;
use crate::session::Client;
use crate::session::auth::Login;
use common::access::Action;
use common::address::{Address, Domain, ReversePath};
use common::config::Network;
use common::config::restrictions::Subject;
use common::sender_logins::Owners;
use common::tls::Shown;
use common::tls::policy::Fingerprint;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Known without asking anyone. What the session has not come to yet is `None`.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Address, and name where that is known.
    pub client: Client,
    /// In `trusted_networks`?
    pub trusted: bool,
    /// Who has logged in.
    pub login: Option<Arc<Login>>,
    /// The certificate that it has shown, when the connection is encrypted.
    pub certificate: Option<Arc<Shown>>,
    /// It is in the table `relay_clientcerts`.
    pub certificate_listed: bool,
    /// The name in HELO or EHLO.
    pub hello: Option<Arc<str>>,
    /// From MAIL.
    pub sender: Option<ReversePath>,
    /// The sender's domain is local or a relay domain, so its DNS is our own affair.
    pub sender_is_ours: bool,
    /// From RCPT; `None` at DATA.
    pub recipient: Option<Address>,
    /// As for the sender.
    pub recipient_is_ours: bool,
    /// How many were accepted, at DATA.
    pub recipients: usize,
}

impl Facts {
    /// At the start of a session.
    pub fn new(client: Client, trusted: bool) -> Self {
        Self {
            client,
            trusted,
            login: None,
            certificate: None,
            certificate_listed: false,
            hello: None,
            sender: None,
            sender_is_ours: false,
            recipient: None,
            recipient_is_ours: false,
            recipients: 0,
        }
    }

    /// May it send to anywhere?
    pub fn may_relay(&self) -> bool {
        self.trusted || self.login.is_some() || self.certificate_listed
    }

    /// Does an authority of `client_ca_file` vouch for it?
    pub(super) fn is_vouched_for(&self) -> bool {
        self.certificate.as_ref().is_some_and(|shown| shown.distrust.is_none())
    }

    /// The client's name, when it is more than an address without one.
    pub fn client_name(&self) -> Option<&str> {
        Some(&*self.client.name).filter(|name| *name != "unknown")
    }

    /// What the session has come to.
    pub(super) fn latest(&self) -> Subject {
        if self.recipient.is_some() {
            Subject::Recipient
        } else if self.sender.is_some() {
            Subject::Sender
        } else if self.hello.is_some() {
            Subject::Helo
        } else {
            Subject::Client
        }
    }

    /// As it stands in replies.
    pub(super) fn shown(&self, subject: Subject) -> String {
        let text = match subject {
            Subject::Client | Subject::Certificate => Some(self.client.to_string()),
            Subject::Helo => self.hello.as_ref().map(ToString::to_string),
            Subject::Sender => self.sender.as_ref().map(ToString::to_string),
            Subject::Recipient => self.recipient.as_ref().map(ToString::to_string),
        };
        text.unwrap_or_default()
    }
}

/// A fact that somebody else has to find.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Need {
    /// Has the address a name, and does that lead back to it?
    ClientName(IpAddr),
    /// Does the domain take mail?
    Domain(Domain),
    /// The A records of a name in a DNS list.
    Listed(Domain),
    /// The TXT record of that name: the list's reason.
    Reason(Domain),
    /// What an access table says.
    Table(PathBuf, Key),
    /// Is there such a recipient?
    Standing(Address),
    /// Who may write as this sender?
    Owners(Address),
    /// Is it known to come from there?
    Greylist {
        /// An IPv4 /24 or an IPv6 /64: large senders retry from another address.
        client: Network,
        /// From MAIL.
        sender: ReversePath,
        /// From RCPT.
        recipient: Address,
    },
}

/// The key for an access table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// Address and confirmed name.
    Client(IpAddr, Option<Arc<str>>),
    /// Fingerprints of a certificate and of its key.
    Certificate([Fingerprint; 2]),
    /// A HELO name.
    Name(Arc<str>),
    /// A reverse-path.
    Sender(ReversePath),
    /// A forward-path.
    Recipient(Address),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// For [`Need::ClientName`].
    ClientName(ClientName),
    /// For [`Need::Domain`].
    Domain(MailDomain),
    /// For [`Need::Listed`].
    Listed(Listing),
    /// For [`Need::Reason`].
    Reason(Option<String>),
    /// For [`Need::Table`].
    Table(Option<Action>),
    /// For [`Need::Standing`].
    Standing(Standing),
    /// For [`Need::Owners`].
    Owners(Owners),
    /// For [`Need::Greylist`]: so long must it wait; `None`: it may come.
    Greylist(Option<Duration>),
}

/// The name of a client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientName {
    /// And the name has the address.
    Confirmed(Domain),
    /// The name does not lead back.
    Unconfirmed,
    /// There is none.
    Missing,
    /// The DNS does not answer.
    Unsure,
}

/// What the DNS says about a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailDomain {
    /// It has MX or address records.
    Exists,
    /// It says that it takes no mail (RFC 7505).
    NullMx,
    /// Neither MX nor address records.
    Missing,
    /// The DNS does not answer.
    Unsure,
}

/// What a DNS list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// These; none: it is not listed.
    Answers(Vec<Ipv4Addr>),
    /// The list does not answer.
    Unsure,
}

/// Findings of a session, kept for the next look; bounded.
#[derive(Debug, Clone, Default)]
pub struct Found(HashMap<Need, Finding>);

/// Most findings kept.
pub(crate) const KEPT: usize = 64;

impl Found {
    /// What was found.
    pub fn get(&self, need: &Need) -> Option<&Finding> {
        self.0.get(need)
    }

    /// Keeps it.
    pub fn insert(&mut self, need: Need, finding: Finding) {
        self.0.insert(need, finding);
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Before a message: forgets what nobody could say. Somebody may by now; but not each recipient has to wait for that.
    pub fn ask_again(&mut self) {
        self.0.retain(|_, finding| {
            !matches!(
                finding,
                Finding::ClientName(ClientName::Unsure)
                    | Finding::Domain(MailDomain::Unsure)
                    | Finding::Listed(Listing::Unsure)
            )
        });
    }

    /// After a command: forgets what holds for that command only, and all when it has become much.
    pub fn tidy(&mut self) {
        if self.0.len() > KEPT {
            self.0 = HashMap::new();
        }
        self.0.retain(|need, _| {
            !matches!(need, Need::Greylist { .. } | Need::Standing(_) | Need::Owners(_) | Need::Table(..))
        });
        if self.0.is_empty() {
            self.0 = HashMap::new();
        }
    }
}
