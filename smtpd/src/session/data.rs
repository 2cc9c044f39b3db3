//! The end of data, transparency and line ends of content (RFC 5321 4.1.1.4, 4.5.2, 2.3.8), as a state
//! machine over chunks.
//!
//! Only `CRLF . CRLF` ends the data, whatever else looks like it: servers that disagree about this let
//! messages be smuggled. Content is lent from the input, never copied; a chunk without a line that begins
//! with a dot comes out in one piece. A bare CR or LF is remembered, and turned into CRLF for those who want
//! that; the caller decides what becomes of the message.

use memchr::memchr2;

/// Where the next octet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// After a CRLF, or at the very beginning (DATA's own CRLF counts).
    LineStart,
    /// After `CRLF .`: the dot is not handed out yet, and never will be.
    Dot,
    /// After `CRLF . CR`.
    DotCr,
    /// Anywhere else, also after a bare LF.
    Text,
    /// After a CR that is not handed out yet.
    Cr,
}

/// Undoes transparency and finds the end of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoder {
    at: At,
    bare: Option<&'static str>,
}

/// What came of some input.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Octets of input that are done with; never 0 unless the input is empty or `content` is not.
    pub used: usize,
    /// Content, transparency undone, bare line ends made CRLF; may be empty.
    pub content: &'a [u8],
    /// Was this the end of data? What follows is a command.
    pub ended: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { at: At::LineStart, bare: None }
    }
}

