//! Ironpost's queue manager: takes new messages in, expands and routes their recipients, schedules attempts, hands jobs to the delivery agents,
//! writes outcomes down, notifies senders, and answers users' commands about the queue.
//!
//! Everything that has to outlive the process is in a queue file (see `spool`); it may be killed at any instant.
//!
//! | module | is |
//! | --- | --- |
//! | [`scheduler`], [`message`], [`bounce`] | pure: when what is tried; what is known of a message; what a notification says |
//! | [`manager`] | the thread that owns the queue and connects the others |
//! | [`intake`] | hears of messages: watch and scan |
//! | [`disk`] | file work on a few threads |
//! | [`dispatch`], [`control`] | the sockets for delivery agents and for users' commands |
//! | [`daemon`] | the life of the process |

#![forbid(unsafe_code)]

pub mod bounce;
pub mod control;
pub mod daemon;
pub mod disk;
pub mod dispatch;
pub mod intake;
mod lock;
pub mod manager;
pub mod message;
pub mod scheduler;
