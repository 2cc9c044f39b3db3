//! The order in which the addresses of equally preferred hosts are tried. Pure: latencies and randomness
//! are handed in.
//!
//! Addresses without news come first, so that they get measured: hosts in random order (RFC 5321 5.1), IPv6
//! and IPv4 by turns (RFC 8305 4). Then the others, lowest latency first. When all are known, now and then
//! another one goes first, so that a host that became quick is found.

use crate::smtp::random::Random;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

/// One time in so many another address than the quickest goes first.
pub const PROBE_ONE_IN: usize = 20;

/// A host by name, and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As in the MX record, or the address as text.
    pub name: String,
    /// Of both families, in the order of the answers.
    pub addresses: Vec<IpAddr>,
}

/// The addresses of `hosts`, each once, with the host's name.
pub fn order(
    mut hosts: Vec<Host>,
    latency: impl Fn(IpAddr) -> Option<Duration>,
    random: &mut Random,
) -> Vec<(String, IpAddr)> {
    random.shuffle(&mut hosts);
    let mut seen = HashSet::new();
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    // By turns: the first address of every host, then the second ones, …
    let longest = hosts.iter().map(|host| host.addresses.len()).max().unwrap_or(0);
    for i in 0..longest {
        for host in &hosts {
            let Some(&address) = host.addresses.get(i) else { continue };
            if !seen.insert(address) {
                continue;
            }
            match latency(address) {
                Some(expected) => known.push((expected, (host.name.clone(), address))),
                None => unknown.push((host.name.clone(), address)),
            }
        }
    }
    known.sort_by_key(|(expected, _)| *expected);
    let mut list = by_turns(unknown);
    let all_known = list.is_empty();
    list.extend(known.into_iter().map(|(_, address)| address));
    if all_known && list.len() > 1 && random.below(PROBE_ONE_IN) == 0 {
        let probed = 1 + random.below(list.len() - 1);
        if let Some(front) = list.get_mut(..=probed) {
            front.rotate_right(1);
        }
    }
    list
}

/// IPv6 and IPv4 alternating, IPv6 first.
fn by_turns(list: Vec<(String, IpAddr)>) -> Vec<(String, IpAddr)> {
    let (six, four): (Vec<_>, Vec<_>) = list.into_iter().partition(|(_, address)| address.is_ipv6());
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut out = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair.iter().all(Option::is_none) {
            return out;
        }
        out.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, addresses: &[&str]) -> Host {
        Host { name: name.into(), addresses: addresses.iter().map(|a| a.parse().unwrap()).collect() }
    }

    fn latencies(list: &'static [(&'static str, u64)]) -> impl Fn(IpAddr) -> Option<Duration> {
        move |ip| {
            let (_, ms) = list.iter().find(|(a, _)| a.parse() == Ok(ip))?;
            Some(Duration::from_millis(*ms))
        }
    }

    /// The first address of many runs, counted.
    fn firsts(hosts: &[Host], list: &'static [(&'static str, u64)]) -> Vec<(String, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        let mut random = Random::from_seed(7);
        for _ in 0..1000 {
            let (_, ip) = order(hosts.to_vec(), latencies(list), &mut random).remove(0);
            *counts.entry(ip.to_string()).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    #[test]
    fn the_quickest_goes_first_but_for_a_probe_now_and_then() {
        let hosts = [host("a", &["10.0.0.1"]), host("b", &["10.0.0.2"]), host("c", &["10.0.0.3"])];
        let known = &[("10.0.0.1", 90), ("10.0.0.2", 5), ("10.0.0.3", 40)];
        let counts = firsts(&hosts, known);
        let of = |ip: &str| counts.iter().find(|(a, _)| a == ip).map_or(0, |(_, n)| *n);
        assert!(of("10.0.0.2") > 920, "{counts:?}");
        assert!(of("10.0.0.1") > 5 && of("10.0.0.3") > 5, "{counts:?}");
        // What is behind the first is by latency, too.
        let mut random = Random::from_seed(1);
        while random.clone().below(PROBE_ONE_IN) == 0 {
            random.below(2);
        }
        let list = order(hosts.to_vec(), latencies(known), &mut random);
        let names: Vec<_> = list.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }

    #[test]
    fn addresses_without_news_are_measured_first() {
        let hosts = [host("a", &["10.0.0.1"]), host("b", &["10.0.0.2"]), host("c", &["10.0.0.3"])];
        let counts = firsts(&hosts, &[("10.0.0.1", 1)]);
        assert_eq!(counts.len(), 2, "{counts:?}");
        // Equal ones share the load (RFC 5321 5.1).
        assert!(counts.iter().all(|(_, n)| *n > 400), "{counts:?}");
    }

    #[test]
    fn families_take_turns() {
        let hosts = vec![host("a", &["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "2001:db8::2"])];
        let list = order(hosts, |_| None, &mut Random::from_seed(1));
        let list: Vec<_> = list.iter().map(|(_, ip)| ip.to_string()).collect();
        assert_eq!(list, ["2001:db8::1", "10.0.0.1", "2001:db8::2", "10.0.0.2", "10.0.0.3"]);
    }

    #[test]
    fn an_address_is_tried_once_under_whatever_names() {
        let hosts = vec![host("a", &["10.0.0.1", "10.0.0.1"]), host("b", &["10.0.0.1"])];
        assert_eq!(order(hosts, |_| None, &mut Random::from_seed(1)).len(), 1);
        assert_eq!(order(Vec::new(), |_| None, &mut Random::from_seed(1)).len(), 0);
    }
}
