//! XCLIENT (Postfix's XCLIENT_README): a host in front of us, listed in `xclient_networks`, says for whom it
//! speaks. The session then begins anew with that client: restrictions, trust and log go by it.
//!
//! Attributes are checked like everything from outside. Either all of a command is taken or nothing. What
//! is not offered (REVERSE_NAME) is refused by name, never ignored.

use super::action::{Client, Hello};
use super::auth::Login;
use super::commands::Done;
use super::reply::{self, Reply};
use super::{After, Phase, Session};
use common::address::Domain;
use common::dsn::decode_xtext;
use common::status::EnhancedCode;
use common::text::printable_bytes;
use std::net::IpAddr;
use std::sync::Arc;

/// Without arguments.
const SYNTAX: Reply = reply::syntax("Syntax: XCLIENT attribute=value...");
/// Longest HELO name, in octets (RFC 5321 4.5.3.1.2).
const MAX_HELLO: usize = 255;
/// Longest name of a user, in octets.
const MAX_LOGIN: usize = 255;

/// What is said of a client; absent: as it was.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// `None` inside: not known.
    name: Option<Option<Domain>>,
    ip: Option<IpAddr>,
    port: Option<Option<u16>>,
    extended: Option<bool>,
    hello: Option<Option<String>>,
    login: Option<Option<String>>,
    destination: Option<Option<IpAddr>>,
    destination_port: Option<Option<u16>>,
}

impl Session {
    pub(super) fn xclient(&mut self, args: &[u8]) -> Result<Done, Reply> {
        if !self.xclient {
            return Err(reply::NOT_AUTHORIZED);
        }
        let said = read(args)?;
        self.log_xclient(&said);
        let ip = said.ip.unwrap_or(self.client.ip);
        let mut client = Client::new(ip);
        if let Some(name) = &said.name {
            client.name = name.as_ref().map_or("unknown", Domain::as_str).into();
        }
        self.client = client;
        self.destination = said.destination.unwrap_or(self.destination);
        // As if it had been said already, as with Postfix.
        let extended = said.extended.unwrap_or(false);
        self.hello = said.hello.flatten().map(|name| Arc::new(Hello { name, extended }));
        // Whoever was logged in was somebody else.
        self.login =
            said.login.flatten().map(|name| Arc::new(Login { name: name.into(), method: "XCLIENT".into() }));
        if let After::Verb(verb) = self.after {
            self.tally.went_well(verb);
        }
        self.phase = Phase::Idle;
        self.connect();
        Ok(Done::Silent)
    }

    fn log_xclient(&mut self, said: &Said) {
        let port = |port: &Option<Option<u16>>| port.flatten().map(|p| format!(":{p}")).unwrap_or_default();
        let name = said.name.as_ref().and_then(Option::as_ref).map_or("unknown", Domain::as_str);
        let ip = said.ip.unwrap_or(self.client.ip);
        let mut line = format!("xclient from {}: client={name}[{ip}]{}", self.client, port(&said.port));
        if let Some(Some(destination)) = said.destination {
            line.push_str(&format!(" destination=[{destination}]{}", port(&said.destination_port)));
        }
        if let Some(Some(login)) = &said.login {
            line.push_str(&format!(" sasl_username={login}"));
        }
        self.info(line);
    }
}

/// All attributes of one command.
fn read(args: &[u8]) -> Result<Said, Reply> {
    let text = std::str::from_utf8(args).ok().filter(|text| text.bytes().all(|b| (32..127).contains(&b)));
    let text = text.ok_or(reply::BAD_CHARACTER)?;
    let mut said = Said::default();
    let mut attributes = text.split(' ').filter(|word| !word.is_empty()).peekable();
    if attributes.peek().is_none() {
        return Err(SYNTAX);
    }
    for attribute in attributes {
        let (name, raw) = attribute.split_once('=').ok_or_else(|| bad("attribute syntax", attribute))?;
        let value = decode_xtext(raw).map_err(|_| bad("attribute value syntax", raw))?;
        let unknown =
            value.eq_ignore_ascii_case("[UNAVAILABLE]") || value.eq_ignore_ascii_case("[TEMPUNAVAIL]");
        let wrong = || bad(&format!("{} syntax", name.to_ascii_uppercase()), raw);
        match name.to_ascii_uppercase().as_str() {
            "NAME" if unknown => said.name = Some(None),
            "NAME" => said.name = Some(Some(value.parse().map_err(|_| wrong())?)),
            // Restrictions go by the address: there is no client without one.
            "ADDR" => said.ip = Some(address(&value).ok_or_else(wrong)?),
            "PORT" if unknown => said.port = Some(None),
            "PORT" => said.port = Some(Some(value.parse().map_err(|_| wrong())?)),
            "PROTO" if value.eq_ignore_ascii_case("ESMTP") => said.extended = Some(true),
            "PROTO" if value.eq_ignore_ascii_case("SMTP") => said.extended = Some(false),
            "PROTO" => return Err(wrong()),
            "HELO" if unknown => said.hello = Some(None),
            "HELO" if (1..=MAX_HELLO).contains(&value.len()) => said.hello = Some(Some(value)),
            "HELO" => return Err(wrong()),
            "LOGIN" if unknown => said.login = Some(None),
            "LOGIN" if is_name(&value) => said.login = Some(Some(value)),
            "LOGIN" => return Err(wrong()),
            "DESTADDR" if unknown => said.destination = Some(None),
            "DESTADDR" => said.destination = Some(Some(address(&value).ok_or_else(wrong)?)),
            "DESTPORT" if unknown => said.destination_port = Some(None),
            "DESTPORT" => said.destination_port = Some(Some(value.parse().map_err(|_| wrong())?)),
            _ => return Err(bad("attribute name", name)),
        }
    }
    Ok(said)
}

