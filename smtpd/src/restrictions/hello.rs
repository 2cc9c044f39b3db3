//! The name in HELO or EHLO (RFC 5321 4.1.4 forbids to refuse mail for its sake alone; admins ask for it nevertheless).

use super::{Checked, Facts, Finding, Found, MailDomain, Need, Verdict, refuse, rejected};
use common::address::Domain;
use common::config::restrictions::Subject;
use std::net::IpAddr;

/// A name as far as it is one.
enum Name {
    /// An address literal in brackets.
    Literal,
    /// An address without brackets.
    Bare,
    /// A host name.
    Host(Domain),
}

fn read(hello: &str) -> Option<Name> {
    let name = hello.strip_suffix('.').unwrap_or(hello);
    if name.parse::<IpAddr>().is_ok() {
        return Some(Name::Bare);
    }
    let domain: Domain = name.parse().ok()?;
    if domain.literal().is_some() {
        return Some(Name::Literal);
    }
    // Digits and dots that are no address are no name either.
    (!name.bytes().all(|b| b.is_ascii_digit() || b == b'.')).then_some(Name::Host(domain))
}

fn hello(facts: &Facts) -> &str {
    facts.hello.as_deref().unwrap_or("")
}

fn bad_name(facts: &Facts) -> Verdict {
    refuse(501, (5, 5, 2), facts, Subject::Helo, "Invalid name")
}

/// It is neither a name nor an address.
pub fn invalid(facts: &Facts) -> Verdict {
    if read(hello(facts)).is_some() { Verdict::Dunno } else { bad_name(facts) }
}

/// It is no name with a dot and no address literal.
pub fn not_qualified(facts: &Facts) -> Verdict {
    match read(hello(facts)) {
        Some(Name::Literal) => Verdict::Dunno,
        Some(Name::Host(name)) if name.as_str().contains('.') => Verdict::Dunno,
        _ => refuse(504, (5, 5, 2), facts, Subject::Helo, "need fully-qualified hostname"),
    }
}

/// It has neither address nor MX records.
pub fn unknown(facts: &Facts, found: &Found) -> Checked {
    let name = match read(hello(facts)) {
        Some(Name::Host(name)) => name,
        Some(Name::Literal | Name::Bare) => return Ok(Verdict::Dunno),
        None => return Ok(bad_name(facts)),
    };
    let need = Need::Domain(name);
    let not_found = || rejected(450, (4, 7, 1), facts, Subject::Helo, "Host not found");
    match found.get(&need) {
        Some(Finding::Domain(MailDomain::Exists | MailDomain::NullMx)) => Ok(Verdict::Dunno),
        Some(Finding::Domain(MailDomain::Missing)) => Ok(Verdict::Refuse(not_found())),
        Some(Finding::Domain(MailDomain::Unsure)) => Ok(Verdict::DeferIfPermit(not_found())),
        _ => Err(vec![need]),
    }
}
