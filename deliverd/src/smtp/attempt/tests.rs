//! Whole attempts against scripted servers on loopback addresses.

use super::super::testing::{Exchanges, Script, content, count, job, minute, server};
use super::*;
use std::net::IpAddr;

fn context(port: u16, exchanges: Vec<(u16, Vec<IpAddr>)>) -> Context<Exchanges> {
    Context {
        hello_name: "me.example".parse().unwrap(),
        port,
        relay_host: None,
        ourselves: Ourselves::new("me.example".parse().unwrap(), Vec::new(), Vec::new()),
        dns: Exchanges(Arc::new(exchanges)),
        tls: Arc::new(Outbound::of(common::tls::Level::May)),
        memory: Arc::new(Memory::new()),
        pool: Pool::new(),
    }
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, n])
}

/// `code relay` of each recipient.
async fn run(context: &Context<Exchanges>, nexthop: &str, recipients: &[&str]) -> Vec<String> {
    let sent = job(nexthop, recipients, b"Subject: x\r\n\r\n.body\r\n");
    let report = deliver(&sent.0, &content(&sent), context, minute()).await;
    let relay = |line: &Line| line.relay.as_ref().map_or("none".to_owned(), |relay| relay.host.clone());
    report.lines.iter().map(|line| format!("{} {}", line.status.code, relay(line))).collect()
}

/// Servers at one port of several loopback addresses, 127.0.0.1 first.
async fn servers(scripts: &[Script]) -> (u16, Vec<super::super::testing::Log>) {
    'other_port: loop {
        let (first, log) = server("127.0.0.1:0", scripts[0]).await;
        let mut logs = vec![log];
        for (script, n) in scripts.iter().zip(1..).skip(1) {
            let address = format!("127.0.0.{n}:{}", first.port());
            if tokio::net::TcpListener::bind(&address).await.is_err() {
                continue 'other_port;
            }
            logs.push(server(&address, script).await.1);
        }
        return (first.port(), logs);
    }
}

#[tokio::test]
async fn hosts_are_tried_by_preference_until_one_takes_the_mail() {
    for (first, second, expected) in [
        (&[][..], &[][..], "2.0.0 mx0.example[127.0.0.1]"),
        (&[("greeting", "421 4.3.2 busy")], &[], "2.0.0 mx1.example[127.0.0.2]"),
        (&[("greeting", "554 5.7.1 go away")], &[], "2.0.0 mx1.example[127.0.0.2]"),
        (&[("greeting", "-")], &[], "2.0.0 mx1.example[127.0.0.2]"),
        (&[("EHLO", "421 4.3.2 busy")], &[], "2.0.0 mx1.example[127.0.0.2]"),
        (&[("MAIL", "451 4.3.0 later")], &[], "2.0.0 mx1.example[127.0.0.2]"),
        (&[("RCPT", "450 4.2.0 later")], &[], "2.0.0 mx1.example[127.0.0.2]"),
        (&[("DATA", "451 4.3.0 later")], &[], "2.0.0 mx1.example[127.0.0.2]"),
        (&[(".", "451 4.3.0 later")], &[], "2.0.0 mx1.example[127.0.0.2]"),
        // Final: no other host is asked.
        (&[("MAIL", "550 5.7.1 no")], &[], "5.7.1 mx0.example[127.0.0.1]"),
        (&[("RCPT", "550 5.1.1 no")], &[], "5.1.1 mx0.example[127.0.0.1]"),
        (&[(".", "554 5.6.0 no")], &[], "5.6.0 mx0.example[127.0.0.1]"),
        // Perhaps taken: no other host gets it.
        (&[(".", "-")], &[], "4.4.2 mx0.example[127.0.0.1]"),
        // What is reported when nobody takes it.
        (&[("RCPT", "450 4.2.1 a")], &[("RCPT", "450 4.2.2 b")], "4.2.2 mx1.example[127.0.0.2]"),
        (&[("RCPT", "450 4.2.1 a")], &[("greeting", "421 4.3.2 b")], "4.2.1 mx0.example[127.0.0.1]"),
        (&[("greeting", "421 4.3.1 a")], &[("greeting", "421 4.3.2 b")], "4.3.2 mx1.example[127.0.0.2]"),
        (
            &[("greeting", "421 4.3.1 a")],
            &[("EHLO", "500 what"), ("HELO", "550 5.7.1 no")],
            "4.3.1 mx0.example[127.0.0.1]",
        ),
    ] {
        let (port, _logs) = servers(&[first, second]).await;
        let context = context(port, vec![(10, vec![ip(1)]), (20, vec![ip(2)])]);
        let got = run(&context, "d.example", &["a@d.example"]).await;
        assert_eq!(got, [format!("{expected}:{port}")], "{first:?} {second:?}");
    }
}

