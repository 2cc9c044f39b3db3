//! What does not go at once: retries, bounces, and the end of a message's life.

use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::net::{free_port, own_address};
use ironpost_tests::setup::Setup;

use crate::report::{assert_failed, parse};

#[test]
fn host_that_comes_up_gets_what_waited() {
    let address = own_address();
    let port = free_port(address);
    let ironpost = Setup::new().relay_to((address, port).into()).text("queued", "first_retry", "2s").start();
    let ids: Vec<_> =
        (0..5).map(|_| ironpost.send("alice@example.test", &["u@remote.test"], &short("x"))).collect();
    for id in &ids {
        let line = ironpost.log.wait("a deferral", |line| {
            (line.contains(id) && line.contains("status=deferred")).then(|| line.to_owned())
        });
        assert!(line.contains("relay=none"), "{line}");
        assert!(line.contains("dsn=4.4.1") || line.contains("dsn=4.4.2"), "{line}");
    }
    let server = Server::start_at(address, port, Script::new());
    for id in &ids {
        ironpost.wait_removed(id);
    }
    assert_eq!(server.taken().len(), 5);
    assert!(ironpost.mail("alice").is_empty());
}

#[test]
fn refused_for_now_is_tried_again_until_it_is_taken() {
    // Without PIPELINING: a command at a time, so that each refusal has an attempt of its own.
    let script = Script::new()
        .extensions(&[])
        .times(1, "CONNECT", "", Act::ReplyAndClose("421 4.3.2 too busy"))
        .times(1, "MAIL", "", Act::Reply("451 4.3.0 not now"))
        .times(1, "RCPT", "", Act::Reply("450 4.2.0 greylisted"))
        .times(1, "DATA", "", Act::Reply("452 4.3.1 full"))
        .times(1, ".", "", Act::Reply("451 4.3.0 try later"));
    let server = Server::start(script);
    let ironpost = Setup::new().relay_to(server.address()).quick_retries().start();
    let id = ironpost.send("alice@example.test", &["u@remote.test"], &short("x"));
    ironpost.wait_removed(&id);
    assert_eq!(server.taken().len(), 1);
    assert!(ironpost.mail("alice").is_empty());
    for text in ["greylisted", "not now", "try later"] {
        let line = ironpost.log.wait_text(text);
        assert!(line.contains("status=deferred") && line.contains(&id) && line.contains("dsn=4."), "{line}");
    }
}

#[test]
fn refusal_bounces_to_the_sender_with_the_original_header() {
    let script =
        Script::new().on("RCPT", Act::Reply("550-5.7.1 first line\r\n550 5.7.1 we do not want this"));
    let server = Server::start(script);
    let ironpost = Setup::new().relay_to(server.address()).start();
    let content = b"From: alice@example.test\r\nSubject: unwanted\r\nMessage-ID: <one@example.test>\r\n\r\nSecret body.\r\n";
    let id = ironpost.send("alice@example.test", &["u@remote.test"], content);
    ironpost.wait_removed(&id);
    let mails = ironpost.wait_mail("alice", 1);
    assert_eq!(mails[0].header("Return-Path").as_deref(), Some("<>"));
    let report = assert_failed(&mails[0].bytes, &[("u@remote.test", "5.7.1")]);
    let group = &report["recipients"][0];
    let diagnostic = group["diagnostic-code"].as_str().unwrap();
    assert!(diagnostic.starts_with("smtp;") && diagnostic.contains("we do not want this"), "{diagnostic}");
    assert!(group["remote-mta"].as_str().unwrap().contains("127.0.0.1"), "{report:#}");
    assert!(report["message"]["arrival-date"].as_str().is_some(), "{report:#}");
    assert_eq!(report["original"]["subject"], "unwanted");
    assert_eq!(report["original"]["message-id"], "<one@example.test>");
    assert_eq!(report["to"], "alice@example.test");
    assert!(report["from"].as_str().unwrap().to_lowercase().contains("mailer-daemon@"), "{report:#}");
    assert!(report["text"].as_str().unwrap().contains("we do not want this"), "{report:#}");
}

