//! Why there is no answer. Every text is printable, and says nothing of what was sent.

use common::text::printable;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

/// Longest text of others within one of ours.
const SAID: usize = 300;

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The host's address is looked up.
    Name,
    /// A connection is made.
    Connect,
    /// TLS begins.
    Handshake,
    /// The answer is awaited.
    Answer,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "looking up its address",
            Self::Connect => "connecting",
            Self::Handshake => "performing the TLS handshake",
            Self::Answer => "waiting for its answer",
        })
    }
}

/// See the head of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The time was over.
    #[error("timed out after {} s while {phase}", limit.as_secs_f32())]
    Timeout {
        /// Where it was spent.
        phase: Phase,
        /// How much there was.
        limit: Duration,
    },
    /// The host has no address, or nobody says which.
    #[error("cannot look up its address: {0}")]
    Name(String),
    /// No connection to any of its addresses.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The handshake failed; most of all because of its certificate.
    #[error("TLS: {0}")]
    Tls(String),
    /// What it says is no HTTP, or it hung up.
    #[error("no proper HTTP answer: {0}")]
    Http(String),
    /// The answer is too long.
    #[error("its answer is longer than {} KiB", crate::MAX_ANSWER / 1024)]
    TooLarge,
    /// The request cannot be written: a value has characters that must not be there.
    #[error("the request cannot be written")]
    Request,
}

impl Error {
    pub(crate) fn name(error: &io::Error) -> Self {
        Self::Name(printable(&error.to_string(), SAID))
    }

    pub(crate) fn connect(error: &io::Error) -> Self {
        Self::Connect(printable(&error.to_string(), SAID))
    }

    pub(crate) fn tls(error: &io::Error) -> Self {
        Self::Tls(printable(&error.to_string(), SAID))
    }

    pub(crate) fn http(error: &hyper::Error) -> Self {
        let mut text = error.to_string();
        if let Some(source) = error.source() {
            text = format!("{text}: {source}");
        }
        Self::Http(printable(&text, SAID))
    }
}
