//! What went wrong, told twice: to people, and to programs (RFC 3464 2).

use super::lines::Lines;
use super::{Failure, Kind, Notification};
use common::status::Status;

/// The part that a person reads.
pub(super) fn for_people(out: &mut Lines, n: &Notification<'_>) {
    out.line(&format!("This is the mail system at {}.", n.hostname));
    out.line("");
    let text = match n.kind {
        Kind::Bounce => {
            "Your message could not be delivered to the recipients below, and it will not be tried again. \
             Its header is attached, so that you can see which message this is about."
        }
        Kind::DoubleBounce => {
            "A message from the null sender (probably a notification) could not be delivered to the recipients below. \
             There is nobody else to tell, so it is reported to the postmaster, and then dropped. Its header is attached."
        }
    };
    out.wrapped("", "", text);
    for failure in n.failures {
        out.line("");
        match failure.original.filter(|original| *original != failure.address) {
            None => out.line(&format!("<{}>", failure.address)),
            Some(original) => {
                out.line(&format!("<{original}>"));
                out.line(&format!("    passed on to <{}>", failure.address));
            }
        }
        explain(out, failure.status);
    }
    out.line("");
    if n.kind == Kind::Bounce {
        let help = "Check the addresses for typing errors. If they are right and you cannot tell from the words above \
                    what to do, forward this whole message to the postmaster of your mail system.";
        out.wrapped("", "", help);
    }
}

fn explain(out: &mut Lines, status: &Status) {
    match (&status.remote, &status.reply) {
        (Some(remote), Some(reply)) => {
            out.wrapped("    ", "    ", &format!("The mail server {remote} answered:"));
            out.wrapped("    ", "    ", reply);
        }
        _ => out.wrapped("    ", "    ", &status.text),
    }
}

/// The part that a program reads.
pub(super) fn for_programs(out: &mut Lines, n: &Notification<'_>) {
    out.line(&format!("Reporting-MTA: dns; {}", n.hostname));
    out.line(&format!("X-Ironpost-Queue-ID: {}", n.original_id));
    out.line(&format!("Arrival-Date: {}", n.arrived.rfc5322()));
    for failure in n.failures {
        out.line("");
        recipient(out, failure);
    }
}

fn recipient(out: &mut Lines, Failure { address, original, status }: &Failure<'_>) {
    if let Some(original) = original.filter(|original| original != address) {
        out.line(&format!("Original-Recipient: rfc822; {original}"));
    }
    out.line(&format!("Final-Recipient: rfc822; {address}"));
    out.line("Action: failed");
    out.line(&format!("Status: {}", status.code));
    if let Some(name) = status.remote.as_deref().and_then(host_name) {
        out.line(&format!("Remote-MTA: dns; {name}"));
    }
    match &status.reply {
        Some(reply) => out.wrapped("Diagnostic-Code: smtp; ", "    ", reply),
        None => out.wrapped("Diagnostic-Code: X-Ironpost; ", "    ", &status.text),
    }
}

/// The name in `name[ip]:port`; the bracketed address where there is no name.
fn host_name(remote: &str) -> Option<&str> {
    let (name, rest) = remote.split_once('[').unwrap_or((remote, ""));
    let usable = |text: &str| !text.is_empty() && text.len() <= 255 && !text.contains(char::is_whitespace);
    if usable(name) && name != "unknown" {
        return Some(name);
    }
    let end = rest.find(']')?;
    remote.get(name.len()..name.len() + end + 2).filter(|text| usable(text))
}
