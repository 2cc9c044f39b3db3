//! What a session waits for, how long, and what logs call it: one table.

use std::time::Duration;

/// A thing to wait for: a reply, or that the other side takes content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The 220 that opens a session.
    Greeting,
    /// The reply to EHLO.
    Ehlo,
    /// The reply to HELO.
    Helo,
    /// The reply to STARTTLS.
    StartTls,
    /// The end of the TLS handshake, all its messages together.
    Handshake,
    /// A reply within the SASL exchange.
    Auth,
    /// The reply to MAIL.
    Mail,
    /// The reply to a RCPT.
    Rcpt,
    /// The reply to DATA.
    Data,
    /// That a block of content is taken.
    Content,
    /// The reply to the end of data.
    EndOfData,
    /// The reply to RSET.
    Rset,
    /// The reply to QUIT.
    Quit,
}

impl Phase {
    /// How long one reply (one block of content) may take. A slow trickle of octets does not prolong it.
    pub fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Greeting => 5 * 60,          // RFC 5321 4.5.3.2.1
            Self::Ehlo | Self::Helo => 5 * 60, // not in the RFC; as the greeting
            Self::StartTls => 2 * 60,          // not in the RFC; nothing is worked out yet
            Self::Handshake => 30,             // not in the RFC; as long as a connection may take
            Self::Auth => 2 * 60,              // not in the RFC; the server may ask others
            Self::Mail => 5 * 60,              // RFC 5321 4.5.3.2.2
            Self::Rcpt => 5 * 60,              // RFC 5321 4.5.3.2.3
            Self::Data => 2 * 60,              // RFC 5321 4.5.3.2.4
            Self::Content => 3 * 60,           // RFC 5321 4.5.3.2.5
            Self::EndOfData => 10 * 60,        // RFC 5321 4.5.3.2.6
            Self::Rset => 20,                  // not in the RFC; Postfix's smtp_rset_timeout
            Self::Quit => 5,                   // nothing hangs on it any more
        })
    }

    /// Behind "while" in `lost connection with … while …`.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Greeting => "receiving the initial server greeting",
            Self::Ehlo => "performing the EHLO handshake",
            Self::Helo => "performing the HELO handshake",
            Self::StartTls => "sending STARTTLS",
            Self::Handshake => "performing the TLS handshake",
            Self::Auth => "logging in",
            Self::Mail => "sending MAIL FROM",
            Self::Rcpt => "sending RCPT TO",
            Self::Data => "sending DATA command",
            Self::Content => "sending message body",
            Self::EndOfData => "sending end of data -- message may be sent more than once",
            Self::Rset => "sending RSET",
            Self::Quit => "sending QUIT",
        }
    }

    /// Behind "in reply to" in `host … said: … (in reply to …)`.
    pub fn command(self) -> &'static str {
        match self {
            Self::Greeting => "connection",
            Self::Ehlo => "EHLO command",
            Self::Helo => "HELO command",
            Self::StartTls => "STARTTLS command",
            Self::Handshake => "TLS handshake",
            Self::Auth => "AUTH command",
            Self::Mail => "MAIL FROM command",
            Self::Rcpt => "RCPT TO command",
            Self::Data => "DATA command",
            Self::Content => "message body",
            Self::EndOfData => "end of DATA command",
            Self::Rset => "RSET command",
            Self::Quit => "QUIT command",
        }
    }
}
