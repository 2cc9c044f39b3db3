//! Parts of the protocol that ordinary clients use rarely: a client with BDAT, against us and against a real
//! server.

use std::net::Ipv4Addr;

use ironpost_tests::clients::{smtplib_bdat, smtplib_utf8, swaks};
use ironpost_tests::corpus::{made, python};
use ironpost_tests::counterpart::postfix::Postfix;
use ironpost_tests::counterpart::script::{Script, Server};
use ironpost_tests::setup::Setup;
use ironpost_tests::{is_root, skipped};

/// RFC 3030: what is sent in chunks arrives byte for byte.
#[test]
fn content_in_chunks_arrives_as_it_was() {
    let ironpost = Setup::new().start();
    let mut sent = 0;
    for sample in made().into_iter().chain(python().into_iter().take(5)) {
        for size in [1 << 20, 1000] {
            smtplib_bdat(ironpost.smtp(), "a@client.test", &["alice@example.test"], &sample.content, size)
                .ok();
            sent += 1;
            let mail = ironpost.wait_mail("alice", sent);
            let found = mail.iter().any(|mail| mail.parts().1 == sample.in_mailbox());
            assert!(found, "{} in chunks of {size}", sample.name);
        }
    }
}

/// The test's own client does what a real server understands.
#[test]
fn the_client_with_chunks_is_understood_by_postfix() {
    if !is_root() {
        return skipped("the_client_with_chunks_is_understood_by_postfix", "Postfix runs only as root");
    }
    let postfix = Postfix::start(Ipv4Addr::LOCALHOST, "");
    let message = b"Subject: chunks\r\n\r\n.\r\n..\r\nno end";
    smtplib_bdat(postfix.address(), "a@client.test", &["u@remote.test"], message, 7).ok();
    let mail = postfix.wait_mail(1);
    assert!(mail[0].text().ends_with("\n\n.\n..\nno end\n"), "{}", mail[0].text());
}

/// A real client of the extension: swaks.
#[test]
fn a_listed_host_speaks_for_others() {
    let ironpost = Setup::new().set("smtpd", "xclient_networks", "[\"127.0.0.1\"]").start();
    let send = |more: &[&str]| {
        swaks(ironpost.smtp(), "a@client.test", &["u@remote.test"], "Subject: x\n\nx\n", more)
    };
    let refused = send(&["--xclient-addr", "192.0.2.7", "--xclient-name", "far.client.test"]);
    assert_eq!(refused.code, 24, "{}", refused.text());
    ironpost
        .log
        .wait_text("NOQUEUE: reject: RCPT from far.client.test[192.0.2.7]: 554 5.7.1 <u@remote.test>");
    send(&["--xclient-addr", "127.0.0.9"]).ok();
    ironpost.log.wait_text("client=localhost[127.0.0.9]");
}

const UTF8_MAIL: &[u8] = "Subject: Grüße\r\nFrom: jörg@bücher.test\r\n\r\nTschüß\r\n".as_bytes();

/// RFC 6531: mailboxes named in other scripts, in domains named in other scripts.
#[test]
fn mailboxes_in_other_scripts_get_their_mail() {
    let ironpost = Setup::new()
        .file("users", "alice\njörg\nпочта\n")
        .file("aliases", "büro: jörg, alice\n")
        .set("", "local_domains", "[\"example.test\", \"bücher.test\"]")
        .start();
    let to = ["JÖRG@bücher.test", "почта@xn--bcher-kva.test", "büro@example.test"];
    smtplib_utf8(ironpost.smtp(), "jörg@bücher.test", &to, UTF8_MAIL).ok();
    let mail = ironpost.wait_mail("jörg", 2);
    for mail in &mail {
        assert!(
            mail.text().ends_with("Subject: Grüße\nFrom: jörg@bücher.test\n\nTschüß\n"),
            "{}",
            mail.text()
        );
        assert_eq!(mail.header("Return-Path").as_deref(), Some("<jörg@xn--bcher-kva.test>"));
        assert!(mail.header("Received").unwrap().contains(" with UTF8SMTP id "), "{}", mail.text());
    }
    ironpost.wait_mail("почта", 1);
    ironpost.wait_mail("alice", 1);
}

/// As next host and as client of a real server: Postfix.
#[test]
fn other_scripts_pass_to_postfix() {
    if !is_root() {
        return skipped("other_scripts_pass_to_postfix", "Postfix runs only as root");
    }
    let postfix = Postfix::start(Ipv4Addr::LOCALHOST, "smtputf8_enable = yes\n");
    let ironpost = Setup::new().relay_to(postfix.address()).start();
    smtplib_utf8(ironpost.smtp(), "jörg@bücher.test", &["用户@remote.test"], UTF8_MAIL).ok();
    let mail = postfix.wait_mail(1);
    assert_eq!(mail[0].header("X-Original-To").as_deref(), Some("用户@remote.test"));
    assert_eq!(mail[0].header("Return-Path").as_deref(), Some("<jörg@xn--bcher-kva.test>"));
    assert!(mail[0].text().ends_with("\n\nTschüß\n"), "{}", mail[0].text());
    // From a program of this machine: the addresses ask for SMTPUTF8 by themselves.
    ironpost.sendmail(&["-f", "jörg@bücher.test", "почта@remote.test"], b"Subject: x\n\nlocal\n").ok();
    let mail = postfix.wait_mail(2);
    assert!(mail.iter().any(|mail| mail.header("X-Original-To").as_deref() == Some("почта@remote.test")));
}

/// RFC 6531 3.2: a next host without SMTPUTF8 gets what does not need it, and nothing else; the sender is told.
#[test]
fn a_host_without_the_extension_gets_only_what_it_understands() {
    let server = Server::start(Script::new());
    let ironpost = Setup::new().file("users", "jörg\n").relay_to(server.address()).start();
    let to = ["用户@remote.test", "joe@bücher.test"];
    smtplib_utf8(ironpost.smtp(), "jörg@example.test", &to, b"Subject: x\r\n\r\nx\r\n").ok();
    let mail = ironpost.wait_mail("jörg", 1);
    let text = mail[0].text();
    assert!(
        text.contains("\nStatus: 5.6.7\n") && text.contains("\nFinal-Recipient: utf-8; 用户@remote.test\n"),
        "{text}"
    );
    assert!(text.contains("\nContent-Type: message/global-delivery-status\n"), "{text}");
    assert!(text.contains("\nTo: jörg@example.test\n"), "{text}");
    assert!(text.contains("SMTPUTF8 is required, but was not offered by host"), "{text}");

    // An ASCII message to a domain in another script needs nothing.
    smtplib_utf8(ironpost.smtp(), "a@example.test", &["joe@bücher.test"], b"Subject: x\r\n\r\nx\r\n").ok();
    let taken = server.wait(1);
    assert_eq!(taken[0].recipients, ["joe@xn--bcher-kva.test"]);
    assert!(!taken[0].mail.contains("SMTPUTF8"), "{}", taken[0].mail);
}
