//! Where a recipient's mail goes: address class, aliases, transport and nexthop. Pure functions of the address and the tables.
//!
//! Order: an address of class *local* is expanded by the aliases (nested, loops refused); every resulting address is routed by the transport table, else by its
//! class: local to its mailbox, the rest to `relay_host`, else to the MX of its domain.

use crate::address::{Address, Domain, LocalPart};
use crate::aliases::{Aliases, Target};
use crate::destination::{Destination, Nexthop, Transport};
use crate::status::{EnhancedCode, Status};
use crate::table::{Table, TableError};
use crate::users::{Lookup, Users};
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

/// Most addresses that one recipient may expand to.
pub const MAX_EXPANSION: usize = 10_000;
/// Deepest nesting of aliases.
pub const MAX_DEPTH: usize = 50;

/// What we are to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// Its mailboxes are here.
    Local,
    /// Accepted from anyone, passed on.
    Relay,
    /// Somebody else's: only from trusted clients.
    Default,
}

/// Does a recipient exist?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existence {
    /// Yes, or it is not for us to know.
    Yes,
    /// Certainly not.
    No,
    /// Cannot be told now, with the reason.
    Unknown(String),
}

/// What a recipient stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expansion {
    /// Itself.
    Same,
    /// These instead, without duplicates; never empty.
    Into(Vec<Address>),
    /// The aliases are wrong: not deliverable as they are.
    Broken(Status),
}

/// Everything that routing depends on, as it was at one moment.
#[derive(Debug, Clone)]
pub struct Router {
    /// Completes bare addresses.
    pub mail_name: Domain,
    /// Class local.
    pub local_domains: HashSet<Domain>,
    /// Class relay.
    pub relay_domains: HashSet<Domain>,
    /// Literals with these addresses are class local.
    pub own_addresses: HashSet<IpAddr>,
    /// Separates user and extension.
    pub delimiter: Option<char>,
    /// Goes before MX for all that is not local.
    pub relay_host: Option<Nexthop>,
    /// The transport table.
    pub transports: Transports,
    /// The aliases.
    pub aliases: Aliases,
    /// The mailboxes.
    pub users: Users,
}

impl Router {
    /// The class of addresses in a domain.
    pub fn class(&self, domain: &Domain) -> AddressClass {
        let own_literal = domain.literal().is_some_and(|ip| self.own_addresses.contains(&ip));
        if own_literal || self.local_domains.contains(domain) {
            AddressClass::Local
        } else if self.relay_domains.contains(domain) {
            AddressClass::Relay
        } else {
            AddressClass::Default
        }
    }

    /// Whether there is such a recipient; only local ones can be known.
    pub fn recipient_exists(&self, address: &Address) -> Existence {
        if self.class(address.domain()) != AddressClass::Local || self.leads_away(address) {
            return Existence::Yes;
        }
        let local = address.local_part().value();
        // RFC 5321 4.5.1: postmaster is always there.
        if local.eq_ignore_ascii_case("postmaster") || self.alias(&local).is_some() {
            return Existence::Yes;
        }
        match self.users.find(&local, self.delimiter) {
            Lookup::Found { .. } => Existence::Yes,
            Lookup::NotFound => Existence::No,
            Lookup::Unavailable(why) => Existence::Unknown(why),
        }
    }

    /// Expands a recipient by the aliases.
    pub fn expand(&self, address: &Address) -> Expansion {
        let mut walk = Walk {
            router: self,
            path: Vec::new(),
            done: HashSet::new(),
            seen: HashSet::new(),
            out: Vec::new(),
        };
        match walk.visit(address) {
            Err(broken) => Expansion::Broken(broken),
            Ok(()) if walk.out.len() == 1 && walk.out.first() == Some(address) => Expansion::Same,
            Ok(()) => Expansion::Into(walk.out),
        }
    }

