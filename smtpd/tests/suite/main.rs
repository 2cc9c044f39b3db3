//! The session core against dialogues, tables, clocks and hostile input; and the daemon's driver over real
//! sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod dialogues;
mod hostile;
mod limits;
mod live;
mod player;
mod properties;
mod states;
