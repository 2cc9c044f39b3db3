//! Answers a session's questions of policy: goes through the restrictions of the stage, has found what they ask for, and writes what is to
//! be noted into the log.
//!
//! Whatever the restrictions say, mail for elsewhere is taken from clients only that are trusted or in `relay_clientcerts`: that is asked first, and no list can permit it.
//! Holds what is known of one session; bounded. What cannot be found out in time is for another time (4xx).

use crate::claims;
use crate::policy::{self, Standing};
use crate::rates::Kind;
use crate::restrictions::{self, Facts, Finding, Found, Need, Note, Step};
use crate::rules::{Entrance, Rules};
use crate::server::Shared;
use crate::session::auth::Login;
use crate::session::reply::Reply;
use crate::session::{Answer, Client};
use common::address::{Address, ReversePath};
use common::config::restrictions::{Check, Rule, Subject};
use common::config::{Network, Restrictions};
use common::status::EnhancedCode;
use common::text::printable;
use common::tls::{ClientCertificate, Shown};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::task::JoinSet;

#[cfg(test)]
mod tests;

/// Rounds of look-ups for one decision: more than any list needs, so that a mistake of ours cannot go round for ever.
const ROUNDS: usize = 1000;
/// Longest name or address in a log line, in octets.
const SHOWN: usize = 300;

/// One session's judge.
#[derive(Debug)]
pub struct Judge {
    rules: Arc<Rules>,
    shared: Arc<Shared>,
    /// The address that the client has connected to.
    local: IpAddr,
    entrance: Entrance,
    /// Nobody knows whose this address is.
    distrusted: bool,
    facts: Facts,
    found: Found,
}

impl Judge {
    /// For a client that has connected to `local`.
    pub fn new(
        client: Client,
        (local, entrance): (IpAddr, Entrance),
        rules: Arc<Rules>,
        shared: Arc<Shared>,
    ) -> Self {
        let facts = Facts::new(client.clone(), rules.trusts(client.ip));
        Self { facts, found: Found::default(), rules, shared, local, entrance, distrusted: false }
    }

    /// Who has logged in by now.
    pub fn is_for(&mut self, login: Option<&Arc<Login>>) {
        self.facts.login = login.cloned();
    }

    /// The lists that hold here.
    fn lists(rules: &Rules, entrance: Entrance) -> &Restrictions {
        if entrance.is_submission() { &rules.submission_restrictions } else { &rules.restrictions }
    }

    /// This client is nobody to trust, whatever its address; also when it gets a name.
    pub fn distrust(&mut self) {
        self.distrusted = true;
        self.facts.trusted = false;
    }

    /// The connection is encrypted, and this is what the client has shown.
    pub fn secured(&mut self, certificate: &ClientCertificate) {
        self.facts.certificate = certificate.shown().cloned();
        let listed = |shown: &Arc<Shown>| self.rules.has_clientcert(&shown.fingerprints());
        self.facts.certificate_listed = self.facts.certificate.as_ref().is_some_and(listed);
    }

    /// Is this the client, by its address?
    pub fn serves(&self, client: &Client) -> bool {
        self.facts.client.ip == client.ip
    }

    /// Is the client in `trusted_networks`?
    pub fn trusts(&self) -> bool {
        self.facts.trusted
    }

    /// May the client come? Also when it has become another one, which has connected to `destination`, and has said already that its name is
    /// `hello`.
    pub async fn connect(
        &mut self,
        client: &Client,
        destination: Option<IpAddr>,
        hello: Option<&str>,
    ) -> Answer {
        self.local = destination.unwrap_or(self.local);
        if self.facts.client != *client {
            self.distrusted &= self.facts.client.ip == client.ip;
            let trusted = !self.distrusted && self.rules.trusts(client.ip);
            let login = self.facts.login.take();
            self.facts = Facts::new(client.clone(), trusted);
            self.facts.login = login;
            self.found = Found::default();
        }
        (self.facts.hello, self.facts.sender, self.facts.recipient) = (None, None, None);
        match self.connected(hello).await {
            Ok(()) => Answer::Yes,
            Err(refusal) => Answer::Refused(last_word(&refusal)),
        }
    }

    async fn connected(&mut self, hello: Option<&str>) -> Result<(), Reply> {
        let rules = self.rules.clone();
        let lists = Self::lists(&rules, self.entrance);
        self.at_stage("CONNECT", &[&lists.connect]).await?;
        let Some(name) = hello else { return Ok(()) };
        self.facts.hello = Some(name.into());
        self.at_stage("HELO", &[&lists.helo]).await
    }

