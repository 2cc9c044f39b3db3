//! Networks in CIDR form.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address and how many of its first bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A list of networks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// `127.0.0.0/8` and `::1/128`.
    pub fn this_machine() -> Self {
        Self(vec![
            Network { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), bits: 8 },
            Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 },
        ])
    }

    /// Is the address in one of them? An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(list: I) -> Self {
        Self(list.into_iter().collect())
    }
}

impl Network {
    /// The network of so many bits (at most 32 or 128) that the address is in. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn around(address: IpAddr, bits: u8) -> Self {
        let address = address.to_canonical();
        match address {
            IpAddr::V4(ip) => {
                let bits = bits.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(ip.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(ip) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { address: Ipv6Addr::from_bits(ip.to_bits() & mask).into(), bits }
            }
        }
    }

    /// What one client is held to have for itself: an IPv4 address, an IPv6 /64.
    pub fn of_client(address: IpAddr) -> Self {
        Self::around(address, if address.to_canonical().is_ipv4() { 32 } else { 64 })
    }

    /// Its first address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits count.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Is the address in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                same(u128::from(a.to_bits()) << 96, u128::from(b.to_bits()) << 96, self.bits)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), self.bits),
            _ => false,
        }
    }
}

fn same(a: u128, b: u128, bits: u8) -> bool {
    bits == 0 || (a ^ b) >> (128 - u32::from(bits.min(128))) == 0
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no network: wanted an address and perhaps its bits, such as \"192.0.2.0/24\""
            )
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let network = Self { address, bits: bits.unwrap_or(width) };
        if network.bits > width {
            return Err(wrong());
        }
        let host_bits = match address {
            IpAddr::V4(a) => u128::from(a.to_bits()) << 96,
            IpAddr::V6(a) => a.to_bits(),
        };
        // A network such as 10.0.0.1/8 is more often a slip than a wish.
        if network.bits < 128 && host_bits << network.bits != 0 {
            return Err(format!(
                "{text:?} has bits set behind the first {}: clear them, or write a longer prefix",
                network.bits
            ));
        }
        Ok(network)
    }
}

impl TryFrom<String> for Network {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_around_addresses() {
        for (address, bits, network) in [
            ("192.0.2.77", 24, "192.0.2.0/24"),
            ("192.0.2.77", 0, "0.0.0.0/0"),
            ("192.0.2.77", 128, "192.0.2.77/32"),
            ("::ffff:192.0.2.77", 29, "192.0.2.72/29"),
            ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"),
            ("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6/128"),
            ("2001:db8::", 0, "::/0"),
        ] {
            assert_eq!(Network::around(address.parse().unwrap(), bits).to_string(), network);
        }
        assert_eq!(Network::of_client("2001:db8::1".parse().unwrap()).to_string(), "2001:db8::/64");
        assert_eq!(Network::of_client("192.0.2.1".parse().unwrap()).to_string(), "192.0.2.1/32");
    }
}