impl Decoder {
    /// The first bare line end met, `LF` or `CR`; `None` when all were CRLF.
    pub fn bare_newline(&self) -> Option<&'static str> {
        self.bare
    }

    /// Takes the next piece; call it again with the rest until the input is used up or the data has ended.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Piece<'a> {
        let Some(first) = input.first() else { return Piece { used: 0, content: b"", ended: false } };
        match (self.at, *first) {
            (At::LineStart, b'.') => self.step(1, b"", At::Dot),
            (At::LineStart | At::Text, _) => self.run(input),
            (At::Dot, b'\r') => self.step(1, b"", At::DotCr),
            (At::Dot, _) => {
                // The dot was there for transparency alone. (An LF here is a bare one: `run` sees to it.)
                self.at = At::Text;
                self.run(input)
            }
            (At::DotCr, b'\n') => Piece { ended: true, ..self.step(1, b"", At::LineStart) },
            (At::Cr, b'\n') => self.step(1, b"\r\n", At::LineStart),
            (At::DotCr | At::Cr, _) => {
                self.bare.get_or_insert("CR");
                self.step(0, b"\r\n", At::Text)
            }
        }
    }

    /// From within a line: as far as content can be lent in one piece.
    fn run<'a>(&mut self, input: &'a [u8]) -> Piece<'a> {
        let mut from = 0;
        while let Some((i, octet)) = input
            .get(from..)
            .and_then(|rest| memchr2(b'\r', b'\n', rest))
            .and_then(|i| Some((from + i, *input.get(from + i)?)))
        {
            let before = input.get(..i).unwrap_or(b"");
            if octet == b'\n' {
                // A CR before it would have led past it: this LF is bare.
                self.bare.get_or_insert("LF");
                return if before.is_empty() {
                    self.step(1, b"\r\n", At::Text)
                } else {
                    self.step(i, before, At::Text)
                };
            }
            if input.get(i + 1) != Some(&b'\n') {
                // The chunk ends here, or the CR is bare: the next call sees which.
                return self.step(i + 1, before, At::Cr);
            }
            from = i + 2;
            let line = input.get(..from).unwrap_or(input);
            match input.get(from) {
                None => return self.step(from, line, At::LineStart),
                Some(b'.') => return self.step(from + 1, line, At::Dot),
                Some(_) => {}
            }
        }
        self.step(input.len(), input, At::Text)
    }

    fn step<'a>(&mut self, used: usize, content: &'a [u8], at: At) -> Piece<'a> {
        self.at = at;
        Piece { used, content, ended: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` in chunks: content, the bare line end met, and what is left after the end of data.
    fn decode(input: &[u8], chunks: &[usize]) -> (Vec<u8>, Option<&'static str>, Option<usize>) {
        let mut decoder = Decoder::default();
        let mut content = Vec::new();
        let mut start = 0;
        for end in chunks {
            let mut rest = &input[start..*end];
            while !rest.is_empty() {
                let piece = decoder.next(rest);
                assert!(piece.used > 0 || !piece.content.is_empty());
                content.extend_from_slice(piece.content);
                rest = &rest[piece.used..];
                if piece.ended {
                    return (content, decoder.bare_newline(), Some(input.len() - end + rest.len()));
                }
            }
            start = *end;
        }
        (content, decoder.bare_newline(), None)
    }

    const CASES: &[(&str, &str, Option<&str>, Option<usize>)] = &[
        // (input, content, bare line end, octets after the end of data)
        (".\r\n", "", None, Some(0)),
        ("\r\n.\r\n", "\r\n", None, Some(0)),
        ("a\r\n.\r\nQUIT\r\n", "a\r\n", None, Some(6)),
        ("..\r\n.\r\n", ".\r\n", None, Some(0)),
        (".a\r\n.\r\n", "a\r\n", None, Some(0)),
        ("a\r\n..b\r\n...\r\n.\r\n", "a\r\n.b\r\n..\r\n", None, Some(0)),
        ("a.\r\n.b.c\r\n.\r\n", "a.\r\nb.c\r\n", None, Some(0)),
        // What is not the end of data (smuggling).
        ("a\n.\n", "a\r\n.\r\n", Some("LF"), None),
        ("a\n.\r\n", "a\r\n.\r\n", Some("LF"), None),
        ("a\r\n.\n", "a\r\n\r\n", Some("LF"), None),
        ("a\r.\r", "a\r\n.", Some("CR"), None),
        ("a\r.\r\n", "a\r\n.\r\n", Some("CR"), None),
        ("a\r\n.\rb\r\n", "a\r\n\r\nb\r\n", Some("CR"), None),
        ("a\r\n.\r\rb", "a\r\n\r\n\r\nb", Some("CR"), None),
        ("a\r\r\n.\r\n", "a\r\n\r\n", Some("CR"), Some(0)),
        ("\n\r\n.\r\n", "\r\n\r\n", Some("LF"), Some(0)),
        ("a\r\n\n.\r\n.\r\n", "a\r\n\r\n.\r\n", Some("LF"), Some(0)),
        ("a\0b\r\n.\r\n", "a\0b\r\n", None, Some(0)),
        // Not ended.
        ("", "", None, None),
        (".", "", None, None),
        (".\r", "", None, None),
        ("a\r\n", "a\r\n", None, None),
    ];

    #[test]
    fn content_in_every_split() {
        for (input, content, bare, left) in CASES {
            let input = input.as_bytes();
            let expected = (content.as_bytes().to_vec(), *bare, *left);
            assert_eq!(decode(input, &[input.len()]), expected, "{input:?} whole");
            let bytes: Vec<usize> = (1..=input.len()).collect();
            assert_eq!(decode(input, &bytes), expected, "{input:?} by bytes");
            for cut in 0..=input.len() {
                assert_eq!(decode(input, &[cut, input.len()]), expected, "{input:?} cut at {cut}");
                for second in cut..=input.len() {
                    assert_eq!(
                        decode(input, &[cut, second, input.len()]),
                        expected,
                        "{input:?} {cut} {second}"
                    );
                }
            }
        }
    }

    /// Every text of up to seven octets over the alphabet that matters, against the rules said plainly.
    #[test]
    fn agrees_with_the_plain_rules() {
        for length in 0..=7u32 {
            for n in 0..4usize.pow(length) {
                let input: Vec<u8> = (0..length).map(|i| b"\r\n.a"[n / 4usize.pow(i) % 4]).collect();
                let expected = plainly(&input);
                assert_eq!(decode(&input, &[input.len()]), expected, "{input:?}");
                let bytes: Vec<usize> = (1..=input.len()).collect();
                assert_eq!(decode(&input, &bytes), expected, "{input:?} by bytes");
            }
        }
    }

    /// RFC 5321 read aloud: split at CRLF; a line that is "." ends; a leading dot goes; bare CR and LF become
    /// CRLF.
    fn plainly(input: &[u8]) -> (Vec<u8>, Option<&'static str>, Option<usize>) {
        let mut content = Vec::new();
        let mut bare = None;
        let mut rest = input;
        loop {
            let end = rest.windows(2).position(|w| w == b"\r\n");
            let line = &rest[..end.unwrap_or(rest.len())];
            if end.is_some() && line == b"." {
                return (content, bare, Some(rest.len() - 3));
            }
            let dotted = line.strip_prefix(b".").unwrap_or(line);
            for (i, octet) in dotted.iter().enumerate() {
                match octet {
                    // A CR at the very end of the input may yet become a CRLF.
                    b'\r' if end.is_none() && i + 1 == dotted.len() => {}
                    b'\r' | b'\n' => {
                        bare.get_or_insert(if *octet == b'\r' { "CR" } else { "LF" });
                        content.extend_from_slice(b"\r\n");
                    }
                    _ => content.push(*octet),
                }
            }
            match end {
                None => return (content, bare, None),
                Some(end) => {
                    content.extend_from_slice(b"\r\n");
                    rest = &rest[end + 2..];
                }
            }
        }
    }
}
