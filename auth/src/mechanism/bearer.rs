//! The messages of OAUTHBEARER (RFC 7628) and XOAUTH2, its older brother. Pure.
//!
//! Either says everything in one message: a token, and perhaps who the client claims to be. A token that is not taken is answered with a challenge that
//! says so in JSON; whatever the client sends then ends the exchange.

use common::oauth::Secret;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whom it wants to be, when it says so.
    pub name: Option<String>,
    /// The token; `None`: it has none, or none that could be one, and wants to know what is asked for.
    pub token: Option<Secret>,
}

/// Reads the message of OAUTHBEARER (RFC 7628 3.1).
pub fn oauthbearer(message: &[u8]) -> Result<Claim, &'static str> {
    let message = std::str::from_utf8(message).map_err(|_| "the message is not UTF-8")?;
    let (header, pairs) = message.split_once('\x01').ok_or("nothing behind the GS2 header")?;
    // RFC 5801 4. A client that could bind to the channel and thinks that we cannot is right.
    let name = header.strip_prefix("n,").or_else(|| header.strip_prefix("y,"));
    let name = name.ok_or("no GS2 header without channel binding")?;
    let name = name.strip_suffix(',').ok_or("no end of the GS2 header")?;
    let name = match name.strip_prefix("a=") {
        Some(name) => Some(saslname(name)?),
        None if name.is_empty() => None,
        None => return Err("no name in the GS2 header"),
    };
    Ok(Claim { name, token: token(pairs)? })
}

/// Reads the message of XOAUTH2: `user=NAME ^A auth=Bearer TOKEN ^A ^A`.
pub fn xoauth2(message: &[u8]) -> Result<Claim, &'static str> {
    let message = std::str::from_utf8(message).map_err(|_| "the message is not UTF-8")?;
    let (name, pairs) = message.split_once('\x01').ok_or("nothing behind the name")?;
    let name = name.strip_prefix("user=").ok_or("no name in front")?;
    let name = Some(name.to_owned()).filter(|name| !name.is_empty());
    Ok(Claim { name, token: token(pairs)? })
}

/// `=2C` and `=3D` stand for a comma and an equals sign, and nothing else begins with `=`.
fn saslname(name: &str) -> Result<String, &'static str> {
    let mut parts = name.split('=');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (octet, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err("a name with an = that stands for nothing"),
        };
        out.push(octet);
        out.push_str(rest);
    }
    if out.is_empty() || out.contains('\0') || name.contains(',') {
        return Err("a name that is empty, or has a comma or NUL");
    }
    Ok(out)
}

/// The token among `KEY=VALUE ^A` pairs that end with a `^A` of their own.
fn token(pairs: &str) -> Result<Option<Secret>, &'static str> {
    let pairs = match pairs {
        // Nothing at all.
        "\x01" => return Ok(None),
        pairs => pairs.strip_suffix("\x01\x01").ok_or("no end of the pairs")?,
    };
    let mut found = None;
    for pair in pairs.split('\x01') {
        let (key, value) = pair.split_once('=').ok_or("a pair without =")?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err("a pair without a name");
        }
        if key == "auth" && found.replace(value).is_some() {
            return Err("two tokens");
        }
    }
    // RFC 6750 2.1; the scheme in any case.
    let value = found.unwrap_or_default();
    let token = value.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer "));
    Ok(token.and_then(|(_, token)| Secret::new(token.trim_start_matches(' '))))
}

/// The challenge to a client whose token is not taken (RFC 7628 3.2.2). `scope`: what a token must be good for.
pub fn complaint(status: &str, scope: &str) -> Vec<u8> {
    let mut object = serde_json::Map::new();
    object.insert("status".into(), status.into());
    object.insert("schemes".into(), "bearer".into());
    if !scope.is_empty() {
        object.insert("scope".into(), scope.into());
    }
    serde_json::Value::Object(object).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: Option<&str>, token: Option<&str>) -> Result<Claim, &'static str> {
        Ok(Claim { name: name.map(str::to_owned), token: token.map(|token| Secret::new(token).unwrap()) })
    }

    #[test]
    fn oauthbearer_is_read_as_the_rfc_writes_it() {
        for (message, expected) in [
            (
                // RFC 7628 4.1
                "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01",
                claim(Some("user@example.com"), Some("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")),
            ),
            ("n,,\x01auth=bearer  t\x01\x01", claim(None, Some("t"))),
            ("y,a==2Ca=3D,\x01auth=BEARER t\x01\x01", claim(Some(",a="), Some("t"))),
            // RFC 7628 4.3: what is asked for?
            ("n,a=u,\x01\x01", claim(Some("u"), None)),
            ("n,a=u,\x01auth=\x01\x01", claim(Some("u"), None)),
            ("n,a=u,\x01auth=Basic t\x01\x01", claim(Some("u"), None)),
            ("n,a=u,\x01auth=Bearer t u\x01\x01", claim(Some("u"), None)),
            ("p=tls-exporter,a=u,\x01auth=Bearer t\x01\x01", Err("no GS2 header without channel binding")),
            ("n,a=u\x01auth=Bearer t\x01\x01", Err("no end of the GS2 header")),
            ("n,u,\x01auth=Bearer t\x01\x01", Err("no name in the GS2 header")),
            ("n,a=,\x01auth=Bearer t\x01\x01", Err("a name that is empty, or has a comma or NUL")),
            ("n,a=u,v,\x01auth=Bearer t\x01\x01", Err("a name that is empty, or has a comma or NUL")),
            ("n,a=u=4F,\x01auth=Bearer t\x01\x01", Err("a name with an = that stands for nothing")),
            ("n,a=u,\x01auth=Bearer t\x01", Err("no end of the pairs")),
            ("n,a=u,\x01auth\x01\x01", Err("a pair without =")),
            ("n,a=u,\x01=x\x01\x01", Err("a pair without a name")),
            ("n,a=u,\x01auth=Bearer a\x01auth=Bearer b\x01\x01", Err("two tokens")),
            ("n,a=u,", Err("nothing behind the GS2 header")),
            ("", Err("nothing behind the GS2 header")),
        ] {
            assert_eq!(oauthbearer(message.as_bytes()), expected, "{message:?}");
        }
        assert_eq!(oauthbearer(b"n,a=\xff,\x01\x01"), Err("the message is not UTF-8"));
    }

    #[test]
    fn xoauth2_is_read_as_google_writes_it() {
        for (message, expected) in [
            (
                "user=someuser@example.com\x01auth=Bearer ya29.vF9\x01\x01",
                claim(Some("someuser@example.com"), Some("ya29.vF9")),
            ),
            ("user=\x01auth=Bearer t\x01\x01", claim(None, Some("t"))),
            ("user=a=b,c\x01auth=Bearer t\x01\x01", claim(Some("a=b,c"), Some("t"))),
            ("auth=Bearer t\x01\x01", Err("no name in front")),
            ("user=u\x01auth=Bearer t", Err("no end of the pairs")),
            ("user=u", Err("nothing behind the name")),
        ] {
            assert_eq!(xoauth2(message.as_bytes()), expected, "{message:?}");
        }
    }

    #[test]
    fn complaints_are_json() {
        assert_eq!(
            complaint("invalid_token", "mail \"x\""),
            br#"{"schemes":"bearer","scope":"mail \"x\"","status":"invalid_token"}"#
        );
        assert_eq!(complaint("401", ""), br#"{"schemes":"bearer","status":"401"}"#);
    }
}
