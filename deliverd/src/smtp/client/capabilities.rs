//! What a server offers: the keywords of its EHLO reply (RFC 5321 4.1.1.1). Unknown and malformed keywords
//! are ignored.

use super::reply::Reply;
use super::sasl::Mechanisms;

/// The extensions that we make use of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// SIZE (RFC 1870): may the size be told in MAIL?
    pub size: bool,
    /// The largest message taken, in octets; `None` when there is no limit or it is not told (RFC 1870 3: 0
    /// means none).
    pub size_limit: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461): does it take over what the sender asks of notifications?
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// AUTH (RFC 4954): the mechanisms that we know.
    pub auth: Mechanisms,
}

impl Capabilities {
    /// Reads the reply to EHLO: its first line is the greeting, each other one a keyword and its parameters.
    pub fn from_reply(reply: &Reply) -> Self {
        let mut offered = Self::default();
        for line in reply.lines().skip(1) {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or("").to_ascii_uppercase();
            match keyword.as_str() {
                "SIZE" => {
                    offered.size = true;
                    offered.size_limit = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                "8BITMIME" => offered.eight_bit_mime = true,
                "PIPELINING" => offered.pipelining = true,
                "SMTPUTF8" => offered.smtputf8 = true,
                "DSN" => offered.dsn = true,
                "STARTTLS" => offered.starttls = true,
                "AUTH" => words.for_each(|name| offered.auth.add(name)),
                _ => {
                    // An old way of writing it, for clients older still.
                    if let Some(first) = keyword.strip_prefix("AUTH=") {
                        std::iter::once(first).chain(words).for_each(|name| offered.auth.add(name));
                    }
                }
            }
        }
        offered
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::ReplyParser;
    use super::*;

    #[test]
    fn keywords_are_read_without_regard_to_case() {
        let none = Capabilities::default();
        let auth = |names: &[&str]| {
            let mut offered = none;
            names.iter().for_each(|name| offered.auth.add(name));
            offered
        };
        let size = |limit| Capabilities { size: true, size_limit: limit, ..none };
        for (lines, expected) in [
            ("250 mx.example", none),
            // The first line is the server's name, whatever it looks like.
            ("250 PIPELINING", none),
            ("250-x\r\n250 pipelining", Capabilities { pipelining: true, ..none }),
            ("250-x\r\n250 AUTH PLAIN LOGIN X", auth(&["PLAIN", "LOGIN"])),
            ("250-x\r\n250-AUTH=login\r\n250 auth scram-sha-256", auth(&["LOGIN", "SCRAM-SHA-256"])),
            ("250-x\r\n250 AUTH", none),
            ("250-x\r\n250 8BitMime", Capabilities { eight_bit_mime: true, ..none }),
            ("250-x\r\n250 smtputf8", Capabilities { smtputf8: true, ..none }),
            ("250-x\r\n250 dsn", Capabilities { dsn: true, ..none }),
            ("250-x\r\n250 StartTLS", Capabilities { starttls: true, ..none }),
            // Enhanced codes are read whether announced or not: many send them without a word.
            ("250-x\r\n250 ENHANCEDSTATUSCODES", none),
            ("250-x\r\n250 SIZE", size(None)),
            ("250-x\r\n250 SIZE 0", size(None)),
            ("250-x\r\n250 SIZE 1000", size(Some(1000))),
            ("250-x\r\n250 SIZE junk", size(None)),
            ("250-x\r\n250 SIZE 99999999999999999999999", size(None)),
            ("250-x\r\n250 SIZE=1000", none),
            ("250-x\r\n250-\r\n250 XPIPELINING", none),
        ] {
            let text = format!("{lines}\r\n");
            let reply = ReplyParser::default().take(&mut text.as_bytes()).unwrap().unwrap();
            assert_eq!(Capabilities::from_reply(&reply), expected, "{lines}");
        }
    }
}
