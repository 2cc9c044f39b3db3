//! The clock of sessions: goes on evenly when the wall clock is set. Its values mean nothing outside this
//! process.

use common::time::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// Microseconds since the server began.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// The time for a session.
    pub fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.0.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// A session's deadline as the runtime knows time; without one, far away.
    pub fn instant(&self, deadline: Option<Timestamp>) -> Instant {
        let since = deadline.map_or(Duration::from_secs(86_400), |d| d.since(Timestamp(0)));
        self.0.checked_add(since).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
