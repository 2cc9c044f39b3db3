//! Telling whoever started us (systemd, or `ironpost run`) how we are: the sd_notify protocol. Without `NOTIFY_SOCKET` nothing happens.

use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sockets are open and work can begin.
pub fn ready() {
    send(NotifyState::Ready);
}

/// On the way out.
pub fn stopping() {
    send(NotifyState::Stopping);
}

fn send(state: NotifyState<'_>) {
    let socket = std::env::var_os("NOTIFY_SOCKET");
    // The crate knows paths only; `ironpost run` has a socket without one.
    let sent = match socket.as_deref().and_then(abstract_name) {
        Some(name) => send_abstract(name, &format!("{state}\n")),
        None => sd_notify::notify(&[state]),
    };
    if let Err(error) = sent {
        crate::warn!("cannot tell the supervisor: {error}");
    }
}

/// The name of a socket in the abstract namespace, written with `@` in place of its first octet (sd_notify(3)).
fn abstract_name(socket: &OsStr) -> Option<&[u8]> {
    socket.as_bytes().strip_prefix(b"@")
}

fn send_abstract(name: &[u8], text: &str) -> io::Result<()> {
    let address = SocketAddr::from_abstract_name(name)?;
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_without_a_path_is_spoken_to() {
        assert_eq!(abstract_name(OsStr::new("/run/systemd/notify")), None);
        let name = format!("@ironpost-notify-test-{}", std::process::id());
        let name = abstract_name(OsStr::new(&name)).unwrap();
        let receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        send_abstract(name, &format!("{}\n", NotifyState::Ready)).unwrap();
        let mut got = [0; 64];
        let length = receiver.recv(&mut got).unwrap();
        assert_eq!(&got[..length], b"READY=1\n");
    }
}
