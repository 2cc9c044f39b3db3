//! The envelope as it stands in files of format version 1, which knew nothing of notifications on request (RFC 3461). Only
//! read: what comes out is an [`Envelope`] whose sender asked for nothing.

use super::{Body, Envelope, Origin, Recipient};
use common::address::{Address, ReversePath};
use common::dsn::{MessageDsn, RecipientDsn};
use common::time::Timestamp;
use serde::{Deserialize, Serialize};

/// [`Envelope`] of version 1.
#[derive(Debug, Deserialize)]
pub struct EnvelopeV1 {
    sender: ReversePath,
    arrived: Timestamp,
    origin: Origin,
    body: Body,
    recipients: Vec<RecipientV1>,
}

/// [`Recipient`] of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientV1 {
    address: Address,
    original: Option<Address>,
}

impl From<EnvelopeV1> for Envelope {
    fn from(old: EnvelopeV1) -> Self {
        let EnvelopeV1 { sender, arrived, origin, body, recipients } = old;
        let recipients = recipients.into_iter().map(Recipient::from).collect();
        Self { sender, arrived, origin, body, recipients, dsn: MessageDsn::default() }
    }
}

impl From<RecipientV1> for Recipient {
    fn from(old: RecipientV1) -> Self {
        Self { address: old.address, original: old.original, dsn: RecipientDsn::default() }
    }
}
