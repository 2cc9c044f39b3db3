//! Command lines out of a stream of octets, in bounded memory.
//!
//! Only CRLF ends a line. A line that arrives whole is lent from the input without a copy; a partial one is
//! held until its end comes. A line over [`MAX_LINE`] is forgotten up to its CRLF and reported once, so that
//! its tail is never taken for a command. A bare LF is reported at once; what follows it cannot be trusted to
//! be a command (injection, smuggling).

use memchr::memchr;

/// Longest command line with its CRLF, in octets: RFC 5321 4.5.3.1.4 asks for 512, and each extension's
/// parameters add to that; this is what Postfix takes.
pub const MAX_LINE: usize = 2048;

/// What the input holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// All was taken, and more is needed.
    Partial,
    /// A line, without its CRLF.
    Whole(&'a [u8]),
    /// The CRLF of a line over the limit has come.
    TooLong,
    /// An LF without a CR before it.
    BareLf,
}

/// Assembles lines. At rest it holds no memory.
#[derive(Debug, Default)]
pub struct LineReader {
    held: Vec<u8>,
    /// Within a line over the limit; was its last octet a CR?
    skipping: Option<bool>,
}

impl LineReader {
    /// Takes octets up to the end of one line; gives how many and what they made. After [`Line::Whole`] call
    /// [`LineReader::release`].
    pub fn take<'a>(&'a mut self, input: &'a [u8]) -> (usize, Line<'a>) {
        if let Some(after_cr) = self.skipping {
            return self.skip(input, after_cr);
        }
        let Some(end) = memchr(b'\n', input) else {
            return self.hold(input);
        };
        let used = end + 1;
        let Some(line) = input.get(..used) else { return (0, Line::Partial) };
        let after_cr = match end.checked_sub(1) {
            Some(before) => line.get(before) == Some(&b'\r'),
            None => self.held.last() == Some(&b'\r'),
        };
        if self.held.len() + line.len() > MAX_LINE {
            self.release();
            if after_cr {
                return (used, Line::TooLong);
            }
            self.skipping = Some(false);
            return (used, Line::Partial);
        }
        if !after_cr {
            self.release();
            return (used, Line::BareLf);
        }
        if self.held.is_empty() {
            return (used, Line::Whole(line.strip_suffix(b"\r\n").unwrap_or(line)));
        }
        self.held.extend_from_slice(line);
        (used, Line::Whole(self.held.strip_suffix(b"\r\n").unwrap_or(&self.held)))
    }

    /// Forgets the line that was given out.
    pub fn release(&mut self) {
        self.held = Vec::new();
    }

    /// Is the next octet the first of a command?
    pub fn is_at_start(&self) -> bool {
        self.held.is_empty() && self.skipping.is_none()
    }

    fn hold<'a>(&mut self, input: &[u8]) -> (usize, Line<'a>) {
        if self.held.len() + input.len() > MAX_LINE {
            self.release();
            self.skipping = Some(input.last() == Some(&b'\r'));
        } else {
            self.held.extend_from_slice(input);
        }
        (input.len(), Line::Partial)
    }

    fn skip<'a>(&mut self, input: &[u8], mut after_cr: bool) -> (usize, Line<'a>) {
        for (i, octet) in input.iter().enumerate() {
            if *octet == b'\n' && after_cr {
                self.skipping = None;
                return (i + 1, Line::TooLong);
            }
            after_cr = *octet == b'\r';
        }
        self.skipping = Some(after_cr);
        (input.len(), Line::Partial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], chunk: usize) -> Vec<String> {
        let mut reader = LineReader::default();
        let mut out = Vec::new();
        for mut rest in input.chunks(chunk) {
            while !rest.is_empty() {
                let (used, line) = reader.take(rest);
                let ended = line != Line::Partial;
                match line {
                    Line::Partial => {}
                    Line::Whole(line) => out.push(String::from_utf8_lossy(line).into_owned()),
                    other => out.push(format!("{other:?}")),
                }
                if ended {
                    reader.release();
                    assert!(reader.is_at_start());
                }
                rest = &rest[used..];
                assert!(reader.held.len() <= MAX_LINE);
            }
        }
        out
    }

    #[test]
    fn lines_in_any_split() {
        let fits = "x".repeat(MAX_LINE - 2);
        let long = "y".repeat(MAX_LINE - 1);
        let longer = "z".repeat(3 * MAX_LINE);
        let input = format!(
            "NOOP\r\n\r\n{fits}\r\n{long}\r\n{longer}\nQUIT\r\r\n\
             {longer}\rA\r\nA\rB\r\nC\nD\r\n{fits}x\nE\r\nF\r\n"
        );
        let expected =
            ["NOOP", "", &fits, "TooLong", "TooLong", "TooLong", "A\rB", "BareLf", "D", "BareLf", "E", "F"];
        for chunk in [1, 2, 3, 7, 64, 2047, 2048, 10_000, input.len()] {
            assert_eq!(lines(input.as_bytes(), chunk), expected, "chunks of {chunk}");
        }
    }
}
