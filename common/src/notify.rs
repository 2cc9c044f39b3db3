//! Telling whoever started us (systemd, or `ironpost run`) how we are: the sd_notify protocol. Without `NOTIFY_SOCKET` nothing happens.

use sd_notify::NotifyState;

/// Sockets are open and work can begin.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// On the way out.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        crate::warn!("cannot tell the supervisor: {error}");
    }
}
