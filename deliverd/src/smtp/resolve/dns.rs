//! The DNS through hickory-resolver: cached, with time limits, no DNSSEC.
//!
//! Never panics on answers; everything that is not a clear "does not exist" is [`Missing::Unknown`], so
//! that a failing name server defers mail and never bounces it. /etc/hosts is not looked at, as with
//! Postfix (`localhost` is known nevertheless: RFC 6761 6.3).

use super::{Dns, Missing, MxRecord};
use common::address::Domain;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// For one name and type, all servers and repetitions together.
const LIMIT: Duration = Duration::from_secs(30);
/// A corrected record is seen after this time at the latest, whatever its TTL says.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// The same for "does not exist".
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(60);

/// Which servers to ask and how; read before privileges are dropped.
#[derive(Debug, Clone)]
pub struct Settings {
    config: ResolverConfig,
    options: ResolverOpts,
}

impl Settings {
    /// The given servers, or those of /etc/resolv.conf when there is none; without that file a server on
    /// this machine, as the C library does.
    pub fn new(servers: &[SocketAddr]) -> Self {
        let (config, mut options) = if servers.is_empty() {
            read_system_conf().unwrap_or_else(|error| {
                common::warn!(
                    "/etc/resolv.conf cannot be used ({error}): asking the name server at 127.0.0.1"
                );
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
        // Beyond this, further questions get "busy" back.
        options.max_active_requests = 4096;
        Self { config, options }
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = server.port();
    }
    NameServerConfig::new(server.ip(), true, connections)
}

/// The resolver. Clones share sockets and cache.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Inside a tokio runtime. Asks nothing yet. Errors: settings that make no resolver, as text.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(settings.config, provider);
        builder.with_options(settings.options).build().map(Self).map_err(|error| error.to_string())
    }

    async fn ask<T>(
        &self,
        name: &Domain,
        kind: RecordType,
        read: impl Fn(&Record) -> Option<T>,
    ) -> Result<Vec<T>, Missing> {
        // The trailing dot keeps the search list out.
        let name = Name::from_ascii(format!("{name}.")).map_err(|_| Missing::Malformed)?;
        match tokio::time::timeout(LIMIT, self.0.lookup(name, kind)).await {
            Ok(Ok(lookup)) => {
                let list: Vec<T> = lookup.answers().iter().filter_map(read).collect();
                if list.is_empty() { Err(Missing::Records) } else { Ok(list) }
            }
            Ok(Err(error)) => Err(missing(&error)),
            Err(_) => Err(Missing::Unknown),
        }
    }
}

fn missing(error: &NetError) -> Missing {
    match error {
        error if error.is_nx_domain() => Missing::Name,
        // An empty answer with name servers and no SOA is a referral, not a denial (RFC 2308 2.2).
        NetError::Dns(DnsError::NoRecordsFound(none)) if none.ns.is_none() || none.soa.is_some() => {
            Missing::Records
        }
        _ => Missing::Unknown,
    }
}

impl Dns for Resolver {
    async fn mx(&self, domain: &Domain) -> Result<Vec<MxRecord>, Missing> {
        self.ask(domain, RecordType::MX, |record| match &record.data {
            RData::MX(mx) => {
                let exchange = mx.exchange.to_ascii();
                let exchange = exchange.strip_suffix('.').unwrap_or(&exchange).to_owned();
                Some(MxRecord { preference: mx.preference, exchange })
            }
            _ => None,
        })
        .await
    }

    async fn addresses(&self, name: &Domain) -> Result<Vec<IpAddr>, Missing> {
        let address = |record: &Record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        };
        let (four, six) =
            tokio::join!(self.ask(name, RecordType::A, address), self.ask(name, RecordType::AAAA, address));
        match (four, six) {
            (Ok(mut four), six) => {
                four.extend(six.into_iter().flatten());
                Ok(four)
            }
            (Err(_), Ok(six)) => Ok(six),
            (Err(Missing::Unknown), _) | (_, Err(Missing::Unknown)) => Err(Missing::Unknown),
            // The name exists when one of the two answers says so.
            (Err(Missing::Records), _) | (_, Err(Missing::Records)) => Err(Missing::Records),
            (Err(why), Err(_)) => Err(why),
        }
    }
}
