//! Sessions over an in-memory connection, on a clock that jumps.

use super::super::client::{Encryption, Target};
use super::super::testing::{Log, Script, content, count, job, minute, serve};
use super::*;
use common::address::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn peer() -> Peer {
    Peer { name: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() }
}

fn order(recipients: &[&str], size: u64) -> Order {
    Order {
        sender: "s@me.example".parse().unwrap(),
        recipients: recipients.iter().map(|r| Target::from(r.parse::<Address>().unwrap())).collect(),
        size,
        eight_bit: false,
        utf8_header: false,
        dsn: Default::default(),
    }
}

fn connect(script: Script, buffer: usize) -> (DuplexStream, Log) {
    let (ours, theirs) = duplex(buffer);
    let log = Log::default();
    tokio::spawn(serve(theirs, script, log.clone()));
    (ours, log)
}

async fn open(stream: DuplexStream, deadline: &mut Deadline) -> Result<Box<Session<DuplexStream>>, Status> {
    let opening = Opening {
        stream,
        peer: peer(),
        hello_name: "me.example".parse().unwrap(),
        terms: Terms { encryption: Encryption::Never, login: None },
        secure: None,
    };
    Session::open(opening, deadline).await.map_err(|refusal| refusal.status)
}

#[tokio::test(start_paused = true)]
async fn messages_of_any_size_pass_a_narrow_connection() {
    for (buffer, length) in [(1, 300), (7, 2000), (64, 200_000), (100_000, 1_000_000)] {
        let line = b"..dots and text, again and again\r\n";
        let body: Vec<u8> = line.iter().copied().cycle().take(length).collect();
        let sent = job("x.example", &["a@x.example"], &body);
        let (stream, log) = connect(&[], buffer);
        let mut session = open(stream, &mut minute()).await.unwrap();
        let order = order(&["a@x.example"], length as u64);
        let ended = session.transact(order, &content(&sent), &mut minute()).await;
        assert_eq!(ended.verdicts[0].status.text, "250 2.0.0 Ok: queued as 1");
        assert!(session.is_reusable() && session.is_alive().await);
        session.quit().await;
        assert_eq!(count(&log, "QUIT"), 1);
        assert!(count(&log, "...dots") >= length / line.len());
    }
}

#[tokio::test(start_paused = true)]
async fn time_limits_are_those_of_the_phases() {
    for (command, phase) in [
        ("greeting", Phase::Greeting),
        ("EHLO", Phase::Ehlo),
        ("MAIL", Phase::Mail),
        ("RCPT", Phase::Rcpt),
        ("DATA", Phase::Data),
        (".", Phase::EndOfData),
    ] {
        let script: Script = Box::leak(Box::new([(command, "!")]));
        let (stream, _log) = connect(script, 1000);
        let (_stopper, mut deadline) =
            super::super::deadline::deadline(Instant::now() + Duration::from_secs(3600));
        let began = Instant::now();
        let status = match open(stream, &mut deadline).await {
            Err(status) => status,
            Ok(mut session) => {
                let sent = job("x.example", &["a@x.example"], b"x: y\r\n");
                let order = order(&["a@x.example"], 6);
                session.transact(order, &content(&sent), &mut deadline).await.verdicts.remove(0).status
            }
        };
        assert_eq!(began.elapsed().as_secs(), phase.limit().as_secs(), "{command}");
        assert_eq!(
            status.text,
            format!("conversation with mx.example[192.0.2.1] timed out while {}", phase.doing())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickle_does_not_prolong_a_phase() {
    let (ours, mut theirs) = duplex(1000);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            if theirs.write_all(b"2").await.is_err() {
                return;
            }
            // A reply never comes to its end.
            let _ = theirs.write_all(b"20-x\r\n").await;
        }
    });
    let (_stopper, mut deadline) =
        super::super::deadline::deadline(Instant::now() + Duration::from_secs(3600));
    let began = Instant::now();
    let status = open(ours, &mut deadline).await.unwrap_err();
    assert_eq!(began.elapsed(), Phase::Greeting.limit());
    assert_eq!(status.code.to_string(), "4.4.2");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_a_stop_end_everything() {
    for (stop, words) in [(false, "timed out"), (true, "was stopped")] {
        let (stream, _log) = connect(&[("MAIL", "!")], 1000);
        let (stopper, mut deadline) =
            super::super::deadline::deadline(Instant::now() + Duration::from_secs(20));
        let mut session = open(stream, &mut deadline).await.unwrap();
        let began = Instant::now();
        let sent = job("x.example", &["a@x.example"], b"x: y\r\n");
        if stop {
            stopper.stop();
        }
        let ended = session.transact(order(&["a@x.example"], 6), &content(&sent), &mut deadline).await;
        assert_eq!(began.elapsed().as_secs(), if stop { 0 } else { 20 });
        assert!(ended.verdicts[0].status.text.contains(words), "{}", ended.verdicts[0].status.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_verdict_in_the_middle_of_the_content_is_heard() {
    let (ours, mut theirs) = duplex(256);
    let server = tokio::spawn(async move {
        let mut octets = [0; 4096];
        for reply in ["220 hi\r\n", "250 x\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"] {
            theirs.write_all(reply.as_bytes()).await.unwrap();
            assert!(theirs.read(&mut octets).await.unwrap() > 0);
        }
        // Takes a little of the content, refuses, and stops to read.
        theirs.write_all(b"552 5.3.4 too big\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut session = open(ours, &mut minute()).await.unwrap();
    let sent = job("x.example", &["a@x.example"], &b"text\r\n".repeat(100_000));
    let began = Instant::now();
    let ended = session.transact(order(&["a@x.example"], 600_000), &content(&sent), &mut minute()).await;
    assert_eq!(began.elapsed().as_secs(), 0);
    assert_eq!(
        ended.verdicts[0].status.text,
        "host mx.example[192.0.2.1] said: 552 5.3.4 too big (in reply to message body)"
    );
    assert!(!session.is_reusable());
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn damaged_content_never_reaches_its_end() {
    let (mut damaged, file) = job("x.example", &["a@x.example"], b"x: y\r\n\r\nbody\r\n");
    damaged.content.checksum ^= 1;
    let sent = (damaged, file);
    let (stream, log) = connect(&[], 1000);
    let mut session = open(stream, &mut minute()).await.unwrap();
    let ended = session.transact(order(&["a@x.example"], 14), &content(&sent), &mut minute()).await;
    assert_eq!(ended.verdicts[0].status.code.to_string(), "4.3.0");
    assert!(!session.is_reusable());
    drop(session);
    while count(&log, "(gone)") == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count(&log, "."), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_closed_while_idle_is_known_to_be() {
    let (ours, mut theirs) = duplex(1000);
    let server = tokio::spawn(async move {
        let mut octets = [0; 100];
        theirs.write_all(b"220 hi\r\n").await.unwrap();
        assert!(theirs.read(&mut octets).await.unwrap() > 0);
        theirs.write_all(b"250 x\r\n").await.unwrap();
        theirs
    });
    let mut session = open(ours, &mut minute()).await.unwrap();
    let mut theirs = server.await.unwrap();
    assert!(session.is_alive().await);
    theirs.write_all(b"421 4.4.2 idle too long\r\n").await.unwrap();
    assert!(!session.is_alive().await);
}
