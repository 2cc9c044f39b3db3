//! What a program of this machine submits, made into a message: line ends, and the header fields that every message has (RFC 6409 8).
//!
//! Pure. The content is a stranger's: any octets may come, in any split. What comes out has CRLF line ends only.

use common::address::{Domain, ReversePath};
use common::time::Timestamp;
use spool::id::QueueId;

/// How much of the content is searched for its header, in octets.
pub(super) const MAX_HEADER: usize = 256 * 1024;

/// Turns bare LF and bare CR into CRLF.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    after_cr: bool,
}

impl LineEnds {
    /// Appends the next octets to `out`.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &b in bytes {
            match b {
                // The LF of a CRLF, or one that stands alone: the CRLF for a CR is written at once.
                b'\n' if self.after_cr => {}
                b'\n' | b'\r' => out.extend_from_slice(b"\r\n"),
                other => out.push(other),
            }
            self.after_cr = b == b'\r';
        }
    }
}

/// What goes on top of a submission, and its message ID for the log.
pub(super) struct Top {
    /// Whole lines.
    pub(super) bytes: Vec<u8>,
    /// With its angle brackets.
    pub(super) message_id: String,
}

/// `start` is the beginning of the content with CRLF line ends: all of it, or at least [`MAX_HEADER`] octets.
pub(super) fn top(
    start: &[u8],
    sender: &ReversePath,
    hostname: &Domain,
    uid: u32,
    id: QueueId,
    now: Timestamp,
) -> Top {
    let header = Header::find(start);
    let date = now.rfc5322();
    let mut text = format!("Received: by {hostname} (Ironpost, from userid {uid})\r\n\tid {id}; {date}\r\n");
    let message_id = header.message_id.clone().unwrap_or_else(|| {
        let made = format!("<{id}@{hostname}>");
        text.push_str(&format!("Message-ID: {made}\r\n"));
        made
    });
    if !header.date {
        text.push_str(&format!("Date: {date}\r\n"));
    }
    if !header.from {
        text.push_str(&format!("From: {}\r\n", common::header::from(sender, hostname)));
    }
    // Text without a header would be read as one.
    if !header.any && !start.starts_with(b"\r\n") {
        text.push_str("\r\n");
    }
    Top { bytes: text.into_bytes(), message_id }
}

/// Which fields are there.
#[derive(Debug, Default)]
struct Header {
    any: bool,
    date: bool,
    from: bool,
    message_id: Option<String>,
}

impl Header {
    fn find(start: &[u8]) -> Self {
        let mut header = Self::default();
        let mut in_message_id = false;
        for line in start.split(|b| *b == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                break;
            }
            if matches!(line.first(), Some(b' ' | b'\t')) && header.any {
                if in_message_id && header.message_id.as_deref() == Some("") {
                    header.message_id = Some(shown(line));
                }
                continue;
            }
            let Some((name, value)) = field(line) else { break };
            header.any = true;
            in_message_id = name.eq_ignore_ascii_case(b"Message-ID") && header.message_id.is_none();
            header.date |= name.eq_ignore_ascii_case(b"Date");
            header.from |= name.eq_ignore_ascii_case(b"From");
            if in_message_id {
                header.message_id = Some(shown(value));
            }
        }
        header
    }
}

/// `name: value`; the name is printable without spaces (RFC 5322 2.2; spaces before the colon are obsolete and taken).
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|b| *b == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let name = name.trim_ascii_end();
    let good = !name.is_empty() && name.iter().all(|b| (33..127).contains(b));
    good.then_some((name, value.get(1..).unwrap_or_default()))
}

fn shown(value: &[u8]) -> String {
    common::text::printable_bytes(value.trim_ascii(), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_crlf_however_the_octets_are_split() {
        for (input, output) in [
            ("", ""),
            ("a\nb\n", "a\r\nb\r\n"),
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\rb", "a\r\nb"),
            ("\n\r\n\r\r\n\n", "\r\n\r\n\r\n\r\n\r\n"),
            ("a\r", "a\r\n"),
        ] {
            for split in 0..=input.len() {
                let (mut line_ends, mut out) = (LineEnds::default(), Vec::new());
                line_ends.feed(&input.as_bytes()[..split], &mut out);
                line_ends.feed(&input.as_bytes()[split..], &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), output, "{input:?} at {split}");
            }
        }
    }

    #[test]
    fn missing_fields_are_added_and_others_left_alone() {
        let id = QueueId::new(Timestamp(1_795_358_702_123_456), 12);
        let now = Timestamp(1_795_358_702_123_456);
        for (content, names, message_id) in [
            ("", "Received Message-ID Date From |", None),
            ("text only\r\n", "Received Message-ID Date From |", None),
            ("\r\nbody\r\n", "Received Message-ID Date From", None),
            ("Subject: x\r\n\r\nDate: not a field\r\n", "Received Message-ID Date From", None),
            ("FROM: x\r\ndate : x\r\nmessage-id: <1@x>\r\n\r\n", "Received", Some("<1@x>")),
            ("Message-ID:\r\n <2@x>\r\nFrom: x\r\n\r\n", "Received Date", Some("<2@x>")),
            ("Message-ID: a\x1b[2J\r\n\r\n", "Received Date From", Some("a\\x1b[2J")),
            ("https://example.com/\r\n", "Received Message-ID Date From", None),
        ] {
            let sender = "a@b".parse().unwrap();
            let top = top(content.as_bytes(), &sender, &"h.example".parse().unwrap(), 7, id, now);
            let text = String::from_utf8(top.bytes).unwrap();
            assert!(text.starts_with("Received: by h.example (Ironpost, from userid 7)\r\n\tid "), "{text}");
            let found: Vec<_> = text
                .split_terminator("\r\n")
                .filter(|line| !line.starts_with('\t'))
                .map(|line| if line.is_empty() { "|" } else { line.split(':').next().unwrap() })
                .collect();
            assert_eq!(found.join(" "), names, "{content:?}");
            let made = format!("<{id}@h.example>");
            assert_eq!(top.message_id, message_id.unwrap_or(&made), "{content:?}");
        }
    }
}
