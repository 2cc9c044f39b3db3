//! Content that comes in counted chunks, BDAT (RFC 3030), as a state machine over pieces of a chunk.
//!
//! The count alone says where a chunk ends: a dot means nothing, no transparency is undone. Line ends are
//! watched over the whole message, across its chunks, by the same rules as after DATA: a bare CR or LF is
//! remembered, and handed out as CRLF; the caller decides what becomes of the message. Content is lent from
//! the input, never copied.

use super::data::Piece;
use super::reply::{Reply, syntax};
use memchr::memchr2;

/// Refuses a BDAT that cannot be read: what follows it cannot be told from commands any more.
pub const SYNTAX: Reply = syntax("Syntax: BDAT count [LAST]");
/// Refuses a count of more octets than there can be.
pub const BAD_COUNT: Reply = syntax("Bad chunk size");

/// The arguments of BDAT: octets that follow, and whether they are the last of the message (RFC 3030 2).
pub fn parse(args: &[u8]) -> Result<(u64, bool), Reply> {
    let mut words = args.split(|b| *b == b' ').filter(|word| !word.is_empty());
    let count = words.next().ok_or(SYNTAX)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
        Some(_) => return Err(SYNTAX),
    };
    if words.next().is_some() || !count.iter().all(u8::is_ascii_digit) {
        return Err(SYNTAX);
    }
    let count = std::str::from_utf8(count).ok().and_then(|text| text.parse().ok()).ok_or(BAD_COUNT)?;
    Ok((count, last))
}

/// Where the next octet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// After a line end, or at the very beginning.
    LineStart,
    /// Within a line.
    Text,
    /// After a CR that is not handed out yet.
    Cr,
}

/// One message's chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    at: At,
    bare: Option<&'static str>,
    left: u64,
    size: u64,
    last: bool,
}

impl Chunks {
    /// Nothing has come yet.
    pub fn new() -> Self {
        Self { at: At::LineStart, bare: None, left: 0, size: 0, last: false }
    }

    /// The next chunk: so many octets follow.
    pub fn begin(&mut self, size: u64, last: bool) {
        (self.left, self.size, self.last) = (size, size, last);
    }

    /// Octets of the chunk, as declared.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Is it the last of the message?
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Has the whole chunk come?
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// The first bare line end met.
    pub fn bare_newline(&self) -> Option<&'static str> {
        self.bare
    }

    /// After the last chunk: what the message lacks. A CR at its end is bare; a last line without an end gets
    /// one, as with Postfix.
    pub fn finish(&mut self) -> &'static [u8] {
        if self.at == At::Cr {
            self.bare.get_or_insert("CR");
        }
        let missing: &[u8] = if self.at == At::LineStart { b"" } else { b"\r\n" };
        self.at = At::LineStart;
        missing
    }

    /// Takes the next octets of the chunk; call it again with the rest until the chunk is complete.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Piece<'a> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let input = input.get(..left).unwrap_or(input);
        let (used, content) = match (self.at, input.first()) {
            (_, None) => (0, &b""[..]),
            (At::Cr, Some(b'\n')) => self.step(1, b"\r\n", At::LineStart),
            (At::Cr, Some(_)) => {
                self.bare.get_or_insert("CR");
                self.step(0, b"\r\n", At::LineStart)
            }
            (At::LineStart | At::Text, Some(_)) => self.run(input),
        };
        self.left = self.left.saturating_sub(used.try_into().unwrap_or(u64::MAX));
        Piece { used, content, ended: self.left == 0 }
    }

    /// As far as content can be lent in one piece.
    fn run<'a>(&mut self, input: &'a [u8]) -> (usize, &'a [u8]) {
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
                    self.step(1, b"\r\n", At::LineStart)
                } else {
                    self.step(i, before, At::Text)
                };
            }
            if input.get(i + 1) != Some(&b'\n') {
                // The input ends here, or the CR is bare: the next call sees which.
                return self.step(i + 1, before, At::Cr);
            }
            from = i + 2;
        }
        let at = if from == input.len() { At::LineStart } else { At::Text };
        self.step(input.len(), input, at)
    }

    fn step<'a>(&mut self, used: usize, content: &'a [u8], at: At) -> (usize, &'a [u8]) {
        self.at = at;
        (used, content)
    }
}

