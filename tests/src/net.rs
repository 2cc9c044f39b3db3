//! Loopback addresses and ports for the tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// A loopback address that no other test of this run uses: nothing listens there but what its owner starts.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // 127.64.0.1 to 127.191.255.254, parted by process so that two runs of the tests do not meet either.
    let process = std::process::id() % 8192;
    let [_, _, high, low] = (process << 6 | number & 0x3f).to_be_bytes();
    Ipv4Addr::new(127, 64 + ((process >> 10) as u8 & 0x0f) * 8 + (number >> 6) as u8, high, low | 1)
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