    /// HELO or EHLO. A name that is refused is not remembered.
    pub async fn hello(&mut self, name: &str) -> Answer {
        let rules = self.rules.clone();
        let before = self.facts.hello.replace(name.into());
        let (sender, recipient) = (self.facts.sender.take(), self.facts.recipient.take());
        let answer = self.at_stage("HELO", &[&Self::lists(&rules, self.entrance).helo]).await;
        if answer.is_err() {
            self.facts.hello = before;
            (self.facts.sender, self.facts.recipient) = (sender, recipient);
        }
        into_answer(answer)
    }

    /// MAIL, with so many octets free in the spool's file system.
    pub async fn sender(&mut self, sender: ReversePath, size: Option<u64>, free: Option<u64>) -> Answer {
        if let Err(refusal) = policy::room(size, free) {
            return Answer::Refused(refusal);
        }
        self.facts.sender_is_ours =
            sender.address().is_some_and(|address| self.rules.is_ours(address.domain()));
        self.facts.sender = Some(sender);
        self.facts.recipient = None;
        self.found.ask_again();
        if let Err(refusal) = self.count(Kind::Message) {
            return Answer::Refused(refusal);
        }
        if self.entrance.is_submission()
            && let Some(address) = self.facts.sender.as_ref().and_then(ReversePath::address)
            && let Err(refusal) =
                policy::own_sender(self.facts.login.as_deref(), address, &self.rules.owners(address))
        {
            return Answer::Refused(refusal);
        }
        let rules = self.rules.clone();
        into_answer(self.at_stage("MAIL", &[&Self::lists(&rules, self.entrance).mail]).await)
    }

    /// RCPT.
    pub async fn recipient(&mut self, address: Address, bare_postmaster: bool) -> Answer {
        let (address, rewritten) =
            match policy::at_our_address(&address, self.local, self.rules.home.as_ref()) {
                Some(meant) if !self.rules.is_local(address.domain()) => (meant.address.clone(), Some(meant)),
                _ => (address, None),
            };
        self.facts.recipient = Some(address.clone());
        let accepted = self.recipient_accepted(&address, bare_postmaster).await;
        self.facts.recipient = None;
        match accepted {
            Err(refusal) => Answer::Refused(refusal),
            Ok(()) => rewritten.map_or(Answer::Yes, Answer::YesAs),
        }
    }

    async fn recipient_accepted(&mut self, address: &Address, bare_postmaster: bool) -> Result<(), Reply> {
        self.count(Kind::Recipient)?;
        let standing = self.rules.standing(address).await;
        if let Standing::Unsure(reason) = &standing {
            common::warn!("cannot say whether {address} exists: {reason}");
        }
        if !bare_postmaster {
            policy::relay(self.facts.may_relay(), address, &standing)?;
        }
        self.facts.recipient_is_ours = standing != Standing::Elsewhere;
        self.found.insert(Need::Standing(address.clone()), Finding::Standing(standing.clone()));
        let rules = self.rules.clone();
        let lists = Self::lists(&rules, self.entrance);
        let answer = if lists.delay_reject {
            self.decide("RCPT", &[&lists.connect, &lists.helo, &lists.mail, &lists.rcpt]).await
        } else {
            self.decide("RCPT", &[&lists.rcpt]).await
        };
        answer?;
        // RFC 5321 4.5.1: it always exists.
        if bare_postmaster { Ok(()) } else { policy::existing(address, &standing) }
    }

    /// DATA, after so many accepted recipients.
    pub async fn data(&mut self, recipients: usize) -> Answer {
        self.facts.recipients = recipients;
        let rules = self.rules.clone();
        into_answer(self.decide("DATA", &[&Self::lists(&rules, self.entrance).data]).await)
    }

    /// A list that waits for RCPT when refusals are delayed.
    async fn at_stage(&mut self, stage: &str, lists: &[&[Rule]]) -> Result<(), Reply> {
        if Self::lists(&self.rules, self.entrance).delay_reject {
            Ok(())
        } else {
            self.decide(stage, lists).await
        }
    }

    async fn decide(&mut self, stage: &str, lists: &[&[Rule]]) -> Result<(), Reply> {
        let decision = self.weigh(stage, lists).await;
        // However it has ended: what was found for one command must not pile up.
        self.found.tidy();
        decision
    }

