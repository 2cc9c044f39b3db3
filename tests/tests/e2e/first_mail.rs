//! The first mail: each real client's message arrives in a Maildir as interface and RFCs say.

use std::os::unix::fs::PermissionsExt;

use ironpost_tests::counterpart::script::{Script, Server};
use ironpost_tests::setup::Setup;
use ironpost_tests::{clients, is_root};

const MESSAGE: &str = "From: sender@client.test\nTo: alice@example.test\nSubject: first\n\nHello, alice.\n";

#[test]
fn swaks_curl_and_smtplib_reach_a_maildir() {
    let ironpost = Setup::new().start();
    let crlf = MESSAGE.replace('\n', "\r\n");
    let (server, from, to) = (ironpost.smtp(), "sender@client.test", ["alice@example.test"]);
    clients::swaks(server, from, &to, MESSAGE, &[]).ok();
    clients::curl(server, from, &to, &crlf).ok();
    clients::smtplib(server, from, &to, crlf.as_bytes()).ok();
    let mails = ironpost.wait_mail("alice", 3);
    assert_eq!(mails.len(), 3);
    for mail in &mails {
        assert!(!mail.bytes.contains(&b'\r'), "CR in a Maildir: {}", mail.text());
        let (fields, rest) = mail.parts();
        assert_eq!(
            fields[..3],
            [
                "Return-Path: <sender@client.test>",
                "X-Original-To: alice@example.test",
                "Delivered-To: alice@example.test"
            ]
        );
        let received = &fields[3];
        assert!(
            received.starts_with("Received: from client.test (") || received.starts_with("Received: from ["),
            "{received}"
        );
        assert!(received.contains("127.0.0.1"), "{received}");
        assert!(received.contains("by mail.example.test"), "{received}");
        assert!(received.contains("with ESMTP id "), "{received}");
        assert_eq!(mail.text().matches("Received:").count(), 1);
        // swaks ends its data with one more line end.
        let rest = String::from_utf8_lossy(rest);
        assert_eq!(rest.trim_end(), MESSAGE.trim_end());
        let mode = std::fs::metadata(&mail.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read it: {mode:o}");
    }
    ironpost.wait_empty();
}

#[test]
fn a_delivered_message_has_our_return_path_and_no_length_of_its_own_while_a_relayed_one_is_left_alone() {
    let next_host = Server::start(Script::new());
    let ironpost = Setup::new().relay_to(next_host.address()).start();
    let message =
        "Return-Path: <liar@client.test>\r\nSubject: x\r\nCONTENT-LENGTH:\r\n 1\r\n\r\nReturn-Path: y\r\n";
    clients::curl(ironpost.smtp(), "sender@client.test", &["alice@example.test", "box@remote.test"], message)
        .ok();
    let mails = ironpost.wait_mail("alice", 1);
    let (fields, rest) = mails[0].parts();
    assert_eq!(fields[0], "Return-Path: <sender@client.test>");
    assert_eq!(String::from_utf8_lossy(rest), "Subject: x\n\nReturn-Path: y\n");
    // RFC 5321 4.4: relays do not look into what they pass on.
    let taken = String::from_utf8(next_host.wait(1)[0].content.clone()).unwrap();
    assert!(taken.ends_with(message), "{taken}");
    ironpost.wait_empty();
}

#[test]
fn delivery_starts_when_the_message_is_accepted_not_when_the_session_ends() {
    let ironpost = Setup::new().start();
    let mut client = ironpost.connect();
    client.hello();
    client.send_mail("a@client.test", &["alice@example.test"], b"Subject: one\r\n\r\n1\r\n");
    ironpost.wait_mail("alice", 1);
    client.send_mail("a@client.test", &["alice@example.test"], b"Subject: two\r\n\r\n2\r\n");
    ironpost.wait_mail("alice", 2);
    client.quit();
}

#[test]
fn several_recipients_get_one_copy_each() {
    let ironpost = Setup::new().start();
    let to = ["alice@example.test", "bob@example.test", "alice@example.test", "carol+tag@example.test"];
    let id = ironpost.send("a@client.test", &to, b"Subject: all\r\n\r\nx\r\n");
    ironpost.wait_removed(&id);
    for user in ["alice", "bob", "carol"] {
        let mails = ironpost.mail(user);
        assert_eq!(mails.len(), 1, "{user}");
        mails[0].assert_content(b"Subject: all\r\n\r\nx\r\n");
    }
    assert_eq!(ironpost.mail("carol")[0].header("X-Original-To").as_deref(), Some("carol+tag@example.test"));
}

#[test]
fn null_sender_is_shown_as_such() {
    let ironpost = Setup::new().start();
    ironpost.send("", &["alice@example.test"], b"Subject: null\r\n\r\nx\r\n");
    let mails = ironpost.wait_mail("alice", 1);
    assert_eq!(mails[0].header("Return-Path").as_deref(), Some("<>"));
}

#[test]
fn mbox_mailboxes_separate_and_quote() {
    let ironpost = Setup::new().text("local", "mailbox", "mail/{user}").start();
    let first = ironpost.send(
        "a@client.test",
        &["alice@example.test"],
        b"Subject: 1\r\n\r\nFrom here\r\n>From there\r\n",
    );
    ironpost.wait_removed(&first);
    let second = ironpost.send("", &["alice@example.test"], b"Subject: 2\r\n\r\nx\r\n");
    ironpost.wait_removed(&second);
    let path = ironpost.path().join("mail/alice");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("From a@client.test "), "{text}");
    assert!(text.contains("\n\nFrom MAILER-DAEMON "), "{text}");
    assert!(text.contains("\n>From here\n"), "{text}");
    assert!(text.ends_with("\nx\n\n"), "{text}");
    // Python's reader finds the same two messages.
    let script =
        "import mailbox, sys; print([m['subject'] for m in mailbox.mbox(sys.argv[1], create=False)])";
    let mut python = ironpost_tests::tools::python();
    python.args(["-c", script]).arg(&path);
    assert_eq!(ironpost_tests::process::run(&mut python, b"").ok().text().trim(), "['1', '2']");
    if is_root() {
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).unwrap());
        assert_eq!(owner, ironpost_tests::setup::MAILBOX_OWNER);
    }
    assert!(!ironpost.path().join("mail/alice.lock").exists(), "the dotlock is left behind");
}

