//! What clients are answered, and what they may not do. The texts are the fixed ones.

use std::net::Ipv4Addr;

use ironpost_tests::client::{Client, queue_id};
use ironpost_tests::corpus::{plain, short};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::setup::Setup;

/// One that trusts nobody, so that its client is a stranger.
fn for_strangers() -> Setup {
    Setup::new().set("", "trusted_networks", "[\"192.0.2.0/24\"]")
}

fn dialogue(ironpost: &Ironpost, lines: &[(&str, &str)]) -> Client {
    let mut client = ironpost.connect();
    assert_eq!(client.greeting, "220 mail.example.test ESMTP Ironpost");
    for (command, reply) in lines {
        client.expect(command, reply);
    }
    client
}

#[test]
fn replies_are_the_fixed_ones() {
    let ironpost = for_strangers().start();
    let syntax_mail = "501 5.5.4 Syntax: MAIL FROM:<address>";
    let syntax_rcpt = "501 5.5.4 Syntax: RCPT TO:<address>";
    dialogue(
        &ironpost,
        &[
            ("HELO", "501 5.5.4 Syntax: HELO hostname"),
            ("EHLO", "501 5.5.4 Syntax: EHLO hostname"),
            ("MAIL FROM:<a@b.test>", "503 5.5.1 Error: send HELO/EHLO first"),
            ("HELO client.test", "250 mail.example.test"),
            ("RCPT TO:<alice@example.test>", "503 5.5.1 Error: need MAIL command"),
            ("DATA", "503 5.5.1 Error: need RCPT command"),
            ("MAIL FROM:<a@b.test>", "250 2.1.0 Ok"),
            ("MAIL FROM:<a@b.test>", "503 5.5.1 Error: nested MAIL command"),
            ("DATA", "503 5.5.1 Error: need RCPT command"),
            ("RCPT TO:<alice@example.test>", "250 2.1.5 Ok"),
            ("RSET", "250 2.0.0 Ok"),
            ("RCPT TO:<alice@example.test>", "503 5.5.1 Error: need MAIL command"),
            ("NOOP", "250 2.0.0 Ok"),
            ("NOOP with words", "250 2.0.0 Ok"),
            ("VRFY alice@example.test", "252 2.0.0 "),
            ("VRFY unknown@example.test", "252 2.0.0 "),
            ("HELP", "2"),
        ],
    )
    .quit();
    dialogue(
        &ironpost,
        &[
            ("EHLO client.test", "250-mail.example.test"),
            ("MAIL", syntax_mail),
            ("MAIL FROM", syntax_mail),
            ("MAIL FROM: ", syntax_mail),
            ("MAIL TO:<a@b.test>", syntax_mail),
            ("MAIL FROM:<a@b.test", "501 5."),
            ("MAIL FROM:<a b@c.test>", "501 5."),
            ("MAIL FROM:<a@b..test>", "501 5."),
            ("MAIL FROM:<a@b.test> NONSENSE=1", "555 5.5.4"),
        ],
    )
    .quit();
    dialogue(&ironpost, &[
        ("ehlo client.test", "250-mail.example.test"),
        ("mail from:<a@b.test>", "250 2.1.0 Ok"),
        ("RCPT", syntax_rcpt),
        ("RCPT TO", syntax_rcpt),
        ("RCPT FROM:<alice@example.test>", syntax_rcpt),
        ("RCPT TO:<>", "501 5."),
        ("RCPT TO:<alice@example.test> X=1", "555 5.5.4"),
        ("RCPT TO:<u@remote.test>", "554 5.7.1 <u@remote.test>: Relay access denied"),
        (
            "RCPT TO:<unknown@example.test>",
            "550 5.1.1 <unknown@example.test>: Recipient address rejected: User unknown in local recipient table",
        ),
        ("rcpt to:<alice@example.test>", "250 2.1.5 Ok"),
        ("RCPT TO:<postmaster>", "250 2.1.5 Ok"),
        ("RCPT TO:<PostMaster@example.test>", "250 2.1.5 Ok"),
    ])
    .quit();
    dialogue(&ironpost, &[("GIBBERISH", "50"), ("", "500 5.5."), ("AUTH PLAIN", "50")]).quit();
    // The greeting of EHLO clears a transaction too (RFC 5321 4.1.4).
    dialogue(
        &ironpost,
        &[
            ("EHLO client.test", "250"),
            ("MAIL FROM:<a@b.test>", "250"),
            ("EHLO client.test", "250"),
            ("MAIL FROM:<>", "250 2.1.0 Ok"),
        ],
    )
    .quit();
}