    async fn weigh(&mut self, stage: &str, lists: &[&[Rule]]) -> Result<(), Reply> {
        if lists.iter().all(|list| list.is_empty()) {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            match restrictions::evaluate(lists, &self.rules.dnsbl, &self.facts, &self.found) {
                // Boxed: a session that waits for its client need not keep room for the DNS.
                Step::Find(needs) => Box::pin(self.find(needs)).await,
                Step::Done { refusal, notes } => {
                    for note in notes {
                        self.note(stage, &note);
                    }
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
        common::error!("bug: restrictions at {stage} come to no end");
        Err(Reply::fixed(451, (4, 3, 0), "Temporary lookup failure"))
    }

    /// All at once.
    async fn find(&mut self, needs: Vec<Need>) {
        if let [need] = needs.as_slice() {
            let finding = self.rules.lookups.find(need, &self.rules, &self.shared.greylist).await;
            self.found.insert(need.clone(), finding);
            return;
        }
        let mut tasks = JoinSet::new();
        for need in needs {
            let (rules, shared) = (self.rules.clone(), self.shared.clone());
            tasks.spawn(async move {
                let finding = rules.lookups.find(&need, &rules, &shared.greylist).await;
                (need, finding)
            });
        }
        while let Some(found) = tasks.join_next().await {
            if let Ok((need, finding)) = found {
                self.found.insert(need, finding);
            }
        }
    }

    /// Counts one more. Beyond the rate it is refused, or passes with a warning where the limit says so.
    fn count(&self, kind: Kind) -> Result<(), Reply> {
        let rates = self.rules.rates;
        let (stage, of_client, of_user, exceeded, error) = match kind {
            Kind::Message => (
                "MAIL",
                rates.messages,
                rates.user_messages,
                "Message delivery request rate limit exceeded",
                "too much mail",
            ),
            Kind::Recipient => (
                "RCPT",
                rates.recipients,
                rates.user_recipients,
                "Recipient address rate limit exceeded",
                "too many recipients",
            ),
            // Counted where they come about.
            Kind::Connection | Kind::AuthFailure => return Ok(()),
        };
        let (counts, now) = (&self.shared.rates, self.shared.clock.now());
        let (limit, within) = match &self.facts.login {
            Some(login) => {
                (of_user, counts.allows(kind, claims::key(&login.name).as_str(), of_user.rate, now))
            }
            None if self.facts.trusted => return Ok(()),
            None => {
                let network = Network::of_client(self.facts.client.ip);
                (of_client, counts.allows(kind, network, of_client.rate, now))
            }
        };
        if within {
            return Ok(());
        }
        let text = format!("Error: {error} from {}", self.counted());
        let refusal = Reply::new(450, EnhancedCode::new(4, 7, 1), text);
        if limit.warn {
            self.note(stage, &Note::Spared(refusal));
            return Ok(());
        }
        common::warn!("{exceeded}: from {}", self.shown());
        Err(refusal)
    }

    /// Who does too much, in a reply.
    fn counted(&self) -> String {
        match &self.facts.login {
            Some(login) => format!("user {}", login.name),
            None => self.facts.client.ip.to_string(),
        }
    }

    /// The same in the log.
    fn shown(&self) -> String {
        match &self.facts.login {
            Some(login) => format!("user {} at {}", login.name, self.facts.client),
            None => self.facts.client.to_string(),
        }
    }

    /// As Postfix writes what `warn_if_reject` spared, and what an access table warns of.
    fn note(&self, stage: &str, note: &Note) {
        let client = &self.facts.client;
        let mut line = match note {
            Note::Spared(reply) => format!("NOQUEUE: reject_warning: {stage} from {client}: {reply};"),
            Note::Warning(text) => {
                format!("NOQUEUE: warn: {stage} from {client}: {};", printable(text, SHOWN))
            }
        };
        let facts = [
            ("from", self.facts.sender.as_ref().map(ToString::to_string)),
            ("to", self.facts.recipient.as_ref().map(ToString::to_string)),
            ("helo", self.facts.hello.as_ref().map(ToString::to_string)),
        ];
        for (key, value) in facts {
            if let Some(value) = value {
                line.push_str(&format!(" {key}=<{}>", printable(&value, SHOWN)));
            }
        }
        common::info!("{line}");
    }
}

fn into_answer(answer: Result<(), Reply>) -> Answer {
    answer.map_or_else(Answer::Refused, |()| Answer::Yes)
}

/// After a refusal at its start the session ends: RFC 7504 has 521 for that, RFC 5321 3.8 has 421.
fn last_word(refusal: &Reply) -> Reply {
    refusal.with_code(if refusal.code() < 500 { 421 } else { 521 })
}

/// The client with its name, when that is to be looked up. This machine's own addresses need no DNS (RFC 6761 6.3).
pub async fn named(ip: IpAddr, rules: &Rules, entrance: Entrance) -> Client {
    let ip = ip.to_canonical();
    if ip.is_loopback() || !rules.resolve_clients {
        return Client::new(ip);
    }
    let decides = |rule: &Rule| matches!(rule.check, Check::Access(Subject::Client, _));
    let found = if Judge::lists(rules, entrance).rules().any(decides) {
        rules.lookups.dns.client_name(ip).await
    } else {
        rules.lookups.dns.client_name_if_idle(ip).await
    };
    let name = match found {
        restrictions::ClientName::Confirmed(name) => name.as_str().into(),
        _ => "unknown".into(),
    };
    Client { name, ip }
}
