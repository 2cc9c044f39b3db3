//! What a server keeps for SCRAM-SHA-256 (RFC 5802 3, RFC 7677) instead of a password: salt, iterations, StoredKey and ServerKey. Pure.
//!
//! Written as Dovecot does, `{SCRAM-SHA-256}ITERATIONS,SALT,STOREDKEY,SERVERKEY`; read also in the form of RFC 5803, which PostgreSQL has,
//! `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`. The last three are in base64.

use super::random;
use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use data_encoding::BASE64;
use std::fmt;
use std::num::NonZeroU32;

/// RFC 7677 4 wants 4096 at least; more than a million would take a second.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;
/// For new ones. The client computes them, and may be a telephone.
pub const OUR_ITERATIONS: NonZeroU32 = NonZeroU32::new(15_000).unwrap();
/// Longest salt, in octets.
const MAX_SALT: usize = 64;

/// An octet string of SHA-256's length.
pub type Key = [u8; 32];

/// The verifier of one user.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// From the parts. Keys of random octets make one that no password fits.
    pub fn new(iterations: NonZeroU32, salt: Vec<u8>, stored_key: Key, server_key: Key) -> Self {
        Self { iterations, salt, stored_key, server_key }
    }

    /// What follows `{SCRAM-SHA-256}`.
    pub(super) fn parse_dovecot(fields: &str) -> Result<Self, String> {
        match fields.split(',').collect::<Vec<_>>().as_slice() {
            [iterations, salt, stored, server] => Self::read(iterations, salt, stored, server),
            _ => Err("wanted {SCRAM-SHA-256}ITERATIONS,SALT,STOREDKEY,SERVERKEY".into()),
        }
    }

    /// What follows `SCRAM-SHA-256$`.
    pub(super) fn parse_rfc5803(fields: &str) -> Result<Self, String> {
        let parts = fields
            .split_once('$')
            .and_then(|(info, value)| Some((info.split_once(':')?, value.split_once(':')?)));
        let wrong = "wanted SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY";
        let ((iterations, salt), (stored, server)) = parts.ok_or(wrong)?;
        Self::read(iterations, salt, stored, server)
    }

    fn read(iterations: &str, salt: &str, stored: &str, server: &str) -> Result<Self, String> {
        let iterations = iterations.parse::<NonZeroU32>().ok().filter(|n| ITERATIONS.contains(&n.get()));
        let iterations = iterations
            .ok_or_else(|| format!("{} to {} iterations are taken", ITERATIONS.start(), ITERATIONS.end()))?;
        let decode = |text: &str| BASE64.decode(text.as_bytes()).ok();
        let key = |text: &str| decode(text).and_then(|octets| Key::try_from(octets).ok());
        let salt = decode(salt).filter(|salt| (1..=MAX_SALT).contains(&salt.len()));
        let parts = salt.zip(key(stored)).zip(key(server));
        let ((salt, stored_key), server_key) =
            parts.ok_or("salt and keys are not in base64, or of another length")?;
        Ok(Self { iterations, salt, stored_key, server_key })
    }

    /// For a new password.
    pub(super) fn make(password: &[u8]) -> Result<Self, &'static str> {
        let salt = random::<16>()?.to_vec();
        let salted = salted(password, &salt, OUR_ITERATIONS);
        Ok(Self {
            iterations: OUR_ITERATIONS,
            salt,
            stored_key: sha256(&mac(&salted[..], &[b"Client Key"])),
            server_key: mac(&salted[..], &[b"Server Key"]),
        })
    }

    /// How often the password is hashed.
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Is this the proof of somebody who knows the password (RFC 5802 3)?
    pub fn proven(&self, proof: &Key, message: &[u8]) -> bool {
        let signature = mac(&self.stored_key, &[message]);
        let mut client_key = *proof;
        client_key.iter_mut().zip(signature).for_each(|(octet, other)| *octet ^= other);
        constant_time::verify_slices_are_equal(&sha256(&client_key), &self.stored_key).is_ok()
    }

    /// Our own proof.
    pub fn server_signature(&self, message: &[u8]) -> Key {
        mac(&self.server_key, &[message])
    }

    /// Does a password fit? For mechanisms that send it.
    pub(super) fn fits(&self, password: &[u8]) -> bool {
        let salted = salted(password, &self.salt, self.iterations);
        let stored_key = sha256(&mac(&salted[..], &[b"Client Key"]));
        constant_time::verify_slices_are_equal(&stored_key, &self.stored_key).is_ok()
    }
}

impl fmt::Display for Verifier {
    /// The line for the users file: a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|octets| BASE64.encode(octets));
        write!(f, "{{SCRAM-SHA-256}}{},{salt},{stored},{server}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({} iterations)", self.iterations)
    }
}

fn salted(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> zeroize::Zeroizing<Key> {
    let mut salted = zeroize::Zeroizing::new(Key::default());
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, salted.as_mut());
    salted
}

/// HMAC-SHA-256 over the parts.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    let mut out = Key::default();
    out.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    out
}

fn sha256(octets: &[u8]) -> Key {
    let mut out = Key::default();
    out.iter_mut().zip(digest::digest(&digest::SHA256, octets).as_ref()).for_each(|(to, from)| *to = *from);
    out
}
