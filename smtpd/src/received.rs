//! The `Received` field that we put on top of a message (RFC 5321 4.4), in Postfix's form.
//!
//! What a client says of itself stands in it with everything outside names and address literals made `?`, so
//! it can neither end the field nor close a comment nor claim a hop that was not.

use crate::session::auth::Login;
use crate::session::{Client, Hello};
use common::address::{Address, Domain};
use common::time::Timestamp;
use common::tls::{ClientCertificate, Parameters};
use spool::id::QueueId;
use std::net::IpAddr;

/// Longest HELO name shown, in octets: no line of the field comes near the 998 of RFC 5322 2.1.1.
const MAX_NAME: usize = 255;

/// How a message has come.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// `ESMTPSA`.
    pub protocol: &'a str,
    /// The encryption.
    pub tls: Option<&'a Parameters>,
    /// Who has logged in, where that is to be told.
    pub login: Option<&'a Login>,
    /// From where is nobody's business.
    pub hidden: bool,
}

/// The field with its line ends. `recipient` is shown only when it is the only one: others must not learn of
/// each other.
pub fn received(
    hostname: &Domain,
    client: &Client,
    hello: &Hello,
    way: Way<'_>,
    id: QueueId,
    recipient: Option<&Address>,
    now: Timestamp,
) -> String {
    let ip = match client.ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("IPv6:{ip}"),
    };
    let recipient = recipient.map(|address| format!("\r\n\tfor <{address}>")).unwrap_or_default();
    let Way { protocol, tls, login, hidden } = way;
    // Folded, as Postfix does it.
    let tls = tls.map(|tls| format!("(using {tls})\r\n\t({})\r\n\t", certificate(&tls.client)));
    let login = login.map(|login| format!("(Authenticated sender: {})\r\n\t", tame(&login.name)));
    let login = login.unwrap_or_default();
    if hidden {
        let date = now.rfc5322();
        return format!(
            "Received: {login}by {hostname} (Ironpost) with {protocol} id {id}{recipient}; {date}\r\n"
        );
    }
    format!(
        "Received: from {helo} ({name} [{ip}])\r\n\t{tls}{login}\
         by {hostname} (Ironpost) with {protocol} id {id}{recipient}; {date}\r\n",
        tls = tls.unwrap_or_default(),
        helo = tame(&hello.name),
        name = tame(&client.name),
        date = now.rfc5322(),
    )
}

/// Postfix's words.
fn certificate(client: &ClientCertificate) -> String {
    match client {
        ClientCertificate::NotRequested => "No client certificate requested".into(),
        ClientCertificate::Absent => "Client did not present a certificate".into(),
        ClientCertificate::Shown(shown) => {
            let verified = if shown.distrust.is_none() { "verified OK" } else { "not verified" };
            let (subject, issuer) = (comment(&shown.subject), comment(&shown.issuer));
            format!("Client CN \"{subject}\", Issuer \"{issuer}\" ({verified})")
        }
    }
}

/// What a certificate says within a comment (RFC 5322 3.2.2): it neither ends it nor its quotes.
fn comment(text: &str) -> String {
    let plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !"()\\\"".contains(c);
    text.chars().take(MAX_NAME).map(|c| if plain(c) { c } else { '?' }).collect()
}

