//! One message on its way through a session: exists from MAIL to the end of data (RFC 5321 3.3).
//!
//! Keeps, for each recipient, what the server has said so far. Every recipient leaves with exactly one
//! [`Verdict`]; the first reply that decides about one stays, whatever is said later.

use super::verdict::Verdict;
use common::address::{Address, ReversePath};
use common::dsn::{MessageDsn, RecipientDsn};

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Order {
    /// For MAIL.
    pub sender: ReversePath,
    /// For RCPT, at least one.
    pub recipients: Vec<Target>,
    /// Content in octets, CRLF line ends counted, transparency not.
    pub size: u64,
    /// Does the content need 8BITMIME (RFC 6152), by its octets or by what the client declared? To a server
    /// without it, it is sent as it is: nothing converts content here, and 8-bit octets pass nearly every
    /// server.
    pub eight_bit: bool,
    /// Was the message sent to us with SMTPUTF8 (RFC 6531), and is its header not ASCII? Then no server gets it that
    /// does not know SMTPUTF8.
    pub utf8_header: bool,
    /// For MAIL, to a server that offers DSN.
    pub dsn: MessageDsn,
}

impl Order {
    /// Does the transaction as such need SMTPUTF8, whoever its recipients are?
    pub(super) fn needs_utf8(&self) -> bool {
        self.utf8_header || !self.sender.is_ascii()
    }
}

/// One recipient of an order.
#[derive(Debug, Clone)]
pub struct Target {
    /// For RCPT.
    pub address: Address,
    /// For RCPT, to a server that offers DSN.
    pub dsn: RecipientDsn,
}

impl From<Address> for Target {
    /// Nothing is asked of notifications.
    fn from(address: Address) -> Self {
        Self { address, dsn: RecipientDsn::default() }
    }
}

/// How a transaction came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// In the order of [`Order::recipients`].
    pub verdicts: Vec<Verdict>,
    /// True when the connection was gone before the server said a word about this transaction: on a reused
    /// connection it had been closed meanwhile, and another one may be tried at once.
    pub untouched: bool,
}

#[derive(Debug)]
enum Recipient {
    Waiting,
    Accepted,
    Decided(Verdict),
}

/// The state of the one that is under way.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) order: Order,
    recipients: Vec<Recipient>,
    /// Has the server replied to any of its commands?
    pub(super) answered: bool,
    /// Did the server take a recipient after the transaction had failed?
    pub(super) taken_in_vain: bool,
    /// Has content been sent that could be delivered?
    pub(super) content_sent: bool,
}

impl Transaction {
    pub(super) fn new(order: Order) -> Self {
        let recipients = order.recipients.iter().map(|_| Recipient::Waiting).collect();
        Self { order, recipients, answered: false, taken_in_vain: false, content_sent: false }
    }

    /// Is nothing decided yet about recipient `i`?
    pub(super) fn is_waiting(&self, i: usize) -> bool {
        matches!(self.recipients.get(i), Some(Recipient::Waiting))
    }

    /// RCPT number `i` was taken.
    pub(super) fn accept(&mut self, i: usize) {
        match self.recipients.get_mut(i) {
            Some(recipient @ Recipient::Waiting) => *recipient = Recipient::Accepted,
            _ => self.taken_in_vain = true,
        }
    }

    /// Decides about recipient `i`, unless that is done.
    pub(super) fn decide(&mut self, i: usize, verdict: Verdict) {
        if let Some(recipient @ (Recipient::Waiting | Recipient::Accepted)) = self.recipients.get_mut(i) {
            *recipient = Recipient::Decided(verdict);
        }
    }

    /// Decides about all that are still open.
    pub(super) fn decide_rest(&mut self, verdict: &Verdict) {
        for i in 0..self.recipients.len() {
            self.decide(i, verdict.clone());
        }
    }

    /// Is there someone to send the content for?
    pub(super) fn any_accepted(&self) -> bool {
        self.recipients.iter().any(|r| matches!(r, Recipient::Accepted))
    }

    /// Is there a RCPT without an answer?
    pub(super) fn any_waiting(&self) -> bool {
        self.recipients.iter().any(|r| matches!(r, Recipient::Waiting))
    }

    /// Its end. Whoever is still open gets `otherwise`.
    pub(super) fn end(self, otherwise: &Verdict) -> Ended {
        self.end_with(|| otherwise.clone())
    }

    /// The same; `otherwise` is made only if somebody is still open.
    pub(super) fn end_with(mut self, otherwise: impl FnOnce() -> Verdict) -> Ended {
        if self.recipients.iter().any(|r| !matches!(r, Recipient::Decided(_))) {
            self.decide_rest(&otherwise());
        }
        let verdicts = self
            .recipients
            .into_iter()
            .filter_map(|r| match r {
                Recipient::Decided(verdict) => Some(verdict),
                Recipient::Waiting | Recipient::Accepted => None,
            })
            .collect();
        Ended { verdicts, untouched: !self.answered }
    }
}
