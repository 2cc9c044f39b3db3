//! Two Ironposts, one relaying to the other.

use std::collections::HashSet;

use ironpost_tests::corpus::{made, short};
use ironpost_tests::counterpart::sink::smtp_source;
use ironpost_tests::mailbox::{assert_same, lf, split_header};
use ironpost_tests::setup::Setup;

use crate::report::assert_failed;

#[test]
fn one_relays_to_the_other() {
    let far = Setup::new()
        .text("", "hostname", "far.remote.test")
        .set("", "local_domains", "[\"remote.test\"]")
        .start();
    let near = Setup::new().relay_to(far.smtp()).start();
    for sample in made() {
        let id = near.send("alice@example.test", &["bob@remote.test", "bob@example.test"], &sample.content);
        near.wait_removed(&id);
        let line = near.log.wait("the outcome", |line| {
            (line.contains(&id) && line.contains("to=<bob@remote.test>")).then(|| line.to_owned())
        });
        // The queue ID over there is in the log over here.
        let far_id = line.split_once("queued as ").expect(&line).1.trim_end_matches(')').to_owned();
        far.wait_removed(&far_id);
        let mails = far.mail("bob");
        let mail = mails.iter().find(|mail| mail.text().contains(&far_id)).expect("the message over there");
        // Return-Path, X-Original-To, Delivered-To, their Received, ours.
        let (fields, rest) = split_header(&mail.bytes, 5);
        assert!(
            fields[3].contains("by far.remote.test") && fields[3].contains("from mail.example.test"),
            "{}",
            fields[3]
        );
        assert!(fields[4].contains("by mail.example.test") && fields[4].contains(&id), "{}", fields[4]);
        assert_same(rest, &lf(&sample.content));
    }
}

#[test]
fn refusal_over_there_bounces_over_here() {
    let far = Setup::new()
        .text("", "hostname", "far.remote.test")
        .set("", "local_domains", "[\"remote.test\"]")
        .start();
    let near = Setup::new().relay_to(far.smtp()).start();
    let id = near.send("alice@example.test", &["bob@remote.test", "unknown@remote.test"], &short("x"));
    near.wait_removed(&id);
    let mails = near.wait_mail("alice", 1);
    assert_failed(&mails[0].bytes, &[("unknown@remote.test", "5.1.1")]);
    assert_eq!(far.wait_mail("bob", 1).len(), 1);
}

#[test]
fn load_passes_through_both() {
    let far = Setup::new()
        .text("", "hostname", "far.remote.test")
        .set("", "local_domains", "[\"remote.test\"]")
        .start();
    let near = Setup::new().relay_to(far.smtp()).start();
    smtp_source(near.smtp(), &["-s", "20", "-m", "300", "-f", "a@client.test", "-t", "bob@remote.test"]).ok();
    near.wait_empty();
    far.wait_empty();
    let mails = far.mail("bob");
    let ids: HashSet<_> = mails.iter().map(|mail| split_header(&mail.bytes, 5).0[4].clone()).collect();
    assert_eq!((mails.len(), ids.len()), (300, 300));
}
