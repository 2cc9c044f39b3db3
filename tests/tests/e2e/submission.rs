//! AUTH and submission on the running daemons: who gets in, who does not, and what attackers get.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use ironpost_tests::client::Client;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::own_address;
use ironpost_tests::process::{Output, run};
use ironpost_tests::setup::Setup;
use ironpost_tests::tools::{python, unpacked};
use nix::sys::signal::Signal;

const SCHEME: &str = "sha512-crypt";
const USERS: [(&str, &str); 2] = [("alice", "secret of alice"), ("bob@example.test", "secret of bob")];

/// `AUTH PLAIN …`
fn plain(user: &str, password: &str) -> String {
    let message = format!("\0{user}\0{password}");
    format!("AUTH PLAIN {}", base64(message.as_bytes()))
}

fn base64(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |part: &[u8]| {
        let bits =
            part.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - part.len()));
        (0..4)
            .map(
                move |i| {
                    if i <= part.len() { DIGITS[(bits >> (18 - 6 * i)) as usize & 63] as char } else { '=' }
                },
            )
            .collect::<String>()
    };
    octets.chunks(3).map(group).collect()
}

/// Mail comes on the first listener; the second takes logins in plain text, so that every octet is the test's own; the third wants TLS.
fn setup() -> Setup {
    Setup::new()
        .file("transport", "example.test local:\n* discard:\n")
        .text("deliverd", "transport", "transport")
        .entrance("kind = \"submission\"\ntls = \"none\"\nauth_without_tls = true")
        .entrance("kind = \"submission\"")
        .logins(SCHEME, &USERS)
}

fn open(ironpost: &Ironpost) -> SocketAddr {
    ironpost.listeners()[1]
}

/// Logged in as alice.
fn alice(server: SocketAddr) -> Client {
    let mut client = Client::connect(server);
    client.hello();
    client.expect(&plain("alice", "secret of alice"), "235 2.7.0");
    client
}

/// Nothing that is a password stands in the log, in whatever form.
fn keeps_secrets(ironpost: &Ironpost) {
    for line in ironpost.log.all() {
        for (user, password) in USERS {
            let forms =
                [password.to_owned(), base64(password.as_bytes()), plain(user, password)[11..].to_owned()];
            assert!(!forms.iter().any(|form| line.contains(form)), "{line}");
        }
    }
}

#[test]
fn nobody_submits_without_a_login() {
    let ironpost = setup().start();
    let mut client = Client::connect(open(&ironpost));
    let offers = client.command("EHLO client.test");
    assert!(offers.contains("\n250-AUTH PLAIN LOGIN\n"), "{offers}");
    for command in ["MAIL FROM:<alice@example.test>", "RCPT TO:<bob@example.test>", "DATA", "VRFY bob"] {
        client.expect(command, "530 5.7.0 Authentication required");
    }
    client.expect(&plain("alice", "wrong"), "535 5.7.8");
    client.expect("MAIL FROM:<alice@example.test>", "530 5.7.0");
    client.expect(&plain("alice", "secret of alice"), "235 2.7.0");
    client.expect(&plain("alice", "secret of alice"), "503 5.5.1");
    // The sender must be one's own.
    let refusal = "553 5.7.1 <bob@example.test>: Sender address rejected: not owned by user alice";
    client.expect("MAIL FROM:<bob@example.test>", refusal);
    client.expect("MAIL FROM:<alice@far.test>", "553 5.7.1");
    client.expect("MAIL FROM:<>", "250 2.1.0");
    client.expect("RSET", "250");
    client.begin("Alice+lists@example.test", &["someone@far.test"]);
    assert!(client.content(b"Subject: x\r\n\r\n").starts_with("250 2.0.0"));
    client.quit();
    // A login that is an address owns that.
    let mut client = Client::connect(open(&ironpost));
    client.hello();
    client.expect(&plain("BOB@example.test", "secret of bob"), "235 2.7.0");
    client.expect("MAIL FROM:<bob@example.test>", "250 2.1.0");
    client.quit();
    // Where TLS is wanted, passwords are not taken without it.
    let mut client = Client::connect(ironpost.listeners()[2]);
    let offers = client.command("EHLO client.test");
    assert!(offers.contains("STARTTLS") && !offers.contains("AUTH"), "{offers}");
    client.expect(&plain("alice", "secret of alice"), "538 5.7.11");
    client.expect("MAIL FROM:<alice@example.test>", "530 5.7.0 Must issue a STARTTLS command first");
    client.quit();
    // Where mail from others comes in nobody logs in.
    let mut client = ironpost.connect();
    assert!(!client.command("EHLO client.test").contains("AUTH"));
    client.expect(&plain("alice", "secret of alice"), "502 5.5.1");
    client.expect("MAIL FROM:<a@remote.test> AUTH=<>", "555 5.5.4");
    client.quit();
    let id = ironpost.log.wait_text(", sasl_method=PLAIN, sasl_username=alice");
    assert!(id.contains("client=localhost[127.0.0.1], sasl_method=PLAIN"), "{id}");
    keeps_secrets(&ironpost);
}

