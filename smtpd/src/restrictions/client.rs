//! The client's name in the DNS. RFC 7372 3.1 has the codes.

use super::{Checked, ClientName, Facts, Finding, Found, Need, Verdict};
use crate::session::reply::Reply;
use common::status::EnhancedCode;

/// There is no name, or one that does not lead back.
pub fn unknown(facts: &Facts, found: &Found) -> Checked {
    Ok(match name(facts, found)? {
        ClientName::Confirmed(_) => Verdict::Dunno,
        ClientName::Unconfirmed | ClientName::Missing => Verdict::Refuse(no_name(facts, "hostname")),
        ClientName::Unsure => Verdict::DeferIfPermit(no_name(facts, "hostname")),
    })
}

/// There is no name at all.
pub fn unknown_reverse(facts: &Facts, found: &Found) -> Checked {
    Ok(match name(facts, found)? {
        ClientName::Confirmed(_) | ClientName::Unconfirmed => Verdict::Dunno,
        ClientName::Missing => Verdict::Refuse(no_name(facts, "reverse hostname")),
        ClientName::Unsure => Verdict::DeferIfPermit(no_name(facts, "reverse hostname")),
    })
}

fn name<'a>(facts: &Facts, found: &'a Found) -> Result<&'a ClientName, Vec<Need>> {
    let need = Need::ClientName(facts.client.ip);
    match found.get(&need) {
        Some(Finding::ClientName(name)) => Ok(name),
        _ => Err(vec![need]),
    }
}

/// Postfix refuses for now only (450): names are often mended.
fn no_name(facts: &Facts, what: &str) -> Reply {
    let text = format!("Client host rejected: cannot find your {what}, [{}]", facts.client.ip);
    Reply::new(450, EnhancedCode::new(4, 7, 25), text)
}
