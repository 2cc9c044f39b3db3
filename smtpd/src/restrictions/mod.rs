//! Restrictions: ordered lists, one for each stage, of small pure functions over what is known of a session.
//!
//! A restriction that lacks a fact asks for it ([`Need`]); whoever calls [`evaluate`] finds it, and calls again. Nothing is decided
//! before all facts that come before the decision are there, and looking again with more facts never changes what was decided. No I/O, no
//! clock. Words of refusals are Postfix's, each with the address or name that is refused and an enhanced code.
//!
//! | file | rules about |
//! | --- | --- |
//! | `client`, `hello`, `addresses` | the client's name; the name in HELO; sender and recipient |
//! | `lists`, `tables` | DNS lists; access tables, greylisting |
//! | [`facts`] | what is known, and what can be asked for |

mod addresses;
mod client;
pub mod facts;
mod hello;
mod lists;
mod tables;
#[cfg(test)]
mod tests;

pub use facts::{ClientName, Facts, Finding, Found, Key, Listing, MailDomain, Need};

use crate::session::reply::Reply;
use common::config::Dnsbl;
use common::config::restrictions::{Check, Plain, Rule, Subject};
use common::status::EnhancedCode;

/// What one restriction says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// The list ends here.
    Permit,
    /// The next one decides.
    Dunno,
    /// No.
    Refuse(Reply),
    /// It could not be found out; if nothing refuses for good, the client is to come again.
    DeferIfPermit(Reply),
    /// As `Dunno`, and the log tells.
    Note(String),
}

/// A verdict, or what must be known for one: never empty.
type Checked = Result<Verdict, Vec<Need>>;

/// Something for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// This would have been refused, but for `warn:`.
    Spared(Reply),
    /// An access table says WARN.
    Warning(String),
}

/// What the lists come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Find these, then call again.
    Find(Vec<Need>),
    /// Decided.
    Done {
        /// `None`: let it pass.
        refusal: Option<Reply>,
        /// In the order of the restrictions.
        notes: Vec<Note>,
    },
}

/// Goes through the lists, each to its first permission or refusal.
pub fn evaluate(lists: &[&[Rule]], dnsbl: &Dnsbl, facts: &Facts, found: &Found) -> Step {
    let mut notes = Vec::new();
    let mut deferred = None;
    for list in lists {
        for rule in *list {
            let verdict = match check(&rule.check, dnsbl, facts, found) {
                Ok(verdict) => verdict,
                Err(needs) => return Step::Find(needs),
            };
            match verdict {
                Verdict::Permit if rule.warn => {}
                Verdict::Permit => break,
                Verdict::Dunno => {}
                Verdict::Note(text) => notes.push(Note::Warning(text)),
                Verdict::Refuse(reply) | Verdict::DeferIfPermit(reply) if rule.warn => {
                    notes.push(Note::Spared(reply));
                }
                Verdict::DeferIfPermit(reply) => {
                    deferred.get_or_insert(reply);
                }
                Verdict::Refuse(reply) => return Step::Done { refusal: Some(reply), notes },
            }
        }
    }
    Step::Done { refusal: deferred, notes }
}

fn check(check: &Check, dnsbl: &Dnsbl, facts: &Facts, found: &Found) -> Checked {
    match check {
        Check::Plain(plain) => self::plain(*plain, dnsbl, facts, found),
        Check::Access(subject, path) => tables::access(*subject, path, facts, found),
        Check::Listed(subject, site) => lists::listed(*subject, site, facts, found),
        Check::Allowed(site) => lists::allowed(site, facts, found),
    }
}

fn plain(plain: Plain, dnsbl: &Dnsbl, facts: &Facts, found: &Found) -> Checked {
    match plain {
        Plain::Permit => Ok(Verdict::Permit),
        Plain::Reject => Ok(refuse(554, (5, 7, 1), facts, facts.latest(), "Access denied")),
        Plain::Defer => Ok(refuse(450, (4, 7, 1), facts, facts.latest(), "Try again later")),
        Plain::PermitMynetworks if facts.trusted => Ok(Verdict::Permit),
        Plain::PermitMynetworks => Ok(Verdict::Dunno),
        Plain::PermitSasl if facts.login.is_some() => Ok(Verdict::Permit),
        Plain::PermitSasl => Ok(Verdict::Dunno),
        Plain::SenderLogin => addresses::not_own(facts, found, (true, true)),
        Plain::AuthenticatedSenderLogin => addresses::not_own(facts, found, (true, false)),
        Plain::UnauthenticatedSenderLogin => addresses::not_own(facts, found, (false, true)),
        Plain::PermitTlsClientcerts if facts.certificate_listed => Ok(Verdict::Permit),
        Plain::PermitTlsAllClientcerts if facts.is_vouched_for() => Ok(Verdict::Permit),
        Plain::PermitTlsClientcerts | Plain::PermitTlsAllClientcerts => Ok(Verdict::Dunno),
        Plain::UnknownClient => client::unknown(facts, found),
        Plain::UnknownReverse => client::unknown_reverse(facts, found),
        Plain::InvalidHelo => Ok(hello::invalid(facts)),
        Plain::NonFqdnHelo => Ok(hello::not_qualified(facts)),
        Plain::UnknownHelo => hello::unknown(facts, found),
        Plain::NonFqdnSender => Ok(addresses::not_qualified(facts, Subject::Sender)),
        Plain::NonFqdnRecipient => Ok(addresses::not_qualified(facts, Subject::Recipient)),
        Plain::UnknownSenderDomain => addresses::unknown_domain(facts, Subject::Sender, found),
        Plain::UnknownRecipientDomain => addresses::unknown_domain(facts, Subject::Recipient, found),
        Plain::UnauthDestination => addresses::elsewhere(facts, found),
        Plain::UnlistedRecipient => addresses::unlisted(facts, found),
        Plain::MultiRecipientBounce => Ok(addresses::bounce_to_many(facts)),
        Plain::Dnsbl => lists::weighed(dnsbl, facts, found),
        Plain::Greylist => tables::greylist(facts, found),
    }
}

/// `<WHAT>: … rejected: WHY`, Postfix's form.
fn rejected(code: u16, enhanced: (u8, u16, u16), facts: &Facts, subject: Subject, why: &str) -> Reply {
    let (class, subject_, detail) = enhanced;
    let words = match subject {
        Subject::Client => "Client host rejected",
        Subject::Certificate => "Client certificate rejected",
        Subject::Helo => "Helo command rejected",
        Subject::Sender => "Sender address rejected",
        Subject::Recipient => "Recipient address rejected",
    };
    let text = format!("<{}>: {words}: {why}", facts.shown(subject));
    Reply::new(code, EnhancedCode::new(class, subject_, detail), text)
}

fn refuse(code: u16, enhanced: (u8, u16, u16), facts: &Facts, subject: Subject, why: &str) -> Verdict {
    Verdict::Refuse(rejected(code, enhanced, facts, subject, why))
}
