//! Parts of the protocol that ordinary clients use rarely: a client with BDAT, against us and against a real
//! server.

use std::net::Ipv4Addr;

use ironpost_tests::clients::{smtplib_bdat, swaks};
use ironpost_tests::corpus::{made, python};
use ironpost_tests::counterpart::postfix::Postfix;
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
            let found = mail.iter().any(|mail| mail.parts().1 == lf(&sample.content));
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

fn lf(content: &[u8]) -> Vec<u8> {
    let mut lines = content.to_vec();
    lines.retain(|byte| *byte != b'\r');
    lines
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
