//! Known holes of other mail systems, tried against the running programs; `doc/mail-cves.md` tells which.

use std::path::Path;

use ironpost_tests::corpus::short;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::setup::Setup;

/// Everything below a folder, but for the spool and the mailboxes.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["spool", "mail"].contains(&name.as_str()) {
            found.extend(files(&path));
        } else {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

/// Addresses that were commands, paths or macros to somebody, with a file that would tell.
fn odd_local_parts(mark: &Path) -> Vec<String> {
    let mark = mark.display();
    [
        format!(";touch {mark};"),
        format!("|touch {mark}"),
        format!("`touch {mark}`"),
        format!("$(touch {mark})"),
        format!("${{run{{/usr/bin/touch {mark}}}}}"),
        format!("${{run{{\\x2fusr\\x2fbin\\x2ftouch {mark}}}}}"),
        format!("x\" -oQ/tmp -X{mark} y"),
        format!("{mark}"),
        "../../mark".to_owned(),
        "-oQ/tmp".to_owned(),
        ":include:/etc/passwd".to_owned(),
        "%s%s%s%n".to_owned(),
        "{user}{home}".to_owned(),
    ]
    .into_iter()
    .map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
    .collect()
}

/// CVE-2020-7247, CVE-2019-10149, CVE-2019-13917, CVE-2015-7611.
#[test]
fn addresses_are_neither_commands_nor_paths_nor_macros() {
    let setup = Setup::new()
        .text("local", "mailbox", "mail/{user}/{extension}/")
        .text("deliverd", "transport", "transport")
        .file("transport", "remote.test discard:\n");
    let mark = setup.path().join("mark");
    let ironpost = setup.start();
    let before = files(ironpost.path());
    for local in odd_local_parts(&mark) {
        // As sender they are words in a header.
        let sender = format!("{local}@remote.test");
        let mut client = ironpost.connect();
        client.hello();
        client.expect(&format!("MAIL FROM:<{sender}>"), "250 2.1.0");
        // As recipient they are unknown, or an extension that cannot be a folder's name.
        client.expect(&format!("RCPT TO:<{local}@example.test>"), "550 5.1.1");
        let extended = format!("\"alice+{}", local.strip_prefix('"').unwrap());
        let reply = client.command(&format!("RCPT TO:<{extended}@example.test>"));
        assert!(reply.starts_with("250 ") || reply.starts_with("550 "), "{reply}");
        client.expect("RCPT TO:<alice+plain@example.test>", "250 ");
        client.expect("DATA", "354");
        client.content(&short(&local));
        client.quit();
    }
    ironpost.wait_empty();
    assert!(!mark.exists());
    assert_eq!(files(ironpost.path()), before, "no file but mailboxes");
    let folder = ironpost.path().join("mail/alice/plain");
    let mails = ironpost_tests::mailbox::maildir(&folder);
    assert_eq!(mails.len(), odd_local_parts(&mark).len());
    for local in odd_local_parts(&mark) {
        // Quotes that are not needed are not kept.
        let address: common::address::Address = format!("{local}@remote.test").parse().unwrap();
        let path = format!("<{address}>");
        assert!(mails.iter().any(|mail| mail.header("Return-Path").as_deref() == Some(&*path)), "{path}");
    }
}

/// CVE-1999-0203: mail that cannot be delivered comes back to a sender that names a program.
#[test]
fn a_bounce_to_a_program_runs_nothing() {
    let setup = Setup::new()
        .text("deliverd", "transport", "transport")
        .file("transport", "remote.test error:5.1.1 no\n");
    let mark = setup.path().join("mark");
    let ironpost = setup.start();
    for local in [format!("\"|touch {}\"", mark.display()), format!("\"{}\"", mark.display())] {
        let id = ironpost.send(&format!("{local}@example.test"), &["u@remote.test"], &short("a program"));
        ironpost.wait_removed(&id);
    }
    // The bounces find no such user, and the postmaster is told.
    let told = ironpost.wait_mail("postmaster", 2);
    assert!(told.iter().all(|mail| mail.text().contains("u@remote.test")), "{}", told[0].text());
    ironpost.wait_empty();
    assert!(!mark.exists());
}

/// CVE-2016-10033 and its relatives: programs pass a sender of somebody else's choice.
#[test]
fn options_of_sendmail_write_no_file_and_a_sender_is_no_option() {
    let ironpost = Setup::new().start();
    let mark = ironpost.path().join("mark");
    let log = format!("-X{}", mark.display());
    let written = format!("<?php {} ?>", log);
    // One word with everything in it: no address, refused.
    let sender = format!("-fattacker\" -oQ/tmp/ {log} x@remote.test");
    let refused = ironpost.sendmail(&[&sender, "alice@example.test"], written.as_bytes());
    assert_eq!(refused.code, 64, "{}", refused.err);
    // As separate words they are options that do nothing.
    let options = ["-fa@remote.test", "-oQ/tmp/", &log, "-C/etc/passwd", "alice@example.test"];
    let code = ironpost.sendmail(&options, written.as_bytes()).code;
    assert_eq!(code, 78, "another configuration is read, with no more rights than the caller's, and is none");
    ironpost.sendmail(&["-fa@remote.test", "-oQ/tmp/", &log, "alice@example.test"], written.as_bytes()).ok();
    let sender = "\"attacker\\\" -oQ/tmp/ -X x\"@remote.test";
    ironpost.sendmail(&[&format!("-f{sender}"), "--", "alice@example.test"], b"Subject: quoted\r\n\r\n").ok();
    let mails = ironpost.wait_mail("alice", 2);
    assert!(mails.iter().any(|mail| mail.header("Return-Path") == Some(format!("<{sender}>"))));
    assert!(!mark.exists());
    // A recipient that looks like an option stays one behind "--": an unknown user.
    ironpost.sendmail(&["-falice@example.test", "--", &log], b"x\r\n").ok();
    let mails = ironpost.wait_mail("alice", 3);
    let bounce = mails.iter().find(|mail| mail.header("Return-Path").as_deref() == Some("<>"));
    let text = bounce.expect("a bounce").text();
    assert!(text.contains(&format!("Final-Recipient: rfc822; {log}@example.test")), "{text}");
    assert!(!mark.exists());
}

fn sends_as_before(ironpost: &Ironpost, name: &str) {
    let id = ironpost.send("a@remote.test", &["alice@example.test"], &short(name));
    ironpost.wait_removed(&id);
}

/// CVE-2020-10957, CVE-2020-10958, CVE-2020-10967, CVE-2020-7046, CVE-2019-11500: each ended a service.
#[test]
fn odd_commands_leave_the_server_as_it_was() {
    let ironpost = Setup::new().start();
    let smtpd = ironpost.daemon(&["smtpd"]);
    let lines = "\r\n".repeat(30);
    let many = format!("NOOP{lines}");
    for octets in [
        &b"NOOP \0\r\n"[..],
        b"NOOP \"unfinished\r\n",
        b"NOOP \xc3\r\n",
        b"VRFY \xc3",
        many.as_bytes(),
        b"MAIL FROM:<\"a\0b\"@x.test>\r\nMAIL FROM:<\"\\\0\"@x.test>\r\n",
        b"MAIL FROM:<\"\"@x.test>\r\nRCPT TO:<\"\"@example.test>\r\nRCPT TO:<@example.test>\r\n",
        b"MAIL FROM:<a@b.test> =\r\nMAIL FROM:<a@b.test> SIZE=\r\nMAIL FROM:<a@b.test> SIZE=-1\r\n",
        b"RCPT TO:<\r\nMAIL FROM:\r\nMAIL FROM:<\"\r\nMAIL FROM:<@\r\nMAIL FROM:<@:>\r\n",
        b"BDAT\r\nBDAT -1\r\nBDAT 99999999999999999999\r\nBDAT 4294967296 LAST\r\n",
        b"AUTH\r\nAUTH PLAIN =\r\nAUTH PLAIN ====\r\nSTARTTLS\0\r\n",
    ] {
        let mut client = ironpost.connect();
        client.hello();
        client.send(octets);
        client.abort();
    }
    // An empty local-part in quotes is an address like any other, of nobody here.
    let mut client = ironpost.connect();
    client.hello();
    client.expect("MAIL FROM:<\"\"@x.test>", "250 2.1.0");
    client.expect("RCPT TO:<\"\"@example.test>", "550 5.1.1");
    client.expect("RCPT TO:<alice@example.test>", "250 2.1.5");
    client.expect("DATA", "354");
    client.content(&short("empty"));
    client.quit();
    let mails = ironpost.wait_mail("alice", 1);
    assert_eq!(mails[0].header("Return-Path").as_deref(), Some("<\"\"@x.test>"));
    sends_as_before(&ironpost, "after all that");
    assert_eq!(ironpost.daemon(&["smtpd"]), smtpd, "nothing had to be started again");
}
