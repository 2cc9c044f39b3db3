//! Logging in: the client's side of the SASL mechanisms SCRAM-SHA-256 (RFC 5802, RFC 7677), PLAIN (RFC 4616) and LOGIN, and with a token
//! of OAUTHBEARER and XOAUTH2 (`bearer.rs`). Pure: the nonce is handed in.
//!
//! The best mechanism that the server offers is taken, in this order. With SCRAM the server never learns the password, and must
//! prove that it knows it. Names and passwords go out as they are written (no SASLprep: that changes nothing in ASCII). No text made
//! here but what goes to the server has a password in it.

use super::bearer::Flavour;
use super::verdict::Peer;
use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use common::credentials::Credentials;
use common::oauth::Secret;
use data_encoding::BASE64;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// RFC 7677 4: fewer make it too easy to find the password.
const MIN_ITERATIONS: u32 = 4096;
/// More are not worked through for any server: it is the server who names the number.
const MAX_ITERATIONS: u32 = 200_000;

/// With what to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name, and the password where there is one.
    pub credentials: Arc<Credentials>,
    /// The token, where that takes the place of a password.
    pub token: Option<Secret>,
    /// Printable, without a comma; never used before.
    pub nonce: String,
}

impl Login {
    /// For mechanisms that are chosen only where there is one.
    fn password(&self) -> &str {
        self.credentials.password().unwrap_or_default()
    }

    /// What nobody may read in what the server says.
    pub fn secret(&self) -> &str {
        self.token.as_ref().map_or_else(|| self.password(), Secret::expose)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Login").field(&self.credentials).finish()
    }
}

/// The mechanisms that we know and a server offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mechanisms {
    /// SCRAM-SHA-256
    pub scram_sha_256: bool,
    /// PLAIN
    pub plain: bool,
    /// LOGIN
    pub login: bool,
    /// OAUTHBEARER
    pub oauthbearer: bool,
    /// XOAUTH2
    pub xoauth2: bool,
}

impl Mechanisms {
    /// Takes note of a mechanism's name, in any case.
    pub fn add(&mut self, name: &str) {
        match name.to_ascii_uppercase().as_str() {
            "SCRAM-SHA-256" => self.scram_sha_256 = true,
            "PLAIN" => self.plain = true,
            "LOGIN" => self.login = true,
            "OAUTHBEARER" => self.oauthbearer = true,
            "XOAUTH2" => self.xoauth2 = true,
            _ => {}
        }
    }
}

/// Why a server's word in the exchange is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// It makes no sense there.
    #[error("the server's challenge makes no sense")]
    Malformed,
    /// Too few or too many iterations.
    #[error("the server asks for fewer than 4096 or more than 200000 iterations")]
    Iterations,
    /// The server does not know the password: it is not the one that we have an account with.
    #[error("the server could not prove that it knows the password")]
    NotProven,
}

/// One exchange.
#[derive(Debug)]
pub struct Exchange {
    login: Login,
    state: State,
    /// The challenge that says why the token is not taken.
    complaint: Option<Vec<u8>>,
}

enum State {
    /// Everything is said.
    Said,
    /// LOGIN, before the name was asked for.
    Name,
    /// LOGIN, before the password was asked for.
    Password,
    /// SCRAM, before the server's first message.
    First,
    /// SCRAM, before the server's last message, which must be this.
    Last([u8; 32]),
    /// A token was sent: a challenge now says why it is not taken.
    Bearer(Flavour),
    /// It said so.
    NotTaken,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Said => "Said",
            Self::Name => "Name",
            Self::Password => "Password",
            Self::First => "First",
            Self::Last(_) => "Last",
            Self::Bearer(_) => "Bearer",
            Self::NotTaken => "NotTaken",
        })
    }
}

