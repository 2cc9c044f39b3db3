//! One job from its nexthop to a status for every recipient: an idle session if there is one, else host
//! after host.
//!
//! A recipient that is only deferred is tried at the next host, within Postfix's limits (`MAX_SESSIONS`,
//! [`super::plan::MAX_ADDRESSES`]); whoever is delivered or failed is done. Recipients that did not fit
//! into a transaction follow in another one. What may already have been taken (a connection lost after the
//! end of data) is not sent to another host. Everything ends with the job's deadline.

use super::client::{Cause, Encryption, Order, Refusal, Retry, Target};
use super::connect::{Connected, Dialer};
use super::content::Content;
use super::deadline::Deadline;
use super::driver::{Opening, Session};
use super::memory::Memory;
use super::pool::Pool;
use super::report::{Line, Relay, Report};
use super::resolve::{self, Candidate, Dns, Ourselves};
use super::tls::{Outbound, Security};
use common::address::Domain;
use common::destination::Nexthop;
use common::dsn::OriginalRecipient;
use common::oauth::Secret;
use common::status::{EnhancedCode, Outcome, Status};
use common::time::Timestamp;
use spool::dispatch::{Job, JobRecipient};
use spool::envelope::Body;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Most sessions of an attempt that got past EHLO (Postfix's smtp_mx_session_limit).
const MAX_SESSIONS: u32 = 2;

/// What an attempt needs to know; replaced as a whole when the configuration is read anew.
#[derive(Debug)]
pub struct Context<D> {
    /// For EHLO.
    pub hello_name: Domain,
    /// Where servers listen, unless a nexthop says otherwise.
    pub port: u16,
    /// The configured one: its failures are mistakes to be mended.
    pub relay_host: Option<Nexthop>,
    /// For finding loops.
    pub ourselves: Ourselves,
    /// The DNS.
    pub dns: D,
    /// How well mail is protected on its way.
    pub tls: Arc<Outbound>,
    /// Shared by all attempts.
    pub memory: Arc<Memory>,
    /// Shared by all attempts.
    pub pool: Arc<Pool<TcpStream>>,
}

/// Delivers `job`. Never fails as a whole: the report has a line for each recipient.
pub async fn deliver<D: Dns>(
    job: &Job,
    content: &Content,
    context: &Context<D>,
    mut deadline: Deadline,
) -> Report {
    let mut attempt = Attempt { job, content, lines: vec![None; job.recipients.len()], reached: false };
    match find(context, &job.nexthop, &mut deadline).await {
        Ok(candidates) => attempt.host_after_host(context, candidates, &mut deadline).await,
        Err(status) => {
            // A destination that does not exist is no host in trouble.
            attempt.reached = status.outcome == Outcome::Failed;
            attempt.note(&status, None);
        }
    }
    attempt.report()
}

struct Attempt<'a> {
    job: &'a Job,
    content: &'a Content,
    /// What is known of each recipient, and whether another host may be tried.
    lines: Vec<Option<(Line, Retry)>>,
    reached: bool,
}

