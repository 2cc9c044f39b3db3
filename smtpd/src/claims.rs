//! Whose name a client uses in an exchange, before anybody has looked whether it may: to count attempts by user. Pure.
//!
//! Read loosely: nothing is decided by it but whether the back end is asked. The mechanisms themselves read strictly.

use common::text::printable;

/// Longest name, in octets; a longer one is cut.
const MAX: usize = 255;

/// The name in the first response of an exchange; `None` where there is none, or the mechanism hides it.
pub fn user(mechanism: &str, response: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(response);
    let name = match mechanism {
        // RFC 4616 2: authzid NUL authcid NUL passwd.
        "PLAIN" => text.split('\0').nth(1)?.to_owned(),
        "LOGIN" => text.into_owned(),
        // RFC 5802 7: behind the GS2 header; commas and equals signs are escaped.
        _ if mechanism.starts_with("SCRAM-") => {
            let name = text.splitn(3, ',').nth(2)?.split(',').find_map(|part| part.strip_prefix("n="))?;
            name.replace("=2C", ",").replace("=3D", "=")
        }
        // RFC 7628 3.1, and what Google has in its place.
        "OAUTHBEARER" => text.split(',').nth(1)?.strip_prefix("a=")?.to_owned(),
        "XOAUTH2" => text.split('\u{1}').next()?.strip_prefix("user=")?.to_owned(),
        _ => return None,
    };
    (!name.is_empty()).then(|| key(&name))
}

/// Names that are the same for a count.
pub fn key(name: &str) -> String {
    printable(&name.to_lowercase(), MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_in_the_first_response() {
        for (mechanism, response, name) in [
            ("PLAIN", &b"\0Joe\0secret"[..], Some("joe")),
            ("PLAIN", b"admin\0joe@b\0secret", Some("joe@b")),
            ("PLAIN", b"joe", None),
            ("PLAIN", b"\0\0secret", None),
            ("LOGIN", b"joe", Some("joe")),
            ("LOGIN", b"", None),
            ("LOGIN", b"j\xff\n", Some("j\\xef\\xbf\\xbd\\x0a")),
            ("SCRAM-SHA-256", b"n,,n=joe,r=abc", Some("joe")),
            ("SCRAM-SHA-256-PLUS", b"p=tls-exporter,a=x,n=a=2Cb=3Dc,r=abc", Some("a,b=c")),
            ("SCRAM-SHA-256", b"n,,r=abc", None),
            ("OAUTHBEARER", b"n,a=joe@b,\x01host=h\x01auth=Bearer x\x01\x01", Some("joe@b")),
            ("OAUTHBEARER", b"n,,\x01auth=Bearer x\x01\x01", None),
            ("XOAUTH2", b"user=joe@b\x01auth=Bearer x\x01\x01", Some("joe@b")),
            ("EXTERNAL", b"joe", None),
        ] {
            assert_eq!(user(mechanism, response).as_deref(), name, "{mechanism}");
        }
        assert_eq!(user("LOGIN", &[b'x'; 1000]).unwrap().len(), MAX);
    }
}
