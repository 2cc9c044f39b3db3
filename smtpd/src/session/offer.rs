//! The keywords of the EHLO reply, one line each (RFC 5321 4.1.1.1).
//!
//! An extension is offered here and nowhere else; what is offered here is built.

use super::action::Settings;

/// The lines behind our name, in this order. `starttls`: can TLS be begun? `mechanisms`: how can the client log in? `xclient`: may it
/// speak for others?
pub fn keywords(settings: &Settings, starttls: bool, mechanisms: &[String], xclient: bool) -> Vec<String> {
    let mut lines = Vec::with_capacity(12);
    let mut offer = |line: &str| lines.push(line.to_owned());
    offer("PIPELINING"); // RFC 2920
    // RFC 1870 4: SIZE alone says that there is no limit.
    match settings.message_size_limit {
        0 => offer("SIZE"),
        limit => offer(&format!("SIZE {limit}")),
    }
    if starttls {
        offer("STARTTLS"); // RFC 3207
    }
    if !mechanisms.is_empty() {
        offer(&format!("AUTH {}", mechanisms.join(" "))); // RFC 4954 3
    }
    offer("8BITMIME"); // RFC 6152
    offer("ENHANCEDSTATUSCODES"); // RFC 2034
    offer("DSN"); // RFC 3461
    offer("SMTPUTF8"); // RFC 6531
    offer("CHUNKING"); // RFC 3030
    // RFC 9422 4: what is not limited is not named.
    match settings.limits.transactions {
        0 => offer(&format!("LIMITS RCPTMAX={}", settings.recipient_limit)),
        most => offer(&format!("LIMITS MAILMAX={most} RCPTMAX={}", settings.recipient_limit)),
    }
    if xclient {
        offer("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT");
    }
    offer("HELP");
    lines
}