#[tokio::test]
async fn a_backup_that_is_unwilling_is_not_the_last_word_while_the_first_host_is_down() {
    let unwilling: Script = &[("EHLO", "550 5.7.1 no"), ("HELO", "550 5.7.1 no")];
    let (port, _logs) = servers(&[unwilling]).await;
    let nobody = ip(9);
    for hosts in [vec![(10, vec![nobody]), (20, vec![ip(1)])], vec![(10, vec![ip(1)]), (20, vec![nobody])]] {
        let got = run(&context(port, hosts.clone()), "d.example", &["a@d.example"]).await;
        assert!(got[0].starts_with("4.4.1 "), "{hosts:?}: {got:?}");
    }
    let got = run(&context(port, vec![(10, vec![ip(1)])]), "d.example", &["a@d.example"]).await;
    assert!(got[0].starts_with("5.7.1 "), "alone it is: {got:?}");
}

#[tokio::test]
async fn only_what_is_open_goes_to_the_next_host() {
    let first: Script = &[("RCPT TO:<no@", "550 5.1.1 no"), ("RCPT TO:<later@", "450 4.2.0 later")];
    let (port, logs) = servers(&[first, &[]]).await;
    let context = context(port, vec![(10, vec![ip(1)]), (20, vec![ip(2)])]);
    let got = run(&context, "d.example", &["yes@d.example", "no@d.example", "later@d.example"]).await;
    let expected = [
        format!("2.0.0 mx0.example[127.0.0.1]:{port}"),
        format!("5.1.1 mx0.example[127.0.0.1]:{port}"),
        format!("2.0.0 mx1.example[127.0.0.2]:{port}"),
    ];
    assert_eq!(got, expected);
    assert_eq!((count(&logs[0], "RCPT"), count(&logs[1], "RCPT")), (3, 1));
    assert_eq!(count(&logs[0], "..body"), 1);
}

#[tokio::test]
async fn no_more_sessions_than_the_limit() {
    let later: Script = &[("MAIL", "451 4.3.0 later")];
    let (port, logs) = servers(&[later, later, later]).await;
    let context = context(port, vec![(10, vec![ip(1)]), (20, vec![ip(2)]), (30, vec![ip(3)])]);
    run(&context, "d.example", &["a@d.example"]).await;
    let sessions: Vec<_> = logs.iter().map(|log| count(log, "EHLO")).collect();
    assert_eq!(sessions, [1, 1, 0]);
}

#[tokio::test]
async fn recipients_that_do_not_fit_follow_in_another_transaction() {
    // Each transaction takes one recipient: the others are told 452.
    let script: Script = &[
        ("#1 RCPT TO:<b@", "452 4.5.3 too many"),
        ("#1 RCPT TO:<c@", "452 4.5.3 too many"),
        ("#2 RCPT TO:<c@", "452 4.5.3 too many"),
    ];
    let (port, logs) = servers(&[script]).await;
    let context = context(port, vec![(10, vec![ip(1)])]);
    let got = run(&context, "d.example", &["a@d.example", "b@d.example", "c@d.example"]).await;
    assert!(got.iter().all(|line| line.starts_with("2.0.0")), "{got:?}");
    assert_eq!((count(&logs[0], "(connected)"), count(&logs[0], "MAIL")), (1, 3));
}

#[tokio::test]
async fn a_server_that_takes_nobody_is_not_asked_forever() {
    let (port, logs) = servers(&[&[("RCPT", "452 4.5.3 too many")]]).await;
    let context = context(port, vec![(10, vec![ip(1)])]);
    let got = run(&context, "d.example", &["a@d.example", "b@d.example"]).await;
    assert!(got.iter().all(|line| line.starts_with("4.5.3")), "{got:?}");
    assert_eq!(count(&logs[0], "MAIL"), 1);
}

