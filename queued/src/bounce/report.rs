//! What happened, told twice: to people, and to programs (RFC 3464 2).

use super::lines::Lines;
use super::{Action, Kind, Notification, Report};
use common::status::Status;

/// The part that a person reads. `whole`: does the whole message come with it?
pub(super) fn for_people(out: &mut Lines, n: &Notification<'_>, whole: bool) {
    out.line(&format!("This is the mail system at {}.", n.hostname));
    out.line("");
    let attached = if whole { "It is attached" } else { "Its header is attached" };
    let text = match n.kind {
        Kind::Bounce => format!(
            "Your message could not be delivered to the recipients below, and it will not be tried again. \
             {attached}, so that you can see which message this is about."
        ),
        Kind::DoubleBounce => format!(
            "A message from the null sender (probably a notification) could not be delivered to the recipients below. \
             There is nobody else to tell, so it is reported to the postmaster, and then dropped. {attached}."
        ),
        Kind::Delay => format!(
            "Your message has not been delivered to the recipients below yet. You need not send it again: it will be \
             tried until {}, and you will be told if that does not help. {attached}.",
            n.retry_until.rfc5322()
        ),
        Kind::Success => format!(
            "You asked to be told when your message reaches the recipients below. This is what became of it. {attached}."
        ),
    };
    out.wrapped("", "", &text);
    for report in n.reports {
        out.line("");
        match report.original.filter(|original| *original != report.address) {
            None => out.line(&format!("<{}>", report.address)),
            Some(original) => {
                out.line(&format!("<{original}>"));
                out.line(&format!("    passed on to <{}>", report.address));
            }
        }
        explain(out, report);
    }
    out.line("");
    if n.kind == Kind::Bounce {
        let help = "Check the addresses for typing errors. If they are right and you cannot tell from the words above \
                    what to do, forward this whole message to the postmaster of your mail system.";
        out.wrapped("", "", help);
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
        (None, Some(original)) => out.line(&format!("Original-Recipient: rfc822; {original}")),
        (None, None) => {}
    }
    out.line(&format!("Final-Recipient: rfc822; {address}"));
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
