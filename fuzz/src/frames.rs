//! Frames between the daemons and from users' commands: any octets are refused or read, and what is read is written and
//! read again as the same, in memory bounded by the length of the frame.

use common::codec;
use deliverd::local::frames::{FromChild, ToChild};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spool::control::{Answer, Request};
use spool::dispatch::{FromWorker, MAX_FRAME, ToWorker};
use std::fmt::Debug;

/// The first octet says which kind of frame the rest is.
pub fn run(input: &[u8]) {
    let Some((kind, frame)) = input.split_first() else { return };
    match kind % 6 {
        0 => again::<ToWorker>(frame),
        1 => again::<FromWorker>(frame),
        2 => again::<Request>(frame),
        3 => again::<Answer>(frame),
        4 => again::<ToChild>(frame),
        _ => again::<FromChild>(frame),
    }
}

fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(frame: &[u8]) {
    // A value of no octets at all may take some in memory: an empty text is 24.
    let limit = crate::memory::DECODING + 16 * frame.len();
    let Ok(value) = crate::memory::bounded(limit, || codec::decode::<T, MAX_FRAME>(frame)) else { return };
    let written = codec::encode(&value).expect("what was read can be written");
    assert_eq!(codec::decode::<T, MAX_FRAME>(&written).expect("what was written can be read"), value);
}
