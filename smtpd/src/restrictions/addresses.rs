//! Sender and recipient: their domains, whether they exist, whether they may be sent to.

use super::{Checked, Facts, Finding, Found, MailDomain, Need, Verdict, refuse, rejected};
use crate::policy::{self, Standing};
use common::address::Address;
use common::config::restrictions::Subject;

fn address(facts: &Facts, subject: Subject) -> Option<&Address> {
    match subject {
        Subject::Sender => facts.sender.as_ref()?.address(),
        Subject::Recipient => facts.recipient.as_ref(),
        Subject::Client | Subject::Certificate | Subject::Helo => None,
    }
}

/// The domain has no dot and is no address literal.
pub fn not_qualified(facts: &Facts, subject: Subject) -> Verdict {
    match address(facts, subject) {
        Some(address) if address.domain().literal().is_none() && !address.domain().as_str().contains('.') => {
            refuse(504, (5, 5, 2), facts, subject, "need fully-qualified address")
        }
        _ => Verdict::Dunno,
    }
}

/// The domain takes no mail, as far as the DNS says. Our own domains need no DNS.
pub fn unknown_domain(facts: &Facts, subject: Subject, found: &Found) -> Checked {
    let ours = if subject == Subject::Sender { facts.sender_is_ours } else { facts.recipient_is_ours };
    let Some(address) = address(facts, subject).filter(|_| !ours) else { return Ok(Verdict::Dunno) };
    let domain = address.domain();
    if domain.literal().is_some() {
        return Ok(Verdict::Dunno);
    }
    let need = Need::Domain(domain.clone());
    // RFC 3463 3.2: 1.8 is a sender's bad domain, 1.2 a recipient's; RFC 7505 4: 7.27 and 1.10.
    let (detail, null) = match subject {
        Subject::Sender => (8, (550, (5, 7, 27))),
        _ => (2, (556, (5, 1, 10))),
    };
    Ok(match found.get(&need) {
        Some(Finding::Domain(MailDomain::Exists)) => Verdict::Dunno,
        Some(Finding::Domain(MailDomain::NullMx)) => {
            let why = format!("Domain {domain} does not accept mail (nullMX)");
            refuse(null.0, null.1, facts, subject, &why)
        }
        Some(Finding::Domain(MailDomain::Missing)) => {
            refuse(550, (5, 1, detail), facts, subject, "Domain not found")
        }
        Some(Finding::Domain(MailDomain::Unsure)) => {
            Verdict::DeferIfPermit(rejected(450, (4, 1, detail), facts, subject, "Domain not found"))
        }
        _ => return Err(vec![need]),
    })
}

fn standing<'a>(facts: &Facts, found: &'a Found) -> Result<Option<&'a Standing>, Vec<Need>> {
    let Some(recipient) = &facts.recipient else { return Ok(None) };
    let need = Need::Standing(recipient.clone());
    match found.get(&need) {
        Some(Finding::Standing(standing)) => Ok(Some(standing)),
        _ => Err(vec![need]),
    }
}

/// The recipient is elsewhere, and the client neither trusted nor logged in.
pub fn elsewhere(facts: &Facts, found: &Found) -> Checked {
    decide(facts, found, |address, standing| policy::relay(facts.may_relay(), address, standing))
}

/// The recipient's domain is ours, and the recipient does not exist.
pub fn unlisted(facts: &Facts, found: &Found) -> Checked {
    decide(facts, found, policy::existing)
}

fn decide(
    facts: &Facts,
    found: &Found,
    rule: impl Fn(&Address, &Standing) -> Result<(), crate::session::reply::Reply>,
) -> Checked {
    let (Some(standing), Some(address)) = (standing(facts, found)?, &facts.recipient) else {
        return Ok(Verdict::Dunno);
    };
    Ok(rule(address, standing).map_or_else(Verdict::Refuse, |()| Verdict::Dunno))
}

/// The sender is somebody's, and the client is not that somebody: `logged_in`, `stranger`: which clients it is about. The null sender is
/// nobody's, and everybody's.
pub fn not_own(facts: &Facts, found: &Found, (logged_in, stranger): (bool, bool)) -> Checked {
    let wanted = if facts.login.is_some() { logged_in } else { stranger };
    let Some(sender) = address(facts, Subject::Sender).filter(|_| wanted) else { return Ok(Verdict::Dunno) };
    let need = Need::Owners(sender.clone());
    let Some(Finding::Owners(owners)) = found.get(&need) else { return Err(vec![need]) };
    if facts.login.is_none() && !owners.are_known() {
        return Ok(Verdict::Dunno);
    }
    let own = policy::own_sender(facts.login.as_deref(), sender, owners);
    Ok(own.map_or_else(Verdict::Refuse, |()| Verdict::Dunno))
}

/// A notification has one recipient.
pub fn bounce_to_many(facts: &Facts) -> Verdict {
    let null = facts.sender.as_ref().is_some_and(|sender| sender.address().is_none());
    if null && facts.recipients > 1 {
        let text = "<DATA>: Data command rejected: Multi-recipient bounce";
        return Verdict::Refuse(crate::session::reply::Reply::fixed(550, (5, 5, 3), text));
    }
    Verdict::Dunno
}
