//! What becomes of a recipient, in Postfix's words: from replies, lost connections and our own refusals to
//! [`Status`] values.

use super::phase::Phase;
use super::reply::Reply;
use common::status::{EnhancedCode, MAX_STATUS_TEXT, Outcome, Status};
use common::text::printable;
use std::fmt;
use std::net::SocketAddr;

/// The server at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The exchange's name, or its address as text when it was named by address.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
}

impl Peer {
    /// `name[ip]:port`, for `relay=` and reports.
    pub fn relay(&self) -> String {
        format!("{self}:{}", self.address.port())
    }
}

impl fmt::Display for Peer {
    /// `name[ip]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.name, self.address.ip())
    }
}

/// May a recipient that was not delivered be tried again within this attempt?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// No: it is final, or a second copy could result.
    No,
    /// At the next host.
    NextHost,
    /// In another transaction of this session: this one was full (RFC 5321 4.5.3.1.10).
    NextTransaction,
}

/// The result for one recipient of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is reported if nothing better follows.
    pub status: Status,
    /// What may follow.
    pub retry: Retry,
}

impl Verdict {
    /// By status alone: what is deferred may be tried at the next host.
    pub fn of(status: Status) -> Self {
        let retry = if status.outcome == Outcome::Deferred { Retry::NextHost } else { Retry::No };
        Self { status, retry }
    }
}

/// Room for what the server said, so that what stands behind it survives the cut.
const SAID: usize = MAX_STATUS_TEXT - 200;

const fn generic(outcome: Outcome) -> EnhancedCode {
    EnhancedCode::new(
        match outcome {
            Outcome::Delivered => 2,
            Outcome::Deferred => 4,
            Outcome::Failed => 5,
        },
        0,
        0,
    )
}

fn from_reply(peer: &Peer, reply: &Reply, outcome: Outcome, text: &str) -> Status {
    let said = printable(&reply.to_string(), MAX_STATUS_TEXT);
    said_as(peer, reply, outcome, printable(text, MAX_STATUS_TEXT), said)
}

/// `text` and `said`, the reply, are printable already.
fn said_as(peer: &Peer, reply: &Reply, outcome: Outcome, text: String, said: String) -> Status {
    Status {
        outcome,
        code: reply.enhanced().map_or(generic(outcome), |code| code.with_class(outcome)),
        text,
        remote: Some(peer.relay()),
        reply: Some(said),
    }
}

/// The server took the message.
pub fn accepted(peer: &Peer, reply: &Reply) -> Status {
    let said = printable(&reply.to_string(), MAX_STATUS_TEXT);
    said_as(peer, reply, Outcome::Delivered, said.clone(), said)
}

/// The server refused a command.
pub fn refused(peer: &Peer, reply: &Reply, phase: Phase) -> Verdict {
    let said = printable(&reply.to_string(), SAID);
    let text = format!("host {peer} said: {said} (in reply to {})", phase.command());
    // RFC 5321 4.5.3.1.10: 552 to RCPT means the same as 452, too many recipients.
    let full = phase == Phase::Rcpt && matches!(reply.code(), 452 | 552);
    // RFC 4954 6: we should have logged in, or otherwise. An admin will mend that; the mail is not at fault.
    let login = matches!(reply.code(), 530 | 534 | 535 | 538);
    let deferred = full || login;
    let outcome = if deferred { Outcome::Deferred } else { Outcome::from_class(reply.class()) };
    let status = from_reply(peer, reply, outcome, &text);
    // An enhanced code may say that something else is full, a mailbox for instance: another transaction
    // does not help then.
    let too_many = reply.enhanced().is_none_or(|code| code.subject() == 5 && code.detail() == 3);
    if full && too_many { Verdict { status, retry: Retry::NextTransaction } } else { Verdict::of(status) }
}

/// The server does not want to talk to us at all: its reply to the connection, to EHLO or to HELO. A 5xx
/// greeting counts as "not now", as with Postfix: it is more often a server in trouble than one that will
/// never take mail.
pub fn unwilling(peer: &Peer, reply: &Reply, phase: Phase) -> Status {
    let outcome = match phase {
        Phase::Greeting => Outcome::Deferred,
        _ => Outcome::from_class(reply.class()),
    };
    let said = printable(&reply.to_string(), SAID);
    from_reply(peer, reply, outcome, &format!("host {peer} refused to talk to me: {said}"))
}

