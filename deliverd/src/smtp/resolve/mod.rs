//! From a nexthop to the addresses to try, in order.
//!
//! Exchanges by preference (RFC 5321 5.1), equal ones as `order.rs` says; the domain's own addresses when it
//! has no MX records; an end at ourselves. Names are asked for group by group, so a domain with many
//! exchanges costs no more questions than needed. The DNS is behind [`Dns`]; everything else in this folder
//! but [`dns`] is pure. Fails with the status for all recipients.

pub mod dns;
mod exchanges;
mod failure;
mod order;
mod ourselves;

pub use exchanges::{Exchanges, MAX_RECORDS, MxRecord};
pub use failure::{Missing, of_configured_host};
pub use order::{Host, PROBE_ONE_IN, order};
pub use ourselves::Ourselves;

use common::address::Domain;
use common::destination::{self, Nexthop};
use common::status::{EnhancedCode, Status};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use tokio::task::JoinSet;

/// Most addresses of one host that are looked at.
const MAX_ADDRESSES_OF_HOST: usize = 20;
/// With so many candidates, groups of higher preference value are not asked for any more, once there are
/// two groups.
const ENOUGH: usize = 10;
/// Most candidates handed out.
const MAX_CANDIDATES: usize = 50;

/// What is asked of the DNS. Names are complete: no search list. CNAMEs are followed.
pub trait Dns: Clone + Send + Sync + 'static {
    /// The MX records, at least one.
    fn mx(&self, domain: &Domain) -> impl Future<Output = Result<Vec<MxRecord>, Missing>> + Send;
    /// The addresses of both families, at least one. `Unknown` only when there is none and one of the
    /// families could not be asked for.
    fn addresses(&self, name: &Domain) -> impl Future<Output = Result<Vec<IpAddr>, Missing>> + Send;
}

/// An address to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The host's name, or the address as text.
    pub name: String,
    /// Address and port.
    pub address: SocketAddr,
    /// 0 for the most preferred group, then 1 and so on.
    pub tier: usize,
}

/// The addresses for `nexthop`, best first, at least one. `default_port` counts where the nexthop names
/// none; `order` is the order within a group of equal preference.
pub async fn find(
    dns: &impl Dns,
    nexthop: &Nexthop,
    default_port: u16,
    ourselves: &Ourselves,
    order: &(impl Fn(Vec<Host>) -> Vec<(String, IpAddr)> + Sync),
) -> Result<Vec<Candidate>, Status> {
    let candidate = |tier: usize, port: u16| {
        move |(name, ip): (String, IpAddr)| Candidate { name, address: SocketAddr::new(ip, port), tier }
    };
    match nexthop {
        Nexthop::Domain { domain, port } => {
            let port = port.unwrap_or(default_port);
            let groups = groups(dns, domain, ourselves, port).await?;
            let list = groups.into_iter().enumerate();
            let all = list.flat_map(|(tier, hosts)| order(hosts).into_iter().map(candidate(tier, port)));
            Ok(all.take(MAX_CANDIDATES).collect())
        }
        Nexthop::Host { host, port } => {
            let port = port.unwrap_or(default_port);
            let host = match host {
                destination::Host::Ip(ip) => Host { name: ip.to_string(), addresses: vec![*ip] },
                destination::Host::Name(name) => addresses_of_host(dns, name).await?,
            };
            if host.addresses.iter().any(|ip| ourselves.listens_at(SocketAddr::new(*ip, port))) {
                return Err(failure::looping(&nexthop.to_string()));
            }
            Ok(order(vec![host]).into_iter().map(candidate(0, port)).collect())
        }
        Nexthop::Here | Nexthop::Text(_) => Err(Status::local(
            EnhancedCode::new(4, 3, 5),
            format!("mail system configuration error: no host to go to in nexthop {nexthop}"),
        )),
    }
}

async fn addresses_of_host(dns: &impl Dns, name: &Domain) -> Result<Host, Status> {
    match dns.addresses(name).await {
        Ok(mut addresses) => {
            addresses.truncate(MAX_ADDRESSES_OF_HOST);
            Ok(Host { name: name.to_string(), addresses })
        }
        Err(why) => Err(failure::domain(name.as_str(), "A", why)),
    }
}

