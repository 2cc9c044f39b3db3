//! Standard input made into content: line ends become CRLF, a lone dot may end the message, the header is cut
//! off. Pure: bytes in, bytes out.
//!
//! LF and CRLF end a line; any other CR becomes a space, as in Postfix, because it could not be sent on.
//! Everything else, NUL included, is kept. A last line without end gets one. mbox `From ` lines at the top
//! are passed over.

use super::header::{self, Field};
use common::header::name_length;

/// Longest header, in octets.
pub const MAX_HEADER: usize = 1024 * 1024;

/// Turns input into lines that end with CRLF, in any split.
#[derive(Debug)]
pub struct Normalizer {
    dot_ends: bool,
    /// Nothing of the current line is read.
    line_start: bool,
    /// The line so far is one dot, held back.
    dot: bool,
    /// A CR is held back.
    carriage_return: bool,
    ended: bool,
}

impl Normalizer {
    /// `dot_ends`: a line with a lone dot ends the message.
    pub fn new(dot_ends: bool) -> Self {
        Self { dot_ends, line_start: true, dot: false, carriage_return: false, ended: false }
    }

    /// Was the line with the lone dot seen? What comes behind it is not read.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Adds what `input` gives to `out`.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for &byte in input {
            if self.ended {
                return;
            }
            match byte {
                b'\r' => {
                    if self.carriage_return {
                        self.stray(out);
                    }
                    self.carriage_return = true;
                }
                b'\n' => self.end_line(out),
                _ => {
                    if self.carriage_return {
                        self.stray(out);
                    }
                    if self.line_start && byte == b'.' && self.dot_ends {
                        self.dot = true;
                    } else {
                        self.release_dot(out);
                        out.push(byte);
                    }
                    self.line_start = false;
                }
            }
        }
    }

    /// The input is over: ends the last line.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.ended && (!self.line_start || self.carriage_return) {
            self.end_line(out);
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.carriage_return = false;
        if self.dot {
            self.ended = true;
            return;
        }
        out.extend_from_slice(b"\r\n");
        self.line_start = true;
    }

    fn stray(&mut self, out: &mut Vec<u8>) {
        self.carriage_return = false;
        self.release_dot(out);
        out.push(b' ');
        self.line_start = false;
    }

    fn release_dot(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.dot) {
            out.push(b'.');
        }
    }
}

/// The header is longer than [`MAX_HEADER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderTooLong;

/// Header and what stands behind it so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The fields, in order.
    pub fields: Vec<Field>,
    /// The empty line and what was read of the body; empty when the input ended within the header. The empty
    /// line is supplied when the header ended without one, so that fields can be added to any message.
    pub rest: Vec<u8>,
}

/// Collects normalized lines until the header is over.
#[derive(Debug, Default)]
pub struct HeadReader {
    bytes: Vec<u8>,
    /// Octets that are known to belong to the header.
    header: usize,
}

impl HeadReader {
    /// Nothing read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the next normalized octets go.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The head, once it is complete; with `at_end`, what there is counts as complete. To be called after
    /// octets were added; the reader is spent when it gives the head.
    pub fn advance(&mut self, at_end: bool) -> Result<Option<Head>, HeaderTooLong> {
        while let Some(line) = next_line(&self.bytes, self.header) {
            let first = self.header == 0;
            if first && is_mbox_separator(line) {
                let length = line.len();
                self.bytes.drain(..length);
                continue;
            }
            let continues = !first && matches!(line.first(), Some(b' ' | b'\t'));
            if !continues && name_length(line).is_none() {
                let blank = line == b"\r\n";
                return Ok(Some(self.cut(blank)));
            }
            self.header += line.len();
            if self.header > MAX_HEADER {
                return Err(HeaderTooLong);
            }
        }
        if self.bytes.len() > MAX_HEADER + 2 {
            return Err(HeaderTooLong);
        }
        Ok(at_end.then(|| self.cut(true)))
    }

    fn cut(&mut self, blank: bool) -> Head {
        let body = self.bytes.split_off(self.header);
        let fields = header::split(&std::mem::take(&mut self.bytes));
        let mut rest = if blank { Vec::new() } else { b"\r\n".to_vec() };
        rest.extend_from_slice(&body);
        Head { fields, rest }
    }
}

/// The complete line at `from`, its CRLF included.
fn next_line(bytes: &[u8], from: usize) -> Option<&[u8]> {
    let rest = bytes.get(from..)?;
    let end = rest.iter().position(|b| *b == b'\n')?;
    rest.get(..=end)
}

