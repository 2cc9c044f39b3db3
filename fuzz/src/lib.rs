//! Bodies of Ironpost's fuzz targets: each takes any octets and panics when a promise of the code is broken.
//!
//! libFuzzer calls them through the programs in `libfuzzer/`; `tests/replay.rs` calls them with every file of `corpus/`,
//! so that what was once found stays found, in `make test`, without libFuzzer. How to run and add one: `doc/fuzzing.md`.
//!
//! | target | what any octets are taken for |
//! | --- | --- |
//! | [`session`], [`bdat`] | a client of the SMTP server's core, with splits, answers, time and its own end |
//! | [`replies`] | a server in front of the SMTP client's core |
//! | [`address`], [`parameters`] | an address, a path, a nexthop; a command line |
//! | [`queue_file`], [`journal`] | a file found in the queue; what stands behind its content |
//! | [`frames`] | a frame from another daemon, or from a user's command |
//! | [`tables`] | a configuration, a table, aliases, a header of a submitted message |

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is what a fuzz target has to say"
)]

pub mod address;
pub mod bdat;
pub mod frames;
pub mod input;
pub mod journal;
pub mod memory;
mod model;
pub mod parameters;
pub mod queue_file;
pub mod replies;
pub mod session;
pub mod tables;

/// What a target does with any octets.
pub type Body = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Body)] = &[
    ("address", address::run),
    ("bdat", bdat::run),
    ("frames", frames::run),
    ("journal", journal::run),
    ("parameters", parameters::run),
    ("queue_file", queue_file::run),
    ("replies", replies::run),
    ("session", session::run),
    ("tables", tables::run),
];

/// One or more replies as RFC 5321 4.2 has them: lines of at most 512 octets without control characters, each with the
/// code of its reply. Gives the codes.
pub fn replies_are_well_formed(wire: &[u8]) -> Vec<u16> {
    let text = std::str::from_utf8(wire).expect("replies are text");
    assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
    let mut codes = Vec::new();
    let mut open: Option<&str> = None;
    for line in text.split_terminator("\r\n") {
        // Challenges of AUTH may be longer (RFC 4954 4).
        let most = if line.starts_with("334 ") { 12_286 } else { 510 };
        assert!(line.len() <= most && !line.chars().any(char::is_control), "{line:?}");
        let (code, rest) = line.split_at_checked(3).expect("a code");
        let number: u16 = code.parse().expect("digits");
        assert!((200..600).contains(&number), "{line:?}");
        assert!(open.is_none_or(|open| open == code), "two codes in one reply: {line:?}");
        match rest.as_bytes().first() {
            Some(b'-') => open = Some(code),
            Some(b' ') => {
                open = None;
                codes.push(number);
            }
            _ => panic!("no separator: {line:?}"),
        }
    }
    assert_eq!(open, None, "the last line of a reply says that it is the last");
    codes
}

/// Does the data end, exactly at the end of these octets?
fn model_end(wire: &[u8]) -> bool {
    matches!(model::end_of_data(wire), Some((_, false, 0)))
}