/// The hosts of a domain in groups of equal preference, none empty, at least one group.
async fn groups(
    dns: &impl Dns,
    domain: &Domain,
    ourselves: &Ourselves,
    port: u16,
) -> Result<Vec<Vec<Host>>, Status> {
    let records = match dns.mx(domain).await {
        Ok(records) => records,
        // RFC 5321 5.1: without MX records the domain is its own exchange. Some name servers deny the name
        // itself when it has other records only; so its addresses are asked for then, too, as Postfix does.
        Err(why @ (Missing::Records | Missing::Name)) => {
            return implicit(dns, domain, ourselves, port, why).await;
        }
        Err(why) => return Err(failure::domain(domain.as_str(), "MX", why)),
    };
    let exchanges = match Exchanges::new(records) {
        Exchanges::Groups(groups) => groups,
        Exchanges::NullMx => return Err(failure::null_mx(domain.as_str())),
        Exchanges::Malformed => return Err(failure::domain(domain.as_str(), "MX", Missing::Malformed)),
    };
    let mut found: Vec<Vec<Host>> = Vec::new();
    let mut failed: Option<(Domain, Missing)> = None;
    let mut looping = false;
    for (_, names) in exchanges {
        // RFC 5321 5.1: what is not preferred to ourselves is out.
        looping = names.iter().any(|name| ourselves.has_name(name));
        if looping {
            break;
        }
        let mut hosts = Vec::new();
        for (name, answer) in ask_all(dns, names).await {
            match answer {
                Ok(mut addresses) => {
                    addresses.truncate(MAX_ADDRESSES_OF_HOST);
                    hosts.push(Host { name: name.to_string(), addresses });
                }
                // The failure to report: one that may pass, else the first.
                Err(why) if failed.is_none() || why.is_temporary() => failed = Some((name, why)),
                Err(_) => {}
            }
        }
        let own = |ip: &IpAddr| ourselves.listens_at(SocketAddr::new(*ip, port));
        looping = hosts.iter().flat_map(|host| &host.addresses).any(own);
        if looping {
            break;
        }
        if !hosts.is_empty() {
            found.push(hosts);
        }
        let addresses: usize = found.iter().flatten().map(|host| host.addresses.len()).sum();
        if found.len() >= 2 && addresses >= ENOUGH {
            break;
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    match failed {
        Some((name, why)) if why.is_temporary() => Err(failure::exchange(name.as_str(), why)),
        _ if looping => Err(failure::looping(domain.as_str())),
        Some((name, why)) => Err(failure::exchange(name.as_str(), why)),
        None => Err(failure::domain(domain.as_str(), "MX", Missing::Malformed)),
    }
}

/// The domain as its own exchange.
async fn implicit(
    dns: &impl Dns,
    domain: &Domain,
    ourselves: &Ourselves,
    port: u16,
    mx: Missing,
) -> Result<Vec<Vec<Host>>, Status> {
    let host = match dns.addresses(domain).await {
        Ok(mut addresses) => {
            addresses.truncate(MAX_ADDRESSES_OF_HOST);
            Host { name: domain.to_string(), addresses }
        }
        Err(Missing::Unknown) if mx != Missing::Name => {
            return Err(failure::domain(domain.as_str(), "A", Missing::Unknown));
        }
        Err(_) if mx == Missing::Name => return Err(failure::domain(domain.as_str(), "MX", mx)),
        Err(why) => return Err(failure::domain(domain.as_str(), "A", why)),
    };
    let own = |ip: &IpAddr| ourselves.listens_at(SocketAddr::new(*ip, port));
    if ourselves.has_name(domain) || host.addresses.iter().any(own) {
        return Err(failure::looping(domain.as_str()));
    }
    Ok(vec![vec![host]])
}

/// The addresses of all names at once, in the order of the names.
async fn ask_all(dns: &impl Dns, names: Vec<Domain>) -> Vec<(Domain, Result<Vec<IpAddr>, Missing>)> {
    let mut tasks = JoinSet::new();
    for (i, name) in names.into_iter().enumerate() {
        let dns = dns.clone();
        tasks.spawn(async move {
            let answer = dns.addresses(&name).await;
            (i, name, answer)
        });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(i, _, _)| *i);
    answers.into_iter().map(|(_, name, answer)| (name, answer)).collect()
}

#[cfg(test)]
mod tests;
