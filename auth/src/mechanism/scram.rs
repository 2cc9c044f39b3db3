//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677; channel binding tls-exporter, RFC 9266). Pure.
//!
//! [`First`] is what the client says at first; with the verifier of its user it becomes a [`Conversation`], which judges the client's proof and gives the server's. A client
//! that thinks we cannot bind to the channel, when we said that we can, has been lied to by somebody in between, and is refused (RFC 5802 6).

use crate::hash::Verifier;
use crate::hash::verifier::Key;
use crate::name;
use aws_lc_rs::constant_time;
use data_encoding::BASE64;
use std::fmt;

/// Longest message of a client, in octets.
const MAX: usize = 2048;
/// Longest nonce of a client, in octets.
const MAX_NONCE: usize = 256;
/// The binding that we know.
const BINDING: &str = "tls-exporter";

/// Why an exchange ends without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramError {
    /// This is not SCRAM.
    Malformed(&'static str),
    /// The client may not.
    Refused(&'static str),
}

/// What a client says at first: `n,,n=NAME,r=NONCE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// Whom it wants to act for, when that is not itself.
    pub authorization: String,
    /// Its name.
    pub name: String,
    header: String,
    bare: String,
    nonce: String,
}

/// What the channel is, and what was offered on it.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// Is this the -PLUS mechanism?
    pub plus: bool,
    /// Was the -PLUS mechanism offered?
    pub offered: bool,
    /// The data of tls-exporter; empty without TLS 1.3.
    pub data: &'a [u8],
}

impl First {
    /// Reads client-first-message.
    pub fn parse(message: &[u8], binding: Binding<'_>) -> Result<Self, ScramError> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let (flag, authorization, bare) = (parts.next(), parts.next(), parts.next());
        let (Some(flag), Some(authorization), Some(bare)) = (flag, authorization, bare) else {
            return Err(ScramError::Malformed("wanted n,,n=NAME,r=NONCE"));
        };
        check_flag(flag, binding)?;
        let authorization = match authorization {
            "" => String::new(),
            given => {
                saslname(given.strip_prefix("a=").ok_or(ScramError::Malformed("wanted a= or nothing"))?)?
            }
        };
        let mut fields = bare.split(',');
        let mut field = |name, what| {
            fields.next().and_then(|field| field.strip_prefix(name)).ok_or(ScramError::Malformed(what))
        };
        if bare.starts_with("m=") {
            return Err(ScramError::Malformed("extensions that must be understood are not"));
        }
        let name = saslname(field("n=", "wanted n=NAME")?)?;
        let nonce = field("r=", "wanted r=NONCE")?;
        if nonce.is_empty() || nonce.len() > MAX_NONCE || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ScramError::Malformed("the nonce is empty, too long or not printable"));
        }
        let header = message.strip_suffix(bare).unwrap_or_default().to_owned();
        Ok(Self { authorization, name, header, bare: bare.to_owned(), nonce: nonce.to_owned() })
    }

    /// The user's verifier, and our part of the nonce, which must be printable and have no comma.
    pub fn answer(self, verifier: Verifier, nonce: &str) -> Conversation {
        let nonce = format!("{}{nonce}", self.nonce);
        let server_first =
            format!("r={nonce},s={},i={}", BASE64.encode(verifier.salt()), verifier.iterations());
        Conversation { first: self, verifier, nonce, server_first }
    }
}

/// After our answer.
#[derive(Clone)]
pub struct Conversation {
    first: First,
    verifier: Verifier,
    nonce: String,
    server_first: String,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("name", &self.first.name).finish_non_exhaustive()
    }
}

impl Conversation {
    /// The client's name.
    pub fn name(&self) -> &str {
        &self.first.name
    }

    /// server-first-message, to be sent.
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Reads client-final-message. Gives server-final-message, which is the server's proof. Errors: `Refused` when the proof is wrong.
    pub fn finish(&self, message: &[u8], binding: Binding<'_>) -> Result<String, ScramError> {
        let message = text(message)?;
        let (without_proof, proof) =
            message.rsplit_once(",p=").ok_or(ScramError::Malformed("wanted c=…,r=…,p=…"))?;
        let mut fields = without_proof.split(',');
        let mut field = |name| {
            fields
                .next()
                .and_then(|f| f.strip_prefix(name))
                .ok_or(ScramError::Malformed("wanted c=…,r=…,p=…"))
        };
        let (channel, nonce) = (field("c=")?, field("r=")?);
        let channel =
            BASE64.decode(channel.as_bytes()).map_err(|_| ScramError::Malformed("c= is not base64"))?;
        let proof = BASE64.decode(proof.as_bytes()).ok().and_then(|proof| Key::try_from(proof).ok());
        let proof = proof.ok_or(ScramError::Malformed("the proof is not base64, or of another length"))?;
        let mut expected = self.first.header.clone().into_bytes();
        if binding.plus {
            expected.extend_from_slice(binding.data);
        }
        if constant_time::verify_slices_are_equal(&channel, &expected).is_err() {
            return Err(ScramError::Refused(
                "the client is bound to another channel: somebody may be in between",
            ));
        }
        if nonce != self.nonce {
            return Err(ScramError::Refused("the nonce is another one"));
        }
        let signed = format!("{},{},{without_proof}", self.first.bare, self.server_first);
        if !self.verifier.proven(&proof, signed.as_bytes()) {
            return Err(ScramError::Refused("wrong password"));
        }
        Ok(format!("v={}", BASE64.encode(&self.verifier.server_signature(signed.as_bytes()))))
    }
}

/// gs2-cbind-flag (RFC 5802 6).
fn check_flag(flag: &str, binding: Binding<'_>) -> Result<(), ScramError> {
    match (flag, flag.strip_prefix("p=")) {
        ("n", _) if !binding.plus => Ok(()),
        ("y", _) if !binding.plus && !binding.offered => Ok(()),
        ("y", _) if !binding.plus => Err(ScramError::Refused(
            "the client was not told of SCRAM-SHA-256-PLUS: somebody may be in between",
        )),
        ("n" | "y", _) => {
            Err(ScramError::Refused("the client does not bind to the channel, as -PLUS wants it"))
        }
        (_, Some(BINDING)) if binding.plus && !binding.data.is_empty() => Ok(()),
        (_, Some(BINDING)) => Err(ScramError::Refused("binding to the channel is for SCRAM-SHA-256-PLUS")),
        (_, Some(_)) => {
            Err(ScramError::Refused("this kind of channel binding is not known: there is tls-exporter"))
        }
        _ => Err(ScramError::Malformed("wanted n, y or p= at first")),
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed("the message is no text"))?;
    if text.len() > MAX || text.contains('\0') {
        return Err(ScramError::Malformed("the message is too long, or has NUL in it"));
    }
    Ok(text)
}

/// `=2C` is a comma, `=3D` an equals sign, and nothing else may follow one (RFC 5802 5.1).
fn saslname(text: &str) -> Result<String, ScramError> {
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed("\"=\" in a name stands for itself: wanted =2C or =3D")),
        };
        name.push(c);
        name.push_str(rest);
    }
    match name.len() {
        0 => Err(ScramError::Malformed("the name is empty")),
        length if length > name::MAX => Err(ScramError::Malformed("the name is too long")),
        _ => Ok(name),
    }
}

#[cfg(test)]
mod tests;