#[test]
fn extensions_are_offered() {
    let ironpost = Setup::new().text("smtpd", "message_size_limit", "1M").start();
    let mut client = ironpost.connect();
    let reply = client.command("EHLO client.test");
    let offered: Vec<_> = reply.lines().map(|line| &line[4..]).collect();
    assert_eq!(offered[0], "mail.example.test");
    for extension in ["PIPELINING", "SIZE 1048576", "8BITMIME", "ENHANCEDSTATUSCODES"] {
        assert!(offered.contains(&extension), "{extension} of {offered:?}");
    }
    client.expect("MAIL FROM:<a@b.test> BODY=8BITMIME SIZE=100", "250 2.1.0 Ok");
    client.expect("RSET", "250");
    client.expect("MAIL FROM:<a@b.test> body=7bit", "250 2.1.0 Ok");
    client.quit();
}

#[test]
fn never_an_open_relay() {
    let ironpost = for_strangers().start();
    let mut client = ironpost.connect();
    client.hello();
    client.expect("MAIL FROM:<alice@example.test>", "250");
    for address in [
        "u@remote.test",
        "u@example.test.remote.test",
        "alice%remote.test@other.test",
        "\"u@remote.test\"@other.test",
        "u@[192.0.2.1]",
        "u@[127.0.0.2]",
        // Another way in an address of ours.
        "u%remote.test@example.test",
        "remote.test!u@example.test",
        "\"u@remote.test\"@example.test",
    ] {
        client
            .expect(&format!("RCPT TO:<{address}>"), &format!("554 5.7.1 <{address}>: Relay access denied"));
    }
    let reply = client.command("RCPT TO:<@example.test:u@remote.test>");
    assert!(reply.starts_with('5'), "{reply}");
    client.quit();
    assert!(ironpost.files_in_spool().is_empty());
}

#[test]
fn too_large_is_refused_at_mail_and_while_sending() {
    let ironpost = Setup::new().text("smtpd", "message_size_limit", "100K").start();
    let mut client = ironpost.connect();
    client.hello();
    client.expect("MAIL FROM:<a@b.test> SIZE=102401", "552 5.3.4");
    client.expect("MAIL FROM:<a@b.test> SIZE=99999999999999999999", "5");
    client.begin("a@b.test", &["alice@example.test"]);
    let reply = client.content(&plain("big", 300_000));
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    // The session goes on, with a message that fits.
    let id = client.send_mail("a@b.test", &["alice@example.test"], &plain("fits", 90_000));
    client.quit();
    ironpost.wait_removed(&id);
    assert_eq!(ironpost.mail("alice").len(), 1);
    ironpost.wait_empty();
}

#[test]
fn too_many_recipients_are_for_another_time() {
    let ironpost = Setup::new().set("smtpd", "recipient_limit", "3").start();
    let mut client = ironpost.connect();
    client.hello();
    client.expect("MAIL FROM:<a@b.test>", "250");
    for user in ["alice", "bob", "carol"] {
        client.expect(&format!("RCPT TO:<{user}@example.test>"), "250 2.1.5 Ok");
    }
    client.expect("RCPT TO:<dave@example.test>", "452 4.5.3");
    client.expect("DATA", "354");
    queue_id(&client.content(&short("x")));
    client.quit();
    ironpost.wait_mail("carol", 1);
    ironpost.wait_empty();
    assert!(ironpost.mail("dave").is_empty());
}

#[test]
fn over_long_lines_end_nothing() {
    let ironpost = Setup::new().start();
    let mut client = ironpost.connect();
    client.hello();
    // RFC 5321 4.5.3.1.4: 512 octets and room for parameters; a path of 256.
    client.expect(&format!("NOOP {}", "x".repeat(8000)), "500 5.5.");
    client.expect("NOOP", "250 2.0.0 Ok");
    let long = format!("{}@example.test", "x".repeat(400));
    client.expect(&format!("MAIL FROM:<{long}>"), "501 5.");
    // 254 octets within the brackets are a path of 256, as RFC 5321 4.5.3.1.3 allows. Long local-parts are
    // taken.
    let vers = format!("bounce-{}@client.test", "v".repeat(120));
    client.expect(&format!("MAIL FROM:<{vers}>"), "250 2.1.0 Ok");
    client.expect("RCPT TO:<alice@example.test>", "250");
    client.expect("DATA", "354");
    queue_id(&client.content(&short("x")));
    client.quit();
    let mails = ironpost.wait_mail("alice", 1);
    assert_eq!(mails[0].header("Return-Path"), Some(format!("<{vers}>")));
}

