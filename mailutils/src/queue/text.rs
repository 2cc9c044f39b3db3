//! The queue as Postfix's `mailq` shows it (with long queue IDs): fixed columns, `*` active, `!` on hold,
//! reasons in parentheses above the recipients they are for, a total at the end. Pure. Addresses and reasons
//! are printable by their types or made so.

use common::text::printable;
use spool::layout::Queue;
use spool::listing::Listed;
use std::io::{self, Write};

/// The column that reasons end in.
const REASON_WIDTH: usize = 76;

/// Writes entries, and counts for the total.
#[derive(Debug, Default)]
pub struct Report {
    messages: u64,
    octets: u64,
}

impl Report {
    /// One message.
    pub fn entry(&mut self, listed: &Listed, out: &mut dyn Write) -> io::Result<()> {
        if self.messages == 0 {
            row(out, "----Queue ID-----", "--Size--", "---Arrival Time----", "--Sender/Recipient------")?;
        } else {
            writeln!(out)?;
        }
        self.messages += 1;
        self.octets = self.octets.saturating_add(listed.size);
        let mark = match listed.queue {
            Queue::Active => "*",
            Queue::Hold => "!",
            _ => " ",
        };
        let sender =
            if listed.sender.is_null() { "MAILER-DAEMON".to_owned() } else { listed.sender.to_string() };
        row(
            out,
            &format!("{}{mark}", listed.id),
            &listed.size.to_string(),
            &listed.arrived.mailq(),
            &sender,
        )?;
        let mut last = None;
        for recipient in &listed.recipients {
            if let Some(reason) = recipient.reason.as_deref().filter(|reason| last != Some(*reason)) {
                let reason = printable(reason, 2000);
                writeln!(out, "{:>width$}({reason})", "", width = REASON_WIDTH.saturating_sub(reason.len()))?;
                last = recipient.reason.as_deref();
            }
            row(out, "", "", "", &recipient.address.to_string())?;
        }
        let more = listed.recipients_total.saturating_sub(listed.recipients.len() as u64);
        if more > 0 {
            row(out, "", "", "", &format!("(and {more} more)"))?;
        }
        Ok(())
    }

    /// The total.
    pub fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.messages == 0 {
            return writeln!(out, "Mail queue is empty");
        }
        let plural = if self.messages == 1 { "" } else { "s" };
        writeln!(out, "\n-- {} Kbytes in {} Request{plural}.", self.octets / 1024, self.messages)
    }
}

fn row(out: &mut dyn Write, id: &str, size: &str, time: &str, who: &str) -> io::Result<()> {
    writeln!(out, "{id:<17} {size:>8} {time:<19} {who}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use common::time::Timestamp;
    use spool::id::QueueId;
    use spool::listing::Outstanding;

    /// Two messages for the fixtures of both formats.
    pub fn examples() -> Vec<Listed> {
        let id = |n: i64| QueueId::new(Timestamp(1_795_358_702_123_456 + n), 77);
        let waits = |address: &str, reason: Option<&str>| Outstanding {
            address: address.parse().unwrap(),
            reason: reason.map(str::to_owned),
        };
        let refused = "connect to mx.example[192.0.2.1]:25: Connection refused";
        vec![
            Listed {
                queue: Queue::Active,
                id: id(0),
                arrived: Timestamp(1_795_358_702_123_456),
                size: 1500,
                sender: "joe@here.example".parse().unwrap(),
                recipients: vec![waits("jane@there.example", None)],
                recipients_total: 1,
                next_attempt: None,
                attempts: 0,
            },
            Listed {
                queue: Queue::Deferred,
                id: id(1),
                arrived: Timestamp(1_795_358_702_123_456),
                size: 600,
                sender: "".parse().unwrap(),
                recipients: vec![
                    waits("a@there.example", Some(refused)),
                    waits("b@there.example", Some(refused)),
                    waits("c@there.example", Some("over quota\u{1b}[0m")),
                ],
                recipients_total: 7,
                next_attempt: Some(Timestamp(1_795_359_302_000_000)),
                attempts: 3,
            },
        ]
    }

    fn shown(list: &[Listed]) -> String {
        let mut out = Vec::new();
        let mut report = Report::default();
        for listed in list {
            report.entry(listed, &mut out).unwrap();
        }
        report.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_listing_is_postfixs() {
        let examples = examples();
        // The local time zone decides about the stamp.
        let stamp = examples[0].arrived.mailq();
        let (first, second) = (examples[0].id, examples[1].id);
        let expected = format!(
            "\
----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------
{first}*     1500 {stamp} joe@here.example
                                               jane@there.example

{second}       600 {stamp} MAILER-DAEMON
                     (connect to mx.example[192.0.2.1]:25: Connection refused)
                                               a@there.example
                                               b@there.example
                                                           (over quota\\x1b[0m)
                                               c@there.example
                                               (and 4 more)

-- 2 Kbytes in 2 Requests.
"
        );
        assert_eq!(shown(&examples), expected);
        assert!(shown(&examples[..1]).ends_with("\n\n-- 1 Kbytes in 1 Request.\n"));
        assert_eq!(shown(&[]), "Mail queue is empty\n");
        assert_eq!(stamp.len(), 19);
    }

    #[test]
    fn held_messages_are_marked() {
        let held = Listed { queue: Queue::Hold, ..examples().remove(0) };
        assert!(shown(std::slice::from_ref(&held)).contains(&format!("{}! ", held.id)));
    }
}
