//! Passwords in other scripts: the same password can come as different octets. Pure.
//!
//! ASCII passes unchanged. Anything else is tried as it came, then as RFC 8265 4.2 (OpaqueString: other spaces become a space, NFC) has it, then as
//! RFC 4013 (SASLprep: NFKC) has it, which SCRAM asks for (RFC 5802 2.2). Passwords are stored in the last of these forms that exists for them.

use std::fmt;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Longest password, in octets.
pub const MAX: usize = 1024;

/// A password; wiped when it goes, shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// From outside. Errors say what is wrong, and nothing of the password.
    pub fn new(octets: &[u8]) -> Result<Self, &'static str> {
        if octets.len() > MAX {
            return Err("a password can have 1024 octets at most");
        }
        if octets.contains(&0) {
            return Err("a password cannot have NUL in it");
        }
        Ok(Self(Zeroizing::new(octets.to_vec())))
    }

    /// As it came.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// All forms that are tried, each once; there is at least one.
    pub fn forms(&self) -> Vec<Password> {
        let mut forms = vec![self.clone()];
        let Some(text) = std::str::from_utf8(&self.0).ok().filter(|text| !text.is_ascii()) else {
            return forms;
        };
        let saslprep = stringprep::saslprep(text).ok().map(|text| Self::of(&text));
        for form in [Some(opaque(text)), saslprep].into_iter().flatten() {
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        forms
    }

    /// The form that is stored.
    pub fn to_store(&self) -> Password {
        self.forms().pop().unwrap_or_else(|| self.clone())
    }

    fn of(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// RFC 8265 4.2.1.
fn opaque(text: &str) -> Password {
    let space = |c: char| {
        matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
    };
    let mapped: Zeroizing<String> =
        Zeroizing::new(text.chars().map(|c| if space(c) { ' ' } else { c }).nfc().collect());
    Password::of(&mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(text: &str) -> Vec<String> {
        let password = Password::new(text.as_bytes()).unwrap();
        password.forms().iter().map(|form| String::from_utf8(form.octets().to_vec()).unwrap()).collect()
    }

    #[test]
    fn ascii_is_itself_and_the_rest_is_tried_in_each_form() {
        for (text, expected) in [
            ("correct horse", &["correct horse"][..]),
            ("a\tb", &["a\tb"]),
            ("é", &["é"]),
            ("e\u{301}", &["e\u{301}", "é"]),
            // RFC 8265 4.3: other spaces become a space.
            ("foo\u{1680}bar", &["foo\u{1680}bar", "foo bar"]),
            // RFC 4013 3: soft hyphens go, compatibility characters are replaced.
            ("I\u{ad}X", &["I\u{ad}X", "IX"]),
            ("\u{aa}", &["\u{aa}", "a"]),
            ("e\u{301}\u{2168}", &["e\u{301}\u{2168}", "é\u{2168}", "éIX"]),
            // Prohibited by SASLprep: there is no such form.
            ("é\u{7}", &["é\u{7}"]),
        ] {
            assert_eq!(forms(text), expected, "{text:?}");
        }
        let octets = Password::new(b"\xff\xfe").unwrap();
        assert_eq!(octets.forms(), std::slice::from_ref(&octets));
        assert_eq!(Password::new("\u{aa}".as_bytes()).unwrap().to_store().octets(), b"a");
    }

    #[test]
    fn a_password_is_bounded_and_shown_nowhere() {
        assert!(Password::new(&[b'x'; MAX]).is_ok());
        assert!(Password::new(&[b'x'; MAX + 1]).is_err());
        assert!(Password::new(b"a\0b").is_err());
        assert_eq!(format!("{:?}", Password::new(b"hidden").unwrap()), "Password");
    }
}