#[test]
fn endless_command_line_does_not_fill_memory() {
    let ironpost = Setup::new().start();
    let smtpd = ironpost.daemon(&["smtpd"]);
    let mut client = ironpost.connect();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        // It may well hang up.
        if client.try_send(&chunk).is_err() {
            break;
        }
    }
    let status = std::fs::read_to_string(format!("/proc/{smtpd}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 60_000, "{peak} kB of memory");
    ironpost.send("a@b.test", &["alice@example.test"], &short("x"));
    ironpost.wait_mail("alice", 1);
}

#[test]
fn bare_newlines_are_refused_and_smuggle_nothing() {
    let ironpost = Setup::new().start();
    let ends: [&[u8]; 9] = [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\r\n\x00.\r\n",
        b"\r\r\n.\r\r\n",
        b"\n\n.\r\n",
    ];
    for end in ends {
        let mut client = ironpost.connect();
        client.hello();
        client.begin("a@b.test", &["alice@example.test"]);
        client.send(b"Subject: outer\r\n\r\nouter");
        client.send(end);
        client.send(b"MAIL FROM:<evil@b.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n");
        let reply = client.reply();
        let name = end.escape_ascii();
        // Without bare CR or LF it is content like any other.
        if end == b"\r\n\x00.\r\n" {
            assert!(reply.starts_with("250 ") || reply.starts_with('5'), "{name}: {reply}");
        } else {
            assert!(reply.starts_with('5'), "{name}: {reply}");
        }
        // One reply for one message: the next command finds the session in order, or closed.
        let next = client.try_send(b"NOOP\r\n").map(|()| client.reply()).unwrap_or_default();
        assert!(next.is_empty() || next == "250 2.0.0 Ok", "{name}: {next}");
    }
    ironpost.wait_empty();
    assert!(ironpost.mail("bob").is_empty(), "smuggled");
}

#[test]
fn bare_newlines_in_commands_do_not_pass() {
    let ironpost = Setup::new().start();
    let mut client = ironpost.connect();
    client.hello();
    client.send(b"MAIL FROM:<a@b.test>\nRCPT TO:<alice@example.test>\nDATA\n\r\n");
    let reply = client.reply();
    assert!(reply.starts_with('5'), "{reply}");
    // Closed, or in order: no transaction has begun.
    let next =
        client.try_send(b"RCPT TO:<alice@example.test>\r\n").map(|()| client.reply()).unwrap_or_default();
    assert!(next.is_empty() || next == "503 5.5.1 Error: need MAIL command", "{next}");
}

#[test]
fn client_gone_in_the_middle_of_data_leaves_nothing() {
    let ironpost = Setup::new().start();
    for size in [0, 10, 5_000, 3_000_000] {
        let mut client = ironpost.connect();
        client.hello();
        client.begin("a@b.test", &["alice@example.test"]);
        client.send(&plain("gone", size));
        client.abort();
    }
    ironpost.log.wait_count(4, "the lost connections", |line| line.contains("lost connection after DATA"));
    assert!(ironpost.files_in_spool().is_empty(), "{:?}", ironpost.files_in_spool());
    let id = ironpost.send("a@b.test", &["alice@example.test"], &short("x"));
    ironpost.wait_removed(&id);
    assert_eq!(ironpost.mail("alice").len(), 1);
}

#[test]
fn too_many_errors_and_junk_end_the_session() {
    let ironpost = Setup::new().start();
    for (command, limit) in
        [("GIBBERISH", 20), ("MAIL FROM:<", 20), ("NOOP", 100), ("VRFY x@example.test", 100), ("RSET", 100)]
    {
        let mut client = ironpost.connect();
        client.hello();
        let mut count = 0;
        loop {
            let reply = client.command(command);
            count += 1;
            if reply.starts_with("421 ") {
                break;
            }
            assert!(!reply.is_empty(), "closed without a word after {count} {command}");
            assert!(count <= limit + 1, "{command}: {reply}");
        }
        assert!(count >= limit - 1, "{command}: ended after {count}");
        client.expect_closed();
    }
}

#[test]
fn strangers_have_a_connection_limit() {
    let ironpost = for_strangers().set("smtpd", "max_connections_per_client", "3").start();
    let mut clients: Vec<_> = (0..3).map(|_| ironpost.connect()).collect();
    let refused = ironpost.connect();
    assert!(refused.greeting.starts_with("421 4."), "{}", refused.greeting);
    // Another address is another client.
    clients.pop().unwrap().quit();
    ironpost.log.wait_until("a free place", || ironpost.connect().greeting.starts_with("220 ").then_some(()));
}

#[test]
fn connections_in_all_are_limited() {
    let ironpost = Setup::new().set("smtpd", "max_connections", "5").start();
    let clients: Vec<_> = (0..5).map(|_| ironpost.connect()).collect();
    assert!(clients.iter().all(|client| client.greeting.starts_with("220 ")));
    // The next one is told to come later, or waits to be taken.
    let stream = std::net::TcpStream::connect(ironpost.smtp()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let mut first = [0; 3];
    if std::io::Read::read_exact(&mut &stream, &mut first).is_ok() {
        assert_eq!(&first, b"421");
    }
    drop(stream);
    drop(clients);
    ironpost.log.wait_until("a free place", || ironpost.connect().greeting.starts_with("220 ").then_some(()));
}

#[test]
fn thousand_idle_sessions_are_held() {
    // Descriptors: one here and one there for each; the limit of this process is the tests' own business.
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let _ = nix::sys::resource::setrlimit(
        nix::sys::resource::Resource::RLIMIT_NOFILE,
        limit.1.min(8192),
        limit.1,
    );
    let ironpost = Setup::new().start();
    let clients: Vec<_> = (0..1000).map(|_| ironpost.connect()).collect();
    let id = ironpost.send("a@b.test", &["alice@example.test"], &short("x"));
    ironpost.wait_removed(&id);
    for mut client in clients.into_iter().step_by(100) {
        client.expect("NOOP", "250 2.0.0 Ok");
    }
}

#[test]
fn idle_session_ends_with_421() {
    let ironpost = Setup::new().text("smtpd", "idle_timeout", "1s").start();
    let mut idle = ironpost.connect();
    let reply = idle.reply();
    assert!(reply.starts_with("421 4.4.2"), "{reply}");
    idle.expect_closed();
    // In the middle of content too, and nothing is left.
    let mut client = ironpost.connect();
    client.hello();
    client.begin("a@b.test", &["alice@example.test"]);
    client.send(b"Subject: x\r\n\r\n");
    let reply = client.reply();
    assert!(reply.starts_with("421 4.4.2"), "{reply}");
    assert!(ironpost.files_in_spool().is_empty());
}

#[test]
fn too_many_hops_are_a_loop() {
    let ironpost = Setup::new().start();
    let hops =
        |count: usize| [b"Received: from a by b; date\r\n".repeat(count), b"\r\nx\r\n".to_vec()].concat();
    let mut client = ironpost.connect();
    client.hello();
    client.begin("a@b.test", &["alice@example.test"]);
    let reply = client.content(&hops(60));
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
    client.send_mail("a@b.test", &["alice@example.test"], &hops(30));
    client.quit();
}

#[test]
fn nothing_from_the_network_is_logged_unescaped() {
    let ironpost = Setup::new().start();
    let mut client = ironpost.connect();
    client.send(b"EHLO evil\x1b[31m\r\n");
    client.reply();
    client.send(b"MAIL FROM:<a\x07@b.test>\r\n");
    client.reply();
    client.send(b"\xff\xfe\x1b]0;title\x07\r\n");
    client.reply();
    client.hello();
    client.expect("MAIL FROM:<\"x> status=sent (\"@b.test>", "250");
    client.expect("RCPT TO:<alice@example.test>", "250");
    client.expect("DATA", "354");
    queue_id(&client.content(b"Subject: \x1b[31m\r\n\r\n\x1b\r\n"));
    client.quit();
    ironpost.wait_mail("alice", 1);
    for line in ironpost.log.all() {
        assert!(line.chars().all(|c| !c.is_control() || c == '\t'), "{line:?}");
    }
}

#[test]
fn privileged_addresses_always_work() {
    // RFC 5321 4.5.1: postmaster without a domain, even where no such user is.
    let ironpost = Setup::new().file("users", "alice\n").file("aliases", "postmaster: alice\n").start();
    let mut client = ironpost.connect();
    client.expect("HELO client.test", "250");
    client.send_mail("a@b.test", &["postmaster"], &short("x"));
    client.quit();
    assert_eq!(
        ironpost.wait_mail("alice", 1)[0].header("Delivered-To").as_deref(),
        Some("alice@example.test")
    );
}

#[test]
fn default_configuration_listens_only_where_it_is_told() {
    let ironpost = Setup::new().listen(&["127.0.0.1:0", "127.0.0.2:0"]).start();
    let listeners = ironpost.listeners();
    assert_eq!(listeners.len(), 2);
    for (listener, address) in listeners.iter().zip([Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)]) {
        assert_eq!(listener.ip(), address);
        assert!(Client::connect(*listener).greeting.starts_with("220 "));
    }
}
