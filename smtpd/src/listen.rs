//! Listening sockets, bound while the process may still bind ports below 1024.

use common::config::{Listen, ListenKind};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// Connections that wait for us to take them.
const BACKLOG: i32 = 1024;

/// Binds all of them. Errors name the address.
pub fn bind_all(wanted: &[Listen]) -> io::Result<Vec<TcpListener>> {
    wanted
        .iter()
        .map(|one| {
            bind_one(one.address, is_dual(one.address, wanted)).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {}: {error}", one.address))
            })
        })
        .collect()
}

/// Says where we listen; a port 0 has become a real one by now.
pub fn announce(listeners: &[TcpListener], wanted: &[Listen]) {
    for (listener, one) in listeners.iter().zip(wanted) {
        let address = listener.local_addr().unwrap_or(one.address);
        let kind = match one.kind {
            ListenKind::Mx => "mx",
            ListenKind::Submission => "submission",
        };
        common::info!("listening on {address} ({kind})");
    }
}

/// `[::]:25` takes IPv4 as well, unless another listener has that port for IPv4.
fn is_dual(address: SocketAddr, all: &[Listen]) -> bool {
    let unspecified = matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified());
    unspecified
        && (address.port() == 0
            || !all.iter().any(|other| other.address.is_ipv4() && other.address.port() == address.port()))
}

fn bind_one(address: SocketAddr, dual: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    // A restart must not wait for the last connections of the former process to time out.
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    // Replies are collected by the driver; the kernel need not do that too. Connections have it from their listener.
    setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &!dual)?;
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::ClientCertificates;
    use std::net::TcpStream;

    fn wanted(addresses: &[&str]) -> Vec<Listen> {
        let one = |a: &&str| Listen {
            address: a.parse().unwrap(),
            kind: ListenKind::Mx,
            tls: Default::default(),
            client_certificate: ClientCertificates::None,
            proxy_protocol: false,
            auth: false,
            auth_without_tls: false,
            hide_client: false,
        };
        addresses.iter().map(one).collect()
    }

    #[test]
    fn the_ipv6_wildcard_takes_ipv4_too() {
        let Ok(listeners) = bind_all(&wanted(&["[::]:0"])) else {
            eprintln!("skipped: this machine has no IPv6");
            return;
        };
        let port = listeners[0].local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // Non-blocking, and just connected to: the connection is there.
        assert!(listeners[0].accept().unwrap().0.nodelay().unwrap(), "its connections have what it has");
        TcpStream::connect(("::1", port)).unwrap();
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let first = bind_all(&wanted(&["127.0.0.1:0"])).unwrap();
        let taken = first[0].local_addr().unwrap().to_string();
        let error = bind_all(&wanted(&[&taken])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&taken));
    }

    #[test]
    fn a_listener_for_ipv4_keeps_its_port() {
        let all = wanted(&["[::]:25", "0.0.0.0:25", "[::]:26", "[::1]:27"]);
        let dual: Vec<bool> = all.iter().map(|one| is_dual(one.address, &all)).collect();
        assert_eq!(dual, [false, false, true, false]);
    }
}
