//! What senders ask of notifications (RFC 3461), from the client to the notification: through mailboxes, aliases, and next
//! hosts that take the duty over or do not.

use std::net::Ipv4Addr;

use ironpost_tests::client::{Client, queue_id};
use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::postfix::Postfix;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::{free_port, own_address};
use ironpost_tests::setup::Setup;
use ironpost_tests::{is_root, skipped};
use serde_json::Value;

use crate::report::parse;

const WITH_DSN: [&str; 3] = ["PIPELINING", "8BITMIME", "DSN"];

/// Sends a message with these arguments of MAIL and RCPT; its queue ID.
fn send(ironpost: &Ironpost, mail: &str, rcpts: &[&str], content: &[u8]) -> String {
    let mut client = Client::connect(ironpost.smtp());
    client.hello();
    client.expect(&format!("MAIL FROM:{mail}"), "250 2.1.0 Ok");
    for rcpt in rcpts {
        client.expect(&format!("RCPT TO:{rcpt}"), "250 2.1.5 Ok");
    }
    client.expect("DATA", "354");
    let id = queue_id(&client.content(content));
    client.quit();
    id
}

/// The recipients of a report: `final action status`, sorted.
fn actions(report: &Value) -> Vec<String> {
    let text = |group: &Value, key: &str| group[key].as_str().unwrap_or("-").to_owned();
    let line = |group: &Value| {
        let address = text(group, "final-recipient").replace("rfc822; ", "");
        format!("{address} {} {}", text(group, "action"), text(group, "status"))
    };
    let mut lines: Vec<_> = report["recipients"].as_array().unwrap().iter().map(line).collect();
    lines.sort();
    assert_eq!(report["type"], "multipart/report", "{report:#}");
    assert_eq!(report["defects"], serde_json::json!([]), "{report:#}");
    assert_eq!(report["auto"], "auto-replied", "{report:#}");
    lines
}

#[test]
fn delivery_to_a_mailbox_is_confirmed_to_who_asked() {
    let ironpost = Setup::new().start();
    let id = send(
        &ironpost,
        "<alice@example.test> RET=FULL ENVID=QQ+2B314",
        &[
            "<bob@example.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;robert+2Bx@old.test",
            "<carol@example.test> NOTIFY=SUCCESS",
            "<dave@example.test>",
        ],
        &short("confirmed"),
    );
    ironpost.wait_removed(&id);
    let mails = ironpost.wait_mail("alice", 1);
    assert_eq!(mails[0].header("Return-Path").as_deref(), Some("<>"));
    let report = parse(&mails[0].bytes);
    assert_eq!(actions(&report), ["bob@example.test delivered 2.0.0", "carol@example.test delivered 2.0.0"]);
    assert_eq!(report["subject"], "Successful Mail Delivery Report");
    assert_eq!(report["message"]["original-envelope-id"], "QQ+314");
    let of_bob = report["recipients"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["final-recipient"].as_str().unwrap().contains("bob"));
    assert_eq!(of_bob.unwrap()["original-recipient"], "rfc822; robert+x@old.test");
    assert_eq!(report["parts"][2], "text/rfc822-headers", "RET is about failures");
    assert_eq!(report["original"]["subject"], "confirmed");
    ironpost.wait_empty();
    assert_eq!(ironpost.mail("alice").len(), 1);
}

