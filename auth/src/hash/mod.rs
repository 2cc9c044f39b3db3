//! What stands in place of a password in the users file, and whether a password fits it. Pure, and slow by design.
//!
//! | module | holds |
//! | --- | --- |
//! | [`crypt`] | crypt(3): `$5$` `$6$` (SHA), `$2a$` `$2b$` `$2y$` (bcrypt), `$y$` (yescrypt) |
//! | [`phc`] | PHC strings: `$argon2id$` `$argon2i$` `$argon2d$`, `$scrypt$` |
//! | [`verifier`] | SCRAM-SHA-256: `{SCRAM-SHA-256}…` as Dovecot writes it, `SCRAM-SHA-256$…` as RFC 5803 does |
//!
//! Dovecot's names of schemes in front (`{SHA512-CRYPT}$6$…`) are taken where they fit what follows. How much time and memory a hash may cost is bounded: a line that costs
//! more is refused when the file is read, and so is everything that is no hash. Errors show nothing of the hash.

pub mod crypt;
pub mod phc;
pub mod verifier;

use crate::prepare::Password;
use std::fmt;
pub use verifier::Verifier;

/// Most memory that a hash may take, in octets.
pub const MAX_MEMORY: u64 = 256 << 20;
/// Longest hash, in octets.
const MAX: usize = 512;

/// How a password is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// RFC 9106, the variant against both kinds of attack.
    Argon2id,
    /// RFC 9106, against side channels.
    Argon2i,
    /// RFC 9106, against hardware.
    Argon2d,
    /// RFC 7914.
    Scrypt,
    /// `$y$` of crypt(3), what Debian and Fedora write into /etc/shadow.
    Yescrypt,
    /// `$2b$` of crypt(3).
    Bcrypt,
    /// `$6$` of crypt(3).
    Sha512Crypt,
    /// `$5$` of crypt(3).
    Sha256Crypt,
    /// RFC 7677.
    ScramSha256,
}

const SCHEMES: [(Scheme, &str); 9] = [
    (Scheme::Argon2id, "argon2id"),
    (Scheme::Argon2i, "argon2i"),
    (Scheme::Argon2d, "argon2d"),
    (Scheme::Scrypt, "scrypt"),
    (Scheme::Yescrypt, "yescrypt"),
    (Scheme::Bcrypt, "bcrypt"),
    (Scheme::Sha512Crypt, "sha512-crypt"),
    (Scheme::Sha256Crypt, "sha256-crypt"),
    (Scheme::ScramSha256, "scram-sha-256"),
];

/// Names that Dovecot puts in front, with the beginnings of what may follow.
const PREFIXES: [(&str, &[&str]); 8] = [
    ("ARGON2ID", &["$argon2id$"]),
    ("ARGON2I", &["$argon2i$"]),
    ("BLF-CRYPT", &["$2"]),
    ("SHA512-CRYPT", &["$6$"]),
    ("SHA256-CRYPT", &["$5$"]),
    ("CRYPT", &["$2", "$5$", "$6$", "$y$"]),
    ("SCRYPT", &["$scrypt$"]),
    ("YESCRYPT", &["$y$"]),
];

