//! Text from outside, made fit for logs, headers, replies and terminals.

use std::fmt::Write;

/// Every byte outside printable ASCII becomes `\xHH`; at most `limit` octets, cut at a whole escape. Reversible enough to debug
/// with, and safe anywhere: no control character, no line end, no terminal sequence passes.
pub fn printable(text: &str, limit: usize) -> String {
    printable_bytes(text.as_bytes(), limit)
}

/// As [`printable`]; text that is fit already, as nearly all is, stays where it is.
pub fn into_printable(text: String, limit: usize) -> String {
    if is_fit(text.as_bytes(), limit) { text } else { printable(&text, limit) }
}

fn is_fit(bytes: &[u8], limit: usize) -> bool {
    bytes.len() <= limit && bytes.iter().all(|b| (32..127).contains(b))
}

/// As [`printable`], for bytes that need not be UTF-8.
pub fn printable_bytes(bytes: &[u8], limit: usize) -> String {
    if is_fit(bytes, limit)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return text.to_owned();
    }
    let mut out = String::with_capacity(bytes.len().min(limit));
    for &b in bytes {
        let room = limit.saturating_sub(out.len());
        if (32..127).contains(&b) {
            if room < 1 {
                break;
            }
            out.push(char::from(b));
        } else {
            if room < 4 {
                break;
            }
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_the_length_bounded() {
        for (input, limit, expected) in [
            ("plain", 10, "plain"),
            ("a\r\nb", 20, "a\\x0d\\x0ab"),
            ("\x1b[2J", 20, "\\x1b[2J"),
            ("é", 20, "\\xc3\\xa9"),
            ("abcdef", 3, "abc"),
            ("ab\n", 5, "ab"),
            ("\x7f", 4, "\\x7f"),
        ] {
            assert_eq!(printable(input, limit), expected, "{input:?}");
            assert_eq!(into_printable(input.to_owned(), limit), expected, "{input:?}");
        }
    }
}
