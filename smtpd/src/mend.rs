//! What a mail program submits, mended on its way in (RFC 6409 8): `Bcc` goes, and `Message-ID`, `Date` and `From` are there in the end.
//!
//! Pure, and in one pass: content comes in any pieces, with CRLF line ends. Nothing else is touched, so what a client has signed
//! stays signed. Fields that are missing stand at the end of the header. Memory: the beginning of one line.

use common::header::{HIDDEN, name_length};
use memchr::memchr2;

/// As much of a line as is looked at for the end of its field name, in octets (RFC 5322 2.1.1).
const MAX_NAME: usize = 998;

/// The values of fields that may be missing.
#[derive(Debug, Clone)]
pub struct Missing {
    /// With its angle brackets.
    pub message_id: String,
    /// As in a header.
    pub date: String,
    /// An address.
    pub from: String,
}

/// Mends one message.
#[derive(Debug)]
pub struct Mender {
    missing: Missing,
    at: At,
    /// The beginning of a line of which it is not clear yet what it is.
    line: Vec<u8>,
    /// Has a field begun?
    any: bool,
    /// Does the field that goes on pass?
    passes: bool,
    has: Has,
}

#[derive(Debug, Default)]
struct Has {
    message_id: bool,
    date: bool,
    from: bool,
}

/// Where the next octet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the beginning of a line of the header.
    Start,
    /// Behind the name of a field, in a line that passes or not.
    Rest,
    /// Behind the header.
    Body,
}

/// What a line of the header is.
enum Kind {
    /// It is not clear yet.
    Unclear,
    /// It belongs to the field before.
    Folded,
    /// It begins a field whose name has this length.
    Field(usize),
    /// The empty line.
    End,
    /// No field: the body begins without an empty line.
    Text,
}

impl Mender {
    /// For a message of which nothing has come yet.
    pub fn new(missing: Missing) -> Self {
        Self { missing, at: At::Start, line: Vec::new(), any: false, passes: true, has: Has::default() }
    }

    /// Takes the next piece; what becomes of it is appended to `out`.
    pub fn take(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while !piece.is_empty() {
            piece = match self.at {
                At::Body => {
                    out.extend_from_slice(piece);
                    return;
                }
                At::Rest => self.rest(piece, out),
                At::Start => self.start(piece, out),
            };
        }
    }