impl Scheme {
    /// The name that `ironpost user` knows.
    pub fn name(self) -> &'static str {
        SCHEMES.iter().find(|(scheme, _)| *scheme == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a password is compared with.
#[derive(Clone, PartialEq, Eq)]
pub enum Hash {
    /// As [`crypt`] reads it.
    Crypt(crypt::Crypt),
    /// As [`phc`] reads it.
    Phc(Box<phc::Phc>),
    /// As [`verifier`] reads it.
    Scram(Verifier),
}

impl Hash {
    /// Reads one. Errors say what is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX {
            return Err(format!("longer than {MAX} octets: this is no hash"));
        }
        if let Some(fields) = text.strip_prefix("{SCRAM-SHA-256}") {
            return Verifier::parse_dovecot(fields).map(Self::Scram);
        }
        if let Some(fields) = text.strip_prefix("SCRAM-SHA-256$") {
            return Verifier::parse_rfc5803(fields).map(Self::Scram);
        }
        let text = without_prefix(text)?;
        let id = text.strip_prefix('$').and_then(|rest| rest.split('$').next()).unwrap_or_default();
        match id {
            "5" | "6" | "2a" | "2b" | "2y" | "y" => crypt::Crypt::parse(id, text).map(Self::Crypt),
            "argon2id" | "argon2i" | "argon2d" | "scrypt" => {
                phc::Phc::parse(text).map(|phc| Self::Phc(Box::new(phc)))
            }
            "1" | "apr1" | "2x" | "3" | "sha1" | "md5" => {
                Err(format!("${id}$ is too weak a hash: set the password anew with `ironpost user passwd`"))
            }
            _ => Err("what stands behind the name is no hash that is known here: wanted crypt(3) ($5$, $6$, $2b$, $2y$, $y$), PHC ($argon2id$, $scrypt$) or \
                      {SCRAM-SHA-256}"
                .into()),
        }
    }

    /// A new one with a fresh salt. `None` for schemes that are read only. Errors: the system has no randomness.
    pub fn make(scheme: Scheme, password: &Password) -> Option<Result<String, &'static str>> {
        let password = password.to_store();
        let password = password.octets();
        match scheme {
            Scheme::Argon2id | Scheme::Scrypt => Some(phc::make(scheme, password)),
            Scheme::Yescrypt | Scheme::Bcrypt | Scheme::Sha512Crypt | Scheme::Sha256Crypt => {
                Some(crypt::make(scheme, password))
            }
            Scheme::ScramSha256 => Some(Verifier::make(password).map(|verifier| verifier.to_string())),
            Scheme::Argon2i | Scheme::Argon2d => None,
        }
    }

    /// What kind it is.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Crypt(crypt) => crypt.scheme(),
            Self::Phc(phc) => phc.scheme(),
            Self::Scram(_) => Scheme::ScramSha256,
        }
    }

    /// Hashes of the same cost take the same time: the scheme with its parameters.
    pub fn cost(&self) -> String {
        match self {
            Self::Crypt(crypt) => crypt.cost(),
            Self::Phc(phc) => phc.cost(),
            Self::Scram(verifier) => format!("{} {}", Scheme::ScramSha256, verifier.iterations()),
        }
    }

    /// Does a password fit, in any of its forms? Takes as long as the hash says.
    pub fn fits(&self, password: &Password) -> bool {
        password.forms().iter().any(|form| match self {
            Self::Crypt(crypt) => crypt.fits(form.octets()),
            Self::Phc(phc) => phc.fits(form.octets()),
            Self::Scram(verifier) => verifier.fits(form.octets()),
        })
    }

    /// For SCRAM.
    pub fn verifier(&self) -> Option<&Verifier> {
        match self {
            Self::Scram(verifier) => Some(verifier),
            Self::Crypt(_) | Self::Phc(_) => None,
        }
    }
}

impl fmt::Debug for Hash {
    /// Without the hash: it can be guessed at.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({})", self.scheme())
    }
}

/// Without the name of a scheme in braces.
fn without_prefix(text: &str) -> Result<&str, String> {
    let Some((name, rest)) = text.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
        return Ok(text);
    };
    let upper = name.to_ascii_uppercase();
    match PREFIXES.iter().find(|(known, _)| *known == upper) {
        Some((_, starts)) if starts.iter().any(|start| rest.starts_with(start)) => Ok(rest),
        Some((known, _)) => Err(format!("what follows {{{known}}} is no such hash")),
        // The name may be anything, even a password.
        None => Err("the scheme in braces is not known here: there are {ARGON2ID}, {ARGON2I}, {SCRYPT}, {YESCRYPT}, {BLF-CRYPT}, {SHA512-CRYPT}, {SHA256-CRYPT}, \
                     {CRYPT} and {SCRAM-SHA-256}"
            .into()),
    }
}

/// So many random octets.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], &'static str> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| "the system has no randomness")?;
    Ok(octets)
}

#[cfg(test)]
mod tests;
