//! Logging in with a token: the client's side of OAUTHBEARER (RFC 7628) and of XOAUTH2, its older brother that providers know. Pure.
//!
//! Both say everything in one message. A server that does not take the token answers with a challenge that says why, in JSON, and gets a
//! message without meaning, so that it can end the exchange with its proper reply.

use super::sasl::Mechanisms;
use super::verdict::Peer;
use common::oauth::Secret;
use common::text::printable_bytes;
use serde::Deserialize;

/// Longest complaint of a server.
const SAID: usize = 200;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// RFC 7628.
    OauthBearer,
    /// Google's, from before that.
    Xoauth2,
}

impl Flavour {
    /// The better of those that are offered.
    pub fn best(offered: Mechanisms) -> Option<Self> {
        match offered {
            Mechanisms { oauthbearer: true, .. } => Some(Self::OauthBearer),
            Mechanisms { xoauth2: true, .. } => Some(Self::Xoauth2),
            _ => None,
        }
    }

    /// The mechanism's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::OauthBearer => "OAUTHBEARER",
            Self::Xoauth2 => "XOAUTH2",
        }
    }

    /// The message (RFC 7628 3.1). Name and token have no control characters.
    pub fn first(self, user: &str, token: &Secret, peer: &Peer) -> Vec<u8> {
        let token = token.expose();
        match self {
            Self::OauthBearer => {
                // RFC 5801 4: saslname.
                let user = user.replace('=', "=3D").replace(',', "=2C");
                let (host, port) = (&peer.name, peer.address.port());
                format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01")
                    .into_bytes()
            }
            Self::Xoauth2 => format!("user={user}\x01auth=Bearer {token}\x01\x01").into_bytes(),
        }
    }

    /// The answer to a challenge that says why the token is not taken (RFC 7628 3.2.3).
    pub fn last(self) -> &'static [u8] {
        match self {
            Self::OauthBearer => b"\x01",
            Self::Xoauth2 => b"",
        }
    }
}

/// RFC 7628 3.2.2. Google writes the same.
#[derive(Deserialize)]
struct Said {
    status: String,
    scope: Option<String>,
}

/// What a challenge says of the token, printable.
pub fn complaint(challenge: &[u8]) -> String {
    match serde_json::from_slice::<Said>(challenge) {
        Ok(said) => {
            let scope = said.scope.filter(|scope| !scope.is_empty());
            let scope = scope.map(|scope| format!(", scope {scope}")).unwrap_or_default();
            printable_bytes(format!("status {}{scope}", said.status).as_bytes(), SAID)
        }
        Err(_) => printable_bytes(challenge, SAID),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_rfc_and_of_google() {
        let peer = Peer { name: "server.example.com".into(), address: "192.0.2.1:143".parse().unwrap() };
        let token = Secret::new("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==").unwrap();
        // RFC 7628 4.1
        assert_eq!(
            Flavour::OauthBearer.first("user@example.com", &token, &peer),
            b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
              auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
        );
        assert!(Flavour::OauthBearer.first("a=b,c", &token, &peer).starts_with(b"n,a=a=3Db=2Cc,\x01"));
        assert_eq!(
            Flavour::Xoauth2.first("someuser@example.com", &token, &peer),
            b"user=someuser@example.com\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
        );
    }

    #[test]
    fn the_better_one_is_taken() {
        for (names, expected) in [
            (&["XOAUTH2", "OAUTHBEARER", "PLAIN"][..], Some("OAUTHBEARER")),
            (&["PLAIN", "xoauth2"], Some("XOAUTH2")),
            (&["PLAIN", "LOGIN", "SCRAM-SHA-256"], None),
        ] {
            let mut offered = Mechanisms::default();
            names.iter().for_each(|name| offered.add(name));
            assert_eq!(Flavour::best(offered).map(Flavour::name), expected, "{names:?}");
        }
    }

    #[test]
    fn complaints_are_printable_and_short() {
        for (challenge, expected) in [
            (
                &br#"{"status":"invalid_token","schemes":"bearer","scope":"mail"}"#[..],
                "status invalid_token, scope mail",
            ),
            (br#"{"status":"400","schemes":"Bearer"}"#, "status 400"),
            (b"{\"status\":\"a\\u001bb\"}", "status a\\x1bb"),
            (b"no\xffjson", "no\\xffjson"),
            (br#"{"status":401}"#, r#"{"status":401}"#),
            (b"", ""),
        ] {
            assert_eq!(complaint(challenge), expected);
        }
        assert!(complaint(&[b'x'; 5000]).len() <= SAID);
    }
}