#[test]
fn exchanges_that_no_client_has_by_mistake() {
    let ironpost = setup().start();
    let server = open(&ironpost);
    // Behind AUTH, and behind a response, nothing comes in one packet.
    for before in [&b"EHLO client.test\r\nAUTH LOGIN\r\n"[..], b"AUTH LOGIN\r\n"] {
        let mut client = Client::connect(server);
        client.hello();
        let secrets = format!("{}\r\n{}\r\n", base64(b"alice"), base64(b"secret of alice"));
        client.send(&[before, secrets.as_bytes()].concat());
        let last = std::iter::repeat_with(|| client.reply()).find(|reply| !reply.starts_with("250"));
        assert_eq!(last.unwrap(), "554 5.5.0 Error: SMTP protocol synchronization");
        client.expect_closed();
    }
    // A response of 1 MiB is answered once, and forgotten.
    let mut client = Client::connect(server);
    client.hello();
    client.expect("AUTH PLAIN", "334 ");
    client.send(&[b"QUFB".repeat(256 * 1024).as_slice(), b"\r\n"].concat());
    assert_eq!(client.reply(), "500 5.5.6 Error: authentication exchange line is too long");
    client.expect("NOOP", "250");
    client.expect("AUTH PLAIN", "334 ");
    client.expect("not base64!", "501 5.5.2");
    client.expect("AUTH LOGIN", "334 VXNlcm5hbWU6");
    client.expect("*", "501 5.7.0");
    client.expect("AUTH CRAM-MD5", "504 5.5.4");
    client.expect("AUTH PLAIN =", "501 5.5.2");
    client.expect("AUTH LOGIN", "334 VXNlcm5hbWU6");
    client.expect(&base64(b"alice"), "334 UGFzc3dvcmQ6");
    client.expect(&base64(b"secret of alice"), "235 2.7.0");
    client.quit();
    keeps_secrets(&ironpost);
}

/// Fail2ban's own program, with a filter and the log of smtpd as syslog would have written it: how many lines match.
fn fail2ban(filter: &str, lines: &[String], folder: &std::path::Path) -> usize {
    let log = folder.join("mail.log");
    let stamped = |line: &String| {
        let start = line.find("/smtpd[").map(|at| line[..at].rfind(' ').map_or(0, |blank| blank + 1))?;
        Some(format!("Nov 22 12:00:00 mail {}\n", &line[start..]))
    };
    std::fs::write(&log, lines.iter().filter_map(stamped).collect::<String>()).unwrap();
    let fail2ban = unpacked().join("fail2ban");
    // Its folder of filters, with ours among them.
    let config = folder.join("fail2ban");
    run(Command::new("cp").arg("-r").arg(fail2ban.join("etc/fail2ban")).arg(&config), b"").ok();
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/fail2ban/filter.d/ironpost.conf");
    std::fs::copy(ours, config.join("filter.d/ironpost.conf")).unwrap();
    let mut command = python();
    command.arg(fail2ban.join("usr/bin/fail2ban-regex")).arg("-c").arg(config);
    command.env("PYTHONPATH", fail2ban.join("usr/lib/python3/dist-packages")).env("HOME", folder);
    let Output { out, err, .. } = run(command.arg(&log).arg(filter), b"");
    let text = String::from_utf8(out).unwrap();
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix("Lines: ")?.split(", ").nth(2)?.split(' ').next()?.parse().ok());
    found.unwrap_or_else(|| panic!("{text}\n{err}"))
}

