//! The servers on the other side: real ones (Postfix and its smtp-sink, Dovecot, aiosmtpd, dnsmasq, a provider of tokens), and scripted ones for what
//! no real one does.

pub mod aiosmtpd;
pub mod deaf;
pub mod dns;
pub mod dovecot;
pub mod oauth;
pub mod pam;
pub mod postfix;
pub mod script;
pub mod sink;
