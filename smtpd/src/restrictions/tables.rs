//! What was looked up on this machine: access tables, and who is known to the greylist.

use super::{Checked, Facts, Finding, Found, Key, Need, Verdict, rejected};
use crate::session::reply::Reply;
use common::access::Action;
use common::config::Network;
use common::config::restrictions::Subject;
use common::status::EnhancedCode;
use std::path::Path;

/// `check_…_access`
pub fn access(subject: Subject, path: &Path, facts: &Facts, found: &Found) -> Checked {
    let key = match subject {
        Subject::Client => {
            let name = facts.client_name().map(|_| facts.client.name.clone());
            Some(Key::Client(facts.client.ip, name))
        }
        Subject::Certificate => {
            facts.certificate.as_ref().map(|shown| Key::Certificate(shown.fingerprints()))
        }
        Subject::Helo => facts.hello.clone().map(Key::Name),
        Subject::Sender => facts.sender.clone().map(Key::Sender),
        Subject::Recipient => facts.recipient.clone().map(Key::Recipient),
    };
    let Some(key) = key else { return Ok(Verdict::Dunno) };
    let need = Need::Table(path.to_owned(), key);
    let action = match found.get(&need) {
        Some(Finding::Table(action)) => action,
        _ => return Err(vec![need]),
    };
    Ok(match action {
        None | Some(Action::Dunno) => Verdict::Dunno,
        Some(Action::Ok) => Verdict::Permit,
        Some(Action::Warn(text)) => Verdict::Note(format!("<{}>: {text}", facts.shown(subject))),
        Some(Action::Refuse { code, enhanced, text, temporary }) => {
            let (class, usual) = if *temporary { (4, 450) } else { (5, 554) };
            let code = code.unwrap_or(usual);
            let why = match text.as_str() {
                "" if *temporary => "Try again later",
                "" => "Access denied",
                text => text,
            };
            let reply = match enhanced {
                Some(enhanced) => {
                    let (class, subject_, detail) = (*enhanced).into();
                    rejected(code, (class, subject_, detail), facts, subject, why)
                }
                None => rejected(code, (class, 7, 1), facts, subject, why),
            };
            Verdict::Refuse(reply)
        }
    })
}

/// Not known yet. RFC 6647; the null sender counts as one.
pub fn greylist(facts: &Facts, found: &Found) -> Checked {
    let (Some(sender), Some(recipient)) = (&facts.sender, &facts.recipient) else {
        return Ok(Verdict::Dunno);
    };
    let bits = if facts.client.ip.to_canonical().is_ipv4() { 24 } else { 64 };
    let client = Network::around(facts.client.ip, bits);
    let need = Need::Greylist { client, sender: sender.clone(), recipient: recipient.clone() };
    match found.get(&need) {
        Some(Finding::Greylist(None)) => Ok(Verdict::Dunno),
        Some(Finding::Greylist(Some(wait))) => {
            let seconds = wait.as_secs().saturating_add(1);
            let text = format!(
                "<{recipient}>: Recipient address rejected: Greylisted, try again in {seconds} seconds"
            );
            Ok(Verdict::Refuse(Reply::new(450, EnhancedCode::new(4, 2, 0), text)))
        }
        _ => Err(vec![need]),
    }
}
