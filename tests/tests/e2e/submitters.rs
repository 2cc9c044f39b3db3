//! Real mail programs submit: each over STARTTLS and implicit TLS, by several mechanisms, and what comes into the mailbox.

use std::path::{Path, PathBuf};

use ironpost_tests::certificates::Authority;
use ironpost_tests::corpus::crlf;
use ironpost_tests::counterpart::dovecot::Dovecot;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::mailbox::{Mail, header};
use ironpost_tests::setup::Setup;
use ironpost_tests::submitters::{Account, curl, msmtp, mutt, nodemailer, s_nail, smtplib, swaks};
use ironpost_tests::{is_root, skipped};

const PASSWORD: &str = "Sesame, 0pen!";

/// Mail comes on the first listener, is submitted over STARTTLS on the second, over implicit TLS on the third.
fn setup() -> Setup {
    let authority = Authority::new("test");
    let setup = Setup::new()
        .file("ca.pem", &authority.pem())
        .text("smtpd.tls", "certificate", "cert.pem")
        .text("smtpd.tls", "private_key", "key.pem")
        .entrance("kind = \"submission\"")
        .entrance("kind = \"submission\"\ntls = \"implicit\"");
    authority.issue(&["mail.example.test", "127.0.0.1", "localhost"]).write(setup.path());
    setup
}

struct Office {
    ironpost: Ironpost,
    ca: PathBuf,
    sent: usize,
}

impl Office {
    fn new(setup: Setup) -> Self {
        let ironpost = setup.start();
        let ca = ironpost.path().join("ca.pem");
        Self { ironpost, ca, sent: 0 }
    }

    /// As alice, to bob.
    fn account<'a>(&'a self, folder: &'a Path, implicit: bool) -> Account<'a> {
        Account {
            server: self.ironpost.listeners()[if implicit { 2 } else { 1 }],
            implicit,
            ca: &self.ca,
            folder,
            user: "alice",
            password: PASSWORD,
            from: "alice@example.test",
            to: "bob@example.test",
        }
    }

    /// The message that bob has got since, by this mechanism.
    fn arrived(&mut self, mechanism: &str) -> Mail {
        let line = format!("client=localhost[127.0.0.1], sasl_method={mechanism}, sasl_username=alice");
        self.sent += 1;
        let mut mails = self.ironpost.wait_mail("bob", self.sent);
        let id = self.ironpost.log.wait_for("the message's line", |lines| {
            let mut found = lines.iter().filter(|text| text.ends_with(&line));
            let last = found.next_back()?.split(": ").nth(1)?;
            Some(last.to_owned())
        });
        let at =
            mails.iter().position(|mail| mail.header("Received").is_some_and(|field| field.contains(&id)));
        let mail = mails.remove(at.expect("the mail of that line"));
        let received = mail.header("Received").unwrap();
        assert!(received.contains("with ESMTPSA id"), "{received}");
        assert!(received.contains("(localhost [127.0.0.1])") && !received.contains("alice"), "{received}");
        mail
    }
}

/// The fields that every message has, each once; and nobody who is hidden.
fn is_complete(mail: &Mail) {
    let text = mail.text();
    let (head, _) = text.split_once("\n\n").unwrap();
    for name in ["From", "Date", "Message-ID"] {
        let count = head
            .lines()
            .filter(|line| line.split_once(':').is_some_and(|(field, _)| field.eq_ignore_ascii_case(name)));
        assert_eq!(count.count(), 1, "{name}: {head}");
    }
    assert!(!text.contains("carol"), "{text}");
    assert!(header(&mail.bytes, "From").unwrap().contains("alice@example.test"), "{head}");
}