impl Exchange {
    /// With the best mechanism that is offered by `peer`: its name and the first message, if it has one. `None`: nothing fits.
    pub fn begin(
        login: Login,
        offered: Mechanisms,
        peer: &Peer,
    ) -> Option<(Self, &'static str, Option<Vec<u8>>)> {
        let user = login.credentials.user();
        let (state, name, first) = match (&login.token, login.credentials.password()) {
            (Some(token), _) => {
                let flavour = Flavour::best(offered)?;
                let first = flavour.first(user, token, peer);
                (State::Bearer(flavour), flavour.name(), Some(first))
            }
            (None, Some(_)) if offered.scram_sha_256 => {
                (State::First, "SCRAM-SHA-256", Some(format!("n,,{}", first_bare(&login)).into_bytes()))
            }
            (None, Some(password)) if offered.plain => {
                (State::Said, "PLAIN", Some(format!("\0{user}\0{password}").into_bytes()))
            }
            (None, Some(_)) if offered.login => (State::Name, "LOGIN", None),
            (None, _) => return None,
        };
        Some((Self { login, state, complaint: None }, name, first))
    }

    /// The challenge by which the server has said why it does not take the token, as it came.
    pub fn complaint(&self) -> Option<&[u8]> {
        self.complaint.as_deref()
    }

    /// The answer to a challenge.
    pub fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        let (state, answer) = match std::mem::replace(&mut self.state, State::Said) {
            State::Said | State::NotTaken => return Err(SaslError::Malformed),
            State::Bearer(flavour) => {
                self.complaint = Some(challenge.to_vec());
                (State::NotTaken, flavour.last().into())
            }
            State::Name => (State::Password, self.login.credentials.user().into()),
            State::Password => (State::Said, self.login.password().into()),
            State::First => {
                let (answer, signature) = prove(&self.login, challenge)?;
                (State::Last(signature), answer)
            }
            State::Last(signature) => {
                // RFC 5802 7: server-final-message.
                let said = std::str::from_utf8(challenge).map_err(|_| SaslError::Malformed)?;
                let said = said.split(',').next().and_then(|first| first.strip_prefix("v="));
                let said = said.and_then(|text| BASE64.decode(text.as_bytes()).ok());
                let said = said.ok_or(SaslError::NotProven)?;
                constant_time::verify_slices_are_equal(&said, &signature)
                    .map_err(|_| SaslError::NotProven)?;
                (State::Said, Vec::new())
            }
        };
        self.state = state;
        Ok(answer)
    }

    /// The server says that we are in. With SCRAM it must have proved itself by then.
    pub fn finish(&self) -> Result<(), SaslError> {
        match self.state {
            State::Said | State::Bearer(_) => Ok(()),
            State::First | State::Last(_) => Err(SaslError::NotProven),
            State::Name | State::Password | State::NotTaken => Err(SaslError::Malformed),
        }
    }
}

fn first_bare(login: &Login) -> String {
    let user = login.credentials.user().replace('=', "=3D").replace(',', "=2C");
    format!("n={user},r={}", login.nonce)
}

