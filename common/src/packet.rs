//! Packets between daemons of one machine: Unix `SOCK_SEQPACKET` sockets, so that a frame arrives whole or not at all, with open
//! files attached (`SCM_RIGHTS`). The kernel tells who the peer is; who may talk is decided by the listener.
//!
//! A packet is at most [`MAX_PACKET`] octets and carries at most [`MAX_FILES`] descriptors; a longer one is an error for that
//! connection, never a torn frame. Files that a receiver did not expect are closed with the packet.

use nix::sys::socket::{UnixCredentials, getsockopt, setsockopt, sockopt, sockopt::PeerCredentials};
use nix::sys::time::{TimeVal, TimeValLike};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};
use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Longest packet, in octets. Below the kernel's default socket buffer (212,992), so that one always fits.
pub const MAX_PACKET: usize = 128 * 1024;
/// Most descriptors in a packet.
pub const MAX_FILES: usize = 8;

thread_local! {
    /// Room for the longest packet, for as long as a thread receives: zeroed memory for each one would cost more than the packet.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One end of a connection. All calls take `&self`: one thread may send while another receives.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

/// A packet as received.
#[derive(Debug)]
pub struct Packet {
    /// The octets; never empty.
    pub bytes: Vec<u8>,
    /// The attached files, in order.
    pub files: Vec<OwnedFd>,
}

impl PacketSocket {
    /// Connects to the socket at `path`. Errors: `NotFound` and `ConnectionRefused` mean that nobody serves it.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// Two connected ends, for a parent and its child.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// Takes over an inherited descriptor (a child's standard input).
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Gives the descriptor up (to become a child's standard input).
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Who is at the other end, as the kernel saw it when they connected.
    pub fn peer(&self) -> io::Result<UnixCredentials> {
        Ok(getsockopt(&self.0, PeerCredentials)?)
    }

    /// From now on `send` and `receive` give `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, true)?)
    }

    /// From now on `send` and `receive` wait so long at most, and then give `WouldBlock`.
    pub fn set_timeout(&self, time: Duration) -> io::Result<()> {
        let value = TimeVal::milliseconds(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&self.0, sockopt::ReceiveTimeout, &value)?;
        setsockopt(&self.0, sockopt::SendTimeout, &value)?;
        Ok(())
    }

    /// Sends one packet with its files. Waits when the buffer is full, unless non-blocking.
    pub fn send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(SendFlags::NOSIGNAL, bytes, files)
    }

    /// As `send`, but gives `WouldBlock` instead of waiting.
    pub fn try_send(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(SendFlags::NOSIGNAL | SendFlags::DONTWAIT, bytes, files)
    }

    fn send_with(&self, flags: SendFlags, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > MAX_PACKET || files.len() > MAX_FILES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "packet empty or too large"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(files));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, flags) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives one packet; `None` when the other end is gone. Waits for it, unless non-blocking.
    pub fn receive(&self) -> io::Result<Option<Packet>> {
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(MAX_PACKET, 0);
            self.receive_into(buffer)
        })
    }

    fn receive_into(&self, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(got) => break got,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let mut files = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                files.extend(fds);
            }
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "packet too long"));
        }
        let bytes = buffer.get(..got.bytes).unwrap_or_default().to_vec();
        Ok(Some(Packet { bytes, files }))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A listening socket at a path.
#[derive(Debug)]
pub struct PacketListener(OwnedFd);

impl PacketListener {
    /// Binds at `path`, replacing a socket left behind by an earlier process (the caller holds the lock that makes it the only server), and
    /// gives it `mode`.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        listen(&socket, 128)?;
        Ok(Self(socket))
    }

    /// Waits for the next connection.
    pub fn accept(&self) -> io::Result<PacketSocket> {
        loop {
            match accept_with(&self.0, SocketFlags::CLOEXEC) {
                Ok(fd) => return Ok(PacketSocket(fd)),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn frames_and_files_arrive_whole() {
        let (a, b) = PacketSocket::pair().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        a.send(b"one", &[reader.as_fd()]).unwrap();
        a.send(&vec![7; MAX_PACKET], &[]).unwrap();
        drop(reader);
        let mut first = b.receive().unwrap().unwrap();
        assert_eq!((first.bytes.as_slice(), first.files.len()), (&b"one"[..], 1));
        assert_eq!(b.receive().unwrap().unwrap().bytes.len(), MAX_PACKET);
        std::io::Write::write_all(&mut writer, b"hello").unwrap();
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(first.files.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        drop(a);
        assert!(b.receive().unwrap().is_none());
        assert!(PacketSocket::pair().unwrap().0.send(&vec![0; MAX_PACKET + 1], &[]).is_err());
    }
}
