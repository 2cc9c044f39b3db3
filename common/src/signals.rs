//! The two signals that a daemon knows: stop, and read the configuration anew.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop taking work, finish or give back what is in hand, exit.
    Terminate,
    /// SIGHUP: configuration and tables are read anew.
    Reload,
}

/// Calls `on_signal` for each signal, one at a time, on a thread of its own, from now until the process ends. The end of
/// `ironpost run` counts as SIGTERM ([`crate::lifeline`]).
pub fn spawn(mut on_signal: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            on_signal(if signal == SIGHUP { Signal::Reload } else { Signal::Terminate });
        }
    })?;
    crate::lifeline::watch()
}
