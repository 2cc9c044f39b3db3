//! `[smtpd.restrictions]`: ordered lists of restrictions, one for each stage of a session, each a text such as
//! `"reject_unknown_sender_domain"`, `"check_client_access:FILE"` or `"warn:reject_rbl_client:bl.example.org"`.
//!
//! Names are Postfix's. A name that does not exist, an argument that is missing or wrong, and a restriction in a list where what it
//! looks at is not known yet, are errors at their place that say what would be right.

mod site;

pub use site::{Filter, Site};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// `[smtpd.restrictions]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restrictions {
    /// Refuse at RCPT what is wrong with the client, its HELO name or the sender, so that the log tells who wanted to write to whom.
    pub delay_reject: bool,
    /// When a client connects.
    #[serde(deserialize_with = "list::<0, _>")]
    pub connect: Vec<Rule>,
    /// At HELO and EHLO.
    #[serde(deserialize_with = "list::<1, _>")]
    pub helo: Vec<Rule>,
    /// At MAIL.
    #[serde(deserialize_with = "list::<2, _>")]
    pub mail: Vec<Rule>,
    /// At RCPT, after the rule that is always there: no mail for elsewhere but from trusted_networks.
    #[serde(deserialize_with = "list::<3, _>")]
    pub rcpt: Vec<Rule>,
    /// At DATA.
    #[serde(deserialize_with = "list::<4, _>")]
    pub data: Vec<Rule>,
}

impl Default for Restrictions {
    fn default() -> Self {
        let none = Vec::new;
        Self { delay_reject: true, connect: none(), helo: none(), mail: none(), rcpt: none(), data: none() }
    }
}

impl Restrictions {
    /// All rules, in the order of the stages.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        [&self.connect, &self.helo, &self.mail, &self.rcpt, &self.data].into_iter().flatten()
    }

    /// The files of access tables.
    pub fn tables(&self) -> impl Iterator<Item = &PathBuf> {
        self.rules().filter_map(|rule| match &rule.check {
            Check::Access(_, path) => Some(path),
            _ => None,
        })
    }

    /// The same, to be made absolute.
    pub(super) fn tables_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let lists = [&mut self.connect, &mut self.helo, &mut self.mail, &mut self.rcpt, &mut self.data];
        lists.into_iter().flatten().filter_map(|rule| match &mut rule.check {
            Check::Access(_, path) => Some(path),
            _ => None,
        })
    }

    /// Is this kind of check in any list?
    pub fn uses(&self, is: impl Fn(&Check) -> bool) -> bool {
        self.rules().any(|rule| is(&rule.check))
    }
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `warn:` before it: what it would refuse is logged and let pass.
    pub warn: bool,
    /// What it does.
    pub check: Check,
}

/// What a restriction looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The client's address and name.
    Client,
    /// The certificate that it has shown.
    Certificate,
    /// What it said in HELO or EHLO.
    Helo,
    /// The reverse-path.
    Sender,
    /// The forward-path.
    Recipient,
}

impl Subject {
    /// The stages at which it is known, counted from 0 (connect) to 4 (data).
    fn stages(self) -> std::ops::RangeInclusive<u8> {
        match self {
            Self::Client | Self::Certificate => 0..=4,
            Self::Helo => 1..=4,
            Self::Sender => 2..=4,
            Self::Recipient => 3..=3,
        }
    }
}

const STAGES: [&str; 5] = ["connect", "helo", "mail", "rcpt", "data"];

/// A restriction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// One without an argument.
    Plain(Plain),
    /// `check_…_access:FILE`
    Access(Subject, PathBuf),
    /// `reject_rbl_client:ZONE`, and `reject_rhsbl_…:ZONE` for a name.
    Listed(Subject, Site),
    /// `permit_dnswl_client:ZONE`
    Allowed(Site),
}

macro_rules! plain {
    ($($variant:ident $name:literal $subject:expr, $doc:literal;)*) => {
        /// A restriction without an argument.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Plain { $(#[doc = $doc] $variant,)* }

        impl Plain {
            const ALL: &'static [(Self, &'static str, Option<Subject>)] = &[$((Self::$variant, $name, $subject),)*];
        }
    };
}

