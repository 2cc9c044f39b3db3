//! Content as it stands after DATA: dot-stuffed (RFC 5321 4.5.2), ended by exactly one CRLF.CRLF.
//!
//! Takes content in any split. Never lets a CR or LF out that is not part of a CRLF (RFC 5321 2.3.8: what
//! looks like an end of data to one server and not to another smuggles mail): a stray one becomes a space,
//! as Postfix does, so the length stays as told in SIZE. The queue's content has none; this is the last
//! door, not the rule.

/// The encoder's state between chunks. The beginning counts as the start of a line.
#[derive(Debug)]
pub struct Transparency {
    line_start: bool,
    held_cr: bool,
}

impl Default for Transparency {
    fn default() -> Self {
        Self { line_start: true, held_cr: false }
    }
}

impl Transparency {
    /// Appends the encoded form of `input` to `out`.
    pub fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        if let (true, Some(first)) = (self.held_cr, rest.first()) {
            self.held_cr = false;
            if *first == b'\n' {
                self.end_line(out);
                rest = rest.get(1..).unwrap_or_default();
            } else {
                out.push(b' ');
            }
        }
        while !rest.is_empty() {
            if self.line_start && rest.first() == Some(&b'.') {
                out.push(b'.');
            }
            self.line_start = false;
            let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
                out.extend_from_slice(rest);
                return;
            };
            let (text, tail) = rest.split_at(end);
            out.extend_from_slice(text);
            rest = match tail {
                [b'\r', b'\n', after @ ..] => {
                    self.end_line(out);
                    after
                }
                [b'\r'] => {
                    self.held_cr = true;
                    return;
                }
                [_, after @ ..] => {
                    out.push(b' ');
                    after
                }
                [] => return,
            };
        }
    }

    /// Appends the end of data. The content gets a CRLF when its last line has none.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if self.held_cr {
            out.push(b' ');
            self.line_start = false;
        }
        if !self.line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.line_start = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_encoded_in_any_split() {
        for (content, wire) in [
            ("", ".\r\n"),
            ("\r\n", "\r\n.\r\n"),
            ("a: b\r\n\r\nbody\r\n", "a: b\r\n\r\nbody\r\n.\r\n"),
            ("no newline", "no newline\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            ("..a\r\n.b\r\nc.d\r\n", "...a\r\n..b\r\nc.d\r\n.\r\n"),
            ("a\r\n.\r\n.\r\n", "a\r\n..\r\n..\r\n.\r\n"),
            // What smuggles mail: none of these may come out as it went in.
            ("a\n.\nb", "a . b\r\n.\r\n"),
            ("a\n.\r\nb\r\n", "a .\r\nb\r\n.\r\n"),
            ("a\r.\rb", "a . b\r\n.\r\n"),
            ("a\r\r\n.b", "a \r\n..b\r\n.\r\n"),
            ("a\r", "a \r\n.\r\n"),
            ("\r", " \r\n.\r\n"),
            ("\n", " \r\n.\r\n"),
            ("\n.\r\n", " .\r\n.\r\n"),
        ] {
            for step in 1..=content.len().max(1) {
                let mut out = Vec::new();
                let mut encoder = Transparency::default();
                for part in content.as_bytes().chunks(step) {
                    encoder.encode(part, &mut out);
                }
                encoder.finish(&mut out);
                assert_eq!(String::from_utf8(out).unwrap(), wire, "{content:?} by {step}");
            }
        }
    }

    #[test]
    fn nothing_but_the_end_looks_like_an_end() {
        // Every text of up to seven octets over an alphabet of the dangerous ones.
        let alphabet = b"\r\n.a";
        for number in 0..4usize.pow(7) {
            let content: Vec<u8> = (0..7).map(|i| alphabet[number / 4usize.pow(i) % 4]).collect();
            let mut out = Vec::new();
            let mut encoder = Transparency::default();
            encoder.encode(&content, &mut out);
            encoder.finish(&mut out);
            let mut framed = b"\r\n".to_vec();
            framed.extend(&out);
            let ends = framed.windows(5).filter(|w| w == b"\r\n.\r\n").count();
            assert!(ends == 1 && framed.ends_with(b"\r\n.\r\n"), "{content:?} -> {out:?}");
            for i in 0..out.len() {
                assert!(out[i] != b'\n' || i > 0 && out[i - 1] == b'\r', "bare LF: {content:?}");
                assert!(out[i] != b'\r' || out.get(i + 1) == Some(&b'\n'), "bare CR: {content:?}");
            }
        }
    }
}
