//! Our SMTP client against our SMTP server, both without I/O, in memory: input split at every octet, with and
//! without PIPELINING. What one sends, the other must understand, and content must arrive as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use common::address::{Address, Domain, LocalPart, ReversePath};
use common::config::{BareNewlines, Networks};
use common::time::Timestamp;
use deliverd::smtp::client::{Action, Client, Encryption, Ended, Order, Peer, Target, Terms, Transparency};
use proptest::collection::vec;
use proptest::prelude::*;
use smtpd::session::reply::Reply;
use smtpd::session::{self, Answer, Question, Session, Settings};
use spool::id::QueueId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_795_358_702_000_000);

/// A message as the server got it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Received {
    sender: String,
    recipients: Vec<String>,
    content: Vec<u8>,
    committed: bool,
}

/// The server with its driver: takes everyone but `no@…`, and `later@…` only at another time.
struct Server {
    session: Session,
    output: Vec<u8>,
    pipelining: bool,
    received: Vec<Received>,
    open: Option<Received>,
    closed: bool,
}

impl Server {
    fn new(pipelining: bool, limit: u64) -> Self {
        let name: Domain = "mx.example".parse().unwrap();
        let settings = Settings {
            hostname: name.clone(),
            mail_name: name,
            message_size_limit: limit,
            recipient_limit: 3,
            idle_timeout: Duration::from_secs(300),
            bare_newlines: BareNewlines::Reject,
            bare_newlines_networks: Networks::default(),
            trusted_networks: Networks::default(),
            xclient_networks: Networks::default(),
            limits: Default::default(),
        };
        let client = session::Client::new([127, 0, 0, 1].into());
        let session = Session::new(Arc::new(settings), client, NOW);
        let mut server =
            Self { session, output: Vec::new(), pipelining, received: Vec::new(), open: None, closed: false };
        server.act();
        server
    }

    fn receive(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            let taken = self.session.receive(input, NOW);
            if let Some(message) = &mut self.open {
                message.content.extend(taken.content);
            }
            input = &input[taken.used..];
            self.act();
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.session.next_action() {
            match action {
                session::Action::Reply(reply) => {
                    let mut octets = Vec::new();
                    reply.write_to(&mut octets);
                    let text = String::from_utf8(octets).unwrap();
                    // A server without the extension: the keyword under another name.
                    let keyword = if self.pipelining { "PIPELINING" } else { "X-NOTHING!" };
                    self.output.extend(text.replace("PIPELINING", keyword).bytes());
                }
                session::Action::Ask(token, question) => {
                    let answer = self.find(&question);
                    self.session.answer(token, answer, NOW);
                }
                session::Action::Begin(start) => {
                    self.open = Some(Received {
                        sender: start.sender.to_string(),
                        recipients: start.recipients.iter().map(|r| r.address.to_string()).collect(),
                        ..Received::default()
                    });
                }
                session::Action::Append(content) => self.open.as_mut().unwrap().content.extend(content),
                session::Action::Discard => self.open = None,
                session::Action::Close { .. } => self.closed = true,
                session::Action::Flush | session::Action::EndLogin | session::Action::Log(..) => {}
            }
        }
    }

    fn find(&mut self, question: &Question) -> Answer {
        let refused = |code, enhanced| Answer::Refused(Reply::fixed(code, enhanced, "not here"));
        match question {
            Question::Connect { .. }
            | Question::Hello { .. }
            | Question::Quiet
            | Question::Handshake
            | Question::Login { .. }
            | Question::Response(_)
            | Question::Sender { .. }
            | Question::Data { .. } => Answer::Yes,
            Question::Recipient { recipient, .. } => match recipient.local_part().as_str() {
                "no" => refused(550, (5, 1, 1)),
                "later" => refused(450, (4, 2, 0)),
                _ => Answer::Yes,
            },
            Question::Commit { .. } => {
                let message = self.open.take().unwrap();
                self.received.push(Received { committed: true, ..message });
                Answer::Queued(QueueId::new(NOW, 1))
            }
        }
    }
}

