//! What a daemon is told from outside: stop, and read the configuration anew. The latter also by `ironpost reload` ([`crate::reload`]).

use crate::reload::Wish;
use crate::reload::door::Door;
use crate::secret::Secrets;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// What is asked for.
#[derive(Debug)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop taking work, finish or give back what is in hand, exit.
    Terminate,
    /// SIGHUP, or `ironpost reload`, which has put files into the [`Secrets`]: configuration and tables are read anew.
    Reload(Wish),
}

/// Calls `on_signal` for each signal, and for each call at the door, one at a time, on threads of its own, from now until the process ends.
/// The end of `ironpost run` counts as SIGTERM ([`crate::lifeline`]).
pub fn spawn(
    door: Door,
    secrets: &Arc<Secrets>,
    on_signal: impl FnMut(Signal) + Send + 'static,
) -> io::Result<()> {
    let on_signal = Arc::new(Mutex::new(on_signal));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let shared = on_signal.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let asked = if signal == SIGHUP { Signal::Reload(Wish::default()) } else { Signal::Terminate };
            tell(&shared, asked);
        }
    })?;
    door.serve(secrets.clone(), move |wish| tell(&on_signal, Signal::Reload(wish)))?;
    crate::lifeline::watch()
}

fn tell(on_signal: &Mutex<impl FnMut(Signal)>, signal: Signal) {
    let mut on_signal = on_signal.lock().unwrap_or_else(PoisonError::into_inner);
    on_signal(signal);
}