#[test]
fn who_guesses_passwords_is_slowed_down_and_turned_away() {
    for name in ["ironpost", "postfix"] {
        let ironpost = setup()
            .set("", "trusted_networks", "[]")
            .text("smtpd", "client_auth_failure_rate", "3/10m")
            .text("log", "name", name)
            .start();
        let (server, guesser) = (open(&ironpost), own_address());
        let start = Instant::now();
        let mut client = Client::connect_from(guesser, server);
        client.hello();
        for guess in ["a", "b", "c"] {
            client.expect(&plain("alice", guess), "535 5.7.8 Error: authentication failed");
        }
        // 1, 2 and 4 seconds.
        assert!(start.elapsed() >= Duration::from_secs(7), "{:?}", start.elapsed());
        let turned_away = format!("421 4.7.0 mail.example.test Error: too many failed logins from {guesser}");
        client.expect(&plain("alice", "secret of alice"), &turned_away);
        client.expect_closed();
        // Also with the right password, and in another session; others are not concerned.
        let mut client = Client::connect_from(guesser, server);
        client.hello();
        client.expect(&plain("alice", "secret of alice"), &turned_away);
        let mut client = Client::connect_from(own_address(), server);
        client.hello();
        client.expect(&plain("alice", "secret of alice"), "235");
        client.quit();
        let failed = format!("[{guesser}]: SASL PLAIN authentication failed: ");
        ironpost.log.wait_count(3, "failures", |line| {
            line.contains(&failed) && line.ends_with(", sasl_username=alice")
        });
        ironpost.log.wait_count(2, "being turned away", |line| line.ends_with("is turned away"));
        let lines = ironpost.log.all();
        if name == "ironpost" {
            assert_eq!(fail2ban("ironpost", &lines, ironpost.path()), 5, "our filter");
        } else {
            assert_eq!(fail2ban("postfix[mode=auth]", &lines, ironpost.path()), 3, "fail2ban's own");
        }
        keeps_secrets(&ironpost);
    }
}

#[test]
fn what_others_try_does_not_shut_out_whose_name_it_is() {
    let ironpost =
        setup().set("", "trusted_networks", "[]").text("smtpd", "user_auth_failure_rate", "3/h").start();
    let (server, home) = (open(&ironpost), own_address());
    let from = |address: Ipv4Addr| {
        let mut client = Client::connect_from(address, server);
        client.hello();
        client
    };
    let right = plain("alice", "secret of alice");
    from(home).expect(&right, "235");
    for guess in ["a", "b", "c"] {
        from(own_address()).expect(&plain("Alice", guess), "535");
    }
    // Nobody is asked any more, but from where she has logged in before.
    from(own_address()).expect(&right, "454 4.7.0");
    ironpost.log.wait_text("Too many failed logins of user alice: ");
    from(home).expect(&right, "235");
    from(own_address()).expect(&plain("bob@example.test", "secret of bob"), "235");
}

#[test]
fn limits_of_failed_logins_can_be_tried_with_warnings_first() {
    let ironpost = setup()
        .set("", "trusted_networks", "[]")
        .text("smtpd", "client_auth_failure_rate", "warn:1/h")
        .text("smtpd", "user_auth_failure_rate", "warn:1/h")
        .start();
    let (server, stranger) = (open(&ironpost), own_address());
    let mut client = Client::connect_from(stranger, server);
    client.hello();
    client.expect(&plain("alice", "a"), "535");
    client.expect(&plain("alice", "secret of alice"), "235");
    for warned in [
        format!("421 4.7.0 mail.example.test Error: too many failed logins from {stranger};"),
        "454 4.7.0 Temporary authentication failure; sasl_username=alice".into(),
    ] {
        let line = ironpost.log.wait_text(&warned);
        assert!(line.contains("NOQUEUE: reject_warning: AUTH from "), "{line}");
    }
}

