//! Hashes of crypt(3): SHA-crypt, bcrypt, yescrypt. Pure.
//!
//! The whole text is kept, as the crates behind it read it; what it may cost is checked when it is parsed.

use super::{MAX_MEMORY, Scheme, random};
use sha_crypt::{PasswordHasher, PasswordVerifier, ShaCrypt};

/// Rounds of SHA-crypt: from what the scheme allows to about a second of work.
const ROUNDS: std::ops::RangeInclusive<u32> = 1000..=1_000_000;
/// Rounds of SHA-crypt when none are said.
const USUAL_ROUNDS: u32 = 5000;
/// Rounds of the hashes that are made here.
const OUR_ROUNDS: u32 = 100_000;
/// Logarithm of bcrypt's rounds; each step doubles the time, and 15 is two seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=15;
/// The cost of the hashes that are made here.
const OUR_COST: u32 = 12;
/// yescrypt's lanes, which are computed one after the other.
const MAX_LANES: u32 = 8;

/// A hash, its kind, and what it costs.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypt {
    scheme: Scheme,
    cost: String,
    text: String,
}

impl Crypt {
    /// Reads `text`, which begins with `$ID$`.
    pub(super) fn parse(id: &str, text: &str) -> Result<Self, String> {
        let mut fields = text.split('$').skip(2);
        let (scheme, cost) = match id {
            "5" => (Scheme::Sha256Crypt, sha(&mut fields, 43)?),
            "6" => (Scheme::Sha512Crypt, sha(&mut fields, 86)?),
            "y" => (Scheme::Yescrypt, yescrypt(&mut fields)?),
            _ => (Scheme::Bcrypt, bcrypt(&mut fields)?),
        };
        if fields.next().is_some() {
            return Err("something stands behind the hash".into());
        }
        Ok(Self { scheme, cost: format!("{scheme} {cost}"), text: text.to_owned() })
    }

    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(super) fn cost(&self) -> String {
        self.cost.clone()
    }

    pub(super) fn fits(&self, password: &[u8]) -> bool {
        match self.scheme {
            Scheme::Bcrypt => ::bcrypt::verify(password, &self.text).unwrap_or(false),
            Scheme::Yescrypt => {
                yescrypt::Yescrypt::default().verify_password(password, self.text.as_str()).is_ok()
            }
            _ => ShaCrypt::default().verify_password(password, self.text.as_str()).is_ok(),
        }
    }
}

/// `[rounds=N$]SALT$HASH`
fn sha<'a>(fields: &mut impl Iterator<Item = &'a str>, length: usize) -> Result<String, String> {
    let mut field = fields.next().unwrap_or_default();
    let mut rounds = USUAL_ROUNDS;
    if let Some(number) = field.strip_prefix("rounds=") {
        let given = number.parse().ok().filter(|rounds| ROUNDS.contains(rounds));
        rounds = given.ok_or_else(|| {
            format!(
                "rounds of {} to {} are taken: other hashes would not fit, or cost too much",
                ROUNDS.start(),
                ROUNDS.end()
            )
        })?;
        field = fields.next().unwrap_or_default();
    }
    if !(1..=16).contains(&field.len()) || !is_crypt64(field) {
        return Err("its salt is not of 1 to 16 letters, digits, \".\" and \"/\"".into());
    }
    of_length(fields.next(), length)?;
    Ok(rounds.to_string())
}

/// `COST$SALT-AND-HASH`
fn bcrypt<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Result<String, String> {
    let cost = fields.next().filter(|field| field.len() == 2).and_then(|field| field.parse().ok());
    let cost: u32 = cost.ok_or("its cost is no number of two digits")?;
    if !COSTS.contains(&cost) {
        return Err(format!("a cost of {} to {} is taken, not {cost}", COSTS.start(), COSTS.end()));
    }
    of_length(fields.next(), 53)?;
    Ok(cost.to_string())
}

/// `PARAMETERS$SALT$HASH`
fn yescrypt<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Result<String, String> {
    let text = fields.next().unwrap_or_default();
    let wrong = || "its parameters are not those of crypt(3)'s yescrypt".to_owned();
    if text.len() > 16 {
        return Err(wrong());
    }
    let params: yescrypt::Params = text.parse().map_err(|_| wrong())?;
    let memory = params.n().saturating_mul(u64::from(params.r())).saturating_mul(128);
    if memory > MAX_MEMORY || params.p() > MAX_LANES {
        return Err(too_much());
    }
    // Everything else has its usual value.
    let plain = yescrypt::Params::new(yescrypt::Mode::default(), params.n(), params.r(), params.p());
    if plain.map_err(|_| wrong())? != params {
        return Err(wrong());
    }
    let salt = fields.next().unwrap_or_default();
    if !(1..=86).contains(&salt.len()) || !is_crypt64(salt) {
        return Err("its salt is not of letters, digits, \".\" and \"/\"".into());
    }
    of_length(fields.next(), 43)?;
    Ok(text.to_owned())
}

/// What costs more than [`MAX_MEMORY`], or as much time.
pub(super) fn too_much() -> String {
    "it would take more time or memory than a login may (256 MiB): set the password anew with `ironpost user passwd`".into()
}

fn of_length(field: Option<&str>, length: usize) -> Result<(), String> {
    let good = |field: &str| field.len() == length && is_crypt64(field);
    if field.is_some_and(good) {
        Ok(())
    } else {
        Err("the hash is cut short, or has something behind it".into())
    }
}

fn is_crypt64(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
}

/// A new hash.
pub(super) fn make(scheme: Scheme, password: &[u8]) -> Result<String, &'static str> {
    const WRONG: &str = "the hash cannot be made";
    let sha = |algorithm| {
        let params = sha_crypt::Params::new(OUR_ROUNDS).map_err(|_| WRONG)?;
        let hash = ShaCrypt::new(algorithm, params).hash_password_with_salt(password, &random::<12>()?);
        hash.map(|hash| hash.as_str().to_owned()).map_err(|_| WRONG)
    };
    match scheme {
        Scheme::Sha512Crypt => sha(sha_crypt::Algorithm::Sha512Crypt),
        Scheme::Sha256Crypt => sha(sha_crypt::Algorithm::Sha256Crypt),
        Scheme::Yescrypt => {
            let hash = yescrypt::Yescrypt::default().hash_password_with_salt(password, &random::<16>()?);
            hash.map(|hash| hash.as_str().to_owned()).map_err(|_| WRONG)
        }
        // bcrypt looks at 72 octets, and it would be a surprise if more did not count.
        _ if password.len() > 72 => Err("bcrypt looks at 72 octets of a password only: take another scheme"),
        _ => ::bcrypt::hash_with_salt(password, OUR_COST, random()?)
            .map(|parts| parts.format_for_version(::bcrypt::Version::TwoB))
            .map_err(|_| WRONG),
    }
}