plain! {
    Permit "permit" None, "Ends the list.";
    Reject "reject" None, "Refuses.";
    Defer "defer" None, "Refuses for now.";
    PermitMynetworks "permit_mynetworks" Some(Subject::Client), "Ends the list for clients in trusted_networks.";
    PermitSasl "permit_sasl_authenticated" Some(Subject::Client), "Ends the list for clients that have logged in.";
    PermitTlsClientcerts "permit_tls_clientcerts" Some(Subject::Certificate), "Ends the list for clients with a certificate in relay_clientcerts.";
    PermitTlsAllClientcerts "permit_tls_all_clientcerts" Some(Subject::Certificate), "Ends the list for clients with a certificate of client_ca_file.";
    UnknownClient "reject_unknown_client_hostname" Some(Subject::Client), "The client's address has no name, or one that does not lead back to it.";
    UnknownReverse "reject_unknown_reverse_client_hostname" Some(Subject::Client), "The client's address has no name.";
    InvalidHelo "reject_invalid_helo_hostname" Some(Subject::Helo), "The HELO name is no name.";
    NonFqdnHelo "reject_non_fqdn_helo_hostname" Some(Subject::Helo), "The HELO name has no dot and is no address.";
    UnknownHelo "reject_unknown_helo_hostname" Some(Subject::Helo), "The HELO name is not in the DNS.";
    NonFqdnSender "reject_non_fqdn_sender" Some(Subject::Sender), "The sender's domain has no dot.";
    UnknownSenderDomain "reject_unknown_sender_domain" Some(Subject::Sender), "The sender's domain takes no mail.";
    SenderLogin "reject_sender_login_mismatch" Some(Subject::Sender), "The sender is somebody's, and whoever has logged in, or not, is not that somebody.";
    AuthenticatedSenderLogin "reject_authenticated_sender_login_mismatch" Some(Subject::Sender), "The same for clients that have logged in only.";
    UnauthenticatedSenderLogin "reject_unauthenticated_sender_login_mismatch" Some(Subject::Sender), "The same for clients that have not.";
    NonFqdnRecipient "reject_non_fqdn_recipient" Some(Subject::Recipient), "The recipient's domain has no dot.";
    UnknownRecipientDomain "reject_unknown_recipient_domain" Some(Subject::Recipient), "The recipient's domain takes no mail.";
    UnauthDestination "reject_unauth_destination" Some(Subject::Recipient), "The recipient is elsewhere and the client neither trusted nor logged in: always applied first, may be repeated.";
    UnlistedRecipient "reject_unlisted_recipient" Some(Subject::Recipient), "There is no such user here: always applied last, may come earlier.";
    MultiRecipientBounce "reject_multi_recipient_bounce" None, "The null sender has more than one recipient.";
    Dnsbl "reject_dnsbl" Some(Subject::Client), "The weights of the lists that have the client reach the threshold.";
    Greylist "greylist" Some(Subject::Recipient), "A client that has not written from this sender to this recipient before comes again later.";
}

impl Plain {
    fn row(self) -> (&'static str, Option<Subject>) {
        let found = Self::ALL.iter().find(|(plain, ..)| *plain == self);
        found.map_or(("", None), |(_, name, subject)| (name, *subject))
    }
}

/// Names that take an argument, and what it is.
const WITH_ARGUMENT: [(&str, &str); 9] = [
    ("check_client_access", "FILE"),
    ("check_ccert_access", "FILE"),
    ("check_helo_access", "FILE"),
    ("check_sender_access", "FILE"),
    ("check_recipient_access", "FILE"),
    ("reject_rbl_client", "ZONE"),
    ("reject_rhsbl_helo", "ZONE"),
    ("reject_rhsbl_sender", "ZONE"),
    ("permit_dnswl_client", "ZONE"),
];

impl Check {
    /// What it looks at; `None`: nothing in particular.
    pub fn subject(&self) -> Option<Subject> {
        match self {
            Self::Plain(plain) => plain.row().1,
            Self::Access(subject, _) | Self::Listed(subject, _) => Some(*subject),
            Self::Allowed(_) => Some(Subject::Client),
        }
    }

    fn stages(&self) -> std::ops::RangeInclusive<u8> {
        match self {
            // The recipients must have come.
            Self::Plain(Plain::MultiRecipientBounce) => 4..=4,
            other => other.subject().map_or(0..=4, Subject::stages),
        }
    }
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        if let Some((plain, ..)) = Plain::ALL.iter().find(|(_, known, _)| *known == name) {
            return match argument {
                None => Ok(Self::Plain(*plain)),
                Some(_) => Err(format!("{name} takes no argument: write {name:?}")),
            };
        }
        let Some((_, wanted)) = WITH_ARGUMENT.iter().find(|(known, _)| *known == name) else {
            return Err(unknown(name));
        };
        let Some(argument) = argument.filter(|argument| !argument.is_empty()) else {
            return Err(format!("{name} wants an argument: \"{name}:{wanted}\""));
        };
        let site = || -> Result<Site, String> {
            let site: Site = argument.parse()?;
            if site.weight == 1 {
                Ok(site)
            } else {
                Err("weights are for [smtpd.dnsbl] sites, with \"reject_dnsbl\" in the list".to_owned())
            }
        };
        let file = || PathBuf::from(argument);
        Ok(match name {
            "check_client_access" => Self::Access(Subject::Client, file()),
            "check_ccert_access" => Self::Access(Subject::Certificate, file()),
            "check_helo_access" => Self::Access(Subject::Helo, file()),
            "check_sender_access" => Self::Access(Subject::Sender, file()),
            "check_recipient_access" => Self::Access(Subject::Recipient, file()),
            "reject_rbl_client" => Self::Listed(Subject::Client, site()?),
            "reject_rhsbl_helo" => Self::Listed(Subject::Helo, site()?),
            "reject_rhsbl_sender" => Self::Listed(Subject::Sender, site()?),
            "permit_dnswl_client" => Self::Allowed(site()?),
            _ => return Err(unknown(name)),
        })
    }
}

