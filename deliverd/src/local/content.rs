//! What a mailbox gets: the fields on top, then the content with LF line ends, in an mbox with `From `
//! lines quoted. And the search for a forwarding loop in the header.
//!
//! Pure and streaming: content comes in pieces split anywhere and memory stays bounded, whatever the
//! content. Octets other than CRLF line ends and the quoted lines pass unchanged (a lone CR stays).

use super::template::Kind;
use common::address::{Address, ReversePath};
use common::time::Timestamp;
use memchr::memchr;

/// What stands on top of the content, with LF line ends.
#[derive(Debug, Clone, Copy)]
pub struct Top<'a> {
    /// Where notifications go.
    pub sender: &'a ReversePath,
    /// As the client named the recipient.
    pub original: &'a Address,
    /// Where the message arrived in the end.
    pub recipient: &'a Address,
}

impl Top<'_> {
    /// `Return-Path`, `X-Original-To`, `Delivered-To`; in an mbox a `From ` line before them.
    pub fn lines(&self, kind: Kind, now: Timestamp) -> String {
        let from = match (kind, self.sender.address()) {
            (Kind::Maildir, _) => String::new(),
            (Kind::Mbox, None) => format!("From MAILER-DAEMON  {}\n", now.asctime()),
            (Kind::Mbox, Some(sender)) => format!("From {sender}  {}\n", now.asctime()),
        };
        let Self { sender, original, recipient } = self;
        format!("{from}Return-Path: <{sender}>\nX-Original-To: {original}\nDelivered-To: {recipient}\n")
    }
}

const FROM: &[u8] = b"From ";

/// Turns content as it is queued into content as a mailbox holds it.
#[derive(Debug)]
pub struct Formatter {
    kind: Kind,
    /// A CR was seen whose successor is not known yet.
    held_cr: bool,
    /// `Some(n)`: the line so far is the first `n` octets of [`FROM`], not written yet. Always `None` in a
    /// Maildir.
    held_from: Option<usize>,
    /// Does the current line have octets?
    in_line: bool,
}

impl Formatter {
    /// At the start of the content.
    pub fn new(kind: Kind) -> Self {
        Self { kind, held_cr: false, held_from: line_start(kind), in_line: false }
    }

    /// Takes a piece of content and appends what is certain by now to `out`.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = memchr(b'\n', piece) {
            let (line, rest) = piece.split_at(end);
            self.text(line, out);
            self.newline(out);
            piece = rest.get(1..).unwrap_or_default();
        }
        self.text(piece, out);
    }

    /// The end of the content: an unfinished line is ended; in an mbox an empty line follows.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if self.held_cr {
            self.octets(b"\r", out);
        }
        if self.in_line {
            self.held_cr = false;
            self.newline(out);
        }
        if self.kind == Kind::Mbox {
            out.push(b'\n');
        }
    }

    /// Octets without LF; a CR at their end is held back.
    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        if std::mem::take(&mut self.held_cr) {
            self.octets(b"\r", out);
        }
        let body = text.strip_suffix(b"\r");
        self.held_cr = body.is_some();
        self.octets(body.unwrap_or(text), out);
    }

    fn newline(&mut self, out: &mut Vec<u8>) {
        if let Some(held) = self.held_from {
            out.extend_from_slice(FROM.get(..held).unwrap_or_default());
        }
        out.push(b'\n');
        self.held_cr = false;
        self.held_from = line_start(self.kind);
        self.in_line = false;
    }

    fn octets(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        self.in_line |= !octets.is_empty();
        while let (Some(held), Some((first, rest))) = (self.held_from, octets.split_first()) {
            if FROM.get(held) == Some(first) {
                octets = rest;
                self.held_from = Some(held + 1);
                if held + 1 == FROM.len() {
                    out.push(b'>');
                    out.extend_from_slice(FROM);
                    self.held_from = None;
                }
            } else {
                out.extend_from_slice(FROM.get(..held).unwrap_or_default());
                self.held_from = None;
            }
        }
        out.extend_from_slice(octets);
    }
}

fn line_start(kind: Kind) -> Option<usize> {
    (kind == Kind::Mbox).then_some(0)
}

/// Longest field that is looked at: a `Delivered-To` of the longest address, generously folded.
const MAX_FIELD: usize = 1024;
const DELIVERED_TO: &[u8] = b"delivered-to:";

/// Looks for a `Delivered-To` field of one address in the header of a message: the sign that it has been
/// here before.
#[derive(Debug)]
pub struct LoopSearch {
    address: String,
    /// The field so far, without line ends; its first [`MAX_FIELD`] octets and one more.
    field: Vec<u8>,
    /// Octets in the current line, CR not counted.
    column: usize,
    result: Search,
}

/// How far the search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// The header goes on.
    More,
    /// The message has been delivered to this address before.
    Loop,
    /// The header is over and had no such field.
    Clear,
}

impl LoopSearch {
    /// For this address; case does not matter, as in Postfix.
    pub fn new(address: &Address) -> Self {
        Self { address: address.to_string(), field: Vec::new(), column: 0, result: Search::More }
    }

    /// Takes a piece of the content.
    pub fn push(&mut self, piece: &[u8]) -> Search {
        for &octet in piece {
            if self.result != Search::More {
                break;
            }
            self.octet(octet);
        }
        self.result
    }

    /// The content is over; the header may have ended with it.
    pub fn finish(mut self) -> Search {
        self.end_of_field();
        if self.result == Search::More { Search::Clear } else { self.result }
    }

    fn octet(&mut self, octet: u8) {
        match octet {
            b'\r' => return,
            b'\n' if self.column == 0 => {
                self.end_of_field();
                if self.result == Search::More {
                    self.result = Search::Clear;
                }
                return;
            }
            b'\n' => {
                self.column = 0;
                return;
            }
            // RFC 5322 2.2.3: a line that begins with white space belongs to the field before it.
            b' ' | b'\t' => {}
            _ if self.column == 0 => self.end_of_field(),
            _ => {}
        }
        self.column = self.column.saturating_add(1);
        if self.field.len() <= MAX_FIELD {
            self.field.push(octet);
        }
    }

    fn end_of_field(&mut self) {
        let field = std::mem::take(&mut self.field);
        let (name, value) = field.split_at(field.len().min(DELIVERED_TO.len()));
        if field.len() <= MAX_FIELD
            && name.eq_ignore_ascii_case(DELIVERED_TO)
            && value.trim_ascii().eq_ignore_ascii_case(self.address.as_bytes())
        {
            self.result = Search::Loop;
        }
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