#[test]
fn aliases_expand_nest_and_refuse_loops() {
    let aliases = "\
team: alice, crew
crew: bob, carol
root: alice
loop1: loop2
loop2: loop1
pipe: \"|/bin/true\"
";
    let ironpost = Setup::new().file("aliases", aliases).start();
    let id = ironpost.send("dave@example.test", &["team@example.test"], b"Subject: team\r\n\r\nx\r\n");
    ironpost.wait_removed(&id);
    for user in ["alice", "bob", "carol"] {
        let mails = ironpost.mail(user);
        assert_eq!(mails.len(), 1, "{user}");
        assert_eq!(mails[0].header("X-Original-To").as_deref(), Some("team@example.test"), "{user}");
        let delivered = format!("{user}@example.test");
        assert_eq!(mails[0].header("Delivered-To"), Some(delivered), "{user}");
    }
    // A loop is the admin's mistake, of which the sender hears.
    ironpost.send("dave@example.test", &["loop1@example.test"], b"Subject: bad\r\n\r\nx\r\n");
    let bounces = ironpost.wait_mail("dave", 1);
    crate::report::assert_failed(&bounces[0].bytes, &[("loop1@example.test", "5.4.6")]);
    // What this version cannot do is said, and the mail waits for one that can.
    let id = ironpost.send("dave@example.test", &["pipe@example.test"], b"Subject: bad\r\n\r\nx\r\n");
    let line = ironpost.log.wait("the deferral", |line| {
        (line.contains(&id) && line.contains("status=deferred")).then(|| line.to_owned())
    });
    assert!(line.contains("aliases:6") && line.contains("not built yet"), "{line}");
    assert_eq!(ironpost.mail("alice").len(), 1);
}
