//! Content arrives byte for byte: in a Maildir, at a scripted next host that keeps every byte, and at
//! Postfix's smtp-sink.

use std::collections::HashMap;

use ironpost_tests::corpus::{self, Sample};
use ironpost_tests::counterpart::postfix::Postfix;
use ironpost_tests::counterpart::script::{Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::mailbox::{assert_same, lf, split_header};
use ironpost_tests::setup::Setup;
use ironpost_tests::{is_root, skipped};

/// Sends all samples in one session to alice and to a remote address, and checks what both get.
fn check(ironpost: &Ironpost, next_host: &Server, samples: &[Sample]) {
    let mut client = ironpost.connect();
    client.hello();
    let mut ids = HashMap::new();
    for sample in samples {
        let to = ["alice@example.test", "box@remote.test"];
        client.begin("a@client.test", &to);
        let reply = client.content(&sample.content);
        assert!(reply.starts_with("250 "), "{}: {reply}", sample.name);
        ids.insert(ironpost_tests::client::queue_id(&reply), sample);
    }
    client.quit();
    assert_eq!(ids.len(), samples.len(), "queue IDs repeat");
    let mails = ironpost.wait_mail("alice", samples.len());
    assert_eq!(mails.len(), samples.len());
    for mail in &mails {
        let (fields, rest) = mail.parts();
        let sample = find(&ids, &fields[3]);
        compare("Maildir", sample, rest, &sample.in_mailbox());
    }
    let taken = next_host.wait(samples.len());
    assert_eq!(taken.len(), samples.len());
    for taken in &taken {
        let (fields, rest) = split_header(&taken.content, 1);
        assert!(fields[0].starts_with("Received: "), "{}", fields[0]);
        let sample = find(&ids, &fields[0]);
        compare("next host", sample, rest, &sample.content);
    }
    ironpost.wait_empty();
}

fn find<'a>(ids: &HashMap<String, &'a Sample>, received: &str) -> &'a Sample {
    let id = received.split_once(" id ").expect(received).1;
    let id = id.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap();
    ids.get(id).unwrap_or_else(|| panic!("unknown message: {received}"))
}

fn compare(place: &str, sample: &Sample, found: &[u8], expected: &[u8]) {
    println!("{place}: {}", sample.name);
    assert_same(found, expected);
}

fn ironpost_to(next_host: &Server) -> Ironpost {
    Setup::new().relay_to(next_host.address()).start()
}

#[test]
fn python_corpus_arrives_byte_for_byte() {
    let next_host = Server::start(Script::new());
    check(&ironpost_to(&next_host), &next_host, &corpus::python());
}

#[test]
fn made_messages_arrive_byte_for_byte() {
    let next_host = Server::start(Script::new());
    check(&ironpost_to(&next_host), &next_host, &corpus::made());
}

#[test]
fn twenty_megabytes_arrive_byte_for_byte() {
    let next_host = Server::start(Script::new());
    let sample = Sample { name: "20 MB".to_owned(), content: corpus::plain("20 MB", 20 << 20) };
    check(&ironpost_to(&next_host), &next_host, &[sample]);
}

#[test]
fn content_cut_into_single_bytes_arrives_the_same() {
    let ironpost = Setup::new().start();
    let content = b"Subject: slow\r\n\r\n.dot\r\n..\r\n\r\nend\r\n";
    let mut client = ironpost.connect();
    client.hello();
    client.begin("a@client.test", &["alice@example.test"]);
    for byte in ironpost_tests::client::stuffed(content) {
        client.send(&[byte]);
    }
    ironpost_tests::client::queue_id(&client.reply());
    ironpost.wait_mail("alice", 1)[0].assert_content(content);
}

#[test]
fn pipelined_groups_are_taken() {
    // RFC 2920 3.1: DATA ends a group; content and the next group may come together.
    let ironpost = Setup::new().start();
    let mut client = ironpost.connect();
    let group = |user: &str| {
        format!("MAIL FROM:<a@client.test>\r\nRCPT TO:<{user}@example.test>\r\nRCPT TO:<x@[bad>\r\nDATA\r\n")
    };
    let mut expect = |sent: String, codes: &[&str]| {
        client.send(sent.as_bytes());
        let replies: Vec<_> = codes.iter().map(|_| client.reply()).collect();
        let found: Vec<_> = replies.iter().map(|reply| reply.get(..3).unwrap_or("none")).collect();
        assert_eq!(found, codes, "{sent:?}: {replies:?}");
    };
    expect("EHLO client.test\r\n".to_owned() + &group("alice"), &["250", "250", "250", "501", "354"]);
    let first = "Subject: one\r\n\r\n1\r\n.\r\n".to_owned() + &group("bob");
    expect(first, &["250", "250", "250", "501", "354"]);
    expect("Subject: two\r\n\r\n2\r\n.\r\nQUIT\r\n".to_owned(), &["250", "221"]);
    ironpost.wait_mail("alice", 1)[0].assert_content(b"Subject: one\r\n\r\n1\r\n");
    ironpost.wait_mail("bob", 1)[0].assert_content(b"Subject: two\r\n\r\n2\r\n");
}

#[test]
fn content_before_the_go_ahead_is_no_mail() {
    // RFC 2920 3.1: who does not wait for 354 is no mail client.
    let ironpost = Setup::new().start();
    let mut client = ironpost.connect();
    client.hello();
    client.send(
        b"MAIL FROM:<a@client.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n",
    );
    let replies: Vec<_> = (0..3).map(|_| client.reply()).collect();
    assert!(replies[0].starts_with("250 ") && replies[1].starts_with("250 "), "{replies:?}");
    assert!(replies[2].starts_with('5') || replies[2].starts_with("421 "), "{replies:?}");
    let id = ironpost.send("a@client.test", &["bob@example.test"], b"Subject: x\r\n\r\nx\r\n");
    ironpost.wait_removed(&id);
    ironpost.wait_empty();
    assert!(ironpost.mail("alice").is_empty());
}

#[test]
fn postfix_as_next_host_gets_the_same() {
    if !is_root() {
        return skipped("postfix_as_next_host_gets_the_same", "Postfix's master runs only as root");
    }
    let postfix = Postfix::start(std::net::Ipv4Addr::LOCALHOST, "message_size_limit = 40000000\n");
    let ironpost = Setup::new().relay_to(postfix.address()).start();
    // Without those on which Postfix's own cleanup acts.
    let samples: Vec<_> = corpus::made()
        .into_iter()
        .filter(|sample| !["no header", "no body and no empty line"].contains(&sample.name.as_str()))
        .collect();
    let mut ids = HashMap::new();
    for sample in &samples {
        ids.insert(ironpost.send("a@client.test", &["box@remote.test"], &sample.content), sample);
    }
    let mails = postfix.wait_mail(samples.len());
    assert_eq!(mails.len(), samples.len());
    for mail in mails {
        // Postfix's Return-Path, X-Original-To, Delivered-To and Received, then ours.
        let (fields, rest) = split_header(&mail.bytes, 5);
        let sample = find(&ids, &fields[4]);
        compare("Postfix", sample, rest, &lf(&sample.content));
    }
    ironpost.wait_empty();
}