    /// The message has ended. Gives the Message-ID, if it had none.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Option<String> {
        if !self.line.is_empty() {
            self.text(out);
        } else if self.at != At::Body {
            self.complete(out);
        }
        (!self.has.message_id).then_some(self.missing.message_id)
    }

    /// To the end of the line.
    fn rest<'a>(&mut self, piece: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = memchr::memchr(b'\n', piece).map(|at| at + 1);
        let (line, behind) = piece.split_at_checked(end.unwrap_or(piece.len())).unwrap_or((piece, b""));
        if self.passes {
            out.extend_from_slice(line);
        }
        if end.is_some() {
            self.at = At::Start;
        }
        behind
    }

    /// Collects the beginning of a line until it is clear what it is.
    fn start<'a>(&mut self, piece: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        // White space at the beginning is clear at once; a name ends at its colon, or is none at the line's end.
        let decides = match (self.line.first(), piece.first()) {
            (None, Some(b' ' | b'\t')) => Some(0),
            _ => memchr2(b':', b'\n', piece),
        };
        let room = MAX_NAME.saturating_sub(self.line.len()).max(1);
        let length = decides.map_or(piece.len(), |at| at + 1).min(room);
        let (part, behind) = piece.split_at_checked(length).unwrap_or((piece, b""));
        self.line.extend_from_slice(part);
        match self.kind() {
            Kind::Unclear => {}
            Kind::End => {
                self.complete(out);
                self.pass(out);
                self.at = At::Body;
            }
            Kind::Text => self.text(out),
            Kind::Folded => self.go_on(out),
            Kind::Field(length) => {
                self.field(length);
                self.go_on(out);
            }
        }
        behind
    }

    fn kind(&self) -> Kind {
        match self.line.as_slice() {
            [b' ' | b'\t', ..] if self.any => Kind::Folded,
            [b' ' | b'\t', ..] => Kind::Text,
            b"\r\n" => Kind::End,
            line => match name_length(line) {
                Some(length) => Kind::Field(length),
                None if line.ends_with(b"\n") || line.ends_with(b":") || line.len() >= MAX_NAME => Kind::Text,
                None => Kind::Unclear,
            },
        }
    }

    fn field(&mut self, length: usize) {
        let name = self.line.get(..length).unwrap_or_default();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        self.passes = !HIDDEN.iter().any(|hidden| is(hidden));
        self.has.message_id |= is("Message-ID");
        self.has.date |= is("Date");
        self.has.from |= is("From");
        self.any = true;
    }

    /// The line that was unclear is a part of the header.
    fn go_on(&mut self, out: &mut Vec<u8>) {
        let ended = self.line.ends_with(b"\n");
        if self.passes {
            self.pass(out);
        }
        self.line.clear();
        self.at = if ended { At::Start } else { At::Rest };
    }

    /// The body begins with a line that is no field. Where there is no header, ours needs an end.
    fn text(&mut self, out: &mut Vec<u8>) {
        self.complete(out);
        if !self.any {
            out.extend_from_slice(b"\r\n");
        }
        self.pass(out);
        self.at = At::Body;
    }

    fn pass(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.line);
        self.line = Vec::new();
    }

    /// The end of the header.
    fn complete(&self, out: &mut Vec<u8>) {
        let Missing { message_id, date, from } = &self.missing;
        for (there, name, value) in [
            (self.has.message_id, "Message-ID", message_id),
            (self.has.date, "Date", date),
            (self.has.from, "From", from),
        ] {
            if !there {
                out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(content: &[u8], chunk: usize) -> (Vec<u8>, bool) {
        let missing = Missing { message_id: "<1@x>".into(), date: "now".into(), from: "a@b".into() };
        let mut mender = Mender::new(missing);
        let mut out = Vec::new();
        for piece in content.chunks(chunk) {
            mender.take(piece, &mut out);
            assert!(mender.line.len() <= MAX_NAME);
        }
        let made = mender.finish(&mut out).is_some();
        (out, made)
    }

    const FULL: &str = "From: x\nDate: y\nMessage-Id: <z@z>\n";
    const OURS: &str = "Message-ID: <1@x>\nDate: now\nFrom: a@b\n";

    #[test]
    fn bcc_goes_and_what_is_missing_comes_in_every_split() {
        let long = format!("Subject: {}\n", "x".repeat(5000));
        let long_name = "x".repeat(5000);
        for (content, expected) in [
            (format!("{FULL}\nbody\n"), format!("{FULL}\nbody\n")),
            (format!("{FULL}Bcc: a@b\nTo: c@d\n\nBcc: body\n"), format!("{FULL}To: c@d\n\nBcc: body\n")),
            (format!("bcc:a,\n b,\n\tc\n{FULL}\n"), format!("{FULL}\n")),
            (format!("BCC \t: a\n \n x\n{FULL}Resent-Bcc: y\n\n"), format!("{FULL}\n")),
            (
                format!("{FULL}X-Bcc: a\nBccx: b\nTo: a,\n Bcc: b\n\n"),
                format!("{FULL}X-Bcc: a\nBccx: b\nTo: a,\n Bcc: b\n\n"),
            ),
            ("Subject: s\n\nbody\n".into(), format!("Subject: s\n{OURS}\nbody\n")),
            (
                "FROM : x\nSubject: s\n\n".into(),
                "FROM : x\nSubject: s\nMessage-ID: <1@x>\nDate: now\n\n".into(),
            ),
            // Other fields' names begin like ours.
            (
                "Dated: x\nX-From: y\nMessage-IDs: z\n\n".into(),
                format!("Dated: x\nX-From: y\nMessage-IDs: z\n{OURS}\n"),
            ),
            // No header, or no end of it.
            ("".into(), OURS.into()),
            ("\n".into(), format!("{OURS}\n")),
            ("\nbody\n".into(), format!("{OURS}\nbody\n")),
            ("text\nDate: x\n".into(), format!("{OURS}\ntext\nDate: x\n")),
            (" folded nothing\nDate: x\n\n".into(), format!("{OURS}\n folded nothing\nDate: x\n\n")),
            (": nothing\n\n".into(), format!("{OURS}\n: nothing\n\n")),
            (
                "Date: x\nno field\nBcc: y\n".into(),
                "Date: x\nMessage-ID: <1@x>\nFrom: a@b\nno field\nBcc: y\n".into(),
            ),
            ("Date: x\nBcc: y\n".into(), "Date: x\nMessage-ID: <1@x>\nFrom: a@b\n".into()),
            (format!("{long}{FULL}\n{long}"), format!("{long}{FULL}\n{long}")),
            (format!("Bcc: {long_name}\n {long_name}\n{FULL}\n"), format!("{FULL}\n")),
            (format!("{FULL}{long_name}: x\n"), format!("{FULL}{long_name}: x\n")),
            (format!("{long_name}\n"), format!("{OURS}\n{long_name}\n")),
        ] {
            let (content, expected) = (content.replace('\n', "\r\n"), expected.replace('\n', "\r\n"));
            for chunk in [1, 2, 3, 5, 997, 998, 999, content.len().max(1)] {
                let (out, made) = mended(content.as_bytes(), chunk);
                assert_eq!(String::from_utf8(out).unwrap(), expected, "{content:.100?} by {chunk}");
                assert_eq!(made, expected.contains("<1@x>"), "{content:.100?}");
            }
        }
    }

    #[test]
    fn octets_pass_as_they_are() {
        let content =
            [FULL.replace('\n', "\r\n").as_bytes(), b"Subject: \xe4\0\xff\r\n\r\n\x80\0\r\n"].concat();
        assert_eq!(mended(&content, 4).0, content);
    }
}
