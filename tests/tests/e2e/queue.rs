//! The queue in an admin's hands, and local submission: `ironpost queue`, `mailq`, `sendmail`; also while the
//! daemons are down.

use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::{free_port, own_address};
use ironpost_tests::process::run;
use ironpost_tests::setup::Setup;

/// One whose next host is down, with the address where it would be.
fn with_a_dead_end() -> (Ironpost, std::net::SocketAddr) {
    let address = own_address();
    let next_host = (address, free_port(address)).into();
    (Setup::new().relay_to(next_host).start(), next_host)
}

fn defer(ironpost: &Ironpost, from: &str, to: &[&str], content: &[u8]) -> String {
    let id = ironpost.send(from, to, content);
    ironpost.wait_deferred(&id);
    id
}

#[test]
fn list_as_json_has_the_keys_of_postqueue() {
    let (ironpost, _) = with_a_dead_end();
    let id = defer(&ironpost, "alice@example.test", &["u@remote.test", "v@remote.test"], &short("listed"));
    // The move to deferred/ follows the log line.
    let entry = ironpost.log.wait_until("the message in the deferred queue", || {
        ironpost.queue().into_iter().find(|entry| entry["queue_name"] == "deferred")
    });
    assert_eq!(entry["queue_id"], id.as_str());
    assert_eq!(entry["sender"], "alice@example.test");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(entry["arrival_time"].as_u64().unwrap().abs_diff(now) < 300, "{entry:#}");
    assert!(entry["message_size"].as_u64().unwrap() > 50, "{entry:#}");
    assert_eq!(entry["forced_expire"], false);
    let mut recipients: Vec<_> =
        entry["recipients"].as_array().unwrap().iter().map(|one| one["address"].as_str().unwrap()).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, ["u@remote.test", "v@remote.test"]);
    for recipient in entry["recipients"].as_array().unwrap() {
        let reason = recipient["delay_reason"].as_str().unwrap().to_lowercase();
        assert!(reason.contains("refused"), "{entry:#}");
    }
}

#[test]
fn list_show_and_cat_work_up_and_down() {
    let (mut ironpost, _) = with_a_dead_end();
    let content = b"Subject: shown\r\n\r\n.dot\r\nna\xefve\r\n";
    let id = defer(&ironpost, "alice@example.test", &["u@remote.test"], content);
    for up in [true, false] {
        if !up {
            ironpost.stop();
        }
        let listed = ironpost.ironpost(&["queue", "list"]).ok().text();
        assert!(
            listed.contains(&id) && listed.contains("alice@example.test") && listed.contains("u@remote.test"),
            "{listed}"
        );
        assert_eq!(ironpost.queue().len(), 1);
        let shown = ironpost.ironpost(&["queue", "show", &id]).ok().text();
        for text in ["alice@example.test", "u@remote.test", "127.0.0.1", &id] {
            assert!(shown.contains(text), "{text} in {shown}");
        }
        // Terminals are safe, and the journal tells what was tried.
        assert!(shown.to_lowercase().contains("defer"), "{shown}");
        let cat = ironpost.ironpost(&["queue", "cat", &id]).ok();
        let (fields, rest) = ironpost_tests::mailbox::split_header(&cat.out, 1);
        assert!(fields[0].starts_with("Received: "), "{}", fields[0]);
        assert_eq!(ironpost_tests::mailbox::lf(rest), ironpost_tests::mailbox::lf(content));
        let mailq = run(&mut ironpost.command("mailq", &[]), b"").ok().text();
        assert!(mailq.contains(&id) && mailq.contains("u@remote.test"), "{mailq}");
        let bp = ironpost.sendmail(&["-bp"], b"").ok().text();
        assert_eq!(bp, mailq);
    }
}

#[test]
fn empty_queue_says_so() {
    let ironpost = Setup::new().start();
    let mailq = run(&mut ironpost.command("mailq", &[]), b"").ok().text();
    assert_eq!(mailq.trim(), "Mail queue is empty");
    assert!(ironpost.queue().is_empty());
}

#[test]
fn unknown_ids_and_bad_usage_have_their_exit_codes() {
    let (ironpost, _) = with_a_dead_end();
    for args in [
        &["queue", "show"] as &[&str],
        &["queue", "delete"],
        &["queue", "retry"],
        &["queue", "nonsense"],
        &["--nonsense"],
    ] {
        let output = ironpost.ironpost(args);
        assert_eq!(output.code, 64, "{args:?}: {}", output.err);
        assert!(!output.err.is_empty());
    }
    for args in
        [["queue", "show", "0000000000"], ["queue", "cat", "0000000000"], ["queue", "delete", "0000000000"]]
    {
        let output = ironpost.ironpost(&args);
        assert_eq!(output.code, 66, "{args:?}: {} {}", output.text(), output.err);
    }
    // IDs name no paths.
    for id in ["../../ironpost.toml", "/etc/passwd", "..", ""] {
        let output = ironpost.ironpost(&["queue", "cat", id]);
        assert!([64, 66].contains(&output.code), "{id:?}: {} {}", output.code, output.text());
        assert!(output.out.is_empty());
    }
    for program in ["ironpost", "sendmail", "smtpd", "queued", "deliverd"] {
        let mut command = std::process::Command::new(ironpost_tests::tools::binary(program));
        let version = run(command.arg("--version"), b"").ok().text();
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{program}: {version}");
        let mut command = std::process::Command::new(ironpost_tests::tools::binary(program));
        assert!(!run(command.arg("--help"), b"").ok().text().is_empty());
    }
}