#[test]
fn eight_bit_and_hostile_originals_make_well_formed_bounces() {
    let script = Script::new().on("RCPT", Act::Reply("550 5.1.1 \x1b[31mred\x07 <script>"));
    let server = Server::start(script);
    let ironpost = Setup::new().relay_to(server.address()).start();
    let originals: [&[u8]; 4] = [
        b"Subject: caf\xe9\r\n\r\n8-bit \xff\xfe\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n--x--\r\n",
        b"no header at all\r\n",
        b"X-Long: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n\r\nFrom x\r\n",
    ];
    for (index, original) in originals.iter().enumerate() {
        ironpost.send("alice@example.test", &["u@remote.test"], original);
        let mails = ironpost.wait_mail("alice", index + 1);
        for mail in mails {
            assert_failed(&mail.bytes, &[("u@remote.test", "5.1.1")]);
            assert!(
                !mail.bytes.contains(&0x1b) && !mail.bytes.contains(&7),
                "a terminal would act on it: {}",
                mail.text()
            );
        }
    }
    for line in ironpost.log.all() {
        assert!(!line.contains('\x1b') && !line.contains('\x07'), "an unescaped log line: {line:?}");
    }
}

#[test]
fn bounce_that_cannot_be_delivered_goes_to_postmaster() {
    let server = Server::start(Script::new().on("RCPT", Act::Reply("550 5.1.1 nobody")));
    let ironpost = Setup::new().relay_to(server.address()).start();
    ironpost.send("x@remote.test", &["y@remote.test"], &short("lost"));
    let mails = ironpost.wait_mail("postmaster", 1);
    assert_eq!(mails[0].header("Return-Path").as_deref(), Some("<>"));
    assert!(mails[0].text().contains("x@remote.test"), "{}", mails[0].text());
    ironpost.wait_empty();
    assert_eq!(ironpost.mail("postmaster").len(), 1);
    // The bounce itself went out with the null sender, once.
    let senders: Vec<_> = server.commands().into_iter().filter(|line| line.starts_with("MAIL")).collect();
    assert_eq!(senders.iter().filter(|line| line.starts_with("MAIL FROM:<>")).count(), 1, "{senders:?}");
}

#[test]
fn null_sender_never_gets_a_bounce() {
    let server = Server::start(Script::new().on("RCPT", Act::Reply("550 5.1.1 nobody")));
    let ironpost = Setup::new().relay_to(server.address()).start();
    let id = ironpost.send("", &["y@remote.test"], &short("lost"));
    ironpost.wait_removed(&id);
    ironpost.wait_empty();
    assert_eq!(server.commands().iter().filter(|line| line.starts_with("RCPT")).count(), 1);
    for user in ["alice", "bob", "carol", "dave"] {
        assert!(ironpost.mail(user).is_empty());
    }
}

#[test]
fn undeliverable_postmaster_ends_the_chain() {
    // No such user as postmaster, and no bounce of the bounce of the bounce.
    let server = Server::start(Script::new().on("RCPT", Act::Reply("550 5.1.1 nobody")));
    let ironpost = Setup::new().file("users", "alice\n").relay_to(server.address()).start();
    let id = ironpost.send("x@remote.test", &["y@remote.test"], &short("lost"));
    ironpost.wait_removed(&id);
    ironpost
        .log
        .wait("the bounce's end", |line| (line.contains(": removed") && !line.contains(&id)).then_some(()));
    ironpost.wait_empty();
    let sent = server.commands().iter().filter(|line| line.starts_with("MAIL")).count();
    assert!(sent <= 3, "{sent} transactions");
}

#[test]
fn old_mail_is_given_up() {
    let nowhere = own_address();
    let ironpost = Setup::new()
        .relay_to((nowhere, 9).into())
        .quick_retries()
        .text("queued", "lifetime", "3s")
        .text("queued", "bounce_lifetime", "3s")
        .start();
    ironpost.send("alice@example.test", &["u@remote.test"], &short("old"));
    let mails = ironpost.wait_mail("alice", 1);
    let report = parse(&mails[0].bytes);
    assert_eq!(report["recipients"][0]["action"], "failed", "{report:#}");
    let status = report["recipients"][0]["status"].as_str().unwrap();
    assert!(["4.4.", "5.4."].iter().any(|subject| status.starts_with(subject)), "{status}");
    assert_eq!(report["original"]["subject"], "old");
    ironpost.wait_empty();
}

#[test]
fn unknown_local_user_at_delivery_bounces() {
    // Accepted while the user was there, gone at delivery: a message in the queue when the users file
    // changes.
    let mut ironpost = Setup::new().file("users", "alice\nbob\n").start();
    ironpost.stop();
    let mut sendmail =
        ironpost.command("sendmail", &["-i", "-f", "alice@example.test", "nobody-here@example.test"]);
    let output = ironpost_tests::process::run(&mut sendmail, b"Subject: x\n\nx\n");
    assert_eq!(output.code, 0, "{}", output.err);
    ironpost.start();
    let mails = ironpost.wait_mail("alice", 1);
    assert_failed(&mails[0].bytes, &[("nobody-here@example.test", "5.1.1")]);
}
