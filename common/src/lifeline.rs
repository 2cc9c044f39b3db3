//! A daemon that `ironpost run` started ends with it, however that ends.
//!
//! The supervisor gives each daemon, as standard input, a pipe whose other end only the supervisor holds, and sets [`VARIABLE`]. When the
//! supervisor is gone, even by SIGKILL, the pipe is at its end, and the daemon gets a SIGTERM from itself: the usual way out.
//! Anywhere else (systemd, a terminal, a child of a daemon with another standard input) nothing happens.

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::getpid;
use std::io::{self, Read};

/// Set to `1` by the supervisor.
pub const VARIABLE: &str = "IRONPOST_SUPERVISED";

/// Starts to watch, on a thread of its own. To be called once the process listens to SIGTERM.
pub fn watch() -> io::Result<()> {
    if std::env::var_os(VARIABLE).is_none_or(|value| value != "1") {
        return Ok(());
    }
    let kind = SFlag::from_bits_truncate(fstat(io::stdin())?.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFIFO {
        return Ok(());
    }
    let watch = || {
        let mut byte = [0];
        // Nobody writes into it: data is passed over, an error counts as the end.
        loop {
            match io::stdin().read(&mut byte) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        let _ = kill(getpid(), Signal::SIGTERM);
    };
    std::thread::Builder::new().name("lifeline".into()).spawn(watch)?;
    Ok(())
}