#[test]
fn retry_sends_at_once() {
    let (ironpost, next_host) = with_a_dead_end();
    let ids: Vec<_> =
        (0..3).map(|_| defer(&ironpost, "alice@example.test", &["u@remote.test"], &short("x"))).collect();
    let server = Server::start_at(next_host.ip(), next_host.port(), Script::new());
    // Ordinary retries are five minutes away.
    ironpost.ironpost(&["queue", "retry", &ids[1]]).ok();
    ironpost.wait_removed(&ids[1]);
    assert_eq!(server.taken().len(), 1);
    ironpost.ironpost(&["queue", "retry", "--all"]).ok();
    ironpost.wait_empty();
    assert_eq!(server.taken().len(), 3);
}

#[test]
fn delete_deletes_what_is_named_and_nothing_else() {
    let (mut ironpost, _) = with_a_dead_end();
    let ids: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|user| defer(&ironpost, "alice@example.test", &[&format!("{user}@remote.test")], &short("x")))
        .collect();
    let output = ironpost.ironpost(&["queue", "delete", &ids[0]]).ok();
    assert!(output.text().contains('1'), "{}", output.text());
    ironpost.log.wait_until("one less", || (ironpost.files_in_spool().len() == 3).then_some(()));
    // It is gone for good, also over a restart.
    ironpost.restart();
    let left: Vec<_> =
        ironpost.queue().iter().map(|entry| entry["queue_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(left.len(), 3);
    assert!(!left.contains(&ids[0]));
    ironpost.ironpost(&["queue", "delete", "--all"]).ok();
    ironpost.wait_empty();
    assert!(ironpost.mail("alice").is_empty(), "a deleted message makes no bounce");
}

#[test]
fn sendmail_submits_to_arguments() {
    let ironpost = Setup::new().start();
    let output = ironpost.sendmail(
        &["-i", "-f", "bob@example.test", "alice@example.test"],
        b"Subject: by hand\nTo: someone\n\nHello.\n.\nstill here\n",
    );
    assert_eq!(output.ok().text(), "");
    let mails = ironpost.wait_mail("alice", 1);
    assert_eq!(mails[0].header("Return-Path").as_deref(), Some("<bob@example.test>"));
    assert!(mails[0].text().ends_with("\n\nHello.\n.\nstill here\n"), "{}", mails[0].text());
    assert_eq!(mails[0].header("Subject").as_deref(), Some("by hand"));
    // What a local program leaves out is added.
    assert!(
        mails[0].header("From").is_some_and(|from| from.contains("bob@example.test")),
        "{}",
        mails[0].text()
    );
    assert!(mails[0].header("Date").is_some(), "{}", mails[0].text());
    assert!(mails[0].header("Message-ID").is_some(), "{}", mails[0].text());
}

#[test]
fn sendmail_without_i_ends_at_a_dot() {
    let ironpost = Setup::new().start();
    ironpost.sendmail(&["-f", "bob@example.test", "alice"], b"Subject: x\n\nfirst\n.\nsecond\n").ok();
    let mails = ironpost.wait_mail("alice", 1);
    assert!(mails[0].text().ends_with("\n\nfirst\n"), "{}", mails[0].text());
    // A bare name is completed with mail_name.
    assert_eq!(mails[0].header("X-Original-To").as_deref(), Some("alice@example.test"));
}

#[test]
fn sendmail_takes_recipients_from_the_header_and_hides_bcc() {
    let ironpost = Setup::new().start();
    let message = b"From: Dave <dave@example.test>\nTo: \"Alice, the first\" <alice@example.test>,\n bob@example.test (Bob)\n\
        Cc: friends: carol@example.test;\nBcc: dave@example.test\nSubject: all of you\n\nHello.\n";
    ironpost.sendmail(&["-t", "-i", "-f", "dave@example.test"], message).ok();
    for user in ["alice", "bob", "carol", "dave"] {
        let mails = ironpost.wait_mail(user, 1);
        assert!(!mails[0].text().contains("Bcc:"), "{}", mails[0].text());
        assert!(mails[0].text().contains("Cc: friends: carol@example.test;"), "{}", mails[0].text());
    }
    // No recipients at all is an error, and nothing is queued.
    let output = ironpost.sendmail(&["-t"], b"Subject: nobody\n\nx\n");
    assert_ne!(output.code, 0);
    assert!(!output.err.is_empty());
    let output = ironpost.sendmail(&[], b"Subject: nobody\n\nx\n");
    assert_ne!(output.code, 0);
    ironpost.wait_empty();
}

#[test]
fn sendmail_options_of_other_programs_are_taken() {
    let ironpost = Setup::new().start();
    let forms: [&[&str]; 5] = [
        &["-oi", "-oem", "-f", "bob@example.test", "alice@example.test"],
        &["-fbob@example.test", "-F", "Bob B.", "-i", "--", "alice@example.test"],
        &["-bm", "-i", "-r", "bob@example.test", "alice@example.test"],
        &["-v", "-i", "-odb", "-f", "bob@example.test", "alice@example.test"],
        &["-i", "-N", "failure", "-R", "hdrs", "-f", "bob@example.test", "alice@example.test"],
    ];
    for (index, form) in forms.iter().enumerate() {
        let output = ironpost.sendmail(form, b"Subject: x\n\nx\n");
        assert_eq!(output.code, 0, "{form:?}: {}", output.err);
        ironpost.wait_mail("alice", index + 1);
    }
    let names = ironpost.mail("alice").iter().filter(|mail| mail.text().contains("Bob B.")).count();
    assert_eq!(names, 1);
}

#[test]
fn sendmail_queues_while_the_daemons_are_down() {
    let mut ironpost = Setup::new().start();
    ironpost.stop();
    for number in 0..3 {
        let message = format!("Subject: early {number}\n\nx\n");
        ironpost.sendmail(&["-i", "-f", "bob@example.test", "alice@example.test"], message.as_bytes()).ok();
    }
    assert_eq!(ironpost.queue().len(), 3);
    let mailq = run(&mut ironpost.command("mailq", &[]), b"").ok().text();
    assert!(mailq.contains("alice@example.test"), "{mailq}");
    ironpost.start();
    assert_eq!(ironpost.wait_mail("alice", 3).len(), 3);
    ironpost.wait_empty();
}

#[test]
fn sendmail_of_a_broken_message_is_no_worse_than_its_message() {
    let ironpost = Setup::new().start();
    let inputs: [&[u8]; 5] =
        [b"", b"no header\n", b"\n\nbody\n", b"Subject: cr\r\n\r\nboth\r\n", b"Subject: 8\n\n\xff\xfe\x00\n"];
    for (index, input) in inputs.iter().enumerate() {
        ironpost.sendmail(&["-i", "-f", "bob@example.test", "alice@example.test"], input).ok();
        let mails = ironpost.wait_mail("alice", index + 1);
        assert!(mails.iter().all(|mail| !mail.bytes.contains(&b'\r')));
    }
}

#[test]
fn log_follows_a_message_in_postfix_words() {
    let server =
        Server::start(Script::new().about("RCPT", "never@", Act::Reply("550 5.1.1 no such mailbox")));
    let ironpost = Setup::new().relay_to(server.address()).start();
    let id = ironpost.send(
        "alice@example.test",
        &["good@remote.test", "never@remote.test", "bob@example.test"],
        &short("x"),
    );
    ironpost.wait_removed(&id);
    // Each process writes its own lines: those of one may come after those of another.
    for text in ["to=<good@", "to=<never@", "to=<bob@"] {
        ironpost.log.wait(text, |line| (line.contains(&id) && line.contains(text)).then_some(()));
    }
    let lines: Vec<_> = ironpost.log.all().into_iter().filter(|line| line.contains(&id)).collect();
    let has = |program: &str, text: &str| {
        let (program, text) = (format!("ironpost/{program}["), format!("]: {id}: {text}"));
        assert!(
            lines.iter().any(|line| line.contains(&program) && line.contains(&text)),
            "{program} {text}:\n{}",
            lines.join("\n")
        );
    };
    has("smtpd", "client=");
    has("qmgr", "from=<alice@example.test>, size=");
    has("smtp", "to=<good@remote.test>, relay=127.0.0.1[127.0.0.1]:");
    has("smtp", "to=<never@remote.test>, relay=127.0.0.1[127.0.0.1]:");
    has("local", "to=<bob@example.test>, ");
    has("qmgr", "removed");
    assert!(lines.iter().any(|line| line.contains("nrcpt=3")), "{}", lines.join("\n"));
    let sent = lines.iter().find(|line| line.contains("to=<good@remote.test>")).unwrap();
    let shape = ["relay=", ", delay=", ", delays=", ", dsn=2.0.0, status=sent (250 2.0.0 ok: taken)"];
    assert!(shape.iter().all(|text| sent.contains(text)), "{sent}");
    let delays = sent.split_once("delays=").unwrap().1.split(',').next().unwrap();
    assert_eq!(delays.split('/').filter(|part| part.parse::<f64>().is_ok()).count(), 4, "{sent}");
}
