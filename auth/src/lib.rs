//! Who may log in: SASL mechanisms (RFC 4422), and the back ends that know names and passwords.
//!
//! | module | holds |
//! | --- | --- |
//! | [`authenticator`] | [`Authenticator`]: which mechanisms there are on a connection |
//! | [`exchange`] | [`Exchange`]: one login, step by step; its outcome |
//! | [`mechanism`] | the messages of the mechanisms: PLAIN, LOGIN, SCRAM-SHA-256, OAUTHBEARER, XOAUTH2; pure |
//! | [`hash`] | what stands in place of a password in the users file; pure |
//! | [`users`], [`name`], [`prepare`] | the users file, names in it, passwords in other scripts; pure |
//! | [`dovecot`] | Dovecot's authentication service as back end |
//! | [`pam`] | the users of the operating system, through a helper that asks PAM |
//! | [`introspection`] | asking a provider whose a token is |
//! | [`pool`] | hashing, a few at a time |
//!
//! SMTP's part of it (base64, `*`, line limits, replies) is that of its caller: octets come in, octets go out. Everything from the network and from the files is
//! hostile. Passwords stand in no log line, error or `Debug`, and are wiped after use where they are ours.

#![forbid(unsafe_code)]

pub mod authenticator;
pub mod dovecot;
pub mod exchange;
pub mod hash;
pub mod introspection;
pub mod mechanism;
pub mod name;
pub mod pam;
pub mod pool;
pub mod prepare;
pub mod users;

pub use authenticator::Authenticator;
pub use exchange::{Channel, Exchange, Failure, Login, Step};