#[test]
fn mail_programs_submit_and_nothing_but_what_is_missing_is_added() {
    let mut office = Office::new(setup().logins("scram-sha-256", &[("alice", PASSWORD)]));
    let folder = office.ironpost.path().to_owned();
    // What is complete arrives as it was, to the octet.
    let whole = "From: Alice <alice@example.test>\nTo: bob@example.test\nSubject: whole\n  folded\nDate: Thu, 1 Jan 2026 00:00:00 +0000\n\
                 Message-ID: <whole@client.test>\nX-Odd:odd\n\n.\n..dots\nFrom here\n  end  \n";
    for implicit in [false, true] {
        curl(office.account(&folder, implicit), None, &crlf(whole.as_bytes())).ok();
        office.arrived("PLAIN").assert_content(&crlf(whole.as_bytes()));
        curl(office.account(&folder, implicit), Some("LOGIN"), &crlf(whole.as_bytes())).ok();
        office.arrived("LOGIN").assert_content(&crlf(whole.as_bytes()));
        for mechanism in ["PLAIN", "LOGIN"] {
            swaks(office.account(&folder, implicit), mechanism, whole).ok();
            office.arrived(mechanism).assert_content(&crlf(whole.as_bytes()));
            smtplib(office.account(&folder, implicit), &mechanism.to_lowercase(), &crlf(whole.as_bytes()))
                .ok();
            office.arrived(mechanism).assert_content(&crlf(whole.as_bytes()));
        }
        for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
            msmtp(office.account(&folder, implicit), &mechanism.to_lowercase(), whole).ok();
            office.arrived(mechanism).assert_content(&crlf(whole.as_bytes()));
        }
    }
    // What is not is completed, and Bcc goes.
    let bare = "Subject: bare\nBcc: carol@example.test,\n carol@example.test\nTo: bob@example.test\n\nbody\n";
    smtplib(office.account(&folder, true), "plain", &crlf(bare.as_bytes())).ok();
    let mail = office.arrived("PLAIN");
    is_complete(&mail);
    let text = mail.text();
    let sent = &text[text.find("Subject: bare\n").unwrap()..];
    let (before, after) = sent.split_once("Message-ID: <").unwrap();
    assert_eq!(before, "Subject: bare\nTo: bob@example.test\n");
    assert!(
        after.contains("@mail.example.test>\nDate: ")
            && after.ends_with("\nFrom: alice@example.test\n\nbody\n"),
        "{text}"
    );
    let id = mail.header("Message-ID").unwrap();
    office.ironpost.log.wait_text(&format!("message-id={}", id.trim()));
}

#[test]
fn readers_of_mail_submit() {
    let mut office = Office::new(setup().logins("scram-sha-256", &[("alice", PASSWORD)]));
    let folder = office.ironpost.path().to_owned();
    let body = "first line\n.\nsecond line\n";
    for implicit in [false, true] {
        let subject = if implicit { "over implicit TLS" } else { "over STARTTLS" };
        for mechanism in ["PLAIN", "LOGIN"] {
            s_nail(office.account(&folder, implicit), &mechanism.to_lowercase(), subject, body).ok();
            seen(&office.arrived(mechanism), subject, body);
            nodemailer(office.account(&folder, implicit), mechanism, subject, body).ok();
            seen(&office.arrived(mechanism), subject, body);
        }
        for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
            let hidden = "carol@example.test";
            mutt(office.account(&folder, implicit), &mechanism.to_lowercase(), subject, body, hidden).ok();
            seen(&office.arrived(mechanism), subject, body);
        }
    }
    // She gets her mail all the same, and it does not say so either.
    for mail in office.ironpost.wait_mail("carol", 4) {
        assert!(!mail.text().to_lowercase().contains("\nbcc:"), "{}", mail.text());
    }
}

fn seen(mail: &Mail, subject: &str, body: &str) {
    is_complete(mail);
    assert_eq!(mail.header("Subject").unwrap().trim(), subject);
    let text = mail.text();
    let (_, found) = text.split_once("\n\n").unwrap();
    assert_eq!(found.trim_end(), body.trim_end());
}

#[test]
fn dovecot_says_who_may_submit() {
    if !is_root() {
        return skipped("dovecot_says_who_may_submit", "Dovecot's master runs only as root");
    }
    let dovecot = Dovecot::start(&[("alice", PASSWORD)], "plain login scram-sha-256");
    let socket = format!("dovecot:{}", dovecot.socket().display());
    let mut office = Office::new(setup().text("smtpd.auth", "users", &socket));
    let folder = office.ironpost.path().to_owned();
    let whole =
        "From: alice@example.test\nDate: Thu, 1 Jan 2026 00:00:00 +0000\nMessage-ID: <d@client.test>\n\nx\n";
    for implicit in [false, true] {
        swaks(office.account(&folder, implicit), "LOGIN", whole).ok();
        office.arrived("LOGIN").assert_content(&crlf(whole.as_bytes()));
        msmtp(office.account(&folder, implicit), "scram-sha-256", whole).ok();
        office.arrived("SCRAM-SHA-256").assert_content(&crlf(whole.as_bytes()));
    }
    let wrong = Account { password: "wrong", ..office.account(&folder, true) };
    let said = swaks(wrong, "PLAIN", whole);
    assert_ne!(said.code, 0);
    assert!(said.text().contains("535 5.7.8"), "{}", said.text());
    office.ironpost.log.wait_text("warning: localhost[127.0.0.1]: SASL PLAIN authentication failed: ");
    drop(dovecot);
    // Nobody can say: that is our trouble, for another time.
    let said = swaks(office.account(&folder, true), "PLAIN", whole);
    assert_ne!(said.code, 0);
    office.ironpost.log.wait_text("localhost[127.0.0.1]: SASL PLAIN authentication is not possible: ");
}