    /// Transport and nexthop of an address that is fully expanded.
    pub fn route(&self, address: &Address) -> Destination {
        let by_table = self.transports.find(address).cloned().unwrap_or_default();
        let class = self.class(address.domain());
        let transport =
            by_table.transport.unwrap_or(if class == AddressClass::Local && by_table.nexthop.is_none() {
                Transport::Local
            } else {
                Transport::Smtp
            });
        let nexthop = match transport {
            Transport::Local => Nexthop::Here,
            Transport::Discard | Transport::Error => by_table.nexthop.unwrap_or_else(|| Nexthop::text("")),
            Transport::Smtp => by_table
                .nexthop
                .or_else(|| self.relay_host.clone().filter(|_| by_table.transport.is_none()))
                .unwrap_or_else(|| Nexthop::of_domain(address.domain())),
        };
        Destination { transport, nexthop }
    }

    /// Does the transport table send this local address elsewhere? A rule that leads to the mailboxes here leaves aliases and users in force.
    fn leads_away(&self, address: &Address) -> bool {
        self.transports.find(address).is_some() && self.route(address).transport != Transport::Local
    }

    fn alias(&self, local: &str) -> Option<&crate::aliases::Entry> {
        let local = local.to_lowercase();
        let stem = self.delimiter.and_then(|d| local.split_once(d)).map(|(stem, _)| stem);
        self.aliases.get(&local).or_else(|| stem.and_then(|stem| self.aliases.get(stem)))
    }
}

/// One walk through the aliases.
struct Walk<'a> {
    router: &'a Router,
    /// The aliases on the way from the recipient to here, to find loops.
    path: Vec<Address>,
    /// The aliases whose addresses are all in: walked once, however often they are named (`a: b, b` `b: c, c` … would take for ever).
    done: HashSet<Address>,
    /// Results, to drop duplicates.
    seen: HashSet<Address>,
    out: Vec<Address>,
}

impl Walk<'_> {
    fn visit(&mut self, address: &Address) -> Result<(), Status> {
        let router = self.router;
        if router.class(address.domain()) != AddressClass::Local || router.leads_away(address) {
            return self.result(address);
        }
        let local = address.local_part().value();
        let Some(entry) = router.alias(&local) else { return self.leaf(address, &local) };
        let targets = entry.as_ref().map_err(|why| {
            Status::local(EnhancedCode::new(4, 3, 5), format!("alias cannot be used: {why}"))
        })?;
        if self.path.contains(address) {
            let text = format!("alias loop: {address} leads back to itself");
            return Err(Status::local(EnhancedCode::new(5, 4, 6), text));
        }
        if self.done.contains(address) {
            return Ok(());
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(Status::local(EnhancedCode::new(5, 4, 6), "aliases nested too deeply"));
        }
        self.path.push(address.clone());
        for target in targets {
            match target {
                Target::Address(next) => self.step(address, next)?,
                Target::Name(name) => {
                    let next = self.here(name, address)?;
                    self.step(address, &next)?;
                }
                Target::Mailbox(name) => {
                    let next = self.here(name, address)?;
                    self.result(&next)?;
                }
            }
        }
        self.done.extend(self.path.pop());
        Ok(())
    }

    /// `joe: joe, archive` keeps a copy in joe's own mailbox: the alias names itself, which is no loop.
    fn step(&mut self, alias: &Address, next: &Address) -> Result<(), Status> {
        if next == alias { self.result(next) } else { self.visit(next) }
    }

    fn here(&self, name: &LocalPart, alias: &Address) -> Result<Address, Status> {
        Address::new(name.clone(), alias.domain().clone())
            .map_err(|error| Status::local(EnhancedCode::new(5, 1, 3), format!("alias for {name}: {error}")))
    }

    /// An address that no alias names. Postmaster without a mailbox is root's mail, or the first user's.
    fn leaf(&mut self, address: &Address, local: &str) -> Result<(), Status> {
        let router = self.router;
        if local.eq_ignore_ascii_case("postmaster")
            && router.users.find(local, router.delimiter) == Lookup::NotFound
        {
            let stand_in = if router.alias("root").is_some() {
                Some("root".to_owned())
            } else {
                router.users.postmaster()
            };
            if let Some(Ok(name)) = stand_in.map(|name| LocalPart::quote(&name)) {
                let next = self.here(&name, address)?;
                return if next == *address { self.result(&next) } else { self.visit(&next) };
            }
        }
        self.result(address)
    }

    fn result(&mut self, address: &Address) -> Result<(), Status> {
        if self.seen.insert(address.clone()) {
            self.out.push(address.clone());
        }
        if self.out.len() > MAX_EXPANSION {
            let text = format!("alias expands to more than {MAX_EXPANSION} addresses");
            return Err(Status::local(EnhancedCode::new(5, 4, 6), text));
        }
        Ok(())
    }
}

