//! The DNS for restrictions, through hickory-resolver: few questions at a time, each with a deadline, answers cached in bounded memory.
//!
//! Never panics on answers. What is not a clear "does not exist" is `Unsure`, so that a failing name server never refuses anybody for
//! good. /etc/hosts is not looked at.

use crate::restrictions::{ClientName, Listing, MailDomain};
use common::address::Domain;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// For one thing that a session wants to know, with all questions, servers and repetitions, and with the wait for its turn.
const LIMIT: Duration = Duration::from_secs(5);
/// One server's time for one answer.
const SERVER_LIMIT: Duration = Duration::from_secs(2);
/// Things looked up at the same time for decisions. What one client can take of them is bounded by its connections.
const TURNS: usize = 512;
/// The same for DNS lists: apart, so that a flood of names from outside, whose servers never answer, does not silence them.
const LIST_TURNS: usize = 256;
/// The same for names that nothing is decided by: apart, so that they never keep a decision waiting.
const SPARE_TURNS: usize = 256;
/// Answers kept.
const CACHE: u64 = 8192;
/// A corrected record is seen after this time at the latest, whatever its TTL says.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// The same for "does not exist".
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(60);
/// Names of one address that are looked at.
const MAX_NAMES: usize = 5;

/// The resolver.
pub struct Dns {
    settings: (ResolverConfig, ResolverOpts),
    /// Made at the first question: inside the runtime.
    resolver: OnceLock<Result<TokioResolver, String>>,
    turns: Semaphore,
    lists: Semaphore,
    spare: Semaphore,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

/// A question without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The DNS says that there is none.
    Certain,
    /// Nobody can say.
    Unsure,
}

impl Dns {
    /// Asks these servers, or those of /etc/resolv.conf when there is none; without that file one on this machine, as the C library does.
    /// Asks nothing yet.
    pub fn new(servers: &[SocketAddr]) -> Self {
        let (config, mut options) = if servers.is_empty() {
            read_system_conf().unwrap_or_else(|_| {
                let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
                (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
            })
        } else {
            let servers = servers.iter().map(|server| name_server(*server)).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        };
        options.use_hosts_file = ResolveHosts::Never;
        options.positive_max_ttl = Some(MAX_TTL);
        options.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
        options.timeout = SERVER_LIMIT;
        options.attempts = 1;
        options.cache_size = CACHE;
        options.max_active_requests = 4096;
        Self {
            settings: (config, options),
            resolver: OnceLock::new(),
            turns: Semaphore::new(TURNS),
            lists: Semaphore::new(LIST_TURNS),
            spare: Semaphore::new(SPARE_TURNS),
        }
    }

    /// The name of an address, confirmed.
    pub async fn client_name(&self, ip: IpAddr) -> ClientName {
        limited(&self.turns, self.find_name(ip)).await.unwrap_or(ClientName::Unsure)
    }

    /// The same where it is good to know and no more: nobody waits for a turn.
    pub async fn client_name_if_idle(&self, ip: IpAddr) -> ClientName {
        let Ok(_turn) = self.spare.try_acquire() else { return ClientName::Unsure };
        timeout(LIMIT, self.find_name(ip)).await.ok().flatten().unwrap_or(ClientName::Unsure)
    }

    /// Does the domain take mail? RFC 5321 5.1: MX, else an address.
    pub async fn mail_domain(&self, domain: &Domain) -> MailDomain {
        limited(&self.turns, self.find_domain(domain)).await.unwrap_or(MailDomain::Unsure)
    }

    /// What a DNS list says of a name in it.
    pub async fn listed(&self, name: &Domain) -> Listing {
        let find = async {
            let name = absolute(name)?;
            match self.ask(name, RecordType::A, address).await {
                Ok(addresses) => {
                    let v4 = |ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None };
                    Some(Listing::Answers(addresses.into_iter().filter_map(v4).collect()))
                }
                Err(Missing::Certain) => Some(Listing::Answers(Vec::new())),
                Err(Missing::Unsure) => None,
            }
        };
        limited(&self.lists, find).await.unwrap_or(Listing::Unsure)
    }

    /// The reason that a DNS list gives.
    pub async fn reason(&self, name: &Domain) -> Option<String> {
        let text = |record: &Record| match &record.data {
            RData::TXT(txt) => {
                let all: Vec<u8> = txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
                Some(String::from_utf8_lossy(&all).into_owned())
            }
            _ => None,
        };
        let find = async { self.ask(absolute(name)?, RecordType::TXT, text).await.ok()?.into_iter().next() };
        limited(&self.lists, find).await
    }

