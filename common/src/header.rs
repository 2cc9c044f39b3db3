//! What all programs that look at a submitted message's header agree on: where a field begins, and what is nobody else's business. Pure.

use crate::address::{Domain, ReversePath};

/// Recipients that the others must not learn of (RFC 5322 3.6.3): never passed on.
pub const HIDDEN: [&str; 2] = ["Bcc", "Resent-Bcc"];

/// Fields of which a mailbox has its own, or whose lie it would believe: dropped where a message comes in or is delivered, as Postfix does
/// (`message_drop_headers`).
pub const DROPPED: [&str; 2] = ["Content-Length", "Return-Path"];

/// The length of the field name at the start of `line`; `None` when this line begins no field (RFC 5322 2.2,
/// with the white space before the colon that 4.5 tolerates).
pub fn name_length(line: &[u8]) -> Option<usize> {
    let length = line.iter().take_while(|b| (33..127).contains(*b) && **b != b':').count();
    let behind = line.get(length..)?.trim_ascii_start();
    (length > 0 && behind.first() == Some(&b':')).then_some(length)
}

/// The value of a `From` that is missing: the sender; for the null sender, who we are.
pub fn from(sender: &ReversePath, hostname: &Domain) -> String {
    match sender {
        ReversePath::Address(address) => address.to_string(),
        ReversePath::Null => format!("MAILER-DAEMON@{hostname} (Mail Delivery System)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names() {
        for (line, length) in [
            ("A: b", Some(1)),
            ("A:b", Some(1)),
            ("A \t: b", Some(1)),
            ("A b: c", None),
            (": b", None),
            ("", None),
            ("A", None),
            ("\u{e9}: b", None),
            ("A\0: b", None),
            ("http://x", Some(4)),
        ] {
            assert_eq!(name_length(line.as_bytes()), length, "{line:?}");
        }
    }
}
