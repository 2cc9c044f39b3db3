//! What the session wants to know of a message's header while it passes: how many `Received` fields (RFC 5321
//! 6.3), and the Message-ID for the log. Looks at the header section only, keeps one line of at most
//! 998 octets, changes nothing.

use common::text::printable_bytes;
use memchr::memchr;

/// As much of a line as is looked at, in octets: the longest that RFC 5322 2.1.1 allows.
const MAX_LINE: usize = 998;
/// Longest Message-ID that is logged, in octets.
const MAX_MESSAGE_ID: usize = 250;

/// Reads a header as it passes, in any split.
#[derive(Debug, Default)]
pub struct HeaderScan {
    line: Vec<u8>,
    over: bool,
    size: u64,
    hops: u32,
    /// The value so far, and whether more of it may follow on the next line.
    message_id: Option<Vec<u8>>,
    in_message_id: bool,
}

impl HeaderScan {
    /// Looks at the next piece of content.
    pub fn see(&mut self, mut content: &[u8]) {
        while !self.over && !content.is_empty() {
            let end = memchr(b'\n', content).map(|i| i + 1);
            let (part, rest) =
                content.split_at_checked(end.unwrap_or(content.len())).unwrap_or((content, b""));
            self.size = self.size.saturating_add(part.len().try_into().unwrap_or(u64::MAX));
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(part.get(..room).unwrap_or(part));
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                self.line(line.trim_ascii_end());
                self.line = line;
                self.line.clear();
            }
            content = rest;
        }
        if self.over {
            self.line = Vec::new();
        }
    }

    /// Octets of the header so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// `Received` fields so far.
    pub fn hops(&self) -> u32 {
        self.hops
    }

    /// The Message-ID, printable, brackets and all; empty when there is none.
    pub fn message_id(&self) -> String {
        let value = self.message_id.as_deref().unwrap_or(b"");
        printable_bytes(value.trim_ascii(), MAX_MESSAGE_ID)
    }

    fn line(&mut self, line: &[u8]) {
        if line.first().is_some_and(|b| *b == b' ' || *b == b'\t') {
            // A folded field goes on.
            if let (true, Some(value)) = (self.in_message_id, &mut self.message_id) {
                let room = MAX_LINE.saturating_sub(value.len());
                value.extend_from_slice(line.get(..room).unwrap_or(line));
            }
            return;
        }
        self.in_message_id = false;
        let Some((name, value)) = memchr(b':', line).and_then(|i| Some((line.get(..i)?, line.get(i + 1..)?)))
        else {
            // An empty line, or one that is no field: the body begins.
            self.over = true;
            return;
        };
        let name = name.trim_ascii_end();
        if name.eq_ignore_ascii_case(b"Received") {
            self.hops = self.hops.saturating_add(1);
        } else if name.eq_ignore_ascii_case(b"Message-ID") && self.message_id.is_none() {
            self.message_id = Some(value.to_vec());
            self.in_message_id = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_in_every_split() {
        let long = format!("Subject: {}\r\nReceived: x\r\n\r\n", "Received: ".repeat(10_000));
        for (content, hops, id) in [
            ("", 0, ""),
            ("Subject: x\r\nMessage-ID: <a@b>\r\n\r\nReceived: no\r\n", 0, "<a@b>"),
            ("received: a\r\nRECEIVED : b\r\nX-Received: c\r\n\tReceived: d\r\n\r\n", 2, ""),
            ("Message-Id:\r\n <folded@b>\r\nMessage-ID: <second@b>\r\n\r\n", 0, "<folded@b>"),
            ("Message-ID: <a\x1b[2Jb>\r\n\r\n", 0, "<a\\x1b[2Jb>"),
            ("no field\r\nReceived: x\r\n", 0, ""),
            ("\r\nReceived: x\r\n", 0, ""),
            (" folded nothing\r\nReceived: x\r\n", 1, ""),
            (&long, 1, ""),
        ] {
            let bytes = content.as_bytes();
            for chunk in [1, 2, 3, 1000, bytes.len().max(1)] {
                let mut scan = HeaderScan::default();
                for piece in bytes.chunks(chunk) {
                    scan.see(piece);
                    assert!(scan.line.len() <= MAX_LINE);
                }
                assert_eq!((scan.hops(), scan.message_id().as_str()), (hops, id), "{content:?} by {chunk}");
            }
        }
    }
}
