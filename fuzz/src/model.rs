//! The rules of a session said plainly, to hold the core against: when a command has come, and where content ends.

/// Counts the replies that a stream of command lines is owed.
#[derive(Debug, Default)]
pub struct Commands {
    line: Vec<u8>,
    length: usize,
    last: u8,
    answered: bool,
}

impl Commands {
    /// Takes octets, at most one line; gives the replies that are due, and the line when it is whole. Longer lines than `most` are
    /// forgotten, as in the core.
    pub fn take(&mut self, octets: &[u8], most: usize) -> (usize, Option<Vec<u8>>) {
        let mut due = 0;
        let mut whole = None;
        for octet in octets {
            self.length += 1;
            if self.line.len() < most {
                self.line.push(*octet);
            }
            if (self.last, *octet) == (b'\r', b'\n') {
                // A line is answered once: here, or at a bare LF in it.
                due += usize::from(!self.answered);
                whole = Some(std::mem::take(&mut self.line));
                *self = Self::default();
                continue;
            }
            if *octet == b'\n' && !self.answered && self.length <= most {
                due += 1;
                self.answered = true;
            }
            self.last = *octet;
        }
        (due, whole)
    }
}

/// RFC 5321 4.5.2 read aloud. `None`: the data has not ended. Otherwise the content, whether it had a bare CR or LF, and
/// how many octets stand behind the end.
pub fn end_of_data(input: &[u8]) -> Option<(Vec<u8>, bool, usize)> {
    let mut content = Vec::new();
    let mut bare = false;
    let mut rest = input;
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, tail) = (&rest[..end], &rest[end + 2..]);
        if line == b"." {
            return Some((content, bare, tail.len()));
        }
        for octet in line.strip_prefix(b".").unwrap_or(line) {
            if matches!(octet, b'\r' | b'\n') {
                bare = true;
                content.extend(b"\r\n");
            } else {
                content.push(*octet);
            }
        }
        content.extend(b"\r\n");
        rest = tail;
    }
}

/// What the chunks of a message mean: every CR and LF that stands alone is a line end, and the last line has one. Was there
/// a CR or LF alone?
pub fn whole_lines(input: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    let mut bare = false;
    let mut rest = input;
    while let Some((octet, tail)) = rest.split_first() {
        rest = tail;
        match (octet, tail.first()) {
            (b'\r', Some(b'\n')) => {
                content.extend(b"\r\n");
                rest = &tail[1..];
            }
            (b'\r' | b'\n', _) => {
                bare = true;
                content.extend(b"\r\n");
            }
            _ => content.push(*octet),
        }
    }
    if !content.is_empty() && !content.ends_with(b"\n") {
        content.extend(b"\r\n");
    }
    (content, bare)
}
