//! The envelope of a message as it stands in its queue file: who sent it, from where, for whom. Never the header.
//!
//! These types go through [`common::codec`] onto the disk: a changed one is a new format version (see `doc/spool-format.md`).
//! [`v1`] keeps the form of version 1 for reading.

pub mod v1;

use common::address::{Address, ReversePath};
use common::dsn::{MessageDsn, RecipientDsn};
use common::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest encoded envelope, in octets: 32,000 recipients with all that can be said of one, at the greatest length.
pub const MAX_ENVELOPE: usize = 32 * 1024 * 1024;

/// Everything about a message that is known before its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Where notifications go.
    pub sender: ReversePath,
    /// When it was accepted; the start of its lifetime.
    pub arrived: Timestamp,
    /// How it came in.
    pub origin: Origin,
    /// The BODY and SMTPUTF8 parameters of MAIL (RFC 6152, RFC 6531).
    pub body: Body,
    /// In the order of the RCPT commands; never empty in a committed file.
    pub recipients: Vec<Recipient>,
    /// RET and ENVID of MAIL (RFC 3461).
    pub dsn: MessageDsn,
}

/// How a message came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Over SMTP.
    Smtp {
        /// `name[ip]` of the client, `unknown` where the name is not known; printable.
        client: String,
        /// What it said in HELO or EHLO; printable.
        helo: String,
        /// `SMTP` or `ESMTP`.
        protocol: String,
    },
    /// From a program of this machine.
    Local {
        /// Who ran it.
        uid: u32,
    },
    /// A notification that we made.
    Bounce,
    /// A notification about a message from the null sender, to the postmaster; when it fails it is dropped.
    DoubleBounce,
}

/// What MAIL said about the octets of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Absent or `7BIT`.
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
    /// SMTPUTF8 (RFC 6531): addresses and header may be UTF-8. Includes `8BITMIME`. Since version 3.
    Utf8,
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Where it goes.
    pub address: Address,
    /// The address as the client named it, when expansion has changed it.
    pub original: Option<Address>,
    /// NOTIFY and ORCPT of RCPT (RFC 3461).
    pub dsn: RecipientDsn,
}

impl Recipient {
    /// A recipient as a client named it.
    pub fn new(address: Address) -> Self {
        Self { address, original: None, dsn: RecipientDsn::default() }
    }

    /// The address before expansion.
    pub fn original(&self) -> &Address {
        self.original.as_ref().unwrap_or(&self.address)
    }
}

/// What a sender must know of the content without reading it again; computed while the content is received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentFacts {
    /// Octets, CRLF line ends counted, transparency undone.
    pub length: u64,
    /// CRC-32 (ISO-HDLC) of the content.
    pub checksum: u32,
    /// Octets of the longest line, CRLF not counted; saturates.
    pub longest_line: u32,
    /// Is there an octet above 127?
    pub eight_bit: bool,
    /// Is there one in the header? (Not known of files before version 3: false.)
    pub eight_bit_header: bool,
    /// Does a line begin with a dot?
    pub leading_dot: bool,
    /// Does the content end with CRLF (or is it empty)?
    pub ends_with_newline: bool,
}