#[test]
fn a_stolen_login_sends_no_more_than_its_owner_may() {
    let ironpost =
        setup().text("smtpd", "user_message_rate", "3/h").text("smtpd", "user_recipient_rate", "5/h").start();
    let server = open(&ironpost);
    let mut client = alice(server);
    for _ in 0..3 {
        client.begin("alice@example.test", &["bob@example.test"]);
        assert!(client.content(b"x: y\r\n\r\n").starts_with("250"));
    }
    let refusal = "450 4.7.1 Error: too much mail from user alice";
    client.expect("MAIL FROM:<alice@example.test>", refusal);
    // From elsewhere, too; and she alone.
    alice(server).expect("MAIL FROM:<alice@example.test>", refusal);
    ironpost
        .log
        .wait_text("Message delivery request rate limit exceeded: from user alice at localhost[127.0.0.1]");
    let mut client = Client::connect(server);
    client.hello();
    client.expect(&plain("bob@example.test", "secret of bob"), "235");
    client.expect("MAIL FROM:<bob@example.test>", "250");
    for _ in 0..5 {
        client.expect("RCPT TO:<alice@example.test>", "250");
    }
    client.expect(
        "RCPT TO:<alice@example.test>",
        "450 4.7.1 Error: too many recipients from user bob@example.test",
    );
}

#[test]
fn senders_belong_to_logins_by_a_table_and_lists_of_restrictions_are_told_apart() {
    let ironpost = setup()
        .entrance("auth = true\nauth_without_tls = true\ntls = \"none\"\nhide_client = true")
        .set("", "trusted_networks", "[]")
        .file(
            "senders",
            "info@example.test alice, bob@example.test\n@lists.test alice\nalice@old.test alice\n",
        )
        .text("smtpd", "sender_logins", "senders")
        .set("smtpd", "authenticated_header", "true")
        .set("smtpd.restrictions", "mail", "[\"reject_sender_login_mismatch\"]")
        .set("smtpd.restrictions", "rcpt", "[\"permit_sasl_authenticated\", \"reject\"]")
        .set("smtpd.submission_restrictions", "rcpt", "[\"reject_non_fqdn_recipient\"]")
        .start();
    let mut client = alice(open(&ironpost));
    for (sender, reply) in [
        ("info@example.test", "250"),
        ("x@lists.test", "250"),
        ("alice@old.test", "250"),
        ("alice@example.test", "250"),
        ("bob@old.test", "553 5.7.1"),
    ] {
        client.expect(&format!("MAIL FROM:<{sender}>"), reply);
        client.expect("RSET", "250");
    }
    client.expect("MAIL FROM:<alice@example.test>", "250");
    client.expect("RCPT TO:<x@short>", "504 5.5.2");
    client.expect("RCPT TO:<x@far.test>", "250");
    client.quit();
    // On a listener for everybody, those who have not logged in use nobody's address, and go no further.
    let everybody = ironpost.listeners()[3];
    let mut client = Client::connect(everybody);
    client.hello();
    client.expect("MAIL FROM:<alice@example.test>", "250");
    client.expect(
        "RCPT TO:<bob@example.test>",
        "553 5.7.1 <alice@example.test>: Sender address rejected: not logged in",
    );
    client.expect("RSET", "250");
    client.expect("MAIL FROM:<a@remote.test>", "250");
    client.expect("RCPT TO:<x@far.test>", "554 5.7.1 <x@far.test>: Relay access denied");
    client.expect("RCPT TO:<bob@example.test>", "554 5.7.1");
    client.expect("RSET", "250");
    client.expect(&plain("alice", "secret of alice"), "235");
    client.expect("MAIL FROM:<bob@example.test>", "250");
    client.expect(
        "RCPT TO:<bob@example.test>",
        "553 5.7.1 <bob@example.test>: Sender address rejected: not owned by user alice",
    );
    client.expect("RSET", "250");
    client.expect("MAIL FROM:<alice@example.test>", "250");
    client.expect("RCPT TO:<x@far.test>", "250");
    client.expect("RSET", "250");
    // Who sent it is told, from where is not; on such a listener nothing is added.
    client.begin("alice@example.test", &["bob@example.test"]);
    assert!(client.content(b"Subject: x\r\nBcc: carol@example.test\r\n\r\nx\r\n").starts_with("250"));
    client.quit();
    let mail = ironpost.wait_mail("bob", 1).remove(0);
    mail.assert_content(b"Subject: x\r\nBcc: carol@example.test\r\n\r\nx\r\n");
    let received = mail.header("Received").unwrap();
    assert!(received.contains("(Authenticated sender: alice)"), "{received}");
    assert!(!received.contains("127.0.0.1") && !received.contains("client.test"), "{received}");
    assert!(received.contains("with ESMTPA id"), "{received}");
}

