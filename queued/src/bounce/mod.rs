//! The text of a notification of what became of mail: failed, late, delivered: a multipart/report (RFC 3462, RFC 3464).
//!
//! Pure: everything it says is handed in. It has three parts: one that a person understands, one that a program reads, and the header of
//! the original message (or all of it, where the caller allows that and it can be passed on as it is). All lines end with CRLF and are shorter than 998 octets; nothing that another server or the original message said
//! can begin a header field or a part of its own: addresses and statuses are printable ASCII by their types, and the boundary is chosen so
//! that it occurs nowhere inside.

mod lines;
mod report;
mod texts;

pub use texts::Texts;

use common::address::{Address, Domain};
use common::dsn::{EnvelopeId, OriginalRecipient};
use common::status::Status;
use common::time::Timestamp;
use lines::Lines;
use spool::envelope::Body;
use spool::id::QueueId;

/// Most of the original's header that is returned, in octets.
pub const MAX_HEADER: usize = 64 * 1024;
/// Most recipients that one notification tells about; for more there are several.
pub const MAX_REPORTS: usize = 1000;

/// To whom it goes, and about what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To the sender of the message.
    Bounce,
    /// To the postmaster, about a message that came from the null sender.
    DoubleBounce,
    /// To the sender of a message that is late.
    Delay,
    /// To the sender of a message who asked to be told of success.
    Success,
}

/// Everything that a notification says.
#[derive(Debug)]
pub struct Notification<'a> {
    /// What it is about.
    pub kind: Kind,
    /// The words.
    pub texts: &'a Texts,
    /// This machine.
    pub hostname: &'a Domain,
    /// Who gets it.
    pub to: &'a Address,
    /// The notification's own queue ID.
    pub id: QueueId,
    /// The queue ID of the message that it is about.
    pub original_id: QueueId,
    /// The sender's name for that message.
    pub envelope_id: Option<&'a EnvelopeId>,
    /// When that message was accepted.
    pub arrived: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// Until when late mail is tried.
    pub retry_until: Timestamp,
    /// What became of whom; at most [`MAX_REPORTS`].
    pub reports: &'a [Report<'a>],
    /// The original's content, or its beginning.
    pub original: &'a [u8],
    /// Is `original` all of it, and may it be returned whole? Otherwise its header is cut out.
    pub whole: bool,
    /// Was the original sent with SMTPUTF8? Then its addresses and its header may be shown as they are (RFC 6533).
    pub utf8: bool,
}

/// What became of a recipient.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Where it was sent.
    pub address: &'a Address,
    /// The address before we expanded it, when that differs.
    pub original: Option<&'a Address>,
    /// The address as the sender named it (ORCPT), which need not be one of the Internet.
    pub named: Option<&'a OriginalRecipient>,
    /// In a word.
    pub action: Action,
    /// What happened.
    pub status: &'a Status,
}

/// What was done (RFC 3464 2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Given up.
    Failed,
    /// Not yet.
    Delayed,
    /// In the mailbox.
    Delivered,
    /// Passed on to a system that sends no notifications.
    Relayed,
    /// Passed on to several addresses.
    Expanded,
}