impl Attempt<'_> {
    /// Recipients for whom a host is still to be tried.
    fn open(&self) -> Vec<usize> {
        let is_open = |line: &Option<(Line, Retry)>| !matches!(line, Some((_, Retry::No)));
        self.lines.iter().enumerate().filter(|(_, line)| is_open(line)).map(|(i, _)| i).collect()
    }

    async fn host_after_host<D: Dns>(
        &mut self,
        context: &Context<D>,
        mut candidates: Vec<Candidate>,
        deadline: &mut Deadline,
    ) {
        let mut sessions = 0;
        let nexthop = &self.job.nexthop;
        let security = context.tls.security(nexthop, &self.job.sender);
        if let Some(mut session) = idle_session(context, nexthop, &security, &candidates).await {
            let untouched = self.use_session(&mut session, deadline).await;
            if !untouched {
                let address = session.peer().address;
                candidates.retain(|candidate| candidate.address != address);
                sessions += 1;
            }
            context.pool.give(nexthop, &security, session);
        }
        let mut dialer = Dialer::new(candidates, context.memory.clone());
        // The one server whose TLS has just failed, and which now gets its chance without.
        let mut plain = None;
        let (mut token, mut renewed) = (None, false);
        while sessions < MAX_SESSIONS && !self.open().is_empty() {
            if token.is_none() {
                token = match context.tls.token(&security, deadline).await {
                    Ok(token) => token,
                    Err(status) => return self.note(&status, None),
                };
            }
            let Some(connected) = dialer.next(deadline).await else { break };
            let (candidate, began) = (connected.candidate.clone(), connected.began);
            let address = candidate.address;
            let relay = Relay::new(&connected.peer);
            let secured =
                Secured { security: &security, token: token.as_ref(), plain: plain == Some(address) };
            // Boxed: with all that a handshake needs it is large, and most jobs find an open session.
            match Box::pin(open(context, nexthop, secured, connected, deadline)).await {
                Ok(mut session) => {
                    context.tls.logged_in(&security);
                    context.memory.succeeded(address.ip(), session.greeted() - began);
                    sessions += 1;
                    self.use_session(&mut session, deadline).await;
                    context.pool.give(nexthop, &security, session);
                }
                Err((_, true)) if plain != Some(address) && !deadline.is_over() => {
                    common::warn!("{}: TLS does not work there; trying again without", relay.host);
                    plain = Some(address);
                    dialer.again(candidate);
                }
                Err((refusal, _))
                    if refusal.cause == Cause::Token
                        && !std::mem::replace(&mut renewed, true)
                        && context.tls.token_refused(&security, token.as_ref()) =>
                {
                    common::info!("{}: {}; trying again with a new token", relay.host, refusal.status.text);
                    token = None;
                    dialer.again(candidate);
                }
                Err((refusal, _)) => {
                    let login = matches!(refusal.cause, Cause::Login | Cause::Token);
                    if !deadline.is_over() {
                        context.memory.failed(address.ip());
                    }
                    self.note(&refusal.status, Some(relay));
                    if login {
                        // Another host would not take the password either, and too many failures lock an
                        // account.
                        context.tls.complain(&security, nexthop, &refusal.status);
                        return;
                    }
                }
            }
        }
        if let Some(status) = dialer.failure() {
            self.note(&status, None);
        }
    }

    /// As many transactions as the recipients need that this session can take. True when the server had
    /// closed it before the first.
    async fn use_session(&mut self, session: &mut Session<TcpStream>, deadline: &mut Deadline) -> bool {
        let connected = Timestamp::now();
        let mut batch = self.open();
        loop {
            let order = self.order(&batch);
            let ended = session.transact(order, self.content, deadline).await;
            if ended.untouched && session.transactions() > 1 && !deadline.is_over() {
                // Nothing was said about these recipients: what they had stays.
                return true;
            }
            self.reached = true;
            let decided = Timestamp::now();
            let relay = Relay { host: session.peer().relay(), transaction: session.transactions() };
            let mut next = Vec::new();
            let mut progress = false;
            let takes_over = session.offers_dsn();
            for (i, verdict) in batch.into_iter().zip(ended.verdicts) {
                progress |= verdict.status.outcome == Outcome::Delivered;
                if verdict.retry == Retry::NextTransaction {
                    next.push(i);
                }
                let line = Line {
                    handed_over: takes_over && verdict.status.outcome == Outcome::Delivered,
                    status: verdict.status,
                    relay: Some(relay.clone()),
                    connected: Some(connected),
                    decided,
                };
                if let Some(slot) = self.lines.get_mut(i) {
                    *slot = Some((line, verdict.retry));
                }
            }
            if next.is_empty() || !progress || !session.is_reusable() {
                return false;
            }
            batch = next;
        }
    }

    fn order(&self, batch: &[usize]) -> Order {
        let recipients = batch.iter().filter_map(|i| self.job.recipients.get(*i));
        Order {
            sender: self.job.sender.clone(),
            recipients: recipients.map(target).collect(),
            size: self.content.size(),
            eight_bit: self.job.content.eight_bit || self.job.body != Body::SevenBit,
            utf8_header: self.job.body == Body::Utf8 && self.job.content.eight_bit_header,
            dsn: self.job.dsn.clone(),
        }
    }

    /// A failure before any transaction, for the recipients that are still open. It does not replace what a
    /// server said about a recipient. Of a final failure and a passing one of another host the passing one stays, in
    /// whatever order they come: that host may take the mail later.
    fn note(&mut self, status: &Status, relay: Option<Relay>) {
        let decided = Timestamp::now();
        for i in self.open() {
            let Some(slot) = self.lines.get_mut(i) else { continue };
            let keep = slot.as_ref().is_some_and(|(line, _)| {
                let said = line.relay.as_ref().is_some_and(|relay| relay.transaction > 0);
                let passing = line.status.outcome != Outcome::Failed;
                said || status.outcome == Outcome::Failed
                    || (passing && line.relay.is_some() && relay.is_none())
            });
            if !keep {
                let (status, relay) = (status.clone(), relay.clone());
                let line = Line { status, relay, connected: None, decided, handed_over: false };
                *slot = Some((line, Retry::NextHost));
            }
        }
    }

    fn report(self) -> Report {
        let decided = Timestamp::now();
        let nexthop = &self.job.nexthop;
        let lines = self.lines.into_iter().map(|line| match line {
            Some((line, _)) => line,
            None => {
                let text = format!("no host of {nexthop} was reached within the time limit");
                let status = Status::local(EnhancedCode::new(4, 4, 1), text);
                Line { status, relay: None, connected: None, decided, handed_over: false }
            }
        });
        Report { lines: lines.collect(), reached: self.reached }
    }
}