/// What the transport table says for one key; what is absent is decided as without the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    transport: Option<Transport>,
    nexthop: Option<Nexthop>,
}

/// The transport table: `user@domain`, `domain`, `.domain` (its sub-domains) or `*`, each with `transport:nexthop`.
#[derive(Debug, Clone, Default)]
pub struct Transports(Vec<(String, Rule)>);

impl Transports {
    /// Reads the rules of a table.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let table = Table::parse(path, text)?;
        let mut rules = table
            .iter()
            .map(|(key, value)| match rule(value) {
                Ok(rule) => Ok((in_ascii(key), rule)),
                Err(message) => Err(TableError::file(path, &format!("{key}: {message}"))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        rules.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self(rules))
    }

    fn get(&self, key: &str) -> Option<&Rule> {
        let at = self.0.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok()?;
        self.0.get(at).map(|(_, rule)| rule)
    }

    /// The rule for an address: the address itself, its domain, the nearest enclosing `.domain`, `*`.
    pub fn find(&self, address: &Address) -> Option<&Rule> {
        if self.0.is_empty() {
            return None;
        }
        let domain = address.domain().to_lowercase();
        let whole = format!("{}@{domain}", address.local_part().as_str().to_lowercase());
        let parents = domain.match_indices('.').filter_map(|(i, _)| domain.get(i..));
        [whole.as_str(), domain.as_str()]
            .into_iter()
            .chain(parents)
            .chain(["*"])
            .find_map(|key| self.get(key))
    }
}

/// The key with its domain as addresses have it: names in other scripts as A-labels (RFC 5890).
fn in_ascii(key: &str) -> String {
    let at = key.rfind('@').map_or(0, |at| at + 1);
    let (local, domain) = key.split_at_checked(at).unwrap_or(("", key));
    let (dot, name) = domain.strip_prefix('.').map_or(("", domain), |name| (".", name));
    match name.parse::<Domain>() {
        Ok(name) => format!("{local}{dot}{}", name.to_lowercase()),
        Err(_) => key.to_owned(),
    }
}

fn rule(value: &str) -> Result<Rule, String> {
    let (name, rest) = value.split_once(':').ok_or_else(|| format!("{value:?}: wanted transport:nexthop"))?;
    let transport = match name {
        "" => None,
        "smtp" => Some(Transport::Smtp),
        "local" => Some(Transport::Local),
        "discard" => Some(Transport::Discard),
        "error" => Some(Transport::Error),
        other => {
            return Err(format!(
                "transport {other:?} is not known: there are smtp, local, discard and error"
            ));
        }
    };
    let rest = rest.trim();
    let nexthop = match transport {
        Some(Transport::Local) if rest.is_empty() => None,
        Some(Transport::Local) => return Err("local: takes no nexthop".into()),
        Some(Transport::Discard | Transport::Error) => Some(Nexthop::text(rest)),
        _ if rest.is_empty() => None,
        _ => Some(rest.parse().map_err(|error: crate::destination::NexthopError| error.to_string())?),
    };
    Ok(Rule { transport, nexthop })
}

#[cfg(test)]
mod tests;
