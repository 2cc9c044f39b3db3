//! What the next host answers, recipient by recipient, and what comes of it. Hostile and broken next hosts
//! too.

use ironpost_tests::corpus::{plain, short};
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::setup::Setup;

use crate::report::assert_failed;

fn ironpost_to(server: &Server) -> Ironpost {
    Setup::new().relay_to(server.address()).quick_retries().start()
}

fn recipients(server: &Server) -> Vec<String> {
    let mut found: Vec<_> = server.taken().into_iter().flat_map(|taken| taken.recipients).collect();
    found.sort();
    found
}

const FOUR: [&str; 4] = ["good1@remote.test", "good2@remote.test", "later@remote.test", "never@remote.test"];

#[test]
fn each_recipient_has_its_own_fate_at_rcpt() {
    let script = Script::new().times(1, "RCPT", "later@", Act::Reply("450 4.2.1 mailbox busy")).about(
        "RCPT",
        "never@",
        Act::Reply("550 5.1.1 no such mailbox"),
    );
    let server = Server::start(script);
    let ironpost = ironpost_to(&server);
    let id = ironpost.send("alice@example.test", &FOUR, &short("mix"));
    ironpost.wait_removed(&id);
    assert_eq!(recipients(&server), ["good1@remote.test", "good2@remote.test", "later@remote.test"]);
    let mails = ironpost.wait_mail("alice", 1);
    assert_failed(&mails[0].bytes, &[("never@remote.test", "5.1.1")]);
    // Each process writes its own lines: these may come after the removal's.
    for (address, status) in [
        ("good1@remote.test", "sent"),
        ("good2@remote.test", "sent"),
        ("later@remote.test", "deferred"),
        ("later@remote.test", "sent"),
        ("never@remote.test", "bounced"),
    ] {
        let (to, status) = (format!("to=<{address}>"), format!("status={status} ("));
        let is = |line: &str| line.contains(&id) && line.contains(&to) && line.contains(&status);
        ironpost.log.wait_count(1, &format!("{to} {status}"), is);
        assert_eq!(ironpost.log.count(is), 1, "{to} {status}");
    }
    assert_eq!(ironpost.mail("alice").len(), 1);
}

#[test]
fn all_recipients_refused_sends_no_content() {
    let refusing = || Script::new().on("RCPT", Act::Reply("550 5.1.1 nobody"));
    // The second one says to go ahead with a message for nobody: an empty one ends it (RFC 2920 3.1).
    for script in [refusing(), refusing().on("DATA", Act::Reply("354 go ahead")), refusing().extensions(&[])]
    {
        let server = Server::start(script);
        let ironpost = ironpost_to(&server);
        let id = ironpost.send("alice@example.test", &["a@remote.test", "b@remote.test"], &short("none"));
        ironpost.wait_removed(&id);
        assert!(server.taken().iter().all(|taken| taken.content.is_empty() && taken.recipients.is_empty()));
        let mails = ironpost.wait_mail("alice", 1);
        assert_eq!(mails.len(), 1, "one bounce for both");
        assert_failed(&mails[0].bytes, &[("a@remote.test", "5.1.1"), ("b@remote.test", "5.1.1")]);
    }
}

#[test]
fn refusals_at_later_steps_are_for_all_recipients() {
    for (event, reply, status) in [
        ("MAIL", "550 5.7.1 not from you", "5.7.1"),
        ("DATA", "554 5.5.1 no valid recipients", "5.5.1"),
        (".", "554 5.6.0 bad content", "5.6.0"),
        (".", "550 spam", "5.0.0"),
    ] {
        let server = Server::start(Script::new().on(event, Act::Reply(reply)));
        let ironpost = ironpost_to(&server);
        let id = ironpost.send("alice@example.test", &["a@remote.test", "b@remote.test"], &short("x"));
        ironpost.wait_removed(&id);
        let mails = ironpost.wait_mail("alice", 1);
        assert_failed(&mails[0].bytes, &[("a@remote.test", status), ("b@remote.test", status)]);
        assert!(server.taken().is_empty());
    }
}

#[test]
fn connection_lost_anywhere_is_tried_again() {
    for event in ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let server = Server::start(Script::new().times(1, event, "", Act::Close));
        let ironpost = ironpost_to(&server);
        let id = ironpost.send("alice@example.test", &["a@remote.test", "b@remote.test"], &short("x"));
        ironpost.wait_removed(&id);
        assert_eq!(recipients(&server), ["a@remote.test", "b@remote.test"], "closed at {event}");
        assert!(ironpost.mail("alice").is_empty(), "closed at {event}");
    }
}

