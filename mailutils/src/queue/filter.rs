//! The filter options, read into a [`Selection`]. Pure.

use crate::cli::Filter;
use crate::exit;
use crate::failure::Failure;
use common::address::ReversePath;
use common::config::TimeSpan;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use spool::control::Selection;
use spool::layout::Queue;

impl Filter {
    /// No condition at all?
    pub fn is_empty(&self) -> bool {
        let Self { sender, recipient, domain, older_than, queue, reason } = self;
        [sender, recipient, domain, older_than, queue, reason].into_iter().all(Option::is_none)
    }
}

/// The selection that IDs and options together ask for. A text that is no queue ID names no message (66); an
/// option that cannot be read is a mistake of the caller (64).
pub fn selection(ids: &[String], filter: &Filter) -> Result<Selection, Failure> {
    let sender = filter.sender.as_deref().map(|text| match text {
        "<>" | "MAILER-DAEMON" => Ok(ReversePath::Null),
        address => address.parse().map_err(|e| wrong("--sender", address, &e)),
    });
    let recipient =
        filter.recipient.as_deref().map(|text| text.parse().map_err(|e| wrong("--recipient", text, &e)));
    let domain = filter.domain.as_deref().map(|text| text.parse().map_err(|e| wrong("--domain", text, &e)));
    Ok(Selection {
        ids: ids.iter().map(|id| super::parse_id(id)).collect::<Result<_, _>>()?,
        sender: sender.transpose()?,
        recipient: recipient.transpose()?,
        domain: domain.transpose()?,
        older_than: filter.older_than.as_deref().map(seconds).transpose()?,
        queue: filter.queue.as_deref().map(queue).transpose()?,
        // In an empty text every reason would be found: that is a variable which is not set.
        reason: match filter.reason.as_deref() {
            Some(text) if text.trim().is_empty() => {
                return Err(wrong("--reason", text, &"a part of the reason"));
            }
            reason => reason.map(str::to_owned),
        },
    })
}

fn seconds(text: &str) -> Result<u64, Failure> {
    let deserializer: StrDeserializer<'_, Error> = text.into_deserializer();
    TimeSpan::deserialize(deserializer)
        .map(|span| span.as_secs())
        .map_err(|e| wrong("--older-than", text, &e))
}

fn queue(text: &str) -> Result<Queue, Failure> {
    match Queue::from_name(text) {
        Some(Queue::Corrupt) => {
            Err(wrong("--queue", text, &"what lies there cannot be read; look into the folder"))
        }
        Some(queue) => Ok(queue),
        None => Err(wrong("--queue", text, &"there are maildrop, incoming, active, deferred and hold")),
    }
}

fn wrong(option: &str, value: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(exit::USAGE, format!("{option} {value:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(option: &str, value: &str) -> Result<Selection, Failure> {
        let value = Some(value.to_owned());
        let none = Filter::default();
        let filter = match option {
            "sender" => Filter { sender: value, ..none },
            "recipient" => Filter { recipient: value, ..none },
            "domain" => Filter { domain: value, ..none },
            "older" => Filter { older_than: value, ..none },
            "queue" => Filter { queue: value, ..none },
            _ => Filter { reason: value, ..none },
        };
        assert!(!filter.is_empty());
        selection(&[], &filter)
    }

    #[test]
    fn options_become_conditions() {
        let none = Selection::default();
        for (option, value, expected) in [
            ("sender", "<>", Selection { sender: Some(ReversePath::Null), ..none.clone() }),
            ("sender", "a@b", Selection { sender: Some("a@b".parse().unwrap()), ..none.clone() }),
            ("recipient", "a@b", Selection { recipient: Some("a@b".parse().unwrap()), ..none.clone() }),
            ("domain", "B", Selection { domain: Some("b".parse().unwrap()), ..none.clone() }),
            ("older", "2h", Selection { older_than: Some(7200), ..none.clone() }),
            ("queue", "hold", Selection { queue: Some(Queue::Hold), ..none.clone() }),
            ("reason", "timed out", Selection { reason: Some("timed out".into()), ..none.clone() }),
        ] {
            assert_eq!(read(option, value), Ok(expected), "{option} {value}");
        }
        assert_eq!(selection(&[], &Filter::default()), Ok(none));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (option, value) in [
            ("sender", "a"),
            ("recipient", "@"),
            ("domain", "a b"),
            ("older", "5"),
            ("queue", "x"),
            ("queue", "corrupt"),
        ] {
            assert_eq!(read(option, value).unwrap_err().code, exit::USAGE, "{option} {value}");
        }
        assert_eq!(selection(&["x".into()], &Filter::default()).unwrap_err().code, exit::NO_INPUT);
    }
}