#[test]
fn next_host_with_dsn_takes_the_duty_over_and_one_without_does_not() {
    let asked = "<u@remote.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;you+2Bx@old.test";
    for (extensions, mail, rcpt, reports) in [
        (
            &WITH_DSN[..],
            "<alice@example.test> RET=HDRS ENVID=a+20b",
            "RCPT TO:<u@remote.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;you+2Bx@old.test",
            0,
        ),
        (&WITH_DSN[..2], "<alice@example.test>", "RCPT TO:<u@remote.test>", 1),
    ] {
        let server = Server::start(Script::new().extensions(extensions));
        let ironpost = Setup::new().relay_to(server.address()).start();
        let id = send(&ironpost, "<alice@example.test> RET=HDRS ENVID=a+20b", &[asked], &short("passed on"));
        ironpost.wait_removed(&id);
        ironpost.wait_empty();
        assert_eq!(server.taken()[0].mail, mail);
        assert!(server.commands().iter().any(|line| line == rcpt), "{:?}", server.commands());
        let mails = ironpost.wait_mail("alice", reports);
        assert_eq!(mails.len(), reports);
        for mail in mails {
            let report = parse(&mail.bytes);
            assert_eq!(actions(&report), ["u@remote.test relayed 2.0.0"]);
            assert_eq!(report["message"]["original-envelope-id"], "a b");
            assert_eq!(report["recipients"][0]["original-recipient"], "rfc822; you+x@old.test");
            assert!(report["recipients"][0]["remote-mta"].as_str().is_some(), "{report:#}");
        }
    }
}

#[test]
fn postfix_confirms_what_it_took_over() {
    if !is_root() {
        return skipped("postfix_confirms_what_it_took_over", "Postfix's master runs only as root");
    }
    // Postfix sends its report back to where the message came from.
    let port = free_port(Ipv4Addr::LOCALHOST);
    let more = format!("relayhost = [127.0.0.1]:{port}\n");
    let postfix = Postfix::start(Ipv4Addr::LOCALHOST, &more);
    let listen = format!("127.0.0.1:{port}");
    let ironpost = Setup::new().relay_to(postfix.address()).listen(&[&listen]).start();
    let id = send(
        &ironpost,
        "<alice@example.test> ENVID=QQ+2B314",
        &["<u@remote.test> NOTIFY=SUCCESS ORCPT=rfc822;you+2Bx@old.test"],
        &short("to Postfix"),
    );
    ironpost.wait_removed(&id);
    postfix.wait_mail(1);
    let mails = ironpost.wait_mail("alice", 1);
    let report = parse(&mails[0].bytes);
    assert!(report["from"].as_str().unwrap().contains("postfix.test"), "{report:#}");
    let group = &report["recipients"][0];
    assert_eq!(group["action"], "delivered");
    assert!(
        group["original-recipient"].as_str().unwrap().replace(' ', "").ends_with("rfc822;you+x@old.test")
    );
    assert_eq!(report["message"]["original-envelope-id"], "QQ+314");
    ironpost.wait_empty();
    assert_eq!(ironpost.mail("alice").len(), 1, "one report, from the host that delivered");
}

#[test]
fn aliases_pass_the_wish_on_or_are_reported_as_expanded() {
    let aliases = "one: bob\ntwo: bob, carol\n";
    let ironpost = Setup::new().file("aliases", aliases).start();
    send(&ironpost, "<alice@example.test>", &["<one@example.test> NOTIFY=SUCCESS"], &short("one"));
    let first = ironpost.wait_mail("alice", 1);
    let report = parse(&first[0].bytes);
    assert_eq!(actions(&report), ["bob@example.test delivered 2.0.0"]);
    assert_eq!(report["recipients"][0]["original-recipient"], "rfc822; one@example.test");
    send(&ironpost, "<dave@example.test>", &["<two@example.test> NOTIFY=SUCCESS"], &short("two"));
    let second = ironpost.wait_mail("dave", 1);
    assert_eq!(actions(&parse(&second[0].bytes)), ["two@example.test expanded 2.0.0"]);
    ironpost.wait_empty();
    assert_eq!((ironpost.mail("alice").len(), ironpost.mail("dave").len()), (1, 1));
    assert_eq!((ironpost.mail("bob").len(), ironpost.mail("carol").len()), (2, 1));
}

