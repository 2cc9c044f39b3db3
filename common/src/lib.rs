//! What every program of Ironpost shares, and nothing that only one needs.
//!
//! | module | holds |
//! | --- | --- |
//! | [`address`], [`destination`], [`dsn`], [`status`], [`time`], [`text`], [`delays`] | the words of mail, parsed once into types |
//! | [`config`] | `ironpost.toml` |
//! | [`table`], [`aliases`], [`users`], [`access`], [`tables`], [`watched`] | the text tables |
//! | [`templates`] | the file with the texts of notifications |
//! | [`header`], [`sender_logins`] | what holds for submitted mail |
//! | [`relay_recipients`] | who there is behind us |
//! | [`routing`] | address class, aliases, transport and nexthop |
//! | [`tls`] | levels, policies, authorities, for TLS in and out |
//! | [`credentials`], [`oauth`], [`secret`] | names and passwords or tokens for next hosts; files with secrets |
//! | [`https_url`] | where a service is asked over HTTPS |
//! | [`codec`], [`packet`] | values as bytes; frames between daemons |
//! | [`reload`] | `ironpost reload`: secrets handed to daemons, and what came of it |
//! | [`daemon`], [`identity`], [`sandbox`], [`scheduling`], [`signals`], [`notify`], [`lifeline`], [`log`] | what a daemon does at its start and end, and says meanwhile |

#![forbid(unsafe_code)]

pub mod access;
pub mod address;
pub mod aliases;
pub mod codec;
pub mod config;
pub mod credentials;
pub mod daemon;
pub mod delays;
pub mod destination;
pub mod dsn;
pub mod header;
pub mod https_url;
pub mod identity;
pub mod lifeline;
pub mod log;
pub mod notify;
pub mod oauth;
pub mod packet;
pub mod relay_recipients;
pub mod reload;
pub mod routing;
pub mod sandbox;
pub mod scheduling;
pub mod secret;
pub mod sender_logins;
pub mod signals;
pub mod status;
pub mod table;
pub mod tables;
pub mod templates;
pub mod text;
pub mod time;
pub mod tls;
pub mod users;
pub mod watched;