/// A recipient without ORCPT gets one, as with Postfix: the address by which it came to us (RFC 3461 5.2.1).
fn target(recipient: &JobRecipient) -> Target {
    let mut dsn = recipient.dsn.clone();
    let came_as = recipient.original.as_ref().unwrap_or(&recipient.address);
    dsn.original = dsn.original.or_else(|| OriginalRecipient::of(came_as));
    Target { address: recipient.address.clone(), dsn }
}

/// How a session is to be protected.
struct Secured<'a> {
    security: &'a Security,
    /// To log in with, where it is no password.
    token: Option<&'a Secret>,
    /// TLS has just failed with this server.
    plain: bool,
}

/// Opens a session over a new connection. An error says whether it may be tried again without TLS.
async fn open<D: Dns>(
    context: &Context<D>,
    nexthop: &Nexthop,
    secured: Secured<'_>,
    connected: Connected,
    deadline: &mut Deadline,
) -> Result<Box<Session<TcpStream>>, (Refusal, bool)> {
    let (security, peer) = (secured.security, connected.peer);
    let terms = context.tls.terms(security, secured.token, peer.address, secured.plain).map_err(|what| {
        let status = Status::local(EnhancedCode::new(4, 3, 0), format!("mail system: {what}"));
        (Refusal { status, cause: Cause::Server }, false)
    })?;
    let opening = Opening {
        stream: connected.stream,
        secure: (terms.encryption != Encryption::Never).then(|| context.tls.secure(security, nexthop, &peer)),
        hello_name: context.hello_name.clone(),
        terms: terms.clone(),
        peer: peer.clone(),
    };
    Session::open(opening, deadline).await.map_err(|refusal| {
        let again =
            refusal.cause == Cause::Handshake && context.tls.goes_on_in_plain(security, &terms, peer.address);
        (refusal, again)
    })
}

/// An open session with the host that is first in line; hosts in trouble are passed over, so that mail flows to the next one while they are down.
async fn idle_session<D: Dns>(
    context: &Context<D>,
    nexthop: &Nexthop,
    security: &Security,
    candidates: &[Candidate],
) -> Option<Box<Session<TcpStream>>> {
    let first = candidates.iter().find(|candidate| !context.memory.is_troubled(candidate.address.ip()));
    context.pool.take(nexthop, first?.address, security).await
}

async fn find<D: Dns>(
    context: &Context<D>,
    nexthop: &Nexthop,
    deadline: &mut Deadline,
) -> Result<Vec<Candidate>, Status> {
    let order = |hosts| context.memory.order(hosts);
    let found = tokio::select! {
        biased;
        found = resolve::find(&context.dns, nexthop, context.port, &context.ourselves, &order) => found,
        _ = deadline.passed() => {
            let text = format!("the name service did not answer about {nexthop} within the time limit");
            return Err(Status::local(EnhancedCode::new(4, 4, 3), text));
        }
    };
    found.map_err(|status| match &context.relay_host {
        Some(relay_host) if relay_host == nexthop => {
            let status = resolve::of_configured_host(status);
            common::warn!("relay_host {nexthop}: {}", status.text);
            status
        }
        _ => status,
    })
}

#[cfg(test)]
mod tests;
