//! The text of a notification that mail could not be delivered: a multipart/report (RFC 3462, RFC 3464).
//!
//! Pure: everything it says is handed in. It has three parts: one that a person understands, one that a program reads, and the header of
//! the original message (for the postmaster all of it, when it is short: it is a notification itself, and its body says what it was about). All lines end with CRLF and are shorter than 998 octets; nothing that another server or the original message said
//! can begin a header field or a part of its own: addresses and statuses are printable ASCII by their types, and the boundary is chosen so
//! that it occurs nowhere inside.

mod lines;
mod report;

use common::address::{Address, Domain};
use common::status::Status;
use common::time::Timestamp;
use lines::Lines;
use spool::envelope::Body;
use spool::id::QueueId;

/// Most of the original's header that is returned, in octets.
pub const MAX_HEADER: usize = 64 * 1024;
/// Most recipients that one notification tells about; for more there are several.
pub const MAX_FAILURES: usize = 1000;

/// To whom it goes, and about what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To the sender of the message.
    Bounce,
    /// To the postmaster, about a message that came from the null sender.
    DoubleBounce,
}

/// Everything that a notification says.
#[derive(Debug)]
pub struct Notification<'a> {
    /// Bounce or double bounce.
    pub kind: Kind,
    /// This machine.
    pub hostname: &'a Domain,
    /// Who gets it.
    pub to: &'a Address,
    /// The notification's own queue ID.
    pub id: QueueId,
    /// The queue ID of the message that failed.
    pub original_id: QueueId,
    /// When that message was accepted.
    pub arrived: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// Who did not get it, and why; at most [`MAX_FAILURES`].
    pub failures: &'a [Failure<'a>],
    /// The beginning of the original's content; its header is cut out of it.
    pub original: &'a [u8],
    /// Is `original` all of it?
    pub complete: bool,
}

/// A recipient that did not get the message.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// Where it was sent.
    pub address: &'a Address,
    /// The address as the sender knows it, when that differs.
    pub original: Option<&'a Address>,
    /// What happened.
    pub status: &'a Status,
}

/// The content of the notification and what its envelope must say about the body.
pub fn compose(n: &Notification<'_>) -> (Vec<u8>, Body) {
    let whole = n.kind == Kind::DoubleBounce && n.complete && is_short(n.original);
    let header = if whole { n.original.to_vec() } else { header_of(n.original) };
    let body = if header.is_ascii() { Body::SevenBit } else { Body::EightBitMime };
    let encoding = if body == Body::SevenBit { "7bit" } else { "8bit" };
    let boundary = boundary(n.id, &header);
    let host = n.hostname;
    let mut out = Lines::default();
    out.line(&format!("Received: by {host} (Ironpost) id {};", n.id));
    out.line(&format!("\t{}", n.now.rfc5322()));
    out.line(&format!("Date: {}", n.now.rfc5322()));
    out.line(&format!("From: MAILER-DAEMON@{host} (Mail Delivery System)"));
    out.line(&format!("To: {}", n.to));
    out.line(match n.kind {
        Kind::Bounce => "Subject: Undelivered Mail Returned to Sender",
        Kind::DoubleBounce => "Subject: Postmaster Copy: Undelivered Mail",
    });
    // RFC 3834 5: nobody's program shall answer this.
    out.line("Auto-Submitted: auto-replied");
    out.line("MIME-Version: 1.0");
    out.line("Content-Type: multipart/report; report-type=delivery-status;");
    out.line(&format!("\tboundary=\"{boundary}\""));
    out.line(&format!("Content-Transfer-Encoding: {encoding}"));
    out.line(&format!("Message-ID: <{}@{host}>", n.id));
    out.line("");
    out.line("This is a MIME-encapsulated message.");
    out.line("");
    out.line(&format!("--{boundary}"));
    out.line("Content-Description: Notification");
    out.line("Content-Type: text/plain; charset=us-ascii");
    out.line("");
    report::for_people(&mut out, n);
    out.line("");
    out.line(&format!("--{boundary}"));
    out.line("Content-Description: Delivery report");
    out.line("Content-Type: message/delivery-status");
    out.line("");
    report::for_programs(&mut out, n);
    out.line("");
    out.line(&format!("--{boundary}"));
    if whole {
        out.line("Content-Description: Undelivered message");
        out.line("Content-Type: message/rfc822");
    } else {
        out.line("Content-Description: Header of the undelivered message");
        out.line("Content-Type: text/rfc822-headers");
    }
    out.line(&format!("Content-Transfer-Encoding: {encoding}"));
    out.line("");
    out.raw(&header);
    out.line("");
    out.line(&format!("--{boundary}--"));
    (out.into_bytes(), body)
}

/// May it be passed on as it is?
fn is_short(content: &[u8]) -> bool {
    let line_is_good = |line: &[u8]| {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        text.len() <= lines::LONGEST && !text.iter().any(|b| matches!(b, 0 | b'\r'))
    };
    content.len() <= MAX_HEADER
        && content.ends_with(b"\r\n")
        && content.split(|b| *b == b'\n').all(line_is_good)
}

/// A boundary that does not occur in `text`. The other parts hold no line that begins with `--` and a queue ID of the future.
fn boundary(id: QueueId, text: &[u8]) -> String {
    let occurs = |candidate: &str| text.windows(candidate.len()).any(|window| window == candidate.as_bytes());
    let mut candidate = format!("=_{id}");
    while occurs(&candidate) {
        candidate.push('_');
    }
    candidate
}

/// The header at the beginning of `content`: whole lines, at most [`MAX_HEADER`] octets; over-long lines are folded.
fn header_of(content: &[u8]) -> Vec<u8> {
    let mut out = Lines::default();
    let mut taken = 0;
    for line in content.split_inclusive(|b| *b == b'\n') {
        taken += line.len();
        if taken > MAX_HEADER {
            break;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        out.original(line);
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests;
