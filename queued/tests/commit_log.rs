//! The program `queued` and the notes of its commit log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "queue/system.rs"]
#[allow(dead_code)]
mod system;

use nix::fcntl::{Flock, FlockArg};
use std::fs;
use system::System;

/// Twice a second they are written; what left the queue after the last time is written at the end.
#[test]
fn what_left_the_queue_last_is_noted_before_it_ends() {
    let mut system = System::prepared("");
    let root = system.spool.root().to_owned();
    // As smtpd has it while it writes to a segment.
    fs::create_dir_all(root.join("commit/claims")).unwrap();
    let claim = fs::File::create(root.join("commit/claims/0")).unwrap();
    let _lock = Flock::lock(claim, FlockArg::LockExclusiveNonblock).unwrap();
    // It belongs to this boot.
    let boot = spool::commit_log::boot_id().unwrap();
    fs::write(root.join("commit/boot"), boot).unwrap();
    system.run();
    let ids: Vec<_> = (0..5).map(|_| system.accept("a@far.example", &["x@void.example"])).collect();
    for id in &ids {
        system.wait_gone(*id);
    }
    assert_eq!(system.stop(), 0);
    let done = fs::read_dir(root.join("commit/done")).unwrap();
    let noted: String = done.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(ids.iter().all(|id| noted.contains(id.as_str())), "{ids:?} noted as {noted:?}");
    assert_eq!(noted.len(), ids.len() * 16);
}