fn unknown(name: &str) -> String {
    let names =
        || Plain::ALL.iter().map(|(_, name, _)| *name).chain(WITH_ARGUMENT.iter().map(|(name, _)| *name));
    let near = names().map(|known| (distance(name, known), known)).min();
    match near {
        Some((distance, known)) if distance <= 3 => {
            format!("no restriction is called {name:?}: did you mean {known:?}?")
        }
        _ => {
            format!("no restriction is called {name:?}: there are {}", names().collect::<Vec<_>>().join(", "))
        }
    }
}

/// How many letters have to be changed, put in or taken out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut before = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let here = (before + usize::from(x != y)).min(left + 1).min(*cell + 1);
            before = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |subject: &Subject| match subject {
            Subject::Client => "client",
            Subject::Certificate => "ccert",
            Subject::Helo => "helo",
            Subject::Sender => "sender",
            Subject::Recipient => "recipient",
        };
        match self {
            Self::Plain(plain) => f.write_str(plain.row().0),
            Self::Access(subject, path) => write!(f, "check_{}_access:{}", word(subject), path.display()),
            Self::Listed(Subject::Client, site) => write!(f, "reject_rbl_client:{site}"),
            Self::Listed(subject, site) => write!(f, "reject_rhsbl_{}:{site}", word(subject)),
            Self::Allowed(site) => write!(f, "permit_dnswl_client:{site}"),
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (warn, rest) = text.strip_prefix("warn:").map_or((false, text), |rest| (true, rest));
        Ok(Self { warn, check: rest.parse()? })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.warn { "warn:" } else { "" }, self.check)
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An entry of the list of one stage.
struct At<const STAGE: u8>(Rule);

impl<'de, const STAGE: u8> Deserialize<'de> for At<STAGE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rule: Rule = String::deserialize(deserializer)?.parse().map_err(D::Error::custom)?;
        let stages = rule.check.stages();
        if stages.contains(&STAGE) {
            return Ok(Self(rule));
        }
        let name = |stage: u8| STAGES.get(usize::from(stage)).copied().unwrap_or("");
        let right: Vec<&str> = stages.map(name).collect();
        Err(D::Error::custom(format!(
            "what {:?} looks at is not known in the list {:?}: put it into {}",
            rule.check.to_string(),
            name(STAGE),
            right.join(", ")
        )))
    }
}

fn list<'de, const STAGE: u8, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    let rules: Vec<At<STAGE>> = Vec::deserialize(deserializer)?;
    Ok(rules.into_iter().map(|At(rule)| rule).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restrictions_are_read_and_written_again() {
        let plain = Plain::ALL.iter().map(|(_, name, _)| (*name).to_owned());
        let more = [
            "warn:reject_non_fqdn_sender",
            "check_client_access:/etc/ironpost/client",
            "check_helo_access:helo",
            "check_ccert_access:ccerts",
            "check_sender_access:sender",
            "warn:check_recipient_access:recipient",
            "reject_rbl_client:zen.example.org=127.0.0.[2..11]",
            "reject_rhsbl_sender:dbl.example.org",
            "reject_rhsbl_helo:dbl.example.org=127.0.1.[2;4..6]",
            "permit_dnswl_client:list.example.org=127.0.[0..255].[1..3]",
        ];
        for text in plain.chain(more.map(str::to_owned)) {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_are_told_with_what_would_be_right() {
        for (text, says) in [
            ("reject_unknwon_sender_domain", "did you mean \"reject_unknown_sender_domain\"?"),
            ("nonsense", "there are permit, reject"),
            ("permit:x", "takes no argument"),
            ("check_client_access", "\"check_client_access:FILE\""),
            ("check_client_access:", "\"check_client_access:FILE\""),
            ("reject_rbl_client:a b", "is no DNS list"),
            ("reject_rbl_client:bl.example*2", "[smtpd.dnsbl]"),
            ("warn:warn:permit", "\"warn\""),
        ] {
            let error = text.parse::<Rule>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