/// RFC 5802 3: client-final-message, and the signature by which the server will prove itself.
fn prove(login: &Login, server_first: &[u8]) -> Result<(Vec<u8>, [u8; 32]), SaslError> {
    let server_first = std::str::from_utf8(server_first).map_err(|_| SaslError::Malformed)?;
    let mut fields = server_first.split(',');
    let mut field = |name: &str| fields.next().and_then(|f| f.strip_prefix(name)).ok_or(SaslError::Malformed);
    let nonce = field("r=")?;
    let salt = BASE64.decode(field("s=")?.as_bytes()).map_err(|_| SaslError::Malformed)?;
    let iterations = field("i=")?.parse::<NonZeroU32>().map_err(|_| SaslError::Malformed)?;
    // The server's part must be there, and ours unchanged, or an earlier exchange could be played again.
    if nonce.len() <= login.nonce.len() || !nonce.starts_with(&login.nonce) {
        return Err(SaslError::Malformed);
    }
    if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations.get()) {
        return Err(SaslError::Iterations);
    }
    let mut salted = [0; 32];
    let password = login.password().as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted);
    let client_key = mac(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    // "biws": no channel binding (base64 of "n,,").
    let without_proof = format!("c=biws,r={nonce}");
    let message = format!("{},{server_first},{without_proof}", first_bare(login));
    let signature = mac(stored_key.as_ref(), message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    let server_signature = mac(&mac(&salted, b"Server Key"), message.as_bytes());
    let answer = format!("{without_proof},p={}", BASE64.encode(&proof));
    Ok((answer.into_bytes(), server_signature))
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str, nonce: &str) -> Login {
        let text = format!("x.example {user}:{password}");
        let table = common::credentials::Table::parse("t".as_ref(), &text).unwrap();
        let credentials = table.find(&"x.example".parse().unwrap(), None, false).unwrap();
        Login { credentials, token: None, nonce: nonce.into() }
    }

    fn begin(login: Login, names: &[&str]) -> Option<(Exchange, &'static str, Option<Vec<u8>>)> {
        let peer = Peer { name: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() };
        Exchange::begin(login, offered(names), &peer)
    }

    fn offered(names: &[&str]) -> Mechanisms {
        let mut offered = Mechanisms::default();
        names.iter().for_each(|name| offered.add(name));
        offered
    }

    #[test]
    fn the_best_mechanism_is_taken() {
        for (names, expected) in [
            (&["LOGIN", "PLAIN", "SCRAM-SHA-256"][..], Some("SCRAM-SHA-256")),
            (&["login", "plain"], Some("PLAIN")),
            (&["LOGIN", "CRAM-MD5"], Some("LOGIN")),
            (&["CRAM-MD5", "GSSAPI", "SCRAM-SHA-1", "XOAUTH2"], None),
            (&[], None),
        ] {
            let begun = begin(login("u", "p", "n"), names);
            assert_eq!(begun.map(|(_, name, _)| name), expected, "{names:?}");
        }
    }

    #[test]
    fn plain_says_all_at_once() {
        let begun = begin(login("tim", "tanstaafl:x y", "n"), &["PLAIN"]);
        let (mut exchange, _, first) = begun.unwrap();
        assert_eq!(first.as_deref(), Some(&b"\0tim\0tanstaafl:x y"[..]));
        assert_eq!(exchange.finish(), Ok(()));
        assert_eq!(exchange.answer(b""), Err(SaslError::Malformed), "nothing is said twice");
    }

    #[test]
    fn login_answers_two_questions() {
        let (mut exchange, _, first) = begin(login("tim", "secret", "n"), &["LOGIN"]).unwrap();
        assert_eq!((first, exchange.finish()), (None, Err(SaslError::Malformed)));
        assert_eq!(exchange.answer(b"Username:").unwrap(), b"tim");
        assert_eq!(exchange.answer(b"Password:").unwrap(), b"secret");
        assert_eq!(exchange.finish(), Ok(()));
        assert!(exchange.answer(b"Again:").is_err());
    }

    /// RFC 7677 3.
    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn begun() -> Exchange {
        let login = login("user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        let (exchange, _, first) = begin(login, &["SCRAM-SHA-256"]).unwrap();
        assert_eq!(first.unwrap(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        exchange
    }

    #[test]
    fn scram_is_that_of_the_rfc() {
        let mut exchange = begun();
        let answer = exchange.answer(SERVER_FIRST).unwrap();
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
        assert_eq!(exchange.finish(), Err(SaslError::NotProven), "not before the server proved itself");
        assert_eq!(exchange.answer(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap(), b"");
        assert_eq!(exchange.finish(), Ok(()));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for last in [&b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="[..], b"v=", b"e=other-error", b""] {
            let mut exchange = begun();
            exchange.answer(SERVER_FIRST).unwrap();
            assert_eq!(exchange.answer(last), Err(SaslError::NotProven));
        }
    }

    #[test]
    fn hostile_challenges_are_refused() {
        for (first, expected) in [
            ("r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", SaslError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", SaslError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096", SaslError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=0", SaslError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=-1", SaslError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4095", SaslError::Iterations),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4000000000", SaslError::Iterations),
            ("m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4096", SaslError::Malformed),
            ("", SaslError::Malformed),
        ] {
            assert_eq!(begun().answer(first.as_bytes()), Err(expected), "{first}");
        }
        assert_eq!(begun().answer(b"\xff"), Err(SaslError::Malformed));
    }

    #[test]
    fn names_with_commas_are_escaped_and_nothing_shows_a_password() {
        let login = login("a=b,c", "hidden!", "n");
        assert_eq!(first_bare(&login), "n=a=3Db=2Cc,r=n");
        let (exchange, _, _) = begin(login, &["PLAIN"]).unwrap();
        assert!(!format!("{exchange:?}").contains("hidden"));
    }
}
