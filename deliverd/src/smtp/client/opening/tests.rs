//! From the connection to the first transaction, as dialogues: what the server says, what the core sends, and how
//! it ends. `TLS` in a script is a handshake.

use super::super::{Action, Lost, Peer};
use super::*;
use common::oauth::Secret;
use common::status::Outcome;

fn client(encryption: Encryption) -> Client {
    client_with(Terms { encryption, login: None })
}

fn client_with(terms: Terms) -> Client {
    let peer = Peer { name: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() };
    Client::new(peer, "me.example".parse().unwrap(), terms)
}

/// The nonce is that of RFC 7677 3. A token is the name of its file.
fn login(line: &str) -> Option<Login> {
    let table = common::credentials::Table::parse("t".as_ref(), &format!("x.example {line}")).unwrap();
    let credentials = table.find(&"x.example".parse().unwrap(), None, false).unwrap();
    let token = credentials.token_file().map(|file| Secret::new(file.to_str().unwrap()).unwrap());
    Some(Login { credentials, token, nonce: "rOprNGfwEbeRWgbNEkqO".into() })
}

/// Plays a script: `S: ` the server says (`\n` between lines), `C: ` the core must send, `TLS` a handshake that
/// succeeds, `FAIL` one that does not, `LOST` the connection goes. Gives how it ended.
fn play(encryption: Encryption, script: &[&str], step: usize) -> String {
    play_with(client(encryption), script, step)
}

fn play_with(mut client: Client, script: &[&str], step: usize) -> String {
    let mut sent = String::new();
    let mut result = String::new();
    let mut script = script.iter();
    for _ in 0..1000 {
        match client.next_action() {
            Action::Send(octets) => sent.push_str(&String::from_utf8(octets).unwrap()),
            Action::Handshake => match *script.next().expect("a handshake in the script") {
                "TLS" => client.secured(),
                "FAIL" => client.handshake_failed("received fatal alert: HandshakeFailure"),
                "DISTRUST" => client.distrusted("Server certificate not trusted: it is self-signed"),
                "LOST" => client.lost(Lost::Timeout),
                other => panic!("a handshake instead of {other:?}"),
            },
            Action::Wait(_) => {
                let mut line = *script.next().unwrap_or_else(|| panic!("nothing more to say; sent {sent:?}"));
                if let Some(expected) = line.strip_prefix("C: ") {
                    assert_eq!(sent, format!("{}\r\n", expected.replace('\n', "\r\n")));
                    sent.clear();
                    line = script.next().unwrap();
                }
                match line.strip_prefix("S: ") {
                    Some(text) => {
                        let octets = format!("{}\r\n", text.replace('\n', "\r\n"));
                        octets.as_bytes().chunks(step).for_each(|part| client.receive(part));
                    }
                    None => client.lost(Lost::Connection),
                }
            }
            Action::Ready => {
                return format!("ready{}{result}", if client.is_secure() { " secure" } else { "" });
            }
            Action::Refused(refusal) => {
                assert_eq!(refusal.status.outcome, Outcome::Deferred);
                result = format!(" {:?} {} {}", refusal.cause, refusal.status.code, refusal.status.text);
            }
            Action::Close => return format!("closed{result}"),
            Action::SendContent | Action::Ended(_) => panic!("no transaction was begun"),
        }
    }
    panic!("no end")
}

const OFFER: &str = "S: 250-mx.example\n250-PIPELINING\n250 STARTTLS";
const NO_OFFER: &str = "S: 250-mx.example\n250 PIPELINING";
const HELLO: [&str; 2] = ["S: 220 mx.example", "C: EHLO me.example"];