#[test]
fn failures_are_told_as_asked() {
    let server = Server::start(Script::new().on("RCPT", Act::Reply("550 5.1.1 nobody")));
    let ironpost =
        Setup::new().relay_to(server.address()).text("queued", "bounce_size_limit", "2000").start();
    let big = [&short("big")[..], &b"0123456789\r\n".repeat(300)].concat();
    for (mail, rcpt, content, returned) in [
        ("<alice@example.test>", "<u@remote.test>", short("x"), Some("message/rfc822")),
        (
            "<alice@example.test> RET=FULL",
            "<u@remote.test> NOTIFY=FAILURE",
            short("x"),
            Some("message/rfc822"),
        ),
        ("<alice@example.test> RET=HDRS", "<u@remote.test>", short("x"), Some("text/rfc822-headers")),
        ("<alice@example.test> RET=FULL", "<u@remote.test>", big, Some("text/rfc822-headers")),
        ("<alice@example.test>", "<u@remote.test> NOTIFY=NEVER", short("x"), None),
        ("<alice@example.test>", "<u@remote.test> NOTIFY=SUCCESS,DELAY", short("x"), None),
        ("<>", "<u@remote.test> NOTIFY=SUCCESS", short("x"), None),
        ("<>", "<u@remote.test> NOTIFY=NEVER", short("x"), None),
    ] {
        let before = ironpost.mail("alice").len();
        let id = send(&ironpost, mail, &[rcpt], &content);
        ironpost.wait_removed(&id);
        ironpost.wait_empty();
        let mails = ironpost.mail("alice");
        assert_eq!(mails.len() - before, usize::from(returned.is_some()), "{mail} {rcpt}");
        if let Some(returned) = returned {
            let reports: Vec<_> = mails.iter().map(|mail| parse(&mail.bytes)).collect();
            let report = reports
                .iter()
                .find(|report| report["message"]["x-ironpost-queue-id"].as_str() == Some(id.as_str()));
            let report = report.expect("the report about this message");
            assert_eq!(actions(report), ["u@remote.test failed 5.1.1"]);
            assert_eq!(report["parts"][2], returned, "{mail} {rcpt}");
        }
    }
    assert!(ironpost.mail("postmaster").is_empty());
}

#[test]
fn late_mail_is_reported_once_and_goes_on() {
    let address = own_address();
    let port = free_port(address);
    let ironpost = Setup::new()
        .relay_to((address, port).into())
        .quick_retries()
        .text("queued", "delay_warning", "1s")
        .start();
    let id = send(
        &ironpost,
        "<alice@example.test> ENVID=late",
        &["<u@remote.test>", "<v@remote.test> NOTIFY=DELAY", "<w@remote.test> NOTIFY=FAILURE"],
        &short("late"),
    );
    let mails = ironpost.wait_mail("alice", 1);
    let report = parse(&mails[0].bytes);
    let found = actions(&report);
    assert!(found.iter().all(|line| line.contains(" delayed 4.4.")), "{found:?}");
    assert!(found[0].starts_with("u@") && found[1].starts_with("v@") && found.len() == 2, "{found:?}");
    assert_eq!(report["message"]["original-envelope-id"], "late");
    assert!(report["recipients"][0]["will-retry-until"].as_str().is_some(), "{report:#}");
    assert_eq!(report["subject"], "Delayed Mail (still being retried)");
    // More attempts, none of which says it again; then the host comes up.
    for _ in 0..2 {
        ironpost.log.wait_after(ironpost.log.mark(), "another attempt", |line| {
            (line.contains(&id) && line.contains("to=<w@remote.test>") && line.contains("deferred"))
                .then_some(())
        });
    }
    let server = Server::start_at(address, port, Script::new());
    ironpost.wait_removed(&id);
    assert_eq!(server.taken().iter().map(|taken| taken.recipients.len()).sum::<usize>(), 3);
    ironpost.wait_empty();
    assert_eq!(ironpost.mail("alice").len(), 1);
}

#[test]
fn sendmail_asks_for_notifications() {
    let ironpost = Setup::new().start();
    let asked = ["-f", "alice@example.test", "-N", "success", "-V", "my id", "bob@example.test"];
    ironpost.sendmail(&asked, b"Subject: local\n\nbody\n").ok();
    let mails = ironpost.wait_mail("alice", 1);
    let report = parse(&mails[0].bytes);
    assert_eq!(actions(&report), ["bob@example.test delivered 2.0.0"]);
    assert_eq!(report["message"]["original-envelope-id"], "my id");
}
