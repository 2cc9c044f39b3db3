//! AUTH as one session has it: hands the client's responses to the mechanisms, counts failures, slows them down, and tells the log.
//!
//! Failures are counted for the client's network and for the user. A network that has too many is turned away; a user that has too many is not
//! asked about any more for a while, but where it has logged in before. Passwords are passed through and nowhere kept. Log lines of failures
//! are Postfix's, which fail2ban reads.

use crate::claims;
use crate::rates::Kind;
use crate::rules::{Entrance, Rules};
use crate::server::{Shared, Stop};
use crate::session::auth::{Login, Offer, Secret};
use crate::session::reply::{self, LOGIN_FAILED, LOGIN_MALFORMED, NO_LOGIN_NOW, Reply, UNKNOWN_MECHANISM};
use crate::session::{Answer, Client};
use auth::{Channel, Exchange, Failure, Step};
use common::config::Network;
use common::time::Timestamp;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// After a first failure; each further one doubles it, up to the second figure.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

/// One session's exchanges.
#[derive(Debug)]
pub struct Desk {
    entrance: Entrance,
    /// The address that the client has connected to.
    local: IpAddr,
    encrypted: bool,
    binding: Option<Vec<u8>>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    exchange: Exchange,
    mechanism: String,
    /// Whose name the client uses.
    user: Option<String>,
}

/// Who asks, and what there is to go by.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The client.
    pub client: &'a Client,
    /// Is it in `trusted_networks`?
    pub trusted: bool,
    /// What holds.
    pub rules: &'a Rules,
    /// What is counted.
    pub shared: &'a Shared,
}

impl Desk {
    /// For a client that has connected to `local`, in plain text so far.
    pub fn new(entrance: Entrance, local: IpAddr) -> Self {
        Self { entrance, local, encrypted: false, binding: None, running: None }
    }

    /// After the handshake, with its channel binding (RFC 9266).
    pub fn secured(&mut self, binding: Option<Vec<u8>>) {
        (self.encrypted, self.binding, self.running) = (true, binding, None);
    }

    /// What there is of authentication.
    pub fn offer(&self, visit: Visit<'_>) -> Offer {
        let Some(authenticator) = visit.rules.authenticator.as_ref().filter(|_| self.entrance.offers_auth())
        else {
            return Offer::Absent;
        };
        if !self.encrypted && !self.entrance.auth_without_tls {
            return Offer::NeedsTls;
        }
        Offer::Mechanisms(authenticator.mechanisms(&self.channel(visit)).into())
    }

    /// AUTH. `stop`: when the server goes down nobody has to wait.
    pub async fn begin(
        &mut self,
        visit: Visit<'_>,
        (mechanism, initial): (String, Option<Secret>),
        stop: &watch::Receiver<Stop>,
    ) -> Answer {
        self.running = None;
        let network = Network::of_client(visit.client.ip);
        let limit = visit.rules.rates.client_failures;
        let now = visit.shared.clock.now();
        if !visit.trusted && visit.shared.rates.is_over(Kind::AuthFailure, network, limit.rate, now) {
            let text = format!("Error: too many failed logins from {}", visit.client.ip);
            let refusal = reply::closing((7, 0), &visit.rules.settings.hostname, &text);
            if !limit.warn {
                common::warn!("Too many failed logins: {} is turned away", visit.client);
                return Answer::Refused(refusal);
            }
            common::info!("NOQUEUE: reject_warning: AUTH from {}: {refusal};", visit.client);
        }
        let channel = self.channel(visit);
        let begun = visit.rules.authenticator.as_ref().and_then(|auth| auth.begin(&mechanism, &channel));
        let Some(exchange) = begun else { return Answer::Refused(UNKNOWN_MECHANISM) };
        let running = Running { exchange, mechanism, user: None };
        self.step(visit, running, initial, stop).await
    }

    /// The client's answer to a challenge.
    pub async fn respond(
        &mut self,
        visit: Visit<'_>,
        response: Secret,
        stop: &watch::Receiver<Stop>,
    ) -> Answer {
        match self.running.take() {
            Some(running) => self.step(visit, running, Some(response), stop).await,
            None => Answer::Refused(NO_LOGIN_NOW),
        }
    }

    /// The client has given up.
    pub fn end(&mut self) {
        self.running = None;
    }

    fn channel(&self, visit: Visit<'_>) -> Channel {
        Channel {
            tls: self.encrypted,
            plaintext_allowed: self.entrance.auth_without_tls,
            binding: self.binding.clone(),
            client: visit.client.ip,
            local: self.local,
        }
    }

