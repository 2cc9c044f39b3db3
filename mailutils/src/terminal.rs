//! Text for people at a terminal.

use std::ops::RangeInclusive;

const DECEPTIVE: [RangeInclusive<char>; 4] =
    ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2066}'..='\u{2069}', '\u{feff}'..='\u{feff}'];

/// One line without control characters, which become `\x1b` and the like; other characters, those beyond
/// ASCII included, stay.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Bidirectional overrides and invisible marks can make a line read as something else.
        let deceptive = DECEPTIVE.iter().any(|range| range.contains(&c));
        if c.is_control() || deceptive { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_do_not_reach_the_terminal() {
        for (text, expected) in [
            ("plain é", "plain é"),
            ("\x1b[2Jx", "\\u{1b}[2Jx"),
            ("a\tb\r", "a\\tb\\r"),
            ("\u{9b}x", "\\u{9b}x"),
            ("\u{202e}x", "\\u{202e}x"),
        ] {
            assert_eq!(line(text), expected);
        }
    }
}
