//! A host that does not answer: connections to it neither succeed nor fail, as behind a firewall that drops packets.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, socket, sockopt::ReuseAddr,
};

/// A port whose queue of connections is full: the kernel drops whatever else comes.
#[derive(Debug)]
pub struct Deaf {
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Deaf {
    /// Makes this address and port deaf.
    pub fn start_at(address: impl Into<IpAddr>, port: u16) -> Self {
        let address = SocketAddr::new(address.into(), port);
        let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        nix::sys::socket::setsockopt(&fd, ReuseAddr, &true).unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        listen(&fd, Backlog::new(0).unwrap()).unwrap();
        let mut queued = Vec::new();
        // Until one gets no answer. Few fit.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue of connections does not fill");
        }
        Self { _listener: TcpListener::from(fd), _queued: queued }
    }
}
