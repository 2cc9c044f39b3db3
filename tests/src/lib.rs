//! What the end-to-end tests are made of: a running Ironpost, clients, and real and scripted servers around
//! it.
//!
//! Promises: every process that is started here is ended by its pid when its value is dropped; every file
//! lies in a temporary folder that goes with it; ports are chosen by the kernel, on loopback addresses only;
//! waiting is for an event, with one generous deadline ([`DEADLINE`]). Fails by panicking with what was
//! waited for and what was seen instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod certificates;
pub mod client;
pub mod clients;
pub mod corpus;
pub mod counterpart;
pub mod crowd;
pub mod dialogue;
pub mod disk;
pub mod ironpost;
pub mod lines;
pub mod mailbox;
pub mod net;
pub mod process;
pub mod random;
pub mod setup;
pub mod strace;
pub mod submitters;
pub mod tools;

use std::sync::LazyLock;
use std::time::Duration;

/// How long anything may take before the test that waits for it fails: far longer than it ever takes on a
/// busy machine. `IRONPOST_TEST_SECONDS` sets another number, for those who look for a failure.
pub static DEADLINE: LazyLock<Duration> = LazyLock::new(|| {
    let seconds = std::env::var("IRONPOST_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(90))
});

/// Says in one line why a test does nothing here.
pub fn skipped(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
}

/// True when the tests run as root, where privileges, file systems and other mail servers can be tried too.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
