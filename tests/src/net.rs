//! Loopback addresses and ports for the tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

/// A loopback address that no other test of this run uses: nothing listens there but what its owner starts.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Sixty-four for each process, so that two runs of the tests do not meet either.
    let number = (std::process::id() << 6).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let [_, high, middle, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 64 + (high & 0x3f), middle, low)
}

/// Connects from this loopback address.
pub fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let from = SocketAddr::from((source, 0));
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))
        .unwrap_or_else(|error| panic!("{source} to {to}: {error}"));
    TcpStream::from(fd)
}

/// A TCP port that was free on `address` a moment ago, for programs that cannot take port 0.
pub fn free_port(address: impl Into<IpAddr>) -> u16 {
    let address = SocketAddr::new(address.into(), 0);
    TcpListener::bind(address).unwrap().local_addr().unwrap().port()
}

/// As [`free_port`], free for UDP and TCP.
pub fn free_dns_port(address: impl Into<IpAddr>) -> u16 {
    let address = address.into();
    loop {
        let port = UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap().port();
        if TcpListener::bind((address, port)).is_ok() {
            return port;
        }
    }
}

/// Whether this machine has the IPv6 loopback address.
pub fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}
