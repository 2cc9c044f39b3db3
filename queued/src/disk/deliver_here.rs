//! Recipients that need no delivery agent: discarded ones, refused ones, and those whose alias is wrong.

use crate::message::Message;
use common::delays::Delays;
use common::destination::{Destination, Nexthop, Transport};
use common::status::{EnhancedCode, Outcome, Status};
use common::time::Timestamp;

/// What a route that queued itself carries out comes to; `None` for those that workers do.
pub(super) fn decide(destination: &Destination) -> Option<Status> {
    let text = match &destination.nexthop {
        Nexthop::Text(text) => text.as_str(),
        _ => "",
    };
    match destination.transport {
        Transport::Smtp | Transport::Local => None,
        Transport::Discard => {
            let text = if text.is_empty() { "discarded" } else { text };
            Some(Status::local(EnhancedCode::new(2, 0, 0), text))
        }
        Transport::Error => Some(refusal(text)),
    }
}

/// `5.1.1 text`, `4.3.2 text`, or only a text.
fn refusal(text: &str) -> Status {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (code, text) = match first.parse::<EnhancedCode>() {
        Ok(code) if code.class() != Outcome::Delivered.class() => (code, rest.trim()),
        _ => (EnhancedCode::new(5, 0, 0), text),
    };
    Status::local(code, if text.is_empty() { "mail for this recipient is not accepted" } else { text })
}

/// The log line of such a recipient, under the name of the program that does it in Postfix.
pub(super) fn log(program: &'static str, message: &Message, number: u32, status: &Status, now: Timestamp) {
    let Some((recipient, _)) = message.recipient(number) else { return };
    let original = match &recipient.original {
        Some(original) if *original != recipient.address => format!(" orig_to=<{original}>,"),
        _ => String::new(),
    };
    let delays = Delays::new(message.arrived, now, now, None, now);
    let word = status.outcome.log_word();
    common::info_as!(
        program,
        "{}: to=<{}>,{original} relay=none, {delays}, dsn={}, status={word} ({})",
        message.id,
        recipient.address,
        status.code,
        status.text
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_without_a_worker_decide_at_once() {
        for (transport, text, decision) in [
            (Transport::Discard, "", "Delivered 2.0.0 discarded"),
            (Transport::Discard, "silently", "Delivered 2.0.0 silently"),
            (Transport::Error, "", "Failed 5.0.0 mail for this recipient is not accepted"),
            (Transport::Error, "gone away", "Failed 5.0.0 gone away"),
            (Transport::Error, "5.1.1 no such user", "Failed 5.1.1 no such user"),
            (Transport::Error, "4.3.2 come back later", "Deferred 4.3.2 come back later"),
            (Transport::Error, "5.1.6", "Failed 5.1.6 mail for this recipient is not accepted"),
            (Transport::Error, "2.0.0 not a success", "Failed 5.0.0 2.0.0 not a success"),
        ] {
            let status = decide(&Destination { transport, nexthop: Nexthop::text(text) }).unwrap();
            assert_eq!(format!("{:?} {} {}", status.outcome, status.code, status.text), decision);
        }
        assert!(decide(&Destination { transport: Transport::Local, nexthop: Nexthop::Here }).is_none());
    }
}
