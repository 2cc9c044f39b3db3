//! What the core tells its driver, and the commands it works through.

use super::opening::Refusal;
use super::phase::Phase;
use super::transaction::Ended;

/// What the driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write these octets.
    Send(Vec<u8>),
    /// Write the content through [`super::Transparency`], its end included, then call [`super::Client::content_sent`].
    /// When content cannot be read: [`super::Client::content_failed`], and nothing more is written.
    SendContent,
    /// Read. The limit of the phase counts from the time [`super::Client::progress`] last changed.
    Wait(Phase),
    /// Do the TLS handshake, read nothing before it, then call [`super::Client::secured`] or
    /// [`super::Client::handshake_failed`].
    Handshake,
    /// The session is open and idle: [`super::Client::begin`] or [`super::Client::quit`].
    Ready,
    /// A transaction is over; reported once.
    Ended(Ended),
    /// The session did not come about; reported once.
    Refused(Refusal),
    /// Close the connection.
    Close,
}

/// A command that was sent or is to be sent, by what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Auth,
    Rset,
    Mail,
    Rcpt(usize),
    Data,
    EndOfData,
    Quit,
}

impl Step {
    /// What is waited for.
    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Greeting => Phase::Greeting,
            Self::Ehlo => Phase::Ehlo,
            Self::Helo => Phase::Helo,
            Self::StartTls => Phase::StartTls,
            Self::Auth => Phase::Auth,
            Self::Rset => Phase::Rset,
            Self::Mail => Phase::Mail,
            Self::Rcpt(_) => Phase::Rcpt,
            Self::Data => Phase::Data,
            Self::EndOfData => Phase::EndOfData,
            Self::Quit => Phase::Quit,
        }
    }
}
