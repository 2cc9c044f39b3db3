//! The child of `deliverd local`: becomes the receiving user, then delivers one message after another until
//! its socket is closed.
//!
//! One thread, no log, no configuration: what it knows comes in frames, and what went wrong goes back in
//! frames. When it ends before it has answered, the parent defers what it was doing. Signals that stop
//! daemons do not stop it: its parent does.

use super::delivery;
use super::frames::{FromChild, MAX_FRAME, ToChild};
use super::maildir::Names;
use super::privileges::become_owner;
use common::codec;
use common::packet::PacketSocket;
use common::sandbox;
use common::time::Timestamp;
use nix::libc::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::stat::{Mode, umask};
use nix::unistd::chdir;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// EX_TEMPFAIL: the work was not done.
const TRY_AGAIN: u8 = 75;

/// Runs until standard input, a packet socket, is closed. Exit code 0 then; 75 when it could not work.
pub fn run() -> ExitCode {
    let Ok(fd) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::from(TRY_AGAIN) };
    let socket = Arc::new(PacketSocket::from_fd(fd));
    let hook = socket.clone();
    std::panic::set_hook(Box::new(move |info| {
        let _ = send(&hook, &FromChild::Unable(format!("bug: {info}; please report this")));
    }));
    match serve(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = send(&socket, &FromChild::Unable(why));
            ExitCode::from(TRY_AGAIN)
        }
    }
}

fn serve(socket: &PacketSocket) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    outlive_signals().map_err(text)?;
    let Some(first) = socket.receive().map_err(text)? else { return Ok(()) };
    let first = codec::decode::<_, MAX_FRAME>(&first.bytes).map_err(|error| error.to_string())?;
    let ToChild::Become { owner, hostname } = first else {
        return Err("asked to work before being told as whom".into());
    };
    if let Some(owner) = owner {
        become_owner(&owner)?;
    }
    prepare(socket).map_err(text)?;
    confine()?;
    let mut names = Names::new(&hostname, std::process::id());
    while let Some(packet) = socket.receive().map_err(text)? {
        let frame = codec::decode::<_, MAX_FRAME>(&packet.bytes).map_err(|error| error.to_string())?;
        let (ToChild::Deliver(task), Some(file)) = (frame, packet.files.into_iter().next()) else {
            return Err("asked for something else than a delivery".into());
        };
        let answer = delivery::deliver(&task, File::from(file), &mut names, Timestamp::now());
        send(socket, &FromChild::Done(answer)).map_err(text)?;
    }
    Ok(())
}

/// A process that keeps nothing of its parent's but the socket.
fn prepare(socket: &PacketSocket) -> io::Result<()> {
    umask(Mode::from_bits_truncate(0o077));
    chdir("/")?;
    let keep = [0, 1, 2, socket.as_fd().as_raw_fd()];
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| !keep.contains(fd)) {
        // One of them listed the folder, and is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

/// SIGXFSZ: with a handler, exceeding RLIMIT_FSIZE is an error of write(2) instead of the end of the process.
/// The others reach all processes of a terminal or of a unit; the parent lets us finish.
fn outlive_signals() -> io::Result<()> {
    for signal in [SIGXFSZ, SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// Writing mailboxes needs neither privileges nor the network.
fn confine() -> Result<(), String> {
    set_no_new_privs().map_err(|error| format!("cannot set no_new_privs: {error}"))?;
    sandbox::deny_network().map_err(|error| error.to_string())
}

fn send(socket: &PacketSocket, frame: &FromChild) -> io::Result<()> {
    let bytes = codec::encode(frame).map_err(io::Error::other)?;
    socket.send(&bytes, &[])
}
