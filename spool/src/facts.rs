//! Computes [`ContentFacts`] while content passes by, in any split.

use crate::envelope::ContentFacts;

/// Collects facts about content; feed it everything in order, then ask.
#[derive(Debug, Clone, Default)]
pub struct FactsBuilder {
    facts: ContentFacts,
    crc: crc32fast::Hasher,
    /// Octets of the line so far, its CR counted.
    line: u64,
    last: [u8; 2],
    /// Has the empty line come that ends the header?
    in_body: bool,
}

impl FactsBuilder {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next octets.
    pub fn feed(&mut self, chunk: &[u8]) {
        let Some(&last) = chunk.last() else { return };
        self.crc.update(chunk);
        self.facts.length += chunk.len() as u64;
        self.facts.eight_bit |= !chunk.is_ascii();
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, tail) = rest.split_at(end + 1);
            self.facts.leading_dot |= self.line == 0 && line.first() == Some(&b'.');
            self.look_at_header(line);
            self.in_body |= self.line + line.len() as u64 <= 2;
            // CR and LF do not count.
            self.note_line(self.line + line.len() as u64 - 1, 1);
            self.line = 0;
            rest = tail;
        }
        self.facts.leading_dot |= self.line == 0 && rest.first() == Some(&b'.');
        self.look_at_header(rest);
        self.line += rest.len() as u64;
        self.last = match chunk {
            [.., a, b] => [*a, *b],
            _ => [self.last[1], last],
        };
    }

    /// Octets so far.
    pub fn length(&self) -> u64 {
        self.facts.length
    }

    /// The facts about what has been fed.
    pub fn facts(&self) -> ContentFacts {
        let mut done = self.clone();
        done.note_line(self.line, 0);
        done.facts.checksum = self.crc.clone().finalize();
        done.facts.ends_with_newline = self.facts.length == 0 || self.last == *b"\r\n";
        done.facts
    }

    fn look_at_header(&mut self, part: &[u8]) {
        self.facts.eight_bit_header |= !self.in_body && !part.is_ascii();
    }

    fn note_line(&mut self, octets: u64, carriage_return: u64) {
        let length = u32::try_from(octets.saturating_sub(carriage_return)).unwrap_or(u32::MAX);
        self.facts.longest_line = self.facts.longest_line.max(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_do_not_depend_on_the_split() {
        for (content, longest, dot, eight, header, newline) in [
            (&b""[..], 0, false, false, false, true),
            (b"a\r\n", 1, false, false, false, true),
            (b".a\r\n", 2, true, false, false, true),
            (b"abc\r\n.\r\nx", 3, true, false, false, false),
            (b"\r\n\xe9\r\n", 1, false, true, false, true),
            (b"a: b\r\n\r\nc\r\n\xe9\r\n", 4, false, true, false, true),
            (b"a: \xe9\r\n\r\nc\r\n", 4, false, true, true, true),
            (b"a: b\r\n\xe9", 4, false, true, true, false),
            (b"a: b\r\nx\r\n\xe9", 4, false, true, true, false),
            (b"abcde", 5, false, false, false, false),
            (b"a.b\r\n.", 3, true, false, false, false),
        ] {
            for split in 0..=content.len() {
                let mut builder = FactsBuilder::new();
                builder.feed(&content[..split]);
                builder.feed(&content[split..]);
                let facts = builder.facts();
                let expected = ContentFacts {
                    length: content.len() as u64,
                    checksum: crc32fast::hash(content),
                    longest_line: longest,
                    eight_bit: eight,
                    eight_bit_header: header,
                    leading_dot: dot,
                    ends_with_newline: newline,
                };
                assert_eq!(facts, expected, "{content:?} split at {split}");
            }
        }
    }
}