/// A user's name as it may go into a log.
fn is_name(text: &str) -> bool {
    (1..=MAX_LOGIN).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// `192.0.2.1`, `IPV6:2001:db8::1`.
fn address(text: &str) -> Option<IpAddr> {
    match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPV6:") => {
            text.get(5..)?.parse::<std::net::Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical())
        }
        _ => text.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn bad(what: &str, text: &str) -> Reply {
    let text = printable_bytes(text.as_bytes(), 100);
    Reply::new(501, EnhancedCode::new(5, 5, 4), format!("Bad XCLIENT {what}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_checked() {
        for (args, expected) in [
            ("ADDR=192.0.2.9", Ok(Said { ip: Some([192, 0, 2, 9].into()), ..Said::default() })),
            (
                "name=mx.example addr=IPv6:2001:db8::1",
                Ok(Said {
                    name: Some("mx.example".parse().ok()),
                    ip: "2001:db8::1".parse().ok(),
                    ..Said::default()
                }),
            ),
            ("NAME=[UNAVAILABLE]", Ok(Said { name: Some(None), ..Said::default() })),
            ("NAME=[TEMPUNAVAIL]", Ok(Said { name: Some(None), ..Said::default() })),
            (
                "HELO=a+2Bb PROTO=ESMTP",
                Ok(Said { hello: Some(Some("a+b".into())), extended: Some(true), ..Said::default() }),
            ),
            (
                "PORT=25 DESTADDR=192.0.2.1 DESTPORT=587",
                Ok(Said {
                    port: Some(Some(25)),
                    destination: Some(Some([192, 0, 2, 1].into())),
                    destination_port: Some(Some(587)),
                    ..Said::default()
                }),
            ),
            ("", Err("501 5.5.4 Syntax: XCLIENT attribute=value...")),
            ("ADDR", Err("501 5.5.4 Bad XCLIENT attribute syntax: ADDR")),
            ("LOGIN=joe+40b", Ok(Said { login: Some(Some("joe@b".into())), ..Said::default() })),
            ("LOGIN=[UNAVAILABLE]", Ok(Said { login: Some(None), ..Said::default() })),
            ("LOGIN=", Err("501 5.5.4 Bad XCLIENT LOGIN syntax: ")),
            ("LOGIN=a+20b", Err("501 5.5.4 Bad XCLIENT LOGIN syntax: a+20b")),
            ("REVERSE_NAME=a.example", Err("501 5.5.4 Bad XCLIENT attribute name: REVERSE_NAME")),
            ("FOO=1", Err("501 5.5.4 Bad XCLIENT attribute name: FOO")),
            ("ADDR=x", Err("501 5.5.4 Bad XCLIENT ADDR syntax: x")),
            ("ADDR=[UNAVAILABLE]", Err("501 5.5.4 Bad XCLIENT ADDR syntax: [UNAVAILABLE]")),
            ("ADDR=2001:db8::1", Err("501 5.5.4 Bad XCLIENT ADDR syntax: 2001:db8::1")),
            ("PORT=65536", Err("501 5.5.4 Bad XCLIENT PORT syntax: 65536")),
            ("PROTO=LMTP", Err("501 5.5.4 Bad XCLIENT PROTO syntax: LMTP")),
            ("NAME=a+0D+0Ab", Err("501 5.5.4 Bad XCLIENT attribute value syntax: a+0D+0Ab")),
            ("NAME=a..b", Err("501 5.5.4 Bad XCLIENT NAME syntax: a..b")),
            ("HELO=", Err("501 5.5.4 Bad XCLIENT HELO syntax: ")),
        ] {
            let got = read(args.as_bytes()).map_err(|reply| reply.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{args:?}");
        }
    }
}
