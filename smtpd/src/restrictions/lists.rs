//! DNS block and allow lists (RFC 5782): by the client's address, or by a name. A list that does not answer decides nothing.

use super::{Checked, Facts, Finding, Found, Listing, Need, Verdict};
use crate::session::reply::Reply;
use common::address::Domain;
use common::config::Dnsbl;
use common::config::restrictions::{Site, Subject};
use common::status::EnhancedCode;
use std::net::IpAddr;

/// Longest reason of a list that is passed on, in octets.
const MAX_REASON: usize = 200;

/// One list has it.
pub fn listed(subject: Subject, site: &Site, facts: &Facts, found: &Found) -> Checked {
    let what = match subject {
        Subject::Client => {
            Some((address_in(facts.client.ip, &site.zone), "Client host", facts.client.ip.to_string()))
        }
        // No list has certificates.
        Subject::Certificate => None,
        Subject::Helo => {
            facts.hello.as_deref().map(|name| (name_in(name, &site.zone), "Helo command", name.to_owned()))
        }
        Subject::Sender | Subject::Recipient => {
            let sender = facts.sender.as_ref().and_then(|sender| sender.address());
            sender.map(|sender| {
                let domain = sender.domain();
                // An address literal is in no list of names.
                let name =
                    if domain.literal().is_some() { None } else { name_in(domain.as_str(), &site.zone) };
                (name, "Sender address", sender.to_string())
            })
        }
    };
    let Some((Some(name), class, shown)) = what else { return Ok(Verdict::Dunno) };
    if !has(site, &name, found)? {
        return Ok(Verdict::Dunno);
    }
    Ok(Verdict::Refuse(blocked(class, &shown, &site.zone, reason(name, found)?)))
}

/// An allow list has the client.
pub fn allowed(site: &Site, facts: &Facts, found: &Found) -> Checked {
    let Some(name) = address_in(facts.client.ip, &site.zone) else { return Ok(Verdict::Dunno) };
    Ok(if has(site, &name, found)? { Verdict::Permit } else { Verdict::Dunno })
}

/// The weights of all lists that have the client, together. All are asked at once.
pub fn weighed(dnsbl: &Dnsbl, facts: &Facts, found: &Found) -> Checked {
    let mut missing = Vec::new();
    let mut sum: i32 = 0;
    let mut heaviest: Option<(&Site, Domain)> = None;
    for site in &dnsbl.sites {
        let Some(name) = address_in(facts.client.ip, &site.zone) else { continue };
        match has(site, &name, found) {
            Ok(true) => {
                sum = sum.saturating_add(site.weight);
                if heaviest.as_ref().is_none_or(|(other, _)| other.weight < site.weight) {
                    heaviest = Some((site, name));
                }
            }
            Ok(false) => {}
            Err(needs) => missing.extend(needs),
        }
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    match heaviest {
        Some((site, name)) if sum >= dnsbl.threshold => {
            let shown = facts.client.ip.to_string();
            Ok(Verdict::Refuse(blocked("Client host", &shown, &site.zone, reason(name, found)?)))
        }
        _ => Ok(Verdict::Dunno),
    }
}

fn has(site: &Site, name: &Domain, found: &Found) -> Result<bool, Vec<Need>> {
    let need = Need::Listed(name.clone());
    match found.get(&need) {
        // RFC 5782 2.1: answers are in 127.0.0.0/8; anything else is a domain that was given up and is now parked.
        Some(Finding::Listed(Listing::Answers(answers))) => Ok(answers.iter().any(|answer| {
            answer.is_loopback() && site.filter.as_ref().is_none_or(|filter| filter.matches(*answer))
        })),
        Some(Finding::Listed(Listing::Unsure)) => Ok(false),
        _ => Err(vec![need]),
    }
}

fn reason(name: Domain, found: &Found) -> Result<Option<&str>, Vec<Need>> {
    let need = Need::Reason(name);
    match found.get(&need) {
        Some(Finding::Reason(reason)) => Ok(reason.as_deref()),
        _ => Err(vec![need]),
    }
}

fn blocked(class: &str, what: &str, zone: &Domain, reason: Option<&str>) -> Reply {
    let reason = reason.map(|reason| format!("; {}", common::text::printable(reason, MAX_REASON)));
    let reason = reason.unwrap_or_default();
    let text = format!("Service unavailable; {class} [{what}] blocked using {zone}{reason}");
    Reply::new(554, EnhancedCode::new(5, 7, 1), text)
}

/// RFC 5782 2.1 and 2.4: octets or nibbles, the last one first.
fn address_in(ip: IpAddr, zone: &Domain) -> Option<Domain> {
    let reversed = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    };
    format!("{reversed}.{zone}").parse().ok()
}

/// A name that would make one too long, or is none, is in no list.
fn name_in(name: &str, zone: &Domain) -> Option<Domain> {
    let name = name.strip_suffix('.').unwrap_or(name);
    format!("{name}.{zone}").parse().ok()
}