    async fn step(
        &mut self,
        visit: Visit<'_>,
        mut running: Running,
        response: Option<Secret>,
        stop: &watch::Receiver<Stop>,
    ) -> Answer {
        let Visit { client, rules, shared, .. } = visit;
        let response = response.as_ref().map(|secret| secret.0.as_slice());
        if let (None, Some(octets)) = (&running.user, response) {
            running.user = claims::user(&running.mechanism, octets);
        }
        if let Some(user) = &running.user
            && shared.rates.is_over(
                Kind::AuthFailure,
                user.as_str(),
                rules.rates.user_failures.rate,
                shared.clock.now(),
            )
            && !shared.acquaintances.know(client.ip, user)
        {
            if !rules.rates.user_failures.warn {
                common::warn!("Too many failed logins of user {user}: {client} has to wait");
                pause(PAUSE.0, stop).await;
                return Answer::Refused(NO_LOGIN_NOW);
            }
            common::info!(
                "NOQUEUE: reject_warning: AUTH from {client}: {NO_LOGIN_NOW}; sasl_username={user}"
            );
        }
        let step = tokio::select! {
            step = running.exchange.step(response) => step,
            // Back ends have more time than there is at the end.
            () = told(stop, Stop::AtOnce) => return Answer::Refused(NO_LOGIN_NOW),
        };
        match step {
            Step::Challenge(octets) => {
                self.running = Some(running);
                Answer::Challenge(octets)
            }
            Step::Done(login) => {
                let now = shared.clock.now();
                shared.acquaintances.meet(client.ip, &claims::key(&login.name), now);
                let (name, method) = (login.name.as_str().into(), login.mechanism.as_str().into());
                Answer::LoggedIn(Login { name, method })
            }
            Step::Failed(failure) => {
                let (refusal, wait) = visit.failed(&running, failure);
                pause(wait, stop).await;
                Answer::Refused(refusal)
            }
        }
    }
}

impl Visit<'_> {
    /// Tells the log and counts; gives the reply, and how long it has to wait.
    fn failed(&self, running: &Running, failure: Failure) -> (Reply, Duration) {
        let Running { mechanism, user, .. } = running;
        let (reply, why, user) = match failure {
            Failure::Unavailable(why) => {
                common::error!("{}: SASL {mechanism} authentication is not possible: {why}", self.client);
                return (NO_LOGIN_NOW, Duration::ZERO);
            }
            Failure::Wrong { user: named, why } => (LOGIN_FAILED, why, named.or(user.clone())),
            Failure::Malformed(what) => (LOGIN_MALFORMED, what.to_owned(), user.clone()),
        };
        let shown = user.as_deref().unwrap_or("(unavailable)");
        let client = self.client;
        common::warn!("{client}: SASL {mechanism} authentication failed: {why}, sasl_username={shown}");
        let (rates, now) = (&self.shared.rates, self.shared.clock.now());
        if let Some(user) = user {
            rates.fail(
                Kind::AuthFailure,
                claims::key(&user).as_str(),
                self.rules.rates.user_failures.rate,
                now,
            );
        }
        if self.trusted {
            return (reply, PAUSE.0);
        }
        let network = Network::of_client(client.ip);
        let failures = rates.fail(Kind::AuthFailure, network, self.rules.rates.client_failures.rate, now);
        (reply, pause_after(failures))
    }
}

/// So long a reply waits after so many failures.
fn pause_after(failures: u32) -> Duration {
    let (first, most) = PAUSE;
    let doublings = failures.saturating_sub(1).min(10);
    first.saturating_mul(1 << doublings).min(most)
}

/// Waits, but not while the server goes down.
async fn pause(time: Duration, stop: &watch::Receiver<Stop>) {
    tokio::select! {
        () = sleep(time) => {}
        () = told(stop, Stop::Finish) => {}
    }
}

/// Returns when the server goes down, at once or in any case.
async fn told(stop: &watch::Receiver<Stop>, how: Stop) {
    // A copy, so that whoever waits for the stop itself still sees it.
    let mut stop = stop.clone();
    let _ = stop.wait_for(|stop| *stop == how || *stop == Stop::AtOnce).await;
}

/// From where users have logged in: they are not shut out by what others try in their names.
#[derive(Debug, Default)]
pub struct Acquaintances(Mutex<HashMap<(Network, String), Timestamp>>);

impl Acquaintances {
    /// Most that are remembered.
    const MOST: usize = 50_000;
    /// For so long.
    const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

    /// A user has logged in from there.
    pub fn meet(&self, ip: IpAddr, user: &str, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Network::of_client(ip), user.to_owned());
        if known.len() >= Self::MOST && !known.contains_key(&key) {
            known.retain(|_, then| now.since(*then) < Self::LIFETIME);
            if known.len() >= Self::MOST {
                // Half of them, whichever: these lose what newcomers have not got either.
                let mut keep = false;
                known.retain(|_, _| {
                    keep = !keep;
                    keep
                });
            }
        }
        known.insert(key, now);
    }

    /// Has it?
    pub fn know(&self, ip: IpAddr, user: &str) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains_key(&(Network::of_client(ip), user.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_and_longer_up_to_a_bound() {
        let waits: Vec<u64> = [0, 1, 2, 3, 4, 5, 40, u32::MAX].map(|n| pause_after(n).as_secs()).into();
        assert_eq!(waits, [1, 1, 2, 4, 8, 8, 8, 8]);
    }

    #[test]
    fn acquaintances_are_bounded() {
        let known = Acquaintances::default();
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        for i in 0..=Acquaintances::MOST {
            known.meet(ip, &format!("user{i}"), Timestamp(0));
        }
        let held = known.0.lock().unwrap().len();
        assert!(held > Acquaintances::MOST / 3 && held <= Acquaintances::MOST, "{held}");
        let last = format!("user{}", Acquaintances::MOST);
        assert!(known.know(ip, &last) && known.know("192.0.2.1".parse().unwrap(), &last));
        assert!(!known.know("192.0.2.2".parse().unwrap(), &last) && !known.know(ip, "nobody"));
    }
}
