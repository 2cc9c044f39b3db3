//! What the daemons have in common in how they start.

use std::io;

/// A thread for so many processors, unless the configuration says otherwise: half of what a message costs is elsewhere, and each thread more is one more to be
/// woken.
const PROCESSORS: usize = 2;

/// How many threads `workers` in the configuration means: 0 is one for every two of the processors that this process may use, and one at least.
pub fn workers(configured: u16) -> usize {
    match configured {
        0 => (std::thread::available_parallelism().map_or(1, usize::from) / PROCESSORS).max(1),
        some => usize::from(some),
    }
}

/// Why a daemon could not start: a text, and the exit code (sysexits) that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// 78: configuration; 77: not permitted; 75: try again.
    pub code: u8,
    /// For the admin.
    pub text: String,
}

impl Failure {
    /// What is asked for cannot be done, now or later.
    pub fn configuration(error: impl ToString) -> Self {
        Self { code: 78, text: error.to_string() }
    }

    /// The system forbids it.
    pub fn not_permitted(error: impl ToString) -> Self {
        Self { code: 77, text: error.to_string() }
    }

    /// Another time it may work.
    pub fn try_again(error: impl ToString) -> Self {
        Self { code: 75, text: error.to_string() }
    }

    /// By what the system said.
    pub fn io(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            Self::not_permitted(error)
        } else {
            Self::try_again(error)
        }
    }
}
