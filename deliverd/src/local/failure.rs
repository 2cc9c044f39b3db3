//! Why a message could not be stored: one value from the system call to the recipient's status.
//!
//! Everything that goes wrong in a mailbox is deferred, never bounced: an operator can mend it, and the
//! message is safe in the queue.

use common::status::{EnhancedCode, Status};
use nix::errno::Errno;
use std::io;
use std::path::Path;

/// A delivery that did not happen. Nothing of the message is in the mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Class 4, or 5 where trying again cannot help.
    pub code: EnhancedCode,
    /// What happened and what to do about it; may hold anything, and is escaped where it is shown.
    pub text: String,
    /// Should an operator look at this at once?
    pub alert: bool,
    /// Another program kept the mailbox locked: who comes next would wait as long.
    pub locked: bool,
}

/// Something is wrong with the mailbox (RFC 3463 3.3: other or undefined mailbox status).
const MAILBOX: EnhancedCode = EnhancedCode::new(4, 2, 0);
/// No room (RFC 3463 3.3: mailbox full).
const FULL: EnhancedCode = EnhancedCode::new(4, 2, 2);
/// Something is wrong with the mail system.
const SYSTEM: EnhancedCode = EnhancedCode::new(4, 3, 0);

impl Failure {
    /// A mailbox that is not as it must be.
    pub fn mailbox(text: String) -> Self {
        Self { code: MAILBOX, text, alert: false, locked: false }
    }

    /// Another program has the mailbox, and did not give it back in time.
    pub fn locked(text: String) -> Self {
        Self { locked: true, ..Self::mailbox(text) }
    }

    /// A system call on `path` failed: `cannot create /srv/mail/x: Permission denied`.
    pub fn call(what: &str, path: &Path, errno: Errno) -> Self {
        let code = match errno {
            Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => FULL,
            _ => MAILBOX,
        };
        Self { code, ..Self::mailbox(format!("cannot {what} {}: {}", path.display(), errno.desc())) }
    }

    /// The same, for a call of the standard library.
    pub fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::call(what, path, Errno::from_raw(number)),
            None => Self::mailbox(format!("cannot {what} {}: {error}", path.display())),
        }
    }

    /// The message's own file cannot be read, or is damaged: never the mailbox's fault.
    pub fn message(error: &io::Error) -> Self {
        Self { code: SYSTEM, alert: true, ..Self::mailbox(format!("cannot read the message: {error}")) }
    }

    /// The recipient's status; `context` says what was being done.
    pub fn into_status(self, context: &str) -> Status {
        Status::local(self.code, format!("{context}: {}", self.text))
    }
}