#[test]
fn strangers_on_port_25_take_no_place_from_those_who_submit() {
    let ironpost = setup().set("smtpd", "max_connections", "5").set("", "trusted_networks", "[]").start();
    let crowd: Vec<Client> = (0..5).map(|_| ironpost.connect()).collect();
    let client = ironpost.connect();
    assert!(client.greeting.starts_with("421 4.7.0"), "{}", client.greeting);
    let mut client = alice(open(&ironpost));
    client.begin("alice@example.test", &["bob@example.test"]);
    assert!(client.content(b"Subject: x\r\n\r\nx\r\n").starts_with("250"));
    client.quit();
    ironpost.wait_mail("bob", 1);
    drop(crowd);
}

#[test]
fn what_listeners_say_of_logins_is_read_anew() {
    let mut ironpost = setup().start();
    let offers = || ironpost.connect().command("EHLO client.test");
    assert!(!offers().contains("AUTH"));
    let text = std::fs::read_to_string(ironpost.config()).unwrap();
    let first = text.replacen(
        "address = \"127.0.0.1:0\"\n",
        "address = \"127.0.0.1:0\"\nauth = true\nauth_without_tls = true\n",
        1,
    );
    std::fs::write(ironpost.config(), &first).unwrap();
    ironpost.signal(Signal::SIGHUP);
    let smtp = ironpost.smtp();
    ironpost.log.wait_until("AUTH on the first listener", || {
        Client::connect(smtp).command("EHLO client.test").contains("\n250-AUTH ").then_some(())
    });
    alice(smtp).quit();
    // A users file that is gone leaves everything as it was.
    std::fs::write(ironpost.config(), first.replace("\"logins\"", "\"nowhere\"")).unwrap();
    ironpost.signal(Signal::SIGHUP);
    ironpost.log.wait_text("configuration not read anew, the old one stays in force");
    alice(smtp).quit();
}

#[test]
fn configurations_in_which_nobody_could_log_in_are_refused() {
    for (lines, says) in [
        ("kind = \"submission\"", "set users in [smtpd.auth]"),
        ("auth = true", "set users in [smtpd.auth]"),
        ("hide_client = true", "hide_client"),
    ] {
        let ironpost = Setup::new().entrance(lines).stopped();
        let said = ironpost.ironpost(&["check"]);
        assert_eq!(said.code, 78, "{lines}");
        assert!(said.err.contains(says) && said.err.contains('^'), "{}", said.err);
    }
    let ironpost = setup().text("smtpd", "sender_logins", "senders").file("senders", "nonsense\n").stopped();
    let said = ironpost.ironpost(&["check"]);
    assert_eq!(said.code, 78);
    assert!(said.err.contains("senders:1: "), "{}", said.err);
    let mut command = Command::new(ironpost_tests::tools::binary("smtpd"));
    assert_eq!(run(command.arg("-c").arg(ironpost.config()), b"").code, 78);
}

