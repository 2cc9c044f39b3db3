//! Command lines out of a stream of octets, in bounded memory.
//!
//! Only CRLF ends a line. A line that arrives whole is lent from the input without a copy; a partial one is
//! held until its end comes. A line over the limit is forgotten up to its CRLF and reported once, so that
//! its tail is never taken for a command. A line with a bare LF is reported as soon as that is
//! seen, and the rest of it forgotten as well: it may be what somebody has injected into a client's command.
//! Of both it is told whether they began as BDAT, since then what follows may be no command.

use memchr::memchr;
use std::fmt;

/// Longest command line with its CRLF, in octets: RFC 5321 4.5.3.1.4 asks for 512, and each extension's
/// parameters add to that; this is what Postfix takes.
pub const MAX_LINE: usize = 2048;

/// What the input holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// No line has ended that is not reported yet.
    Partial,
    /// A line, without its CRLF.
    Whole(&'a [u8]),
    /// The CRLF of a line over the limit has come.
    TooLong {
        /// Did it announce a chunk?
        bdat: bool,
    },
    /// An LF without a CR before it. The rest of the line will be passed over.
    BareLf {
        /// Did it announce a chunk?
        bdat: bool,
    },
}

/// Assembles lines. At rest it holds no memory.
#[derive(Default)]
pub struct LineReader {
    held: Vec<u8>,
    skipping: Option<Skipping>,
}

/// Within a line that will not be given out.
#[derive(Debug, Clone, Copy)]
struct Skipping {
    /// Was its last octet a CR?
    after_cr: bool,
    /// Is it reported already?
    reported: bool,
    /// Did it begin as BDAT?
    bdat: bool,
}

impl LineReader {
    /// Takes octets up to the end of one line, which may have so many with its CRLF; gives how many and what they made. After
    /// [`Line::Whole`] call [`LineReader::release`].
    pub fn take<'a>(&'a mut self, input: &'a [u8], most: usize) -> (usize, Line<'a>) {
        if let Some(skipping) = self.skipping {
            return self.skip(input, skipping);
        }
        let Some(end) = memchr(b'\n', input) else {
            return self.hold(input, most);
        };
        let used = end + 1;
        let Some(line) = input.get(..used) else { return (0, Line::Partial) };
        let after_cr = match end.checked_sub(1) {
            Some(before) => line.get(before) == Some(&b'\r'),
            None => self.held.last() == Some(&b'\r'),
        };
        if self.held.len() + line.len() > most {
            let bdat = self.begins_as_bdat(line);
            self.release();
            if after_cr {
                return (used, Line::TooLong { bdat });
            }
            self.skipping = Some(Skipping { after_cr: false, reported: false, bdat });
            return (used, Line::Partial);
        }
        if !after_cr {
            let bdat = self.begins_as_bdat(line);
            self.release();
            self.skipping = Some(Skipping { after_cr: false, reported: true, bdat });
            return (used, Line::BareLf { bdat });
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

    /// With `rest` behind what is held.
    fn begins_as_bdat(&self, rest: &[u8]) -> bool {
        past_bdat(self.held.iter().chain(rest)).is_some()
    }

    fn hold<'a>(&mut self, input: &[u8], most: usize) -> (usize, Line<'a>) {
        if self.held.len() + input.len() > most {
            let bdat = self.begins_as_bdat(input);
            self.release();
            self.skipping = Some(Skipping { after_cr: input.last() == Some(&b'\r'), reported: false, bdat });
        } else {
            self.held.extend_from_slice(input);
        }
        (input.len(), Line::Partial)
    }

    fn skip<'a>(&mut self, input: &[u8], mut state: Skipping) -> (usize, Line<'a>) {
        for (i, octet) in input.iter().enumerate() {
            if *octet == b'\n' && state.after_cr {
                self.skipping = None;
                let bdat = state.bdat;
                return (i + 1, if state.reported { Line::Partial } else { Line::TooLong { bdat } });
            }
            state.after_cr = *octet == b'\r';
        }
        self.skipping = Some(state);
        (input.len(), Line::Partial)
    }
}

/// Is this BDAT with something behind it that is neither a blank nor part of a longer word? Others may read it as one with a chunk.
pub fn announces_chunk(line: &[u8]) -> bool {
    past_bdat(line.iter())
        .is_some_and(|mut rest| rest.next().is_none_or(|octet| !octet.is_ascii_alphanumeric()))
}

/// What stands behind BDAT, if the line begins with that, or with blanks and that.
fn past_bdat<'a>(octets: impl Iterator<Item = &'a u8>) -> Option<impl Iterator<Item = &'a u8>> {
    let mut octets = octets.skip_while(|octet| matches!(octet, b' ' | b'\t'));
    let is_bdat =
        b"BDAT".iter().all(|wanted| octets.next().is_some_and(|octet| octet.eq_ignore_ascii_case(wanted)));
    is_bdat.then_some(octets)
}

/// Without what it holds: that may be a password.
impl fmt::Debug for LineReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LineReader({} octets, {:?})", self.held.len(), self.skipping)
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
                let (used, line) = reader.take(rest, MAX_LINE);
                let ended = !matches!(line, Line::Partial | Line::BareLf { .. });
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
             {longer}\rA\r\nA\rB\r\nC\nD\nE\r\n{fits}x\nF\r\nG\r\n\
             BDAT\nBDA\r\n \tbdat 1{longer}\r\nBDA {longer}\r\nBdAt {fits}\r\n"
        );
        let [long, bare] = ["TooLong { bdat: false }", "BareLf { bdat: false }"];
        let [long_chunk, bare_chunk] = ["TooLong { bdat: true }", "BareLf { bdat: true }"];
        let expected = [
            "NOOP", "", &fits, long, long, long, "A\rB", bare, bare, "G", bare_chunk, long_chunk, long,
            long_chunk,
        ];
        for chunk in [1, 2, 3, 7, 64, 2047, 2048, 10_000, input.len()] {
            assert_eq!(lines(input.as_bytes(), chunk), expected, "chunks of {chunk}");
        }
    }
}
