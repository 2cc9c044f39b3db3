//! Notifications, word for word.

use super::*;
use common::status::EnhancedCode;
use common::templates::Templates;

fn status(text: &str, remote: Option<&str>, reply: Option<&str>) -> Status {
    let mut status = Status::local(EnhancedCode::new(5, 1, 1), text);
    status.remote = remote.map(str::to_owned);
    status.reply = reply.map(str::to_owned);
    status
}

fn with<R>(kind: Kind, reports: &[Report<'_>], original: &[u8], check: impl FnOnce(String, Body) -> R) -> R {
    with_texts(&Texts::new(Templates::default()).unwrap(), kind, reports, original, check)
}

fn with_texts<R>(
    texts: &Texts,
    kind: Kind,
    reports: &[Report<'_>],
    original: &[u8],
    check: impl FnOnce(String, Body) -> R,
) -> R {
    let (bytes, body) = compose(&Notification {
        kind,
        texts,
        hostname: &"mail.example.com".parse().unwrap(),
        to: &"alice@example.com".parse().unwrap(),
        id: QueueId::new(Timestamp(1_795_358_702_123_456), 12),
        envelope_id: EnvelopeId::new("QQ 314=159").ok().as_ref(),
        original_id: QueueId::new(Timestamp(1_795_358_000_000_000), 13),
        arrived: Timestamp(1_795_358_000_000_000),
        now: Timestamp(1_795_358_702_123_456),
        retry_until: Timestamp(1_795_790_000_000_000),
        reports,
        original,
        whole: original.len() < 3000 && kind != Kind::Success,
        utf8: false,
    });
    check(String::from_utf8_lossy(&bytes).into_owned(), body)
}

#[test]
fn a_bounce_word_for_word() {
    let (bob, list, carol) = (
        "bob@example.net".parse().unwrap(),
        "list@example.com".parse().unwrap(),
        "carol@example.org".parse().unwrap(),
    );
    let remote = status(
        "host mx.example.net[192.0.2.1]:25 said: 550 5.1.1 <bob@example.net>: no such user (in reply to RCPT TO command)",
        Some("mx.example.net[192.0.2.1]:25"),
        Some(
            "550 5.1.1 <bob@example.net>: no such user here, and a few more words so that the line has to be folded",
        ),
    );
    let own =
        status("Host or domain name not found. Name service error for name=example.org type=MX", None, None);
    let (action, named) = (Action::Failed, OriginalRecipient::new("x400", "/C=de").ok());
    let failures = [
        Report { address: &bob, original: None, named: None, action, status: &remote },
        Report { address: &carol, original: Some(&list), named: named.as_ref(), action, status: &own },
    ];
    let original =
        b"Received: from a\r\n\tby b\r\nSubject: hello\r\nFrom: alice@example.com\r\n\r\nbody \0 --=_\r\n";
    with(Kind::Bounce, &failures, original, |text, body| {
        assert_eq!(body, Body::SevenBit);
        let arrived = Timestamp(1_795_358_000_000_000).rfc5322();
        let now = Timestamp(1_795_358_702_123_456).rfc5322();
        let id = QueueId::new(Timestamp(1_795_358_702_123_456), 12);
        let expected = include_str!("../../tests/fixtures/bounce.eml")
            .replace("NOW", &now)
            .replace("ARRIVED", &arrived)
            .replace("ORIGINAL-ID", QueueId::new(Timestamp(1_795_358_000_000_000), 13).as_str())
            .replace("NEW-ID", id.as_str())
            .replace('\n', "\r\n");
        if text != expected {
            println!("{}", text.replace('\r', ""));
        }
        assert_eq!(text, expected);
    });
}

#[test]
fn eight_bit_headers_are_declared() {
    with(Kind::Bounce, &[], "Subject: é\r\n\r\n".as_bytes(), |text, body| {
        assert_eq!(body, Body::EightBitMime);
        assert_eq!(text.matches("Content-Transfer-Encoding: 8bit\r\n").count(), 2);
        assert!(text.contains("Subject: é\r\n"));
    });
}

/// RFC 6533 3 to 5: fields and headers in UTF-8 have types of their own, and only they.
#[test]
fn what_is_in_other_scripts_is_said_in_the_types_made_for_it() {
    let status = status("unknown user", None, None);
    let texts = Texts::new(Templates::default()).unwrap();
    let id = QueueId::new(Timestamp(1_795_358_702_123_456), 12);
    for (to, failed, header, utf8, report_type, whole_type, body) in [
        ("a@b.example", "c@d.example", "Subject: x", true, "delivery-status", "rfc822", Body::SevenBit),
        ("a@b.example", "c@d.example", "Subject: ö", true, "delivery-status", "global", Body::Utf8),
        ("a@b.example", "c@d.example", "Subject: ö", false, "delivery-status", "rfc822", Body::EightBitMime),
        ("a@b.example", "ö@d.example", "Subject: x", true, "global-delivery-status", "rfc822", Body::Utf8),
        ("ö@b.example", "c@d.example", "Subject: x", true, "delivery-status", "rfc822", Body::Utf8),
    ] {
        let address = failed.parse().unwrap();
        let named = OriginalRecipient::of(&address);
        let report = Report {
            address: &address,
            original: None,
            named: named.as_ref(),
            action: Action::Failed,
            status: &status,
        };
        let (bytes, said) = compose(&Notification {
            kind: Kind::Bounce,
            texts: &texts,
            hostname: &"mail.example.com".parse().unwrap(),
            to: &to.parse().unwrap(),
            id,
            envelope_id: None,
            original_id: id,
            arrived: Timestamp(0),
            now: Timestamp(0),
            retry_until: Timestamp(0),
            reports: &[report],
            original: format!("{header}\r\n\r\nbody\r\n").as_bytes(),
            whole: true,
            utf8,
        });
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(said, body, "{text}");
        assert!(text.contains(&format!("\r\nTo: {to}\r\n")), "{text}");
        assert!(text.contains(&format!("\r\nContent-Type: message/{report_type}\r\n")), "{text}");
        assert!(text.contains(&format!("\r\nContent-Type: message/{whole_type}\r\n")), "{text}");
        let kind = if failed.is_ascii() { "rfc822" } else { "utf-8" };
        assert!(text.contains(&format!("\r\nFinal-Recipient: {kind}; {failed}\r\n")), "{text}");
        assert!(text.contains(&format!("\r\nOriginal-Recipient: {kind}; {failed}\r\n")), "{text}");
    }
}

#[test]
fn a_double_bounce_says_so() {
    with(Kind::DoubleBounce, &[], b"Subject: Undelivered\r\n\r\nAction: failed\r\n", |text, _| {
        assert!(text.contains("Subject: Postmaster Copy: Undelivered Mail\r\n"));
        assert!(text.contains("Content-Type: message/rfc822\r\n"), "{text}");
        assert!(text.contains("\r\nSubject: Undelivered\r\n\r\nAction: failed\r\n"), "{text}");
    });
    for long in
        [format!("{}\r\n", "x".repeat(1000)), "Subject: x\r\n\r\n".to_owned() + &"long\r\n".repeat(20_000)]
    {
        with(Kind::DoubleBounce, &[], long.as_bytes(), |text, _| {
            assert!(text.contains("Content-Type: text/rfc822-headers\r\n"));
        });
    }
}

#[test]
fn hostile_texts_add_no_line_no_field_and_no_part() {
    let bob = "\"--=_x\\\" Subject: x\"@example.net".parse().unwrap();
    let long = status(&"x".repeat(3000), Some(&"y".repeat(3000)), Some(&"z ".repeat(500)));
    let hostile = status("a\r\nSubject: evil\r\n\r\n--x", Some("unknown[192.0.2.9]:25"), None);
    let action = Action::Failed;
    let failures = [
        Report { address: &bob, original: None, named: None, action, status: &long },
        Report { address: &bob, original: None, named: None, action, status: &hostile },
    ];
    let id = QueueId::new(Timestamp(1_795_358_702_123_456), 12);
    let mut original = format!("X-A: --=_{id}\r\n--=_{id}--\r\nX-B: a\0b\rc\r\n").into_bytes();
    original.extend_from_slice(b"X-Long: ");
    original.extend(vec![b'q'; 5000]);
    original.extend_from_slice(b"\r\n");
    while original.len() < 3 * MAX_HEADER {
        original.extend_from_slice(b"X-More: and more and more and more\r\n");
    }
    with(Kind::Bounce, &failures, &original, |text, _| {
        assert!(text.len() < 2 * MAX_HEADER + 20_000, "{} octets", text.len());
        let delimiter = format!("--=_{id}_");
        let mut delimiters = 0;
        for line in text.split_inclusive('\n') {
            assert!(line.ends_with("\r\n") && line.len() <= 998, "{line:?}");
            let line = line.trim_end_matches("\r\n");
            assert!(!line.contains(['\r', '\0']), "{line:?}");
            assert!(!line.starts_with("Subject: evil"));
            delimiters += usize::from(line.starts_with(&delimiter));
        }
        assert_eq!(delimiters, 4);
        assert!(text.contains("Remote-MTA: dns; [192.0.2.9]\r\n"));
        assert_eq!(text.matches("\r\nSubject:").count(), 1);
        assert!(text.contains("X-B: a?b?c\r\n"));
    });
}

#[test]
fn a_late_message_is_reported_without_alarm() {
    let (bob, status) = (
        "bob@example.net".parse().unwrap(),
        Status::local(EnhancedCode::new(4, 4, 1), "connect to example.net: Connection refused"),
    );
    let reports =
        [Report { address: &bob, original: None, named: None, action: Action::Delayed, status: &status }];
    with(Kind::Delay, &reports, &[], |text, _| {
        let until = Timestamp(1_795_790_000_000_000).rfc5322();
        for part in [
            "Subject: Delayed Mail (still being retried)\r\n",
            "You need",
            "connect to example.net: Connection refused\r\n",
            "Action: delayed\r\nStatus: 4.4.1\r\n",
            &format!("Will-Retry-Until: {until}\r\n"),
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("could not be delivered"), "{text}");
    });
}

#[test]
fn each_kind_of_success_has_its_word() {
    let bob = "bob@example.net".parse().unwrap();
    let status = Status::local(EnhancedCode::new(2, 0, 0), "delivered to maildir");
    let report = |action| Report { address: &bob, original: None, named: None, action, status: &status };
    let reports = [Action::Delivered, Action::Relayed, Action::Expanded].map(report);
    with(Kind::Success, &reports, b"Subject: x\r\n\r\nbody\r\n", |text, _| {
        assert!(text.contains("Subject: Successful Mail Delivery Report\r\n"));
        for action in ["delivered", "relayed", "expanded"] {
            assert!(text.contains(&format!("Action: {action}\r\nStatus: 2.0.0\r\n")), "{action} in {text}");
        }
        // RFC 3461 4.3: only the header.
        assert!(text.contains("Content-Type: text/rfc822-headers\r\n") && !text.contains("body\r\n"));
    });
}

#[test]
fn a_message_comes_back_whole_when_it_can_be_passed_on_as_it_is() {
    for (original, whole) in [
        ("Subject: x\r\n\r\nbody\r\n".to_owned(), true),
        (format!("Subject: x\r\n\r\n{}\r\n", "y".repeat(970)), true),
        ("Subject: x\r\n\r\nno line end".to_owned(), false),
        ("no header at all\r\n\r\nbody\r\n".to_owned(), false),
        ("X-Folded:\r\n\tx y\r\n\r\nbody\r\n".to_owned(), true),
        ("Subject: x\r\n\r\na\rb\r\n".to_owned(), false),
        ("Subject: x\r\n\r\na\0b\r\n".to_owned(), false),
        (format!("Subject: x\r\n\r\n{}\r\n", "y".repeat(2000)), false),
    ] {
        with(Kind::Bounce, &[], original.as_bytes(), |text, _| {
            assert_eq!(text.contains("Content-Type: message/rfc822\r\n"), whole, "{original:?}");
            assert_eq!(text.contains(&original), whole);
            assert_eq!(text.contains("It is attached"), whole);
        });
    }
}

fn texts(file: &str) -> Texts {
    Texts::new(Templates::parse("texts".as_ref(), file.as_bytes()).unwrap()).unwrap()
}

#[test]
fn the_texts_can_be_replaced_one_by_one() {
    let bob = "bob@example.net".parse().unwrap();
    let status = status("no such user", None, None);
    let reports =
        [Report { address: &bob, original: None, named: None, action: Action::Failed, status: &status }];
    let texts = texts(&format!(
        "[failed]\nSubject: {{hostname}} kann nicht zustellen\n\nFür {{sender}}, {{queue_id}} vom {{arrived}}:\n\n{{recipients}}\n\n\
         {}\n  Ende\n[delayed]\nSubject: late\n\nuntil {{will_retry_until}}\n[postmaster]\nSubject: p\n\nFrom {{sender}}: {{attached}}.\n",
        "wort ".repeat(20)
    ));
    let original = b"Subject: hello\r\n\r\nbody\r\n";
    with_texts(&texts, Kind::Bounce, &reports, original, |text, body| {
        assert_eq!(body, Body::EightBitMime);
        assert!(
            text.contains("\r\nSubject: mail.example.com kann nicht zustellen\r\nAuto-Submitted:"),
            "{text}"
        );
        assert_eq!(text.matches("Content-Transfer-Encoding: 8bit\r\n").count(), 2, "the whole and the text");
        assert_eq!(text.matches("Content-Transfer-Encoding: 7bit\r\n").count(), 1, "the original");
        let expected = format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
             Für alice@example.com, {} vom\r\n{}:\r\n\r\n<bob@example.net>\r\n    no such user\r\n\r\n\
             {}\r\n{}\r\n  Ende\r\n\r\n--=_",
            QueueId::new(Timestamp(1_795_358_000_000_000), 13),
            Timestamp(1_795_358_000_000_000).rfc5322(),
            "wort ".repeat(15).trim_end(),
            "wort ".repeat(5).trim_end(),
        );
        // Where the line is wrapped depends on its length alone: compared without that.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&text).contains(&words(&expected)), "{expected}\nis not in\n{text}");
        assert!(text.lines().all(|line| line.len() <= 78), "{text}");
    });
    with_texts(&texts, Kind::Delay, &reports, original, |text, body| {
        assert_eq!(body, Body::SevenBit);
        let until = Timestamp(1_795_790_000_000_000).rfc5322();
        assert!(text.contains(&format!("charset=us-ascii\r\n\r\nuntil {until}\r\n\r\n--=_")), "{text}");
    });
    with_texts(&texts, Kind::DoubleBounce, &reports, original, |text, _| {
        assert!(
            text.contains("\r\nSubject: p\r\n") && text.contains("\r\nFrom <>: It is attached.\r\n"),
            "{text}"
        );
    });
    with_texts(&texts, Kind::Success, &reports, original, |text, _| {
        assert!(text.contains("\r\nSubject: Successful Mail Delivery Report\r\n"), "built-in: {text}");
    });
}

#[test]
fn the_built_in_texts_are_complete_and_use_what_they_may() {
    let built_in = Templates::parse("templates.txt".as_ref(), include_bytes!("templates.txt")).unwrap();
    assert_eq!(Texts::new(built_in).unwrap(), Texts::new(Templates::default()).unwrap());
    for (kind, subject) in [
        (Kind::Bounce, "Undelivered Mail Returned to Sender"),
        (Kind::Delay, "Delayed Mail (still being retried)"),
        (Kind::Success, "Successful Mail Delivery Report"),
        (Kind::DoubleBounce, "Postmaster Copy: Undelivered Mail"),
    ] {
        with(kind, &[], b"Subject: x\r\n\r\n", |text, body| {
            assert_eq!(body, Body::SevenBit);
            assert!(text.contains(&format!("\r\nSubject: {subject}\r\nAuto-Submitted: ")), "{text}");
            assert!(text.contains("\r\nThis is the mail system at mail.example.com.\r\n"), "{text}");
        });
    }
}

#[test]
fn a_long_subject_is_folded_and_long_lines_are_wrapped() {
    let texts =
        texts(&format!("[failed]\nSubject: {0}\n\n{1}\n", "{hostname}".repeat(80), "{sender}".repeat(110)));
    with_texts(&texts, Kind::Bounce, &[], b"Subject: x\r\n\r\n", |text, _| {
        let (header, _) = text.split_once("\r\n\r\n").unwrap();
        let subject = header.split_once("\r\nSubject: ").unwrap().1.split_once("\r\nAuto-").unwrap().0;
        assert_eq!(subject.replace("\r\n ", ""), "mail.example.com".repeat(80));
        assert!(text.split("\r\n").all(|line| line.len() <= 900));
        assert_eq!(text.replace("\r\n", "").matches("alice@example.com").count(), 110 + 1);
    });
}