/// TLS is wanted at any price, and the server does not offer it.
pub fn tls_not_offered(peer: &Peer) -> Status {
    const CODE: EnhancedCode = EnhancedCode::new(4, 7, 4);
    let text = format!("TLS is required, but was not offered by host {peer}");
    Status { remote: Some(peer.relay()), ..Status::local(CODE, text) }
}

/// TLS is wanted at any price, and the server answered STARTTLS with a refusal. That may pass.
pub fn tls_refused(peer: &Peer, reply: &Reply) -> Status {
    let said = printable(&reply.to_string(), SAID);
    let text = format!("TLS is required, but host {peer} refused to start TLS: {said}");
    Status { code: EnhancedCode::new(4, 7, 4), ..from_reply(peer, reply, Outcome::Deferred, &text) }
}

/// The handshake did not come to its end, or to one that is good enough.
pub fn tls_failed(peer: &Peer, what: &str) -> Status {
    const CODE: EnhancedCode = EnhancedCode::new(4, 7, 5);
    let what = printable(what, SAID);
    Status { remote: Some(peer.relay()), ..Status::local(CODE, what) }
}

/// The server does not let us log in. The password can be mended: nothing is returned because of it. `complaint`: what it said
/// before about a token.
pub fn login_refused(peer: &Peer, reply: &Reply, complaint: Option<&str>) -> Status {
    let said = printable(&reply.to_string(), SAID - 250);
    let complaint = complaint.map(|text| format!(" (about the token: {text})")).unwrap_or_default();
    let text = format!("SASL authentication failed; server {peer} said: {said}{complaint}");
    let status = from_reply(peer, reply, Outcome::Deferred, &text);
    let code = if reply.enhanced().is_some() { status.code } else { EnhancedCode::new(4, 7, 8) };
    Status { code, ..status }
}

/// We do not go on logging in.
pub fn login_given_up(peer: &Peer, why: &str) -> Status {
    const CODE: EnhancedCode = EnhancedCode::new(4, 7, 0);
    let text = format!("SASL authentication failed; server {peer}: {why}");
    Status { remote: Some(peer.relay()), ..Status::local(CODE, text) }
}

/// A reply that no server may give at this point, or octets that are no reply.
pub fn protocol_error(peer: &Peer, phase: Phase, what: &str) -> Status {
    const CODE: EnhancedCode = EnhancedCode::new(4, 5, 0);
    let what = printable(what, SAID);
    let text = format!("protocol error in conversation with {peer} while {}: {what}", phase.doing());
    Status { remote: Some(peer.relay()), ..Status::local(CODE, text) }
}

/// How a connection ended without a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Closed or reset by the other side.
    Connection,
    /// Nothing came (or was taken) in time.
    Timeout,
    /// We gave up before that: the attempt was called off.
    Stopped,
}

/// The connection went away.
pub fn lost(peer: &Peer, phase: Phase, how: Lost) -> Status {
    const CODE: EnhancedCode = EnhancedCode::new(4, 4, 2);
    let text = match how {
        Lost::Connection => format!("lost connection with {peer} while {}", phase.doing()),
        Lost::Timeout => format!("conversation with {peer} timed out while {}", phase.doing()),
        Lost::Stopped => format!("conversation with {peer} was stopped while {}", phase.doing()),
    };
    Status { remote: Some(peer.relay()), ..Status::local(CODE, text) }
}

/// The message needs SMTPUTF8, and the server does not offer it (RFC 6531 3.2); nothing was sent.
pub fn no_utf8(peer: &Peer) -> Status {
    const CODE: EnhancedCode = EnhancedCode::new(5, 6, 7);
    let text = format!("SMTPUTF8 is required, but was not offered by host {peer}");
    Status { remote: Some(peer.relay()), ..Status::local(CODE, text) }
}

/// The message is larger than the server takes (RFC 1870 6.1); nothing was sent.
pub fn too_large(peer: &Peer, size: u64, limit: u64) -> Status {
    const CODE: EnhancedCode = EnhancedCode::new(5, 3, 4);
    let text = format!("message size {size} exceeds size limit {limit} of server {peer}");
    Status { remote: Some(peer.relay()), ..Status::local(CODE, text) }
}