#[test]
fn chunks_are_mended_as_lines_are() {
    let ironpost = setup().start();
    let mut client = alice(open(&ironpost));
    client.expect("MAIL FROM:<alice@example.test> SMTPUTF8", "250");
    client.expect("RCPT TO:<bob@example.test>", "250");
    // The hidden field is cut in two.
    for (chunk, last) in
        [("Subject: ä\r\nBc", ""), ("c: carol@example.test,\r\n dave@example.test\r\n\r\nbody", " LAST")]
    {
        client.send(format!("BDAT {}{last}\r\n{chunk}", chunk.len()).as_bytes());
        let reply = client.reply();
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
    }
    client.quit();
    let mail = ironpost.wait_mail("bob", 1).remove(0);
    let (fields, rest) = mail.parts();
    assert!(fields[3].contains("with UTF8SMTPA id"), "{fields:?}");
    let text = String::from_utf8(rest.to_vec()).unwrap();
    let id = mail.header("Message-ID").unwrap();
    let date = mail.header("Date").unwrap();
    let expected = format!(
        "Subject: ä\nMessage-ID: {}\nDate: {}\nFrom: alice@example.test\n\nbody\n",
        id.trim(),
        date.trim()
    );
    assert_eq!(text, expected);
}

#[test]
fn a_failed_login_that_waits_does_not_hold_up_the_end() {
    let ironpost = setup().set("", "trusted_networks", "[]").start();
    let mut client = Client::connect_from(own_address(), open(&ironpost));
    client.hello();
    for guess in ["a", "b", "c"] {
        client.expect(&plain("alice", guess), "535");
    }
    // The answer to this one is eight seconds away; the end is orderly all the same, and says so.
    client.send(format!("{}\r\n", plain("alice", "d")).as_bytes());
    ironpost.log.wait_count(4, "failures", |line| line.contains("authentication failed"));
    let mut ironpost = ironpost;
    ironpost.stop();
    assert!(client.reply().starts_with("535 5.7.8"));
    assert!(client.reply().starts_with("421 4.3.2"));
    client.expect_closed();
}

#[test]
fn a_handshake_forgets_who_has_logged_in() {
    const SCRIPT: &str = "
import smtplib, ssl, sys
smtp = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), local_hostname='client.test')
smtp.ehlo()
smtp.user, smtp.password = 'alice', 'secret of alice'
print(smtp.auth('plain', smtp.auth_plain))
assert smtp.docmd('MAIL FROM:<alice@example.test>')[0] == 250
context = ssl._create_unverified_context()
assert smtp.docmd('STARTTLS')[0] == 220
smtp.sock = context.wrap_socket(smtp.sock)
smtp.file = None
smtp.ehlo()
print(smtp.docmd('MAIL FROM:<alice@example.test>'))
print(smtp.auth('plain', smtp.auth_plain), smtp.docmd('MAIL FROM:<alice@example.test>'))
smtp.quit()
";
    let ironpost = setup().entrance("kind = \"submission\"\nauth_without_tls = true").start();
    let mut command = python();
    command.args(["-c", SCRIPT, &ironpost.listeners()[3].port().to_string()]);
    let said = run(&mut command, b"").ok().text();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("(235, "), "{said}");
    assert_eq!(lines[1], "(530, b'5.7.0 Authentication required')");
    assert!(lines[2].starts_with("(235, ") && lines[2].ends_with("(250, b'2.1.0 Ok')"), "{said}");
    keeps_secrets(&ironpost);
}

/// Whoever works here wants to send mail while strangers have taken all places for theirs, and the other way round.
#[test]
fn strangers_and_users_take_no_places_from_each_other() {
    let ironpost = setup()
        .set("", "trusted_networks", "[]")
        .set("smtpd", "max_connections", "10")
        .set("smtpd", "max_connections_per_client", "100")
        .set("smtpd", "max_submission_connections", "2")
        .start();
    let stranger = own_address();
    let greeted = |server| Client::connect_from(stranger, server);
    let turned_away = "421 4.7.0 mail.example.test Error: too many connections";
    // The last tenth is for trusted clients.
    let strangers: Vec<Client> = (0..9).map(|_| greeted(ironpost.smtp())).collect();
    assert!(strangers.iter().all(|client| client.greeting.starts_with("220 ")));
    assert_eq!(greeted(ironpost.smtp()).greeting, turned_away);
    let users = [greeted(open(&ironpost)), greeted(open(&ironpost))];
    assert!(users.iter().all(|client| client.greeting.starts_with("220 ")));
    assert_eq!(greeted(open(&ironpost)).greeting, turned_away);
    drop(strangers);
    ironpost
        .log
        .wait_until("a place", || greeted(ironpost.smtp()).greeting.starts_with("220 ").then_some(()));
}
