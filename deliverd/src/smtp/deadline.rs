//! The wall-clock limit of one attempt, over all its phases, and its end before that when the attempt is
//! stopped.

use super::client::Lost;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The end that stops.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// The end that every wait of the attempt looks at. Clones are the same limit.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Instant,
    stopped: watch::Receiver<bool>,
}

/// A limit at `at`, and what ends it early.
pub fn deadline(at: Instant) -> (Stopper, Deadline) {
    let (sender, stopped) = watch::channel(false);
    (Stopper(sender), Deadline { at, stopped })
}

impl Stopper {
    /// The time is over now.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Deadline {
    /// Returns when the time is over, and says why. May be dropped and called again.
    pub async fn passed(&mut self) -> Lost {
        tokio::select! {
            biased;
            Ok(_) = self.stopped.wait_for(|stopped| *stopped) => Lost::Stopped,
            () = sleep_until(self.at) => Lost::Timeout,
        }
    }

    /// Is the time over?
    pub fn is_over(&self) -> bool {
        *self.stopped.borrow() || Instant::now() >= self.at
    }
}
