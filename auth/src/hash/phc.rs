//! Hashes as PHC strings: `$argon2id$v=19$m=…,t=…,p=…$SALT$HASH` and its relatives, `$scrypt$ln=…,r=…,p=…$SALT$HASH`. Pure.

use super::crypt::too_much;
use super::{MAX_MEMORY, Scheme, random};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{CustomizedPasswordHasher, PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Version};
use scrypt::Scrypt;
use std::collections::HashMap;

/// Memory times passes, in KiB: what takes a second or two.
const MAX_WORK: u64 = 4 << 20;
/// Lanes, which are computed one after the other.
const MAX_LANES: u64 = 16;

/// A hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Phc {
    scheme: Scheme,
    hash: PasswordHash,
}

impl Phc {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let hash = PasswordHash::new(text).map_err(|error| format!("this is no PHC string: {error}"))?;
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err("salt or hash is missing".into());
        }
        let scheme = match hash.algorithm.as_str() {
            "argon2id" => Scheme::Argon2id,
            "argon2i" => Scheme::Argon2i,
            "argon2d" => Scheme::Argon2d,
            _ => Scheme::Scrypt,
        };
        let good = match scheme {
            Scheme::Scrypt => {
                let [ln, r, p] = numbers(&hash, ["ln", "r", "p"])?;
                let memory = 1_u64.checked_shl(u32::try_from(ln).unwrap_or(64)).unwrap_or(u64::MAX);
                let memory = memory.saturating_mul(r).saturating_mul(128);
                if !(1..=40).contains(&ln)
                    || memory > MAX_MEMORY
                    || p > MAX_LANES
                    || memory.saturating_mul(p) >> 10 > MAX_WORK
                {
                    return Err(too_much());
                }
                hash.version.is_none() && scrypt::Params::try_from(&hash).is_ok()
            }
            _ => {
                let [m, t, p] = numbers(&hash, ["m", "t", "p"])?;
                if m > MAX_MEMORY >> 10 || m.saturating_mul(t) > MAX_WORK || p > MAX_LANES {
                    return Err(too_much());
                }
                matches!(hash.version, None | Some(16 | 19)) && argon2::Params::try_from(&hash).is_ok()
            }
        };
        if good {
            Ok(Self { scheme, hash })
        } else {
            Err(format!("its parameters are not those of {scheme}"))
        }
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(super) fn cost(&self) -> String {
        format!("{} {}", self.scheme, self.hash.params)
    }

    pub(super) fn fits(&self, password: &[u8]) -> bool {
        match self.scheme {
            Scheme::Scrypt => Scrypt::default().verify_password(password, &self.hash).is_ok(),
            // Without a version it is the first one, whatever is the default of today.
            _ => Argon2::new(Algorithm::default(), Version::V0x10, argon2::Params::default())
                .verify_password(password, &self.hash)
                .is_ok(),
        }
    }
}

/// The numbers of these names: each must be there, once, above 0, and nothing else.
fn numbers<const N: usize>(hash: &PasswordHash, names: [&str; N]) -> Result<[u64; N], String> {
    let mut found = HashMap::new();
    for (name, value) in hash.params.iter() {
        let number = value.decimal().ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| format!("{name} is no number above 0"))?;
        if !names.contains(&name.as_str()) || found.insert(name.to_string(), u64::from(number)).is_some() {
            return Err(format!("parameters {} are wanted, each once", names.join(", ")));
        }
    }
    let numbers: Option<Vec<u64>> = names.iter().map(|name| found.get(*name).copied()).collect();
    let numbers = numbers.and_then(|numbers| <[u64; N]>::try_from(numbers).ok());
    numbers.ok_or_else(|| format!("parameters {} are wanted, each once", names.join(", ")))
}

/// A new hash, with what OWASP recommends: argon2id with 19 MiB and two passes, scrypt with 64 MiB (its next larger choice, of 128 MiB, is much for a mail server with
/// several logins at once).
pub(super) fn make(scheme: Scheme, password: &[u8]) -> Result<String, &'static str> {
    const WRONG: &str = "the hash cannot be made";
    let salt = random::<16>()?;
    if scheme == Scheme::Scrypt {
        let params = scrypt::Params::new(16, 8, 2).map_err(|_| WRONG)?;
        let hash: Result<PasswordHash, _> =
            Scrypt::default().hash_password_customized(password, &salt, None, None, params);
        return hash.map(|hash| hash.to_string()).map_err(|_| WRONG);
    }
    let hash: Result<PasswordHash, _> = Argon2::default().hash_password_with_salt(password, &salt);
    hash.map(|hash| hash.to_string()).map_err(|_| WRONG)
}
