//! The header of a submitted message as fields, and what becomes of it: recipients are taken out, hidden
//! fields dropped, a missing `From` added. Pure. Fields that stay are not touched, whatever they hold.

use super::addresses::{self, ListError};
use common::address::{Address, Domain};
use common::header::{DROPPED, HIDDEN, name_length};

/// One field, folded lines included, with its CRLF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    raw: Vec<u8>,
    name: usize,
}

impl Field {
    /// The octets as they came.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    fn is(&self, name: &str) -> bool {
        self.raw.get(..self.name).is_some_and(|own| own.eq_ignore_ascii_case(name.as_bytes()))
    }

    fn is_one_of(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.is(name))
    }

    /// What stands behind the colon.
    fn value(&self) -> &[u8] {
        let colon = self.raw.iter().position(|b| *b == b':').unwrap_or(self.raw.len());
        self.raw.get(colon + 1..).unwrap_or_default()
    }
}

const RECIPIENTS: [&str; 3] = ["To", "Cc", "Bcc"];
const RESENT_RECIPIENTS: [&str; 3] = ["Resent-To", "Resent-Cc", "Resent-Bcc"];

/// Splits a header, whose first line begins a field, into fields.
pub fn split(header: &[u8]) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for line in header.split_inclusive(|b| *b == b'\n') {
        match (fields.last_mut(), line.first()) {
            (Some(field), Some(b' ' | b'\t')) => field.raw.extend_from_slice(line),
            _ => fields.push(Field { raw: line.to_vec(), name: name_length(line).unwrap_or(0) }),
        }
    }
    fields
}

/// The recipients that the header names: those of the `Resent-` fields when there are any, else To, Cc and
/// Bcc.
pub fn recipients(fields: &[Field], mail_name: &Domain) -> Result<Vec<Address>, ListError> {
    let resent = fields.iter().any(|f| f.is_one_of(&RESENT_RECIPIENTS));
    let wanted = if resent { RESENT_RECIPIENTS } else { RECIPIENTS };
    let mut found = Vec::new();
    for field in fields.iter().filter(|f| f.is_one_of(&wanted)) {
        found.extend(addresses::parse(field.value(), mail_name)?);
    }
    Ok(found)
}

/// Does the header say that the body holds octets above 127 (RFC 2045 6.1)?
pub fn declares_eight_bit(fields: &[Field]) -> bool {
    let eight = |f: &&Field| {
        let value = f.value().trim_ascii();
        f.is("Content-Transfer-Encoding")
            && [&b"8bit"[..], b"binary"].iter().any(|w| value.eq_ignore_ascii_case(w))
    };
    fields.iter().find(eight).is_some()
}

/// The header as it goes on, without the empty line: `from` gives the value for a missing `From`
/// (`Resent-From` in a message that is resent).
pub fn compose(fields: &[Field], from: impl FnOnce() -> String) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields.iter().filter(|f| !f.is_one_of(&DROPPED) && !f.is_one_of(&HIDDEN)) {
        out.extend_from_slice(&field.raw);
    }
    let resent =
        fields.iter().any(|f| f.raw.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"Resent-")));
    let name = if resent { "Resent-From" } else { "From" };
    if !fields.iter().any(|f| f.is(name)) {
        out.extend_from_slice(format!("{name}: {}\r\n", from()).as_bytes());
    }
    out
}

/// `From`'s value: the address, with the full name in front when there is one. A name beyond ASCII becomes
/// encoded words (RFC 2047); control characters in it disappear.
pub fn mailbox(full_name: &[u8], address: &str) -> String {
    let name: String =
        String::from_utf8_lossy(full_name).chars().filter(|c| !c.is_control()).take(200).collect();
    let name = name.trim();
    if name.is_empty() {
        return address.to_owned();
    }
    if !name.is_ascii() {
        return format!("{}\r\n <{address}>", encoded_words(name));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b" !#$%&'*+-/=?^_`{|}~".contains(&b);
    if name.bytes().all(plain) && !name.contains("=?") {
        return format!("{name} <{address}>");
    }
    let mut quoted = String::new();
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    format!("\"{quoted}\" <{address}>")
}

/// RFC 2047 section 4.2 (Q), each word on a line of its own, none longer than 76 characters.
fn encoded_words(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        let mut buffer = [0; 4];
        let piece: String = c.encode_utf8(&mut buffer).bytes().map(q_encoded).collect();
        // "Resent-From: ", "=?utf-8?q?" and "?=" take 25 of 76 characters.
        if word.len() + piece.len() > 51 {
            words.push(std::mem::take(&mut word));
        }
        word.push_str(&piece);
    }
    words.push(word);
    words.iter().map(|word| format!("=?utf-8?q?{word}?=")).collect::<Vec<_>>().join("\r\n ")
}

