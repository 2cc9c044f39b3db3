//! From the connection to the first transaction, as dialogues: what the server says, what the core sends, and how
//! it ends. `TLS` in a script is a handshake.

use super::super::{Action, Lost, Peer};
use super::*;
use common::status::Outcome;

fn client(encryption: Encryption) -> Client {
    let peer = Peer { name: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() };
    Client::new(peer, "me.example".parse().unwrap(), Terms { encryption })
}

/// Plays a script: `S: ` the server says (`\n` between lines), `C: ` the core must send, `TLS` a handshake that
/// succeeds, `FAIL` one that does not, `LOST` the connection goes. Gives how it ended.
fn play(encryption: Encryption, script: &[&str], step: usize) -> String {
    let mut client = client(encryption);
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
