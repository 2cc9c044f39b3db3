//! What is said between smtpd and its PAM helper: one packet is one question or one answer. Pure.

use crate::name;
use crate::prepare;
use zeroize::Zeroizing;

/// Longest text in an answer, in octets.
const MAX_TEXT: usize = 255;

/// Somebody claims a name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    /// Which one it is.
    pub id: u64,
    /// The client's address, for PAM's own log.
    pub client: String,
    /// The name.
    pub name: String,
    /// The password.
    pub password: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What PAM says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is so: the name as PAM has it.
    Yes(String),
    /// It is not, and why.
    No(String),
    /// It cannot be found out, and why.
    Unknown(String),
}

impl Question {
    /// `ID CLIENT NUL NAME NUL PASSWORD`, the number in eight octets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let parts = [
            &self.id.to_be_bytes()[..],
            self.client.as_bytes(),
            &[0],
            self.name.as_bytes(),
            &[0],
            &self.password,
        ];
        Zeroizing::new(parts.concat())
    }

    /// `None`: this is no question.
    pub fn decode(octets: &[u8]) -> Option<Self> {
        let (id, rest) = octets.split_first_chunk::<8>()?;
        let mut parts = rest.split(|&b| b == 0);
        let (client, name, password) = (parts.next()?, parts.next()?, parts.next()?);
        let name = std::str::from_utf8(name).ok().filter(|name| name::check(name).is_ok())?;
        let client = std::str::from_utf8(client).ok().filter(|client| client.len() <= 45)?;
        if parts.next().is_some() || password.len() > prepare::MAX {
            return None;
        }
        Some(Self {
            id: u64::from_be_bytes(*id),
            client: client.to_owned(),
            name: name.to_owned(),
            password: Zeroizing::new(password.to_vec()),
        })
    }
}

impl Verdict {
    /// Behind the number of its question: one octet that says which, then the text.
    pub fn encode(&self, id: u64) -> Vec<u8> {
        let (kind, text) = match self {
            Self::Yes(text) => (b'y', text),
            Self::No(text) => (b'n', text),
            Self::Unknown(text) => (b'?', text),
        };
        let end = text.floor_char_boundary(MAX_TEXT);
        [&id.to_be_bytes()[..], &[kind], text.get(..end).unwrap_or_default().as_bytes()].concat()
    }

    /// With the number of its question. `None`: this is no answer.
    pub fn decode(octets: &[u8]) -> Option<(u64, Self)> {
        let (id, rest) = octets.split_first_chunk::<8>()?;
        let (kind, text) = rest.split_first()?;
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_TEXT)?.to_owned();
        let verdict = match kind {
            b'y' if name::check(&text).is_ok() => Self::Yes(text),
            b'n' => Self::No(text),
            b'?' => Self::Unknown(text),
            _ => return None,
        };
        Some((u64::from_be_bytes(*id), verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let question = |password: &[u8]| Question {
            id: 7,
            client: "192.0.2.1".into(),
            name: "jürgen".into(),
            password: Zeroizing::new(password.to_vec()),
        };
        for password in [&b"secret"[..], b"", b"\xff\xfe", &[b'x'; 1024]] {
            assert_eq!(Question::decode(&question(password).encode()), Some(question(password)));
        }
        assert!(!format!("{:?}", question(b"secret")).contains("secret"));
        for verdict in
            [Verdict::Yes("joe".into()), Verdict::No(String::new()), Verdict::Unknown("é".repeat(100))]
        {
            assert_eq!(Verdict::decode(&verdict.encode(9)), Some((9, verdict)));
        }
        let long = Verdict::Unknown("é".repeat(300));
        assert!(Verdict::decode(&long.encode(1)).is_some(), "cut at a whole character");
    }

    #[test]
    fn what_is_none_is_refused() {
        for octets in [
            &b""[..],
            b"1234567",
            b"12345678",
            b"12345678192.0.2.1",
            b"12345678192.0.2.1\0joe",
            b"12345678a\0joe\0p\0x",
            b"12345678a\0\0p",
            b"12345678a\0a b\0p",
            b"12345678a\0\xff\0p",
            b"12345678\xff\0joe\0p",
            &[&b"12345678a\0joe\0"[..], &[b'x'; 1025]].concat(),
            &[&[b'1'; 60][..], b"\0joe\0p"].concat(),
        ] {
            assert_eq!(Question::decode(octets), None, "{octets:?}");
        }
        for octets in [&b""[..], b"12345678", b"12345678x", b"12345678y", b"12345678ya b", b"12345678n\xff"] {
            assert_eq!(Verdict::decode(octets), None, "{octets:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (Question::decode(&octets), Verdict::decode(&octets));
        }
    }
}
