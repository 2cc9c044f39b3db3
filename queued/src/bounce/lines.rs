//! Lines of a message, kept short: every line is at most [`LONGEST`] octets, so that no mail system has to break it.

/// Longest line written, CRLF not counted (RFC 5322 2.1.1 allows 998).
const LONGEST: usize = 900;
/// Where text is wrapped.
pub(super) const WIDTH: usize = 76;

/// Collects lines, each ended by CRLF.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// A line of ours.
    pub(super) fn line(&mut self, text: &str) {
        self.raw(text.as_bytes());
        self.raw(b"\r\n");
    }

    /// Text of any length: wrapped at spaces, with `first` before the first line and `next` before the others.
    pub(super) fn wrapped(&mut self, first: &str, next: &str, text: &str) {
        let mut line = first.to_owned();
        let mut empty = true;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            for (i, piece) in pieces(word).enumerate() {
                let space = usize::from(!empty);
                if (i > 0 || line.len() + space + piece.len() > WIDTH) && !empty {
                    self.line(&line);
                    next.clone_into(&mut line);
                    empty = true;
                }
                if !empty {
                    line.push(' ');
                }
                line.push_str(piece);
                empty = false;
            }
        }
        self.line(&line);
    }

    /// A line of somebody else's header, without its line end: over-long ones are folded, NUL and bare CR made visible.
    pub(super) fn original(&mut self, line: &[u8]) {
        for (i, piece) in line.chunks(LONGEST).enumerate() {
            if i > 0 {
                self.raw(b"\r\n ");
            }
            self.0.extend(piece.iter().map(|b| if matches!(b, 0 | b'\r') { b'?' } else { *b }));
        }
        self.raw(b"\r\n");
    }

    /// Octets as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A word in pieces of at most [`LONGEST`] − 100 octets, to leave room for what stands before it.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut cut = rest.len().min(LONGEST - 100);
        while !rest.is_char_boundary(cut) {
            cut -= 1;
        }
        let (piece, after) = rest.split_at(cut);
        rest = after;
        Some(piece)
    })
}
