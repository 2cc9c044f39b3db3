//! The receiving side of the sd_notify protocol: a datagram socket whose name the kernel chooses, one for
//! each run.
//!
//! The kernel says which process sent a datagram, so a daemon can speak only for itself. A datagram that is
//! too long, or that came without credentials, is dropped. The socket has no name in the file system: nothing
//! is left behind.

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind,
    getsockname, recvmsg, setsockopt, socket, sockopt::PassCred,
};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

/// Longest datagram that is looked at, in octets.
const MAX_DATAGRAM: usize = 4096;

/// What a daemon said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Who said it, by the kernel's word.
    pub pid: i32,
    /// It serves now (`READY=1`).
    pub ready: bool,
    /// It is about to end (`STOPPING=1`).
    pub stopping: bool,
}

/// The socket that daemons report to.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
    name: String,
}

impl NotifySocket {
    /// A new socket.
    pub fn new() -> io::Result<Self> {
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, PassCred, &true)?;
        // An unnamed address asks the kernel for a free abstract one (unix(7), "autobind").
        bind(socket.as_raw_fd(), &UnixAddr::new_unnamed())?;
        let address: UnixAddr = getsockname(socket.as_raw_fd())?;
        let name = address.as_abstract().and_then(|name| std::str::from_utf8(name).ok());
        let name = name.ok_or_else(|| io::Error::other("the kernel gave the socket no name"))?;
        Ok(Self { name: format!("@{name}"), socket })
    }

    /// The value of `NOTIFY_SOCKET` for the daemons.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the next notice.
    pub fn receive(&self) -> io::Result<Notice> {
        loop {
            let mut bytes = [0; MAX_DATAGRAM];
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let mut space = cmsg_space!(UnixCredentials);
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let got = match recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
            {
                Ok(got) => got,
                Err(nix::Error::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let whole = !got.flags.contains(MsgFlags::MSG_TRUNC);
            let length = got.bytes;
            let pid = got.cmsgs().ok().and_then(|mut list| {
                list.find_map(|message| match message {
                    ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
                    _ => None,
                })
            });
            if let (true, Some(pid), Some(text)) = (whole, pid, bytes.get(..length)) {
                return Ok(read_notice(pid, text));
            }
        }
    }
}

/// Reads `NAME=VALUE` lines; those that mean nothing to a supervisor (`STATUS=`, `MAINPID=` …) are passed
/// over.
fn read_notice(pid: i32, text: &[u8]) -> Notice {
    let says = |wanted: &[u8]| text.split(|b| *b == b'\n').any(|line| line == wanted);
    Notice { pid, ready: says(b"READY=1"), stopping: says(b"STOPPING=1") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn send(name: &str, text: &[u8]) {
        let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(text, &address).unwrap();
    }

    #[test]
    fn notices_bear_the_senders_process_id() {
        let socket = NotifySocket::new().unwrap();
        let other = NotifySocket::new().unwrap();
        assert_ne!(socket.name(), other.name());
        let pid = i32::try_from(std::process::id()).unwrap();
        for (text, ready, stopping) in [
            (&b"READY=1"[..], true, false),
            (b"STATUS=up\nREADY=1\n", true, false),
            (b"STOPPING=1", false, true),
            (b"READY=12", false, false),
            (b"XREADY=1", false, false),
            (b"\xff\n\0", false, false),
        ] {
            send(socket.name(), text);
            assert_eq!(socket.receive().unwrap(), Notice { pid, ready, stopping }, "{text:?}");
        }
    }

    #[test]
    fn too_long_datagrams_are_dropped() {
        let socket = NotifySocket::new().unwrap();
        let mut long = b"READY=1\n".to_vec();
        long.resize(MAX_DATAGRAM + 1, b'x');
        send(socket.name(), &long);
        send(socket.name(), b"STOPPING=1");
        assert!(socket.receive().unwrap().stopping);
    }
}
