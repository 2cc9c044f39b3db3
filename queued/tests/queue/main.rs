//! The program `queued` with its real spool, a scripted delivery agent and nothing else: what becomes of messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod control;
mod delivery;
mod maildrop;
mod system;
