//! A mail transaction: exists only from an accepted MAIL to the end of data; RSET, EHLO and the end of the
//! session drop it whole, so nothing of it can be left over.

use super::chunk::Chunks;
use super::data::{Decoder, Piece};
use super::header::HeaderScan;
use super::limits::{Lease, Pace};
use super::reply::{self, Reply};
use common::address::{Address, ReversePath};
use common::dsn::MessageDsn;
use spool::envelope::{Body, Recipient};
use std::collections::HashSet;

/// `Received` fields that a message may have: more of them are a loop (RFC 5321 6.3; the figure is
/// Postfix's).
pub const HOP_LIMIT: u32 = 50;
/// Octets of a header: what is longer is no message, and a burden for every program behind us.
pub const HEADER_LIMIT: u64 = 1 << 20;

/// Between MAIL and DATA.
#[derive(Debug)]
pub struct Transaction {
    /// The reverse-path.
    pub sender: ReversePath,
    /// The BODY parameter.
    pub body: Body,
    /// The RET and ENVID parameters.
    pub dsn: MessageDsn,
    /// The AUTH parameter, where it is believed.
    pub submitter: Option<ReversePath>,
    /// Accepted, each once.
    pub recipients: Vec<Recipient>,
    /// How often a recipient was accepted: as with Postfix one that is named again counts again, since it is looked
    /// up again.
    pub accepted: u32,
    /// Was a recipient refused?
    pub refused: bool,
    /// Its part of the memory that is shared.
    pub lease: Lease,
    known: HashSet<Address>,
}

impl Transaction {
    /// After MAIL.
    pub fn new(sender: ReversePath, body: Body, dsn: MessageDsn, lease: Lease) -> Self {
        let (recipients, known) = (Vec::new(), HashSet::new());
        Self { sender, body, dsn, submitter: None, recipients, accepted: 0, refused: false, lease, known }
    }

    /// Adds a recipient, unless it is there already. `false`: there is no memory for it.
    #[must_use]
    pub fn add(&mut self, recipient: Recipient) -> bool {
        self.accepted = self.accepted.saturating_add(1);
        if self.known.contains(&recipient.address) {
            return true;
        }
        if !self.lease.grow(cost(&recipient)) {
            return false;
        }
        self.known.insert(recipient.address.clone());
        self.recipients.push(recipient);
        true
    }
}

/// What a recipient takes, in octets: the address twice, what it was called, and what holds it.
fn cost(recipient: &Recipient) -> u64 {
    let length = |address: &Address| address.local_part().as_str().len() + address.domain().as_str().len();
    let texts = 2 * length(&recipient.address) + recipient.original.as_ref().map_or(0, length);
    let original = recipient.dsn.original.as_ref().map_or(0, |original| original.to_xtext().len());
    u64::try_from(texts + original).unwrap_or(u64::MAX).saturating_add(HOLDER)
}

/// Entries of list and set, with their share of unused places.
const HOLDER: u64 = 512;

/// Why content is no longer wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwanted {
    /// Over `message_size_limit`.
    TooLarge,
    /// More than [`HOP_LIMIT`] `Received` fields.
    TooManyHops,
    /// More than [`HEADER_LIMIT`] octets of header.
    HeaderTooLarge,
    /// A line over its limit.
    LineTooLong,
    /// All sessions together hold too much.
    NoMemory,
    /// A bare `LF` or `CR`.
    Bare(&'static str),
    /// Refused before its first chunk.
    Refused(Reply),
}

impl Unwanted {
    /// The reply after the end of data.
    pub fn reply(&self, hostname: &common::address::Domain) -> Reply {
        match self {
            Self::TooLarge => reply::TOO_LARGE,
            Self::TooManyHops => reply::TOO_MANY_HOPS,
            Self::HeaderTooLarge => reply::HEADER_TOO_LARGE,
            Self::LineTooLong => reply::TEXT_LINE_TOO_LONG,
            Self::NoMemory => reply::NO_MEMORY,
            Self::Bare(what) => reply::bare_newline(hostname, what),
            Self::Refused(reply) => reply.clone(),
        }
    }
}

/// How content is framed.
#[derive(Debug)]
pub enum Framing {
    /// DATA: up to a line with a lone dot.
    Dot(Decoder),
    /// BDAT: by count.
    Chunks(Chunks),
}

impl Framing {
    /// Takes the next piece; see [`Decoder::next`] and [`Chunks::next`].
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Piece<'a> {
        match self {
            Self::Dot(decoder) => decoder.next(input),
            Self::Chunks(chunks) => chunks.next(input),
        }
    }

    /// The first bare line end met.
    pub fn bare_newline(&self) -> Option<&'static str> {
        match self {
            Self::Dot(decoder) => decoder.bare_newline(),
            Self::Chunks(chunks) => chunks.bare_newline(),
        }
    }
}

/// Between DATA and the end of data, and between the first BDAT and the last.
#[derive(Debug)]
pub struct Content {
    /// For the log.
    pub sender: ReversePath,
    /// The first recipient, for the log.
    pub recipient: Option<Address>,
    /// Where it ends.
    pub framing: Framing,
    /// What the header says.
    pub header: HeaderScan,
    /// Octets of content so far, unwanted ones too.
    pub length: u64,
    /// Set when the message will be refused; nothing is handed out any more.
    pub unwanted: Option<Unwanted>,
    /// Is the reason in the log already?
    pub logged: bool,
    /// Octets received since the deadline was last moved.
    pub since_progress: u64,
    /// How it comes.
    pub pace: Pace,
    /// Octets of the line so far.
    pub line: u64,
    /// Its part of the memory that is shared, and how much of that is for content.
    pub lease: Lease,
    /// As above.
    pub held: u64,
}
