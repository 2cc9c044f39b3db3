//! Which exchanges are ourselves: by our own name, or by an address and port on which we listen (RFC 5321
//! 5.1: a host never sends to itself or past itself). Pure; the driver says what the local addresses are.

use common::address::Domain;
use std::net::{IpAddr, SocketAddr};

/// What this machine is known by.
#[derive(Debug, Clone)]
pub struct Ourselves {
    hostname: Domain,
    /// Where the SMTP server listens, as configured: an unspecified address stands for all local ones.
    listeners: Vec<SocketAddr>,
    /// The addresses of the interfaces.
    local: Vec<IpAddr>,
}

impl Ourselves {
    /// From the configuration and the interfaces.
    pub fn new(hostname: Domain, listeners: Vec<SocketAddr>, local: Vec<IpAddr>) -> Self {
        Self { hostname, listeners, local }
    }

    /// Is an exchange of this name we?
    pub fn has_name(&self, name: &Domain) -> bool {
        *name == self.hostname
    }

    /// Do we listen there?
    pub fn listens_at(&self, target: SocketAddr) -> bool {
        let ip = target.ip().to_canonical();
        self.listeners.iter().filter(|listener| listener.port() == target.port()).any(|listener| {
            let own = listener.ip().to_canonical();
            if own.is_unspecified() {
                // "[::]" listens for IPv4 as well, "0.0.0.0" for nothing else. To connect to an unspecified
                // address means this machine.
                let family = own.is_ipv6() || ip.is_ipv4();
                family && (ip.is_loopback() || ip.is_unspecified() || self.local.contains(&ip))
            } else {
                own == ip || (ip.is_unspecified() && own.is_loopback())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ours_when_we_listen_there() {
        for (listener, target, expected) in [
            ("192.0.2.1:25", "192.0.2.1:25", true),
            ("192.0.2.1:25", "192.0.2.1:26", false),
            ("192.0.2.1:25", "192.0.2.2:25", false),
            ("192.0.2.1:25", "[::ffff:192.0.2.1]:25", true),
            ("[::]:25", "192.0.2.7:25", true),
            ("[::]:25", "127.1.2.3:25", true),
            ("[::]:25", "[2001:db8::7]:25", true),
            ("[::]:25", "192.0.2.8:25", false),
            ("[::]:25", "0.0.0.0:25", true),
            ("0.0.0.0:25", "192.0.2.7:25", true),
            ("0.0.0.0:25", "[2001:db8::7]:25", false),
            ("0.0.0.0:25", "[::1]:25", false),
            ("127.0.0.1:2525", "127.0.0.2:2525", false),
            ("127.0.0.1:2525", "0.0.0.0:2525", true),
            ("[::]:0", "127.0.0.1:25", false),
        ] {
            let local = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
            let we = Ourselves::new("me.example".parse().unwrap(), vec![listener.parse().unwrap()], local);
            assert_eq!(we.listens_at(target.parse().unwrap()), expected, "{listener} {target}");
        }
    }

    #[test]
    fn our_name_is_ours_in_any_case() {
        let we = Ourselves::new("me.example".parse().unwrap(), Vec::new(), Vec::new());
        assert!(we.has_name(&"ME.Example".parse().unwrap()));
        assert!(!we.has_name(&"mx.me.example".parse().unwrap()));
    }
}