/// Runs all orders in one session; what goes over the line is cut into pieces of `step` octets.
fn converse(mut server: Server, orders: &[(Order, &[u8])], step: usize) -> (Vec<Ended>, Vec<Received>) {
    let peer = Peer { name: "mx.example".into(), address: "127.0.0.1:25".parse().unwrap() };
    let mut client = Client::new(
        peer,
        "me.example".parse().unwrap(),
        Terms { encryption: Encryption::Never, login: None },
    );
    let mut ended = Vec::new();
    let mut orders: VecDeque<_> = orders.iter().collect();
    let mut content: &[u8] = b"";
    loop {
        match client.next_action() {
            Action::Send(octets) => octets.chunks(step).for_each(|part| server.receive(part)),
            Action::SendContent => {
                let mut wire = Vec::new();
                let mut encoder = Transparency::default();
                content.chunks(step).for_each(|part| encoder.encode(part, &mut wire));
                encoder.finish(&mut wire);
                wire.chunks(step).for_each(|part| server.receive(part));
                client.content_sent();
            }
            Action::Wait(phase) => {
                assert!(!server.output.is_empty(), "both wait for each other: {phase:?}");
                let output = std::mem::take(&mut server.output);
                output.chunks(step).for_each(|part| client.receive(part));
            }
            Action::Ready => match orders.pop_front() {
                Some((order, body)) => {
                    content = body;
                    client.begin(order.clone());
                }
                None => client.quit(),
            },
            Action::Ended(end) => ended.push(end),
            Action::Refused(refusal) => panic!("{}", refusal.status.text),
            Action::Handshake => panic!("nobody asked for TLS"),
            Action::Close => break,
        }
    }
    assert!(server.closed, "QUIT was understood");
    (ended, server.received)
}

fn order(sender: &str, recipients: &[&str], content: &[u8]) -> Order {
    Order {
        sender: sender.parse().unwrap(),
        recipients: recipients.iter().map(|r| Target::from(r.parse::<Address>().unwrap())).collect(),
        size: content.len() as u64,
        eight_bit: !content.is_ascii(),
        utf8_header: false,
        dsn: Default::default(),
    }
}

fn codes(ended: &Ended) -> Vec<String> {
    ended.verdicts.iter().map(|verdict| verdict.status.code.to_string()).collect()
}

/// Steps small enough to cut everything everywhere, and some that do not cut at all.
fn for_each_way(run: impl Fn(bool, usize)) {
    for pipelining in [false, true] {
        for step in (1..=70).chain([100, 1000, 100_000]) {
            run(pipelining, step);
        }
    }
}

#[test]
fn content_arrives_as_it_was() {
    let long = [&b"x: y\r\n\r\n"[..], &[b'a'; 998], b"\r\n"].concat();
    let contents: [&[u8]; 10] = [
        b"",
        b"\r\n",
        b".\r\n",
        b"Subject: x\r\n\r\nbody\r\n",
        b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n...\r\n",
        b"Subject: x\r\n",
        b"Subject: 8 bit\r\n\r\n\xe4\xf6\xfc \xff\x80\r\n",
        b"QUIT\r\nDATA\r\n.\r\nRSET\r\n",
        b"a: b\r\n\r\nnul \0 and tab \t\r\n",
        &long,
    ];
    for_each_way(|pipelining, step| {
        let orders: Vec<_> = contents
            .iter()
            .map(|content| (order("s@a.example", &["r@b.example"], content), *content))
            .collect();
        let (ended, received) = converse(Server::new(pipelining, 0), &orders, step);
        assert_eq!(ended.len(), contents.len());
        for ((ended, received), content) in ended.iter().zip(&received).zip(contents) {
            assert_eq!(codes(ended), ["2.0.0"], "{pipelining} {step}: {:?}", ended.verdicts[0].status.text);
            assert!(received.content == content && received.committed, "{pipelining} {step} {content:?}");
        }
    });
}

#[test]
fn a_last_line_without_an_end_gets_one() {
    for_each_way(|pipelining, step| {
        let orders = [(order("s@a.example", &["r@b.example"], b"a: b\r\n\r\n.x"), &b"a: b\r\n\r\n.x"[..])];
        let (_, received) = converse(Server::new(pipelining, 0), &orders, step);
        assert_eq!(received[0].content, b"a: b\r\n\r\n.x\r\n");
    });
}

#[test]
fn addresses_of_every_form_pass() {
    let addresses = [
        "joe@b.example",
        "\"a b\"@b.example",
        "\"a@b\"@c.example",
        "\"a\\\"\\\\b\"@c.example",
        "x@[127.0.0.1]",
        "x@[IPv6:::1]",
        "a+b=c{d}@under_score.example",
        "\"a>b\"@c.example",
    ];
    for_each_way(|pipelining, step| {
        let content = &b"a: b\r\n"[..];
        let mut orders: Vec<_> =
            addresses.iter().map(|address| (order(address, &[address], content), content)).collect();
        orders.push((order("", &["r@b.example"], content), content));
        let (ended, received) = converse(Server::new(pipelining, 0), &orders, step);
        assert!(ended.iter().all(|ended| codes(ended) == ["2.0.0"]));
        for (received, address) in received.iter().zip(addresses) {
            assert_eq!(
                (received.sender.as_str(), &received.recipients[..]),
                (address, &[address.to_owned()][..])
            );
        }
        assert_eq!(received.last().unwrap().sender, "");
    });
}