fn is_mbox_separator(line: &[u8]) -> bool {
    let quoted = line.iter().take_while(|b| **b == b'>').count();
    line.get(quoted..).is_some_and(|rest| rest.starts_with(b"From "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalize(input: &[u8], dot_ends: bool, split: usize) -> (Vec<u8>, bool) {
        let mut normalizer = Normalizer::new(dot_ends);
        let mut out = Vec::new();
        normalizer.feed(&input[..split], &mut out);
        normalizer.feed(&input[split..], &mut out);
        normalizer.finish(&mut out);
        (out, normalizer.ended())
    }

    #[test]
    fn lines_end_with_crlf_whatever_they_ended_with() {
        for (input, dot_ends, expected, ended) in [
            (&b""[..], true, &b""[..], false),
            (b"a", true, b"a\r\n", false),
            (b"a\nb\r\nc", true, b"a\r\nb\r\nc\r\n", false),
            (b"a\r\n", true, b"a\r\n", false),
            (b"a\r", true, b"a\r\n", false),
            (b"\r", true, b"\r\n", false),
            (b"a\rb\n", true, b"a b\r\n", false),
            (b"a\r\r\n", true, b"a \r\n", false),
            (b"\0\xff\n", true, b"\0\xff\r\n", false),
            (b"a\n.\nb\n", true, b"a\r\n", true),
            (b"a\n.\r\nb\n", true, b"a\r\n", true),
            (b"a\n.", true, b"a\r\n", true),
            (b"a\n.\r", true, b"a\r\n", true),
            (b"a\n.\nb\n", false, b"a\r\n.\r\nb\r\n", false),
            (b"..\n.a\n", true, b"..\r\n.a\r\n", false),
            (b".\ra\n", true, b". a\r\n", false),
            (b".\r\r\n", true, b". \r\n", false),
            (b"a.\n", true, b"a.\r\n", false),
            (b"\n\n", true, b"\r\n\r\n", false),
        ] {
            for split in 0..=input.len() {
                let got = normalize(input, dot_ends, split);
                assert_eq!(
                    got,
                    (expected.to_vec(), ended),
                    "{:?} split at {split}",
                    input.escape_ascii().to_string()
                );
            }
        }
    }

    fn head(input: &[u8], split: usize) -> (Vec<String>, Vec<u8>) {
        let mut reader = HeadReader::new();
        reader.buffer().extend_from_slice(&input[..split]);
        let (mut head, mut more) = (reader.advance(false).unwrap(), &input[split..]);
        if head.is_none() {
            reader.buffer().extend_from_slice(more);
            more = b"";
            head = reader.advance(true).unwrap();
        }
        let mut head = head.unwrap();
        head.rest.extend_from_slice(more);
        (head.fields.iter().map(|f| f.raw().escape_ascii().to_string()).collect(), head.rest)
    }

    #[test]
    fn the_header_ends_at_the_first_line_that_is_no_field() {
        for (input, fields, rest) in [
            (&b""[..], &[][..], &b""[..]),
            (b"A: b\r\n", &["A: b\\r\\n"], b""),
            (b"A: b\r\n\r\nbody\r\n", &["A: b\\r\\n"], b"\r\nbody\r\n"),
            (b"A: b\r\n c\r\n\td\r\nE:\r\n\r\n", &["A: b\\r\\n c\\r\\n\\td\\r\\n", "E:\\r\\n"], b"\r\n"),
            (b"A: b\r\nno field\r\n", &["A: b\\r\\n"], b"\r\nno field\r\n"),
            (b"no field\r\nA: b\r\n", &[], b"\r\nno field\r\nA: b\r\n"),
            (b" A: b\r\n", &[], b"\r\n A: b\r\n"),
            (b"\r\nbody\r\n", &[], b"\r\nbody\r\n"),
            (b"From x@y Sun\r\nA: b\r\n", &["A: b\\r\\n"], b""),
            (b">From x\r\nFrom y\r\nA: b\r\n\r\n", &["A: b\\r\\n"], b"\r\n"),
            (b"A: b\r\nFrom x\r\n", &["A: b\\r\\n"], b"\r\nFrom x\r\n"),
            (b"A : b\r\n\r\n", &["A : b\\r\\n"], b"\r\n"),
        ] {
            for split in 0..=input.len() {
                let (got, body) = head(input, split);
                assert_eq!(
                    (got, body),
                    (fields.iter().map(|s| (*s).to_string()).collect(), rest.to_vec()),
                    "{input:?} {split}"
                );
            }
        }
    }

    #[test]
    fn headers_are_bounded() {
        let mut reader = HeadReader::new();
        reader.buffer().extend(std::iter::repeat_n(b'a', MAX_HEADER + 3));
        assert_eq!(reader.advance(false).unwrap_err(), HeaderTooLong);
        let mut reader = HeadReader::new();
        reader.buffer().extend(b"A: b\r\n".repeat(MAX_HEADER / 6 + 1));
        assert_eq!(reader.advance(false).unwrap_err(), HeaderTooLong);
    }
}
