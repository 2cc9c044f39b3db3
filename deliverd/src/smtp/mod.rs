//! `deliverd smtp`: takes mail to other hosts.
//!
//! | module | is |
//! | --- | --- |
//! | [`client`] | the protocol, without I/O: what is said, what replies mean |
//! | [`resolve`] | which hosts, in which order; [`resolve::dns`] asks the name servers |
//! | [`latency`], [`memory`] | how quick hosts were lately |
//! | [`plan`], [`connect`] | which address next; the race for a connection |
//! | [`driver`], [`content`], [`deadline`] | octets between core and connection, in time |
//! | [`tls`], [`wire`] | encryption: what is asked for, the handshake, the stream |
//! | [`oauth`] | tokens that take the place of passwords |
//! | [`pool`] | open sessions for the next job |
//! | [`attempt`], [`report`] | one job from nexthop to a status for each recipient, and its log lines |
//! | [`worker`] | jobs from queued, answers to it |
//! | [`daemon`] | the life of the process |
//!
//! It has no access to the spool: a message comes as an open, read-only file. It remembers nothing that
//! must outlive it, but for refresh tokens that a provider has replaced ([`oauth::kept`]).

pub mod attempt;
pub mod client;
pub mod connect;
pub mod content;
pub mod daemon;
pub mod deadline;
pub mod driver;
pub mod latency;
pub mod memory;
pub mod oauth;
pub mod plan;
pub mod pool;
pub mod random;
pub mod report;
pub mod resolve;
pub mod tls;
pub mod wire;
pub mod worker;

#[cfg(test)]
mod testing;
