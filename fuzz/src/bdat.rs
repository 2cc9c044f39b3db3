//! Chunks (RFC 3030): commands of all kinds with chunks between them, in any split. The same laws as for [`crate::session`].
//!
//! The input: settings, split, a word of choices for each step, and the chunks' octets behind it.

use crate::input::Input;
use crate::session::Play;

/// Makes a dialogue of the input and plays it.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (settings, split) = (input.octet(), input.octet());
    let mut sent = b"EHLO client.example\r\n".to_vec();
    let mut rest = input.rest();
    while let Some((choice, tail)) = rest.split_first() {
        let size = usize::from(choice >> 3) * if choice & 1 == 0 { 1 } else { 37 };
        let (octets, tail) = tail.split_at(size.min(tail.len()));
        rest = tail;
        match choice % 8 {
            0 => sent.extend(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"),
            1 | 2 => {
                sent.extend(format!("BDAT {}\r\n", octets.len()).bytes());
                sent.extend(octets);
            }
            3 => {
                sent.extend(format!("BDAT {} LAST\r\n", octets.len()).bytes());
                sent.extend(octets);
            }
            4 => sent.extend(b"RSET\r\n"),
            5 => sent.extend(b"DATA\r\n"),
            // Whatever it is: commands, half a chunk, something that only looks like one, a control.
            6 => sent.extend(octets),
            _ => {
                sent.extend(b"BDAT ");
                sent.extend(octets.iter().take(20));
                sent.extend(b"\r\n");
            }
        }
    }
    crate::memory::bounded(8 << 20, || Play::new(settings, split).play(&sent));
}
