//! Ironpost's SMTP server: speaks SMTP to clients and writes each accepted message as one queue file.
//!
//! | module | does |
//! | --- | --- |
//! | [`session`] | the protocol, without I/O |
//! | [`policy`], [`restrictions`], [`greylist`], [`rates`] | who may send what to whom, and how often: pure |
//! | [`received`], [`mend`] | the `Received` field; what a submitted message lacks: pure |
//! | [`rules`], [`lookup`] | the configuration and the tables as sessions see them; the DNS |
//! | [`login`], [`claims`] | AUTH: exchanges, and what becomes of failures |
//! | [`judge`] | answers a session's questions by all of these |
//! | [`driver`], [`message`] | one connection; one message on its way into its queue file |
//! | [`wire`], [`tls`] | plain text or TLS; certificates, and what each listener does with them |
//! | [`server`], [`listen`], [`proxy`], [`connections`] | sockets, limits, the end |
//! | [`daemon`] | from the start to the first byte from outside |

#![forbid(unsafe_code)]

pub mod buffers;
pub mod claims;
pub mod clock;
pub mod connections;
pub mod daemon;
pub mod driver;
pub mod greylist;
pub mod judge;
pub mod listen;
pub mod login;
pub mod lookup;
pub mod mend;
pub mod message;
mod patience;
pub mod policy;
pub mod proxy;
pub mod rates;
pub mod received;
pub mod restrictions;
pub mod rules;
pub mod server;
pub mod session;
pub mod tls;
pub mod wire;
