//! Names and listeners.

use super::Finding;
use common::config::Config;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// The machine's names, and whether each listener could be bound. What is bound already (by ourselves, most
/// likely) is fine.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !config.hostname.as_str().contains('.') {
        findings.push(Finding::Warning(format!(
            "hostname is {:?}: other mail servers want a full name such as \"mail.example.com\"",
            config.hostname.as_str()
        )));
    }
    if !config.local_domains.contains(&config.mail_name) {
        findings.push(Finding::Warning(format!(
            "mail_name {} is not in local_domains: mail for a bare name leaves this machine",
            config.mail_name
        )));
    }
    if config.smtpd.listen.is_empty() {
        findings.push(Finding::Warning("smtpd listens nowhere: listen is empty".into()));
    }
    for (index, listen) in config.smtpd.listen.iter().enumerate() {
        let before = config.smtpd.listen.iter().take(index);
        let same = |address: SocketAddr| address == listen.address && address.port() != 0;
        if before.map(|l| l.address).any(same) {
            findings.push(Finding::Error(format!("listener {} is there twice", listen.address)));
        } else if let Err(error) = try_bind(listen.address) {
            findings.push(Finding::Error(format!("listener {}: {}", listen.address, reason(error))));
        }
    }
    findings
}

fn reason(error: Errno) -> String {
    match error {
        Errno::EACCES => "this port is for root, or for a service that systemd gives it to".into(),
        Errno::EADDRNOTAVAIL => "this machine has no such address".into(),
        other => other.desc().to_owned(),
    }
}

/// Binds without listening, so that nobody's connection gets lost here.
fn try_bind(address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    match bind(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Err(Errno::EADDRINUSE) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let config = Config::parse(text, "x".as_ref(), "/".as_ref()).unwrap();
        check(&config).iter().map(Finding::text).collect()
    }

    #[test]
    fn listeners_and_names_that_cannot_be_meant_are_told() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let names = "hostname = \"mx.a.example\"\nmail_name = \"a.example\"\n";
        let listen = |address: &str| format!("[[smtpd.listen]]\naddress = \"{address}\"\n");
        for (text, expected) in [
            (format!("{names}{}", listen("127.0.0.1:0")), None),
            (format!("{names}{}", listen(&format!("127.0.0.1:{port}"))), None),
            (format!("{names}{}{}", listen("127.0.0.1:0"), listen("127.0.0.1:0")), None),
            (format!("{names}{}{}", listen("127.0.0.1:5"), listen("127.0.0.1:5")), Some("is there twice")),
            (format!("{names}{}", listen("192.0.2.77:0")), Some("has no such address")),
            (format!("{names}[smtpd]\nlisten = []\n"), Some("listens nowhere")),
            (format!("hostname = \"mx\"\nmail_name = \"mx\"\n{}", listen("127.0.0.1:0")), Some("full name")),
            (format!("{names}local_domains = [\"x\"]\n{}", listen("127.0.0.1:0")), Some("bare name")),
        ] {
            let found: Vec<String> =
                found(&text).into_iter().filter(|f| !f.contains("is for root")).collect();
            match expected {
                None => assert!(found.is_empty(), "{text}: {found:?}"),
                Some(part) => assert!(found.len() == 1 && found[0].contains(part), "{text}: {found:?}"),
            }
        }
    }
}