/// What may stand in an encoded word within a phrase (RFC 2047 5 (3)).
fn q_encoded(byte: u8) -> String {
    match byte {
        b' ' => "_".to_owned(),
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("={b:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<Field> {
        split(text.replace('\n', "\r\n").as_bytes())
    }

    fn found(text: &str) -> Result<Vec<String>, ListError> {
        let list = recipients(&header(text), &"here.example".parse().unwrap())?;
        Ok(list.iter().map(Address::to_string).collect())
    }

    #[test]
    fn recipients_come_from_the_right_fields() {
        for (text, expected) in [
            ("Subject: x\nFrom: f@g\n", &[][..]),
            ("To: a@b\nCc: c,\n d@e\nBcc: f@g\n", &["a@b", "c@here.example", "d@e", "f@g"]),
            ("TO : a@b\nto: c@d\n", &["a@b", "c@d"]),
            ("To: a@b\nResent-To: c@d\nResent-Bcc: e@f\n", &["c@d", "e@f"]),
            ("To: a@b\nResent-From: c@d\n", &["a@b"]),
            ("Reply-To: a@b\nX-To: c@d\n", &[]),
            ("To: undisclosed-recipients:;\nBcc: a@b\n", &["a@b"]),
        ] {
            assert_eq!(found(text).unwrap(), expected, "{text:?}");
        }
        assert!(found("To: a@b c@d\n").is_err());
    }

    #[test]
    fn hidden_fields_are_dropped_and_a_missing_from_is_added() {
        for (text, expected) in [
            ("", "From: me\n"),
            ("To: a\n", "To: a\nFrom: me\n"),
            ("From: x\nTo: a\nBcc: b,\n c\nSubject: s\n", "From: x\nTo: a\nSubject: s\n"),
            ("BCC: b\nReturn-Path: <x>\nContent-length: 5\nFrom: x\n", "From: x\n"),
            ("From: x\nResent-To: a\nResent-Bcc: b\n", "From: x\nResent-To: a\nResent-From: me\n"),
            ("From: x\nResent-From: y\n", "From: x\nResent-From: y\n"),
        ] {
            let out = compose(&header(text), || "me".to_owned());
            assert_eq!(String::from_utf8(out).unwrap(), expected.replace('\n', "\r\n"), "{text:?}");
        }
    }

    #[test]
    fn eight_bit_is_seen_in_the_header() {
        for (text, expected) in [
            ("Content-Transfer-Encoding: 8bit\n", true),
            ("content-transfer-encoding:\n BINARY \n", true),
            ("Content-Transfer-Encoding: 7bit\n", false),
            ("X: 8bit\n", false),
        ] {
            assert_eq!(declares_eight_bit(&header(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_from_field() {
        for (name, expected) in [
            (&b""[..], "a@b"),
            (b" \r\n", "a@b"),
            (b"Joe Doe", "Joe Doe <a@b>"),
            (b"Doe, Joe", "\"Doe, Joe\" <a@b>"),
            (b"Joe \"x\" \\", "\"Joe \\\"x\\\" \\\\\" <a@b>"),
            (b"Joe\r\nBcc: x@y", "\"JoeBcc: x@y\" <a@b>"),
            (b"=?utf-8?q?x?=", "\"=?utf-8?q?x?=\" <a@b>"),
            (b"J\xc3\xb6 D", "=?utf-8?q?J=C3=B6_D?=\r\n <a@b>"),
            (b"J\xff", "=?utf-8?q?J=EF=BF=BD?=\r\n <a@b>"),
        ] {
            assert_eq!(mailbox(name, "a@b"), expected, "{name:?}");
        }
        let long = mailbox("ö".repeat(100).as_bytes(), "a@b");
        assert!(long.split("\r\n").all(|line| line.len() + "Resent-From: ".len() <= 76), "{long}");
        let words = long.strip_suffix("\r\n <a@b>").unwrap().split("\r\n ");
        let decoded: String = words.map(|w| &w["=?utf-8?q?".len()..w.len() - 2]).collect();
        assert_eq!(decoded, "=C3=B6".repeat(100));
    }
}
