//! Ironpost's SMTP server: speaks SMTP to clients and writes each accepted message as one queue file.
//!
//! | module | does |
//! | --- | --- |
//! | [`session`] | the protocol, without I/O |
//! | [`policy`], [`received`] | who may send to whom; the `Received` field: pure |
//! | [`rules`] | the configuration and the tables as sessions see them |
//! | [`driver`], [`message`] | one connection; one message on its way into its queue file |
//! | [`server`], [`listen`], [`connections`] | sockets, limits, the end |
//! | [`daemon`] | from the start to the first byte from outside |

#![forbid(unsafe_code)]

pub mod buffers;
pub mod clock;
pub mod connections;
pub mod daemon;
pub mod driver;
pub mod listen;
pub mod message;
pub mod policy;
pub mod received;
pub mod rules;
pub mod server;
pub mod session;
