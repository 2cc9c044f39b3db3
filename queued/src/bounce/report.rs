//! What happened, told twice: to people, and to programs (RFC 3464 2).

use super::lines::Lines;
use super::{Action, Notification, Report};
use common::address::Address;
use common::status::Status;

/// The list for people: each recipient with what happened, an empty line between them.
pub(super) fn recipients(out: &mut Lines, reports: &[Report<'_>]) {
    for (i, report) in reports.iter().enumerate() {
        if i > 0 {
            out.line("");
        }
        match report.original.filter(|original| *original != report.address) {
            None => out.line(&format!("<{}>", report.address)),
            Some(original) => {
                out.line(&format!("<{original}>"));
                out.line(&format!("    passed on to <{}>", report.address));
            }
        }
        explain(out, report);
    }
}

fn explain(out: &mut Lines, report: &Report<'_>) {
    let mut say = |text: &str| out.wrapped("    ", "    ", text);
    match report.action {
        Action::Failed | Action::Delayed => {}
        Action::Delivered => say("Delivered."),
        Action::Relayed => {
            say("Passed on to another mail system, which may not tell you what becomes of it.");
        }
        Action::Expanded => say("Passed on to several addresses that stand behind this one."),
    }
    let Status { remote, reply, text, .. } = report.status;
    match (remote, reply) {
        (Some(remote), Some(reply)) => {
            say(&format!("The mail server {remote} answered:"));
            say(reply);
        }
        _ => say(text),
    }
}

/// The part that a program reads.
pub(super) fn for_programs(out: &mut Lines, n: &Notification<'_>) {
    if let Some(id) = n.envelope_id {
        out.line(&format!("Original-Envelope-Id: {}", id.as_str()));
    }
    out.line(&format!("Reporting-MTA: dns; {}", n.hostname));
    out.line(&format!("X-Ironpost-Queue-ID: {}", n.original_id));
    out.line(&format!("Arrival-Date: {}", n.arrived.rfc5322()));
    for report in n.reports {
        out.line("");
        recipient(out, n, report);
    }
}

fn recipient(out: &mut Lines, n: &Notification<'_>, report: &Report<'_>) {
    let Report { address, original, named, action, status } = report;
    match (named, original.filter(|original| original != address)) {
        (Some(named), _) => out.line(&format!("Original-Recipient: {named}")),
        (None, Some(original)) => out.line(&format!("Original-Recipient: {}; {original}", kind(original))),
        (None, None) => {}
    }
    out.line(&format!("Final-Recipient: {}; {address}", kind(address)));
    out.line(match action {
        Action::Failed => "Action: failed",
        Action::Delayed => "Action: delayed",
        Action::Delivered => "Action: delivered",
        Action::Relayed => "Action: relayed",
        Action::Expanded => "Action: expanded",
    });
    out.line(&format!("Status: {}", status.code));
    if let Some(name) = status.remote.as_deref().and_then(host_name) {
        out.line(&format!("Remote-MTA: dns; {name}"));
    }
    match &status.reply {
        Some(reply) => out.wrapped("Diagnostic-Code: smtp; ", "    ", reply),
        None => out.wrapped("Diagnostic-Code: X-Ironpost; ", "    ", &status.text),
    }
    // Whoever writes this has just tried.
    out.line(&format!("Last-Attempt-Date: {}", n.now.rfc5322()));
    if *action == Action::Delayed {
        out.line(&format!("Will-Retry-Until: {}", n.retry_until.rfc5322()));
    }
}

/// The type of an address (RFC 6533 3).
fn kind(address: &Address) -> &'static str {
    if address.is_ascii() { "rfc822" } else { "utf-8" }
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
