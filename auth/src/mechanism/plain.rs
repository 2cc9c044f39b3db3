//! PLAIN (RFC 4616), and LOGIN, which never became an RFC (draft-murchison-sasl-login). Pure.

use crate::name;
use crate::prepare::Password;

/// LOGIN's first question.
pub const ASK_NAME: &[u8] = b"Username:";
/// Its second one.
pub const ASK_PASSWORD: &[u8] = b"Password:";

/// A name and a password, as somebody claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whom the client wants to act for; empty: for itself.
    pub authorization: String,
    /// Its name. Not checked but for its length.
    pub name: String,
    /// Its password.
    pub password: Password,
}

/// `[authzid] NUL authcid NUL passwd`.
pub fn plain(message: &[u8]) -> Result<Claim, &'static str> {
    let mut parts = message.split(|&b| b == 0);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(authorization), Some(name), Some(password), None) => Ok(Claim {
            authorization: if authorization.is_empty() { String::new() } else { self::name(authorization)? },
            name: self::name(name)?,
            password: Password::new(password)?,
        }),
        _ => Err("wanted two NUL in the response"),
    }
}

/// A name that LOGIN or PLAIN brings.
pub fn name(octets: &[u8]) -> Result<String, &'static str> {
    match std::str::from_utf8(octets) {
        _ if octets.is_empty() => Err("the name is empty"),
        _ if octets.len() > name::MAX => Err("the name is too long"),
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err("the name is no text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_says_all_at_once() {
        let say =
            |message: &[u8]| plain(message).map(|c| (c.authorization, c.name, c.password.octets().to_vec()));
        let good = |a: &str, n: &str, p: &[u8]| Ok((a.to_owned(), n.to_owned(), p.to_vec()));
        for (message, expected) in [
            // RFC 4616 4.
            (&b"\0tim\0tanstaaftanstaaf"[..], good("", "tim", b"tanstaaftanstaaf")),
            (b"Ursel\0Kurt\0xipj3plmq", good("Ursel", "Kurt", b"xipj3plmq")),
            (b"\0tim\0", good("", "tim", b"")),
            (b"\0tim\0\xff\xfe", good("", "tim", b"\xff\xfe")),
            (b"", Err("wanted two NUL in the response")),
            (b"tim", Err("wanted two NUL in the response")),
            (b"\0tim", Err("wanted two NUL in the response")),
            (b"\0tim\0a\0b", Err("wanted two NUL in the response")),
            (b"\0\0a", Err("the name is empty")),
            (b"\0t\xff\0a", Err("the name is no text")),
        ] {
            assert_eq!(say(message), expected, "{message:?}");
        }
        let long = [&b"\0"[..], &[b'x'; 256], b"\0a"].concat();
        assert!(plain(&long).is_err());
        assert!(plain(&[&b"\0tim\0"[..], &[b'x'; 1025]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn anything_is_taken_or_refused(message in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(claim) = plain(&message) {
                prop_assert!(!claim.name.is_empty() && claim.name.len() <= name::MAX);
            }
        }
    }
}