    async fn find_name(&self, ip: IpAddr) -> Option<ClientName> {
        let pointer = |record: &Record| match &record.data {
            RData::PTR(name) => name.0.to_ascii().trim_end_matches('.').parse::<Domain>().ok(),
            _ => None,
        };
        let names = match self.ask(Name::from(ip), RecordType::PTR, pointer).await {
            Ok(names) => names,
            Err(Missing::Certain) => return Some(ClientName::Missing),
            Err(Missing::Unsure) => return None,
        };
        let kind = if ip.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        let mut unsure = false;
        for name in names.into_iter().filter(|name| name.literal().is_none()).take(MAX_NAMES) {
            match self.ask(absolute(&name)?, kind, address).await {
                Ok(addresses) if addresses.contains(&ip) => return Some(ClientName::Confirmed(name)),
                Ok(_) | Err(Missing::Certain) => {}
                Err(Missing::Unsure) => unsure = true,
            }
        }
        if unsure { None } else { Some(ClientName::Unconfirmed) }
    }

    async fn find_domain(&self, domain: &Domain) -> Option<MailDomain> {
        let exchange = |record: &Record| match &record.data {
            RData::MX(mx) => Some(mx.exchange.is_root()),
            _ => None,
        };
        match self.ask(absolute(domain)?, RecordType::MX, exchange).await {
            Ok(roots) if roots == [true] => return Some(MailDomain::NullMx),
            Ok(_) => return Some(MailDomain::Exists),
            Err(Missing::Unsure) => return None,
            // Some name servers deny the name itself when it has no MX: so its addresses are asked for as well.
            Err(Missing::Certain) => {}
        }
        let mut unsure = false;
        for kind in [RecordType::A, RecordType::AAAA] {
            match self.ask(absolute(domain)?, kind, address).await {
                Ok(_) => return Some(MailDomain::Exists),
                Err(Missing::Certain) => {}
                Err(Missing::Unsure) => unsure = true,
            }
        }
        if unsure { None } else { Some(MailDomain::Missing) }
    }

    async fn ask<T>(
        &self,
        name: Name,
        kind: RecordType,
        read: impl Fn(&Record) -> Option<T>,
    ) -> Result<Vec<T>, Missing> {
        let made = self.resolver.get_or_init(|| {
            let (config, options) = self.settings.clone();
            let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            let made = builder.with_options(options).build().map_err(|error| error.to_string());
            if let Err(error) = &made {
                common::error!("no name can be looked up: {error}");
            }
            made
        });
        let Ok(resolver) = made else { return Err(Missing::Unsure) };
        match resolver.lookup(name, kind).await {
            Ok(lookup) => {
                let list: Vec<T> = lookup.answers().iter().filter_map(read).collect();
                if list.is_empty() { Err(Missing::Certain) } else { Ok(list) }
            }
            Err(error) => Err(missing(&error)),
        }
    }
}

/// Waits for its turn and for the answer, and for neither too long.
async fn limited<T>(turns: &Semaphore, find: impl Future<Output = Option<T>>) -> Option<T> {
    let turn = async {
        let _turn = turns.acquire().await.ok()?;
        find.await
    };
    timeout(LIMIT, turn).await.ok().flatten()
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = server.port();
    }
    NameServerConfig::new(server.ip(), true, connections)
}

/// The trailing dot keeps the search list out. `None`: it is a domain in mail and none in the DNS.
fn absolute(name: &Domain) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

fn missing(error: &NetError) -> Missing {
    match error {
        error if error.is_nx_domain() => Missing::Certain,
        // An empty answer with name servers and no SOA is a referral, not a denial (RFC 2308 2.2).
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.ns.is_none() || none.soa.is_some() => {
            Missing::Certain
        }
        _ => Missing::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn a_name_for_the_log_keeps_nobody_waiting_for_a_turn() {
        let dns = Dns::new(&["192.0.2.53:53".parse().unwrap()]);
        let _all = dns.spare.try_acquire_many(SPARE_TURNS as u32).unwrap();
        let name = pin!(dns.client_name_if_idle("192.0.2.1".parse().unwrap()));
        let polled = name.poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(ClientName::Unsure));
        assert_eq!(dns.turns.available_permits(), TURNS, "decisions have theirs");
    }
}