#[tokio::test]
async fn an_open_session_is_used_again() {
    let (port, logs) = servers(&[&[]]).await;
    let context = context(port, vec![(10, vec![ip(1)])]);
    for _ in 0..3 {
        assert!(run(&context, "d.example", &["a@d.example"]).await[0].starts_with("2.0.0"));
    }
    // Another nexthop, even at the same host, has sessions of its own.
    run(&context, "e.example", &["a@e.example"]).await;
    assert_eq!((count(&logs[0], "(connected)"), count(&logs[0], "MAIL")), (2, 4));
    context.pool.close().await;
    assert_eq!(count(&logs[0], "QUIT"), 2);
}

#[tokio::test]
async fn an_open_session_does_not_keep_mail_from_a_quicker_host() {
    let (port, logs) = servers(&[&[], &[]]).await;
    let context = context(port, vec![(10, vec![ip(1)]), (10, vec![ip(2)])]);
    context.memory.succeeded(ip(1), std::time::Duration::from_millis(500));
    for _ in 0..40 {
        run(&context, "d.example", &["a@d.example"]).await;
    }
    let quick = count(&logs[1], "MAIL");
    assert!(quick > 25, "{quick}");
    assert!(count(&logs[1], "(connected)") < 5);
}

#[tokio::test]
async fn an_open_session_with_the_backup_is_used_while_the_first_host_is_down() {
    let (port, logs) = servers(&[&[("greeting", "421 4.3.2 down")], &[]]).await;
    let context = context(port, vec![(10, vec![ip(1)]), (20, vec![ip(2)])]);
    for _ in 0..5 {
        run(&context, "d.example", &["a@d.example"]).await;
    }
    assert_eq!((count(&logs[0], "(connected)"), count(&logs[1], "(connected)")), (1, 1));
    assert_eq!(count(&logs[1], "MAIL"), 5);
}

#[tokio::test]
async fn a_session_that_died_meanwhile_is_no_failure() {
    for farewell in ["-", "421 4.4.2 idle too long"] {
        let script: Script = Box::leak(Box::new([("#2 MAIL", farewell)]));
        let (port, logs) = servers(&[script]).await;
        let context = context(port, vec![(10, vec![ip(1)])]);
        for _ in 0..2 {
            assert!(run(&context, "d.example", &["a@d.example"]).await[0].starts_with("2.0.0"));
        }
        assert_eq!(count(&logs[0], "(connected)"), 2, "{farewell}");
    }
}

#[tokio::test]
async fn the_quicker_of_equal_hosts_gets_the_mail() {
    let (port, logs) = servers(&[&[], &[]]).await;
    let context = context(port, vec![(10, vec![ip(1)]), (10, vec![ip(2)])]);
    context.memory.succeeded(ip(1), std::time::Duration::from_millis(500));
    context.memory.succeeded(ip(2), std::time::Duration::from_millis(1));
    for n in 0..60 {
        // A nexthop of its own each time, so that no session is used again.
        run(&context, &format!("d{n}.example"), &["a@d.example"]).await;
    }
    let (slow, quick) = (count(&logs[0], "MAIL"), count(&logs[1], "MAIL"));
    assert!(slow + quick == 60 && quick > 40, "{slow} {quick}");
}

#[tokio::test]
async fn failures_without_a_connection() {
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = closed.local_addr().unwrap().port();
    let mut context = context(port, vec![(10, vec![ip(1)])]);
    let sent = job("d.example", &["a@d.example", "b@d.example"], b"x");
    let report = deliver(&sent.0, &content(&sent), &context, minute()).await;
    assert!(!report.reached && report.lines.len() == 2);
    let text = format!("connect to mx0.example[127.0.0.1]:{port}: Connection refused");
    assert!(report.lines.iter().all(|line| line.status.text == text && line.relay.is_none()));

    context.dns = Exchanges(Arc::default());
    assert_eq!(run(&context, "d.example", &["a@d.example"]).await, ["5.1.2 none"]);
    // The same for the host that the admin named is a mistake to be mended.
    context.relay_host = Some("d.example".parse().unwrap());
    assert_eq!(run(&context, "d.example", &["a@d.example"]).await, ["4.1.2 none"]);
}