#[test]
fn every_state_of_starttls() {
    use Encryption::{FromStart, IfOffered, Never, Required};
    let with = |rest: &[&'static str]| [&HELLO[..], rest].concat();
    let secured = &[OFFER, "C: STARTTLS", "S: 220 go", "TLS", "C: EHLO me.example", NO_OFFER][..];
    for (encryptions, script, expected) in [
        (&[Never, IfOffered][..], with(&[NO_OFFER]), "ready"),
        (&[Never], with(&[OFFER]), "ready"),
        (&[IfOffered, Required], with(secured), "ready secure"),
        // Offered once more inside: not done twice.
        (
            &[Required],
            with(&[OFFER, "C: STARTTLS", "S: 220 go", "TLS", "C: EHLO me.example", OFFER]),
            "ready secure",
        ),
        // Stripped from the offer.
        (
            &[Required],
            with(&[NO_OFFER, "C: QUIT", "S: 221 bye"]),
            "closed Server 4.7.4 TLS is required, but was not offered by host mx.example[192.0.2.1]",
        ),
        (
            &[Required],
            with(&["S: 502 what", "C: HELO me.example", "S: 250 mx.example", "C: QUIT", "S: 221 bye"]),
            "closed Server 4.7.4 TLS is required, but was not offered by host mx.example[192.0.2.1]",
        ),
        (&[IfOffered], with(&["S: 502 what", "C: HELO me.example", "S: 250 mx.example"]), "ready"),
        // Refused.
        (&[IfOffered], with(&[OFFER, "C: STARTTLS", "S: 454 4.7.0 not now"]), "ready"),
        (&[IfOffered], with(&[OFFER, "C: STARTTLS", "S: 502 5.5.1 what"]), "ready"),
        (
            &[Required],
            with(&[OFFER, "C: STARTTLS", "S: 502 5.5.1 what", "C: QUIT", "S: 221 bye"]),
            "closed Server 4.7.4 TLS is required, but host mx.example[192.0.2.1] refused to start TLS: 502 5.5.1 what",
        ),
        // Text behind the reply.
        (
            &[IfOffered, Required],
            with(&[OFFER, "C: STARTTLS", "S: 220 go\n250 injected"]),
            "closed Handshake 4.7.5 Cannot start TLS: handshake failure (text behind the reply to STARTTLS)",
        ),
        (
            &[IfOffered, Required],
            with(&[OFFER, "C: STARTTLS", "S: 220 go\nx"]),
            "closed Handshake 4.7.5 Cannot start TLS: handshake failure (text behind the reply to STARTTLS)",
        ),
        // No reply to STARTTLS at all.
        (
            &[IfOffered, Required],
            with(&[OFFER, "C: STARTTLS", "S: 250 ok"]),
            "closed Server 4.5.0 protocol error in conversation with mx.example[192.0.2.1] while sending STARTTLS: unexpected reply: 250 ok",
        ),
        (
            &[IfOffered],
            with(&[OFFER, "C: STARTTLS", "LOST"]),
            "closed Server 4.4.2 lost connection with mx.example[192.0.2.1] while sending STARTTLS",
        ),
        // The handshake itself.
        (
            &[IfOffered, Required],
            with(&[OFFER, "C: STARTTLS", "S: 220 go", "FAIL"]),
            "closed Handshake 4.7.5 Cannot start TLS: handshake failure (received fatal alert: HandshakeFailure)",
        ),
        (
            &[Required],
            with(&[OFFER, "C: STARTTLS", "S: 220 go", "DISTRUST"]),
            "closed Server 4.7.5 Server certificate not trusted: it is self-signed",
        ),
        (
            &[Required],
            with(&[OFFER, "C: STARTTLS", "S: 220 go", "LOST"]),
            "closed Server 4.4.2 conversation with mx.example[192.0.2.1] timed out while performing the TLS handshake",
        ),
        // From the first octet.
        (&[FromStart], [&["TLS"], &HELLO[..], &[OFFER]].concat(), "ready secure"),
        (
            &[FromStart],
            vec!["FAIL"],
            "closed Handshake 4.7.5 Cannot start TLS: handshake failure (received fatal alert: HandshakeFailure)",
        ),
        (
            &[FromStart],
            vec!["TLS", "S: 421 4.3.2 busy"],
            "closed Server 4.3.2 host mx.example[192.0.2.1] refused to talk to me: 421 4.3.2 busy",
        ),
    ] {
        for encryption in encryptions {
            for step in [1, 3, 1000] {
                // Octet by octet, the reply to STARTTLS ends before the injected text: the driver does the handshake then.
                assert_eq!(play(*encryption, &script, step), expected, "{encryption:?} {script:?} by {step}");
            }
        }
    }
}

#[test]
fn what_was_offered_before_the_handshake_is_forgotten() {
    let mut client = client(Encryption::Required);
    let feed = |client: &mut Client, text: &str| {
        while let Action::Send(_) = client.next_action() {}
        client.receive(text.replace('\n', "\r\n").as_bytes());
    };
    feed(&mut client, "220 mx.example\n");
    feed(&mut client, "250-mx.example\n250-PIPELINING\n250-SIZE 10\n250-DSN\n250 STARTTLS\n");
    assert!(client.offered().pipelining && client.offered().dsn);
    feed(&mut client, "220 go\n");
    client.secured();
    assert_eq!(*client.offered(), Capabilities::default());
    feed(&mut client, "250 mx.example\n");
    assert_eq!(*client.offered(), Capabilities::default());
    assert_eq!(client.next_action(), Action::Ready);
}

#[test]
fn every_state_of_auth() {
    use Encryption::{IfOffered, Required};
    const LETTER: &str = "closed Login 4.7.0 SASL authentication failed; server mx.example[192.0.2.1]: ";
    let secured = |offer: &'static str, rest: &[&'static str]| {
        let start = [OFFER, "C: STARTTLS", "S: 220 go", "TLS", "C: EHLO me.example", offer];
        [&HELLO[..], &start, rest].concat()
    };
    let plain = |offer: &'static str, rest: &[&'static str]| [&HELLO[..], &[offer], rest].concat();
    // base64 of "\0user\0pencil"
    const PLAIN: &str = "C: AUTH PLAIN AHVzZXIAcGVuY2ls";
    const AUTH: &str = "S: 250-mx.example\n250 AUTH PLAIN LOGIN";
    let scram = [
        "C: AUTH SCRAM-SHA-256 biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=",
        "S: 334 cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxpPTQwOTY=",
        "C: Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8laHZZRHBXVWEyUmFUQ0FmdXhGSWxqKWhObEYkazAscD1kSHpiWmFwV0lrNGpVaE4rVXRlOXl0YWc5empmTUhnc3FtbWl6N0FuZFZRPQ==",
    ];
    let proven =
        ["S: 334 dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==", "C: ", "S: 235 2.7.0 in"];
    const SCRAM: &str = "S: 250-mx.example\n250 AUTH SCRAM-SHA-256 PLAIN";
    for (encryption, line, script, expected) in [
        (Required, "user:pencil", secured(AUTH, &[PLAIN, "S: 235 2.7.0 in"]), "ready secure".to_owned()),
        (
            Required,
            "user:pencil",
            secured(
                "S: 250-mx.example\n250 AUTH LOGIN",
                &["C: AUTH LOGIN", "S: 334 VXNlcm5hbWU6", "C: dXNlcg==", "S: 334 Password:", "C: cGVuY2ls", "S: 235 in"],
            ),
            "ready secure".into(),
        ),
        (Required, "user:pencil", secured(SCRAM, &[&scram[..], &proven].concat()), "ready secure".into()),
        // A server that does not prove itself is not trusted, whatever it says.
        (
            Required,
            "user:pencil",
            secured(SCRAM, &[&scram[..], &["S: 235 2.7.0 in"]].concat()),
            format!("{LETTER}the server could not prove that it knows the password"),
        ),
        (
            Required,
            "user:pencil",
            secured(SCRAM, &[scram[0], "S: 334 !!!"]),
            format!("{LETTER}the server's challenge makes no sense"),
        ),
        // Refused: mail waits, whatever the class. What the server repeats is masked.
        (
            Required,
            "user:pencil",
            secured(AUTH, &[PLAIN, "S: 535 5.7.8 AHVzZXIAcGVuY2ls is not pencil", "C: QUIT", "S: 221 bye"]),
            "closed Login 4.7.8 SASL authentication failed; server mx.example[192.0.2.1] said: 535 5.7.8 [...] is not [...]".into(),
        ),
        (
            Required,
            "user:pencil",
            secured(AUTH, &[PLAIN, "S: 454 temporary", "C: QUIT", "S: 221 bye"]),
            "closed Login 4.7.8 SASL authentication failed; server mx.example[192.0.2.1] said: 454 temporary".into(),
        ),
        (
            Required,
            "user:pencil",
            secured(AUTH, &[PLAIN, "S: 334 more?"]),
            format!("{LETTER}the server's challenge makes no sense"),
        ),
        (
            Required,
            "user:pencil",
            secured(AUTH, &[PLAIN, "S: pencil AHVzZXIAcGVuY2ls"]),
            "closed Server 4.5.0 protocol error in conversation with mx.example[192.0.2.1] while logging in: malformed reply: [...] [...]".into(),
        ),
        // Nothing that we have, or nothing at all.
        (
            Required,
            "user:pencil",
            secured("S: 250-mx.example\n250 AUTH GSSAPI CRAM-MD5", &["C: QUIT", "S: 221 bye"]),
            format!("{LETTER}it offers none of SCRAM-SHA-256, PLAIN and LOGIN"),
        ),
        // What is offered before TLS counts for nothing.
        (
            Required,
            "user:pencil",
            [
                &HELLO[..],
                &["S: 250-mx.example\n250-STARTTLS\n250 AUTH PLAIN", "C: STARTTLS", "S: 220 go", "TLS"],
                &["C: EHLO me.example", NO_OFFER, "C: QUIT", "S: 221 bye"],
            ]
            .concat(),
            format!("{LETTER}it offers none of SCRAM-SHA-256, PLAIN and LOGIN"),
        ),
        // In plain text only where the table says so.
        (
            IfOffered,
            "user:pencil",
            plain(AUTH, &["C: QUIT", "S: 221 bye"]),
            format!("{LETTER}the connection is not encrypted, so the password is not sent"),
        ),
        (IfOffered, "insecure user:pencil", plain(AUTH, &[PLAIN, "S: 235 in"]), "ready".into()),
    ] {
        for step in [1, 1000] {
            let client = client_with(Terms { encryption, login: login(line) });
            assert_eq!(play_with(client, &script, step), expected, "{line} {script:?} by {step}");
        }
    }
}

