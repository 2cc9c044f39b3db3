//! The SMTP client's core in front of a server that says anything, at any time.
//!
//! Every recipient of a transaction has exactly one verdict; delivered is only what a 2xx reply to its own end of data
//! says; what goes out are whole commands; it ends.

use crate::input::{Input, Numbers};
use common::address::Address;
use common::credentials::Table;
use common::dsn::{EnvelopeId, MessageDsn, Return};
use common::status::Outcome;
use deliverd::smtp::client::{
    Action, Client, Encryption, Ended, Login, Lost, Order, Peer, Target, Terms, Transparency,
};

/// Orders of a session.
const ORDERS: usize = 3;
/// A session that does more than so much does not end.
const STEPS: usize = 100_000;

const PASSWORD: &str = "pencil";

/// In half of the sessions there is a login, which may go out over TLS only: with the nonce of RFC 7677 3, so that a whole
/// exchange can be in the corpus.
fn login(split: u8) -> Option<Login> {
    let table = Table::parse("fuzz".as_ref(), &format!("x.example user:{PASSWORD}")).unwrap();
    let credentials = table.find(&"x.example".parse().unwrap(), None, false).unwrap();
    (split & 1 == 1).then(|| Login { credentials, token: None, nonce: "rOprNGfwEbeRWgbNEkqO".into() })
}

/// The first octet: recipients of each order (0–7), content with 8 bits (8), at the end the time is over instead of the
/// connection lost (16), whether TLS is never, perhaps, always or from the start (32, 64). The second: the split of what the server says, which is the rest; odd: we log in.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (choice, split) = (input.octet(), input.octet());
    let said = input.rest();
    crate::memory::bounded(2 << 20, || converse(choice, split, said));
}

fn converse(choice: u8, split: u8, said: &[u8]) {
    let peer = Peer { name: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() };
    let encryption = match choice >> 5 & 3 {
        0 => Encryption::Never,
        1 => Encryption::IfOffered,
        2 => Encryption::Required,
        _ => Encryption::FromStart,
    };
    let required = matches!(encryption, Encryption::Required | Encryption::FromStart);
    let mut client =
        Client::new(peer, "me.example".parse().unwrap(), Terms { encryption, login: login(split) });
    let recipients = usize::from(choice & 7) + 1;
    let mut numbers = Numbers::new(split.into());
    let (mut rest, mut begun, mut ended, mut refused) = (said, 0, 0, 0);
    // Ends of data that we sent, and positive replies that came since the first: an upper bound of what can be delivered.
    let mut ends_of_data = 0;
    for _ in 0..STEPS {
        match client.next_action() {
            Action::Send(octets) => {
                let plain = [&b"EHLO"[..], b"HELO", b"STARTTLS", b"QUIT"];
                for line in lines(&octets) {
                    let opens = plain.iter().any(|verb| line.starts_with(verb));
                    assert!(opens || !required || client.is_secure(), "no mail in plain text");
                    assert!(!line.starts_with(b"STARTTLS") || !client.is_secure());
                    assert!(!line.starts_with(b"AUTH") || client.is_secure(), "no password in plain text");
                }
            }
            Action::Handshake => match numbers.up_to(5) {
                1 => client.handshake_failed("alert"),
                2 => client.distrusted("Server certificate not trusted"),
                _ => client.secured(),
            },
            Action::SendContent => {
                let mut wire = Vec::new();
                let mut encoder = Transparency::default();
                encoder.encode(b"Subject: x\r\n\r\n.\r\n\xff\n\r.\n", &mut wire);
                encoder.finish(&mut wire);
                assert!(crate::model_end(&wire), "what goes out ends once, at its end");
                if numbers.up_to(8) == 1 && !rest.is_empty() {
                    // The server speaks in the middle of the content.
                    let (part, tail) = rest.split_at(numbers.up_to(rest.len()));
                    rest = tail;
                    client.receive(part);
                    if !client.wants_content() {
                        continue;
                    }
                }
                ends_of_data += 1;
                client.content_sent();
            }
            Action::Wait(_) if rest.is_empty() => {
                client.lost(if choice & 16 == 0 { Lost::Connection } else { Lost::Timeout });
            }
            Action::Wait(_) => {
                let most = if split == 0 { rest.len() } else { numbers.up_to(split.into()).min(rest.len()) };
                let (part, tail) = rest.split_at(most);
                rest = tail;
                client.receive(part);
            }
            Action::Ready if begun < ORDERS => {
                begun += 1;
                client.begin(order(recipients, choice & 8 != 0));
            }
            Action::Ready => client.quit(),
            Action::Ended(end) => {
                ended += 1;
                assert!(ended <= begun, "each transaction ends once");
                check(&end, recipients, ends_of_data > 0);
            }
            Action::Refused(refusal) => {
                refused += 1;
                assert!(refused == 1 && begun == 0, "a session is refused before it is open, and once");
                assert!(refusal.status.outcome != Outcome::Delivered);
                printable(&refusal.status.text);
            }
            Action::Close => {
                assert_eq!(ended, begun, "every transaction has come to its end");
                assert!(matches!(client.next_action(), Action::Close), "nothing follows the end");
                return;
            }
            #[allow(unreachable_patterns, reason = "what the core learns is played elsewhere")]
            _ => return,
        }
    }
    panic!("it does not end");
}

fn check(end: &Ended, recipients: usize, content_was_sent: bool) {
    assert_eq!(end.verdicts.len(), recipients, "one verdict for each recipient");
    for verdict in &end.verdicts {
        let status = &verdict.status;
        assert_eq!(status.code.class(), status.outcome.class());
        assert!(content_was_sent || status.outcome != Outcome::Delivered, "nothing was sent that could be");
        assert!(!end.untouched || status.outcome == Outcome::Deferred);
        printable(&status.text);
        printable(status.reply.as_deref().unwrap_or_default());
        printable(status.remote.as_deref().unwrap_or_default());
    }
}

fn order(recipients: usize, eight_bit: bool) -> Order {
    Order {
        sender: "sender@a.example".parse().unwrap(),
        recipients: (0..recipients)
            .map(|i| {
                Target::from(
                    format!("\"a b\"{i}@b.example").replace("\"a b\"", "u").parse::<Address>().unwrap(),
                )
            })
            .collect(),
        size: 30,
        eight_bit,
        utf8_header: eight_bit,
        dsn: MessageDsn { ret: Some(Return::Headers), envelope_id: EnvelopeId::new("a+b c").ok() },
    }
}

/// Whole command lines, or the end of an empty message.
fn lines(octets: &[u8]) -> Vec<&[u8]> {
    assert!(octets.ends_with(b"\r\n"));
    let lines = octets.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<_> = lines.map(|line| line.strip_suffix(b"\r").expect("CRLF ends each line")).collect();
    for line in &lines {
        assert!(!line.is_empty() && line.len() <= 2048);
        assert!(line.iter().all(|b| (32..127).contains(b)), "{}", line.escape_ascii());
    }
    lines
}

fn printable(text: &str) {
    assert!(text.bytes().all(|b| (32..127).contains(&b)), "{text:?}");
}