/// The content of the notification and what its envelope must say about the body.
pub fn compose(n: &Notification<'_>) -> (Vec<u8>, Body) {
    let whole = n.whole && is_well_formed(n.original);
    let header = if whole { n.original.to_vec() } else { header_of(n.original) };
    let text = texts::for_people(n, whole);
    let mut status = Lines::default();
    report::for_programs(&mut status, n);
    let status = status.into_bytes();
    let ascii = text.is_ascii() && header.is_ascii() && status.is_ascii() && n.to.is_ascii();
    // RFC 6533 4, 5: the types whose fields may be UTF-8.
    let global = |bytes: &[u8]| n.utf8 && !header_of(bytes).is_ascii();
    let encoding = |ascii| if ascii { "7bit" } else { "8bit" };
    let boundary = boundary(n.id, &[&text, &status, &header]);
    let host = n.hostname;
    let mut out = Lines::default();
    out.line(&format!("Received: by {host} (Ironpost) id {};", n.id));
    out.line(&format!("\t{}", n.now.rfc5322()));
    out.line(&format!("Date: {}", n.now.rfc5322()));
    out.line(&format!("From: MAILER-DAEMON@{host} (Mail Delivery System)"));
    out.line(&format!("To: {}", n.to));
    texts::subject(&mut out, n);
    // RFC 3834 5: nobody's program shall answer this.
    out.line("Auto-Submitted: auto-replied");
    out.line("MIME-Version: 1.0");
    out.line("Content-Type: multipart/report; report-type=delivery-status;");
    out.line(&format!("\tboundary=\"{boundary}\""));
    out.line(&format!("Content-Transfer-Encoding: {}", encoding(ascii)));
    out.line(&format!("Message-ID: <{}@{host}>", n.id));
    out.line("");
    out.line("This is a MIME-encapsulated message.");
    out.line("");
    out.line(&format!("--{boundary}"));
    out.line("Content-Description: Notification");
    if text.is_ascii() {
        out.line("Content-Type: text/plain; charset=us-ascii");
    } else {
        out.line("Content-Type: text/plain; charset=utf-8");
        out.line("Content-Transfer-Encoding: 8bit");
    }
    out.line("");
    out.raw(&text);
    out.line("");
    out.line(&format!("--{boundary}"));
    out.line("Content-Description: Delivery report");
    if status.is_ascii() {
        out.line("Content-Type: message/delivery-status");
    } else {
        out.line("Content-Type: message/global-delivery-status");
        out.line("Content-Transfer-Encoding: 8bit");
    }
    out.line("");
    out.raw(&status);
    out.line("");
    out.line(&format!("--{boundary}"));
    if whole {
        out.line("Content-Description: Undelivered message");
        let kind = if global(n.original) { "message/global" } else { "message/rfc822" };
        out.line(&format!("Content-Type: {kind}"));
    } else {
        out.line(match n.kind {
            Kind::Bounce | Kind::DoubleBounce => "Content-Description: Header of the undelivered message",
            Kind::Delay => "Content-Description: Header of the delayed message",
            Kind::Success => "Content-Description: Header of the message",
        });
        let kind = if global(n.original) { "message/global-headers" } else { "text/rfc822-headers" };
        out.line(&format!("Content-Type: {kind}"));
    }
    out.line(&format!("Content-Transfer-Encoding: {}", encoding(header.is_ascii())));
    out.line("");
    out.raw(&header);
    out.line("");
    out.line(&format!("--{boundary}--"));
    let utf8 = !n.to.is_ascii() || !status.is_ascii() || global(n.original);
    let body = match (utf8, ascii) {
        (true, _) => Body::Utf8,
        (false, true) => Body::SevenBit,
        (false, false) => Body::EightBitMime,
    };
    (out.into_bytes(), body)
}

/// May it be passed on as it is (RFC 5322 2.1.1, 2.3)?
fn is_well_formed(content: &[u8]) -> bool {
    let line_is_good = |line: &[u8]| {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        text.len() <= 998 && !text.iter().any(|b| matches!(b, 0 | b'\r'))
    };
    content.ends_with(b"\r\n") && has_header(content) && content.split(|b| *b == b'\n').all(line_is_good)
}

/// Does it begin with header fields and an empty line? What does not is no `message/rfc822`.
fn has_header(content: &[u8]) -> bool {
    let mut lines = content.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let is_field = |line: &[u8]| {
        let name = line.iter().position(|b| *b == b':').and_then(|colon| line.get(..colon));
        matches!(line.first(), Some(b' ' | b'\t'))
            || name.is_some_and(|name| !name.is_empty() && name.iter().all(|b| (33..127).contains(b)))
    };
    lines.find(|line| line.is_empty() || !is_field(line)).is_some_and(<[u8]>::is_empty)
}

/// A boundary that does not occur in these parts. The other one holds no line that begins with `--`.
fn boundary(id: QueueId, parts: &[&[u8]]) -> String {
    let occurs = |candidate: &str| {
        parts.iter().any(|part| part.windows(candidate.len()).any(|window| window == candidate.as_bytes()))
    };
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