fn tame(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]@+".contains(c);
    let tamed: String = name.chars().take(MAX_NAME).map(|c| if plain(c) { c } else { '?' }).collect();
    if tamed.is_empty() { "unknown".into() } else { tamed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(helo: &str, ip: &str, recipient: Option<&str>) -> String {
        received(
            &"mail.example".parse().unwrap(),
            &Client::new(ip.parse().unwrap()),
            &Hello { name: helo.into(), extended: true },
            Way { protocol: "ESMTP", tls: None, login: None, hidden: false },
            QueueId::new(Timestamp(0), 0),
            recipient.map(|r| r.parse().unwrap()).as_ref(),
            Timestamp(0),
        )
    }

    #[test]
    fn the_field_reads_as_postfix_writes_it() {
        let date = Timestamp(0).rfc5322();
        assert_eq!(
            field("a.example", "192.0.2.1", Some("joe@mail.example")),
            format!(
                "Received: from a.example (unknown [192.0.2.1])\r\n\t\
                 by mail.example (Ironpost) with ESMTP id 0000000000000000\r\n\t\
                 for <joe@mail.example>; {date}\r\n"
            )
        );
        assert_eq!(
            field("[IPv6:::1]", "::1", None),
            format!(
                "Received: from [IPv6:::1] (localhost [IPv6:::1])\r\n\t\
                 by mail.example (Ironpost) with ESMTP id 0000000000000000; {date}\r\n"
            )
        );
    }

    #[test]
    fn encryption_is_told_in_postfixs_words() {
        let tls = Parameters {
            version: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384".into(),
            bits: 256,
            group: Some("X25519MLKEM768".into()),
            resumed: false,
            client: ClientCertificate::NotRequested,
        };
        let field = received(
            &"mail.example".parse().unwrap(),
            &Client::new("192.0.2.1".parse().unwrap()),
            &Hello { name: "a.example".into(), extended: true },
            Way { protocol: "ESMTPS", tls: Some(&tls), login: None, hidden: false },
            QueueId::new(Timestamp(0), 0),
            None,
            Timestamp(0),
        );
        let date = Timestamp(0).rfc5322();
        assert_eq!(
            field,
            format!(
                "Received: from a.example (unknown [192.0.2.1])\r\n\t\
                 (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519MLKEM768)\r\n\t\
                 (No client certificate requested)\r\n\t\
                 by mail.example (Ironpost) with ESMTPS id 0000000000000000; {date}\r\n"
            )
        );
    }

    #[test]
    fn a_login_is_shown_and_a_client_hidden_where_that_is_wanted() {
        let date = Timestamp(0).rfc5322();
        let login = Login { name: "joe) by evil\r\n@b".into(), method: "PLAIN".into() };
        let field = |login, hidden| {
            received(
                &"mail.example".parse().unwrap(),
                &Client::new("192.0.2.1".parse().unwrap()),
                &Hello { name: "a.example".into(), extended: true },
                Way { protocol: "ESMTPA", tls: None, login, hidden },
                QueueId::new(Timestamp(0), 0),
                None,
                Timestamp(0),
            )
        };
        assert_eq!(
            field(Some(&login), false),
            format!(
                "Received: from a.example (unknown [192.0.2.1])\r\n\t(Authenticated sender: joe??by?evil??@b)\r\n\t\
                 by mail.example (Ironpost) with ESMTPA id 0000000000000000; {date}\r\n"
            )
        );
        let hidden =
            format!("Received: by mail.example (Ironpost) with ESMTPA id 0000000000000000; {date}\r\n");
        assert_eq!(field(None, true), hidden);
    }

    #[test]
    fn nothing_that_a_client_says_gets_out_of_its_place() {
        for helo in [
            "x\r\nBcc: victim@example.com",
            "x\r\n\r\nbody",
            "a (b) by evil.example",
            "x) by y; Thu, 1 Jan 1970",
            "<script>",
            "é\0\u{7f}\t",
            "\"quoted\\",
            "",
            &"long".repeat(1000),
        ] {
            let field = field(helo, "192.0.2.1", None);
            let lines: Vec<&str> = field.split("\r\n").collect();
            assert_eq!(lines.len(), 3, "{helo:?}");
            assert!(lines[1].starts_with("\tby mail.example (Ironpost) with ESMTP id "), "{helo:?}");
            let rest = lines[0].strip_prefix("Received: from ").unwrap();
            let (name, rest) = rest.split_once(' ').unwrap();
            assert_eq!(rest, "(unknown [192.0.2.1])", "{helo:?}");
            assert!(
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"()<>\"\\;,".contains(&b))
            );
            assert!(lines.iter().all(|line| line.len() < 998));
        }
    }
}