#[test]
fn broken_replies_are_no_reason_to_bounce_or_to_fall() {
    const LONG: &[u8] = &[b'2'; 200_000];
    for (event, bytes) in [
        ("CONNECT", b"hello there\r\n".as_slice()),
        ("CONNECT", b"\r\n\r\n\r\n"),
        ("EHLO", b"2\r\n"),
        ("EHLO", b"\xff\xfe\x00\r\n"),
        ("MAIL", b"999 what\r\n"),
        ("RCPT", b"250\x00\x1b[2J\n\n"),
        ("DATA", b"abc\r\n"),
        ("CONNECT", LONG),
    ] {
        let server = Server::start(Script::new().times(1, event, "", Act::Raw(bytes)));
        let ironpost = ironpost_to(&server);
        let id = ironpost.send("alice@example.test", &["a@remote.test"], &short("x"));
        ironpost.wait_removed(&id);
        let name = bytes[..bytes.len().min(10)].escape_ascii();
        assert_eq!(recipients(&server), ["a@remote.test"], "{event} {name}");
        assert!(ironpost.mail("alice").is_empty(), "{event} {name}");
    }
}

#[test]
fn old_server_without_ehlo_is_greeted_with_helo() {
    let server = Server::start(Script::new().on("EHLO", Act::Reply("500 5.5.1 what?")));
    let ironpost = ironpost_to(&server);
    let id = ironpost.send("alice@example.test", &["a@remote.test"], &short("x"));
    ironpost.wait_removed(&id);
    let commands = server.commands();
    assert!(commands.iter().any(|line| line == "HELO mail.example.test"), "{commands:?}");
    // No parameters for one that offered nothing.
    assert!(commands.iter().any(|line| line == "MAIL FROM:<alice@example.test>"), "{commands:?}");
}

#[test]
fn only_what_is_offered_is_used() {
    let server = Server::start(Script::new().extensions(&["8BITMIME", "SIZE 100000"]));
    let ironpost = ironpost_to(&server);
    let id = ironpost.send("alice@example.test", &["a@remote.test"], b"Subject: x\r\n\r\nna\xefve\r\n");
    ironpost.wait_removed(&id);
    let mail = server.taken()[0].mail.clone();
    assert!(mail.contains(" BODY=8BITMIME"), "{mail}");
    assert!(mail.contains(" SIZE="), "{mail}");
    // More than the host takes: refused without sending it.
    let id = ironpost.send("alice@example.test", &["a@remote.test"], &plain("big", 200_000));
    ironpost.wait_removed(&id);
    let mails = ironpost.wait_mail("alice", 1);
    assert_failed(&mails[0].bytes, &[("a@remote.test", "5.3.4")]);
    assert_eq!(server.taken().len(), 1);
}

#[test]
fn limit_of_recipients_at_the_next_host_is_kept() {
    // 452 4.5.3 for the third and later of a transaction is a "later", not a "never".
    let server =
        Server::start(Script::new().times(2, "RCPT", "r3@", Act::Reply("452 4.5.3 too many recipients")));
    let ironpost = ironpost_to(&server);
    let to = ["r1@remote.test", "r2@remote.test", "r3@remote.test"];
    let id = ironpost.send("alice@example.test", &to, &short("x"));
    ironpost.wait_removed(&id);
    assert_eq!(recipients(&server), to);
}

#[test]
fn many_recipients_are_sent_in_batches() {
    let server = Server::start(Script::new());
    let ironpost =
        Setup::new().relay_to(server.address()).set("queued.destinations", "recipients", "10").start();
    let to: Vec<_> = (0..35).map(|number| format!("r{number:02}@remote.test")).collect();
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    let id = ironpost.send("alice@example.test", &to, &short("x"));
    ironpost.wait_removed(&id);
    let taken = server.taken();
    assert!(taken.iter().all(|taken| taken.recipients.len() <= 10));
    assert!(taken.len() <= 5, "{} transactions", taken.len());
    assert_eq!(recipients(&server), to);
}

#[test]
fn stalled_host_holds_nobody_else_up_and_does_not_delay_the_stop() {
    let stalled = Server::start(Script::new().on("MAIL", Act::Stall));
    let good = Server::start(Script::new());
    let table = format!("slow.test smtp:[127.0.0.1]:{}\n", stalled.port());
    let mut ironpost = Setup::new()
        .file("transport", &table)
        .text("deliverd", "transport", "transport")
        .relay_to(good.address())
        .start();
    for _ in 0..30 {
        ironpost.send("alice@example.test", &["u@slow.test"], &short("slow"));
    }
    stalled.wait_command("MAIL", 1);
    for _ in 0..10 {
        ironpost.send("alice@example.test", &["u@fast.test", "bob@example.test"], &short("fast"));
    }
    good.wait(10);
    ironpost.wait_mail("bob", 10);
    let before = std::time::Instant::now();
    ironpost.stop();
    assert!(before.elapsed().as_secs() < 30, "a stalled peer delayed the stop by {:?}", before.elapsed());
    // Nothing of it is lost.
    assert_eq!(ironpost.files_in_spool().len(), 30);
}