impl Default for Chunks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_count_and_perhaps_last() {
        for (args, expected) in [
            ("0", Ok((0, false))),
            ("10", Ok((10, false))),
            ("10 LAST", Ok((10, true))),
            ("0  last", Ok((0, true))),
            ("007", Ok((7, false))),
            ("18446744073709551615", Ok((u64::MAX, false))),
            ("18446744073709551616", Err(BAD_COUNT)),
            ("99999999999999999999999999999 LAST", Err(BAD_COUNT)),
            ("", Err(SYNTAX)),
            ("LAST", Err(SYNTAX)),
            ("LAST 10", Err(SYNTAX)),
            ("10 LAS", Err(SYNTAX)),
            ("10 LAST LAST", Err(SYNTAX)),
            ("-1", Err(SYNTAX)),
            ("+1", Err(SYNTAX)),
            ("0x10", Err(SYNTAX)),
            ("1e3", Err(SYNTAX)),
            ("1.0", Err(SYNTAX)),
        ] {
            assert_eq!(parse(args.as_bytes()), expected, "{args:?}");
        }
    }

    /// Content in chunks of these sizes, each in pieces of `step` octets.
    fn decode(input: &[u8], sizes: &[usize], step: usize) -> (Vec<u8>, Option<&'static str>) {
        let mut chunks = Chunks::new();
        let mut content = Vec::new();
        let mut rest = input;
        for (i, size) in sizes.iter().enumerate() {
            chunks.begin(*size as u64, i + 1 == sizes.len());
            let (mut chunk, tail) = rest.split_at(*size);
            rest = tail;
            while !chunks.is_complete() {
                // What stands behind the chunk must not be touched.
                let piece = chunks.next(&chunk[..step.min(chunk.len())]);
                assert!(piece.used > 0 || !piece.content.is_empty());
                content.extend_from_slice(piece.content);
                chunk = &chunk[piece.used..];
            }
            assert!(chunk.is_empty());
        }
        content.extend_from_slice(chunks.finish());
        (content, chunks.bare_newline())
    }

    /// The rules said plainly: CRLF is a line end; any other CR or LF is bare and becomes CRLF; a last line
    /// gets an end.
    fn plainly(input: &[u8]) -> (Vec<u8>, Option<&'static str>) {
        let mut content = Vec::new();
        let mut bare = None;
        let mut lines = input.split(|b| *b == b'\n').peekable();
        while let Some(line) = lines.next() {
            let ended = lines.peek().is_some();
            let text = if ended { line.strip_suffix(b"\r") } else { None };
            for octet in text.unwrap_or(line) {
                if *octet == b'\r' {
                    bare.get_or_insert("CR");
                    content.extend_from_slice(b"\r\n");
                } else {
                    content.push(*octet);
                }
            }
            if ended {
                if text.is_none() {
                    bare.get_or_insert("LF");
                }
                content.extend_from_slice(b"\r\n");
            } else if !line.is_empty() && line.last() != Some(&b'\r') {
                content.extend_from_slice(b"\r\n");
            }
        }
        (content, bare)
    }

    #[test]
    fn agrees_with_the_plain_rules_in_every_split() {
        for length in 0..=6u32 {
            for n in 0..4usize.pow(length) {
                let input: Vec<u8> = (0..length).map(|i| b"\r\n.a"[n / 4usize.pow(i) % 4]).collect();
                let expected = plainly(&input);
                for cut in 0..=input.len() {
                    for step in [1, 2, 100] {
                        let sizes = [cut, 0, input.len() - cut];
                        assert_eq!(
                            decode(&input, &sizes, step),
                            expected,
                            "{input:?} cut at {cut} by {step}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn only_the_chunk_is_taken() {
        let mut chunks = Chunks::new();
        chunks.begin(3, true);
        let piece = chunks.next(b"abcMAIL FROM:<x@y>\r\n");
        assert_eq!((piece.used, piece.content, piece.ended), (3, &b"abc"[..], true));
        assert_eq!(chunks.finish(), b"\r\n");
        chunks.begin(2, true);
        assert_eq!(chunks.next(b"\r\nx").content, b"\r\n");
        assert_eq!(chunks.finish(), b"");
    }
}