/// RFC 6531: local-parts in other scripts pass as they are, domains in their ASCII form.
#[test]
fn addresses_in_other_scripts_pass() {
    let addresses = [
        ("jörg@b.example", "jörg@b.example"),
        ("用户@例子.example", "用户@xn--fsqu00a.example"),
        ("\"jörg müller\"@b.example", "\"jörg müller\"@b.example"),
        ("joe@bücher.example", "joe@xn--bcher-kva.example"),
    ];
    for_each_way(|pipelining, step| {
        let content = "Subject: ö\r\n".as_bytes();
        for (address, read) in addresses {
            let orders = [(Order { utf8_header: true, ..order(address, &[address], content) }, content)];
            let (ended, received) = converse(Server::new(pipelining, 0), &orders, step);
            assert_eq!(codes(&ended[0]), ["2.0.0"], "{pipelining} {step} {address}");
            assert_eq!(
                (received[0].sender.as_str(), &received[0].recipients[..]),
                (read, &[read.to_owned()][..])
            );
        }
    });
}

#[test]
fn each_recipient_gets_its_own_reply() {
    for_each_way(|pipelining, step| {
        let content = &b"a: b\r\n"[..];
        let to = |list: &[&str]| (order("s@a.example", list, content), content);
        let orders = [
            to(&["a@b.example", "no@b.example", "later@b.example"]),
            // Nobody is taken: no content may go out, and the session goes on.
            to(&["no@b.example", "later@b.example"]),
            to(&["a@b.example", "b@b.example", "c@b.example", "d@b.example"]),
            to(&["a@b.example"]),
        ];
        let (ended, received) = converse(Server::new(pipelining, 0), &orders, step);
        let all: Vec<_> = ended.iter().map(codes).collect();
        assert_eq!(all[0], ["2.0.0", "5.1.1", "4.2.0"], "{pipelining} {step}");
        assert_eq!(all[1], ["5.1.1", "4.2.0"]);
        assert_eq!(all[2], ["2.0.0", "2.0.0", "2.0.0", "4.5.3"]);
        assert_eq!(all[3], ["2.0.0"]);
        let recipients: Vec<_> = received.iter().map(|message| message.recipients.len()).collect();
        assert_eq!(recipients, [1, 3, 1]);
    });
}

#[test]
fn a_message_over_the_limit_is_not_sent() {
    for_each_way(|pipelining, step| {
        let content = [b'x'; 200];
        let orders = [
            (order("s@a.example", &["r@b.example"], &content), &content[..]),
            (order("s@a.example", &["r@b.example"], b"a: b\r\n"), &b"a: b\r\n"[..]),
        ];
        let (ended, received) = converse(Server::new(pipelining, 100), &orders, step);
        assert_eq!((codes(&ended[0]), codes(&ended[1])), (vec!["5.3.4".into()], vec!["2.0.0".into()]));
        assert_eq!(received.len(), 1);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any lines, in any split: what arrives is what was sent, with an end for its last line.
    #[test]
    fn any_message_arrives_in_any_split(
        lines in vec("[\\x00-\\x09\\x0b\\x0c\\x0e-\\x7f.ü]{0,60}", 0..15),
        ended in any::<bool>(),
        sender in "([a-zü\\. \"\\\\]{1,20})?",
        pipelining in any::<bool>(),
        step in 1usize..300,
    ) {
        let sender = match LocalPart::quote(&sender) {
            Ok(local) => format!("{local}@b.example"),
            Err(_) => String::new(),
        };
        let mut content = lines.join("\r\n");
        if ended && !content.is_empty() {
            content.push_str("\r\n");
        }
        let content = content.as_bytes();
        let orders = [(order(&sender, &["r@b.example"], content), content)];
        let (ended, received) = converse(Server::new(pipelining, 0), &orders, step);
        prop_assert_eq!(codes(&ended[0]), ["2.0.0"]);
        let mut expected = content.to_vec();
        if !expected.is_empty() && !expected.ends_with(b"\r\n") {
            expected.extend(b"\r\n");
        }
        prop_assert_eq!(&received[0].content, &expected);
        let read: ReversePath = sender.parse().unwrap();
        prop_assert_eq!(&received[0].sender, &read.to_string());
    }
}