#[test]
fn every_state_of_a_token() {
    use Encryption::{IfOffered, Required};
    const GIVEN_UP: &str = "closed Login 4.7.0 SASL authentication failed; server mx.example[192.0.2.1]: ";
    let b64 = |text: &str| BASE64.encode(text.as_bytes());
    let secured = |offer: &str, rest: &[String]| {
        let start = [OFFER, "C: STARTTLS", "S: 220 go", "TLS", "C: EHLO me.example", offer];
        [&HELLO[..], &start].concat().into_iter().map(str::to_owned).chain(rest.to_vec()).collect::<Vec<_>>()
    };
    let said = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let bearer = b64("n,a=joe@x.example,\x01host=mx.example\x01port=25\x01auth=Bearer token-1\x01\x01");
    let xoauth2 = b64("user=joe@x.example\x01auth=Bearer token-1\x01\x01");
    let long_token = "x".repeat(600);
    let long = b64(&format!("user=joe@x.example\x01auth=Bearer {long_token}\x01\x01"));
    let complaint = b64(r#"{"status":"invalid_token","schemes":"bearer","scope":"token-1"}"#);
    const LINE: &str = "xoauth2 joe@x.example:token-1";
    let both = "S: 250-mx.example\n250 AUTH PLAIN XOAUTH2 OAUTHBEARER";
    let old = "S: 250-mx.example\n250 AUTH PLAIN XOAUTH2";
    let auth = |name: &str, first: &str| format!("C: AUTH {name} {first}");
    let refused = "said: 535 5.7.8 no (about the token: status invalid_token, scope [...])";
    for (encryption, line, script, expected) in [
        (
            Required,
            LINE,
            secured(both, &[auth("OAUTHBEARER", &bearer), "S: 235 in".into()]),
            "ready secure".to_owned(),
        ),
        (Required, LINE, secured(old, &[auth("XOAUTH2", &xoauth2), "S: 235 in".into()]), "ready secure".into()),
        // RFC 7628 3.2.3: the error is answered, so that the server can end the exchange.
        (
            Required,
            LINE,
            secured(
                both,
                &[
                    auth("OAUTHBEARER", &bearer),
                    format!("S: 334 {complaint}"),
                    "C: AQ==".into(),
                    "S: 535 5.7.8 no".into(),
                    "C: QUIT".into(),
                    "S: 221 bye".into(),
                ],
            ),
            format!("closed Token 4.7.8 SASL authentication failed; server mx.example[192.0.2.1] {refused}"),
        ),
        (
            Required,
            LINE,
            secured(
                old,
                &[
                    auth("XOAUTH2", &xoauth2),
                    format!("S: 334 {complaint}"),
                    "C: ".into(),
                    "S: 535 5.7.8 no".into(),
                    "C: QUIT".into(),
                    "S: 221 bye".into(),
                ],
            ),
            format!("closed Token 4.7.8 SASL authentication failed; server mx.example[192.0.2.1] {refused}"),
        ),
        // Refused without a word about the token; what is repeated of it is masked.
        (
            Required,
            LINE,
            secured(
                old,
                &[auth("XOAUTH2", &xoauth2), format!("S: 535 token-1 {xoauth2}"), "C: QUIT".into(), "S: 221 bye".into()],
            ),
            "closed Token 4.7.8 SASL authentication failed; server mx.example[192.0.2.1] said: 535 [...] [...]".into(),
        ),
        // The server is in trouble: another token would not help.
        (
            Required,
            LINE,
            secured(old, &[auth("XOAUTH2", &xoauth2), "S: 454 4.7.0 later".into(), "C: QUIT".into(), "S: 221 bye".into()]),
            "closed Login 4.7.0 SASL authentication failed; server mx.example[192.0.2.1] said: 454 4.7.0 later".into(),
        ),
        // It is not told twice, and a server that complains cannot let us in.
        (
            Required,
            LINE,
            secured(
                old,
                &[auth("XOAUTH2", &xoauth2), format!("S: 334 {complaint}"), "C: ".into(), "S: 334 more".into()],
            ),
            format!("{GIVEN_UP}the server's challenge makes no sense"),
        ),
        (
            Required,
            LINE,
            secured(
                old,
                &[auth("XOAUTH2", &xoauth2), format!("S: 334 {complaint}"), "C: ".into(), "S: 235 in".into()],
            ),
            format!("{GIVEN_UP}the server's challenge makes no sense"),
        ),
        // Too long for a command line (RFC 4954 4).
        (
            Required,
            &format!("xoauth2 joe@x.example:{long_token}"),
            secured(old, &["C: AUTH XOAUTH2".into(), "S: 334 ".into(), format!("C: {long}"), "S: 235 in".into()]),
            "ready secure".into(),
        ),
        // A password is no token, nor the other way round.
        (
            Required,
            LINE,
            secured("S: 250-mx.example\n250 AUTH PLAIN LOGIN SCRAM-SHA-256", &said(&["C: QUIT", "S: 221 bye"])),
            format!("{GIVEN_UP}it offers neither OAUTHBEARER nor XOAUTH2"),
        ),
        (
            Required,
            "joe@x.example:token-1",
            secured("S: 250-mx.example\n250 AUTH XOAUTH2 OAUTHBEARER", &said(&["C: QUIT", "S: 221 bye"])),
            format!("{GIVEN_UP}it offers none of SCRAM-SHA-256, PLAIN and LOGIN"),
        ),
        (
            IfOffered,
            LINE,
            [&said(&HELLO)[..], &said(&[old, "C: QUIT", "S: 221 bye"])].concat(),
            format!("{GIVEN_UP}the connection is not encrypted, so the password is not sent"),
        ),
    ] {
        for step in [1, 1000] {
            let client = client_with(Terms { encryption, login: login(line) });
            let script: Vec<&str> = script.iter().map(String::as_str).collect();
            assert_eq!(play_with(client, &script, step), expected, "{line} {script:?} by {step}");
        }
    }
}
