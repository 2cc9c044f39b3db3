//! Header fields that a mailbox does not take from outside, as with Postfix: `Return-Path`, of which a delivered message has one, ours
//! (RFC 5321 4.4), and `Content-Length`, which readers of an mbox may believe more than the lines between messages.
//!
//! Pure and streaming: content comes in pieces split anywhere; memory is bounded, whatever it holds.

use common::header::DROPPED;
use memchr::memchr;

/// A name with the blanks before its colon (RFC 5322 4.5) is looked at up to here; what is longer is kept.
const LONGEST: usize = 128;

/// Passes content on without those fields. A new one is at its start.
#[derive(Debug, Default)]
pub struct FieldFilter {
    place: Place,
    /// The name so far, not passed on yet.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// A line of the header begins; the one before was dropped, or not.
    Line { dropped: bool },
    /// In the name of a field.
    Name,
    /// Behind it, to the end of the line.
    Value { dropped: bool },
    /// Past the header: behind an empty line, or at a line that begins no field.
    Body,
}

/// At the start of the content.
impl Default for Place {
    fn default() -> Self {
        Self::Line { dropped: false }
    }
}

impl FieldFilter {
    /// Takes a piece of content and hands on to `keep` what stays and is certain by now.
    pub fn push(&mut self, mut piece: &[u8], mut keep: impl FnMut(&[u8])) {
        while let Some((&first, rest)) = piece.split_first() {
            match self.place {
                Place::Body => return keep(piece),
                // RFC 5322 2.2.3: it belongs to the field before it.
                Place::Line { dropped } if matches!(first, b' ' | b'\t') => {
                    self.place = Place::Value { dropped };
                }
                Place::Line { .. } => self.place = Place::Name,
                Place::Name => match self.name(first) {
                    Place::Body => self.place = Place::Body,
                    place => {
                        (self.place, piece) = (place, rest);
                        if matches!(place, Place::Value { dropped: true }) {
                            self.held.clear();
                        }
                    }
                },
                Place::Value { dropped } => {
                    let end = memchr(b'\n', piece);
                    let (line, rest) = piece.split_at(end.map_or(piece.len(), |end| end + 1));
                    if !dropped {
                        keep(line);
                    }
                    if end.is_some() {
                        self.place = Place::Line { dropped };
                    }
                    piece = rest;
                }
            }
            if !matches!(self.place, Place::Name) {
                self.finish(&mut keep);
            }
        }
    }

    /// The end of the content: hands on what was held back.
    pub fn finish(&mut self, mut keep: impl FnMut(&[u8])) {
        if !self.held.is_empty() {
            keep(&self.held);
            self.held.clear();
        }
    }

    /// Does the line begin as those between the messages of an mbox do?
    fn is_postmark(&self) -> bool {
        [&b"From "[..], b">From "].iter().any(|mark| self.held.starts_with(mark))
    }

    /// What an octet of a name leads to. It is held with the name, unless this is no field.
    fn name(&mut self, octet: u8) -> Place {
        let name = self.held.trim_ascii_end();
        let place = match octet {
            b':' if !name.is_empty() => Place::Value {
                dropped: DROPPED.iter().any(|dropped| dropped.as_bytes().eq_ignore_ascii_case(name)),
            },
            b' ' | b'\t' => Place::Name,
            33..127 if octet != b':' && name.len() == self.held.len() => Place::Name,
            // No field, but readers of mailboxes pass over it and look on.
            b'\n' if self.is_postmark() => Place::Line { dropped: false },
            _ if self.is_postmark() => Place::Value { dropped: false },
            _ => return Place::Body,
        };
        self.held.push(octet);
        if self.held.len() < LONGEST || !matches!(place, Place::Name) {
            place
        } else {
            Place::Value { dropped: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(pieces: &[&[u8]]) -> String {
        let (mut filter, mut out) = (FieldFilter::default(), Vec::new());
        for piece in pieces {
            filter.push(piece, |kept| out.extend_from_slice(kept));
            assert!(filter.held.len() <= LONGEST);
        }
        filter.finish(|kept| out.extend_from_slice(kept));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn two_fields_go_however_the_content_is_split() {
        let long = format!("{}: a\r\nReturn-Path: b\r\n\r\n", "x".repeat(2 * LONGEST));
        let blanks = format!("Return-Path{}: a\r\n\r\n", " ".repeat(2 * LONGEST));
        for (content, expected) in [
            ("A: b\r\nReturn-Path: <c>\r\nD: e\r\n\r\nf\r\n", "A: b\r\nD: e\r\n\r\nf\r\n"),
            ("return-path:x\r\n\ty\r\n  z\r\nA: b\r\n", "A: b\r\n"),
            ("A: b\r\n c\r\nReturn-Path: x\r\n", "A: b\r\n c\r\n"),
            ("Content-Length \t: 5\r\nA: b\r\n\r\n", "A: b\r\n\r\n"),
            ("RETURN-PATH: a\r\nCONTENT-LENGTH: b\r\nReturn-Path: c\r\n\r\n", "\r\n"),
            ("Return-Path:", ""),
            ("Return-Path", "Return-Path"),
            ("Return-Path \t", "Return-Path \t"),
            ("Return-Path\r\n\r\n", "Return-Path\r\n\r\n"),
            (
                "Return-Paths: a\r\nX-Return-Path: b\r\nReturn: c\r\n",
                "Return-Paths: a\r\nX-Return-Path: b\r\nReturn: c\r\n",
            ),
            ("A: b\r\n\r\nReturn-Path: c\r\n", "A: b\r\n\r\nReturn-Path: c\r\n"),
            ("\r\nReturn-Path: c\r\n", "\r\nReturn-Path: c\r\n"),
            // No header at all.
            ("Hello you\r\nReturn-Path: c\r\n", "Hello you\r\nReturn-Path: c\r\n"),
            (": a\r\nReturn-Path: c\r\n", ": a\r\nReturn-Path: c\r\n"),
            ("From joe Mon\r\nReturn-Path: c\r\nA: b\r\n", "From joe Mon\r\nA: b\r\n"),
            (">From joe\nContent-Length: 1\n\nReturn-Path: c\n", ">From joe\n\nReturn-Path: c\n"),
            ("From \nReturn-Path: c\n", "From \n"),
            ("From \r\nReturn-Path: c\r\n", "From \r\n"),
            ("From : c\r\nReturn-Path: c\r\n", "From : c\r\n"),
            ("A\u{e9}: a\r\nReturn-Path: c\r\n", "A\u{e9}: a\r\nReturn-Path: c\r\n"),
            // A line that begins a message continues nothing.
            (" Return-Path: a\r\nReturn-Path: b\r\n", " Return-Path: a\r\n"),
            ("Return-Path: a\nB: c\n\nd\n", "B: c\n\nd\n"),
            ("", ""),
            (&long, &long.replace("Return-Path: b\r\n", "")),
            (&blanks, &blanks),
        ] {
            let bytes = content.as_bytes();
            for cut in 0..=bytes.len() {
                assert_eq!(filtered(&[&bytes[..cut], &bytes[cut..]]), expected, "{content:?} split at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(filtered(&single), expected, "{content:?} octet by octet");
        }
    }
}
