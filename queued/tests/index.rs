//! What a million deferred messages cost in memory: measured in a process of its own, as the growth of what is resident.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use common::time::Timestamp;
use nix::unistd::{SysconfVar, sysconf};
use queued::scheduler::Source;
use queued::scheduler::waiting::Waiting;
use spool::id::QueueId;

const MESSAGES: u64 = 1_000_000;

/// Octets of this process that are in memory, proc(5).
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * u64::try_from(sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap()).unwrap()
}

#[test]
fn a_deferred_message_costs_tens_of_octets() {
    let before = resident();
    let mut waiting = Waiting::default();
    for n in 0..MESSAGES {
        // As a scan finds them: in no order.
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
        let (arrived, due) =
            (Timestamp(mixed.cast_signed()), Timestamp(1 << 50 | (mixed >> 3).cast_signed()));
        waiting.insert(QueueId::new(arrived, n), Source::Deferred(due), due);
    }
    let each = (resident() - before) / MESSAGES;
    println!("{each} octets for each of {} deferred messages", waiting.len());
    assert!(waiting.len() == 1_000_000 && (48..100).contains(&each), "{each} octets each");
}
