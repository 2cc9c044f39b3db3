//! The bytes on disk: a golden file of each format version must stay readable, and the current version must be written just so.
//! Set `IRONPOST_WRITE_GOLDEN=1` once when a new version is made; never for an old one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use common::dsn::{EnvelopeId, MessageDsn, OriginalRecipient, RecipientDsn, Return};
use common::status::{EnhancedCode, Status};
use common::time::Timestamp;
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::journal::{Entry, News};
use spool::queue_file::QueueFile;
use spool::writer::Spooler;
use std::io::Read;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// What version 1 could say.
fn envelope_1() -> Envelope {
    Envelope {
        sender: "sender@example.com".parse().unwrap(),
        arrived: Timestamp(1_795_358_702_123_456),
        origin: Origin::Smtp {
            client: "unknown[192.0.2.7]".into(),
            helo: "client.example".into(),
            protocol: "ESMTP".into(),
        },
        body: Body::EightBitMime,
        recipients: vec![
            Recipient::new("\"odd name\"@example.net".parse().unwrap()),
            Recipient {
                address: "joe@example.org".parse().unwrap(),
                original: Some("team@example.org".parse().unwrap()),
                dsn: RecipientDsn::default(),
            },
        ],
        dsn: MessageDsn::default(),
    }
}

fn envelope() -> Envelope {
    let mut envelope = envelope_2();
    envelope.body = Body::Utf8;
    envelope.recipients.push(Recipient {
        dsn: RecipientDsn {
            notify: "NEVER".parse().unwrap(),
            original: Some(OriginalRecipient::new("utf-8", "jörg@example.net").unwrap()),
        },
        ..Recipient::new("jörg@bücher.example".parse().unwrap())
    });
    envelope
}

/// What version 2 could say.
fn envelope_2() -> Envelope {
    let mut envelope = envelope_1();
    envelope.dsn =
        MessageDsn { ret: Some(Return::Headers), envelope_id: Some(EnvelopeId::new("a+b c").unwrap()) };
    envelope.recipients[0].dsn = RecipientDsn {
        notify: "SUCCESS,DELAY".parse().unwrap(),
        original: Some(OriginalRecipient::new("rfc822", "odd+name@example.net").unwrap()),
    };
    envelope
}

const CONTENT: &[u8] = b"Subject: gr\xc3\xbc\xc3\x9fe\r\n\r\n.dot\r\nlast line without end";

fn journal_1() -> Vec<Entry> {
    let mut failed = Status::local(EnhancedCode::new(5, 1, 1), "host mx[192.0.2.1] said: 550 5.1.1 no");
    failed.remote = Some("mx[192.0.2.1]:25".into());
    failed.reply = Some("550 5.1.1 no".into());
    vec![
        Entry::Expanded(vec![(1, vec![Recipient::new("jane@example.org".parse().unwrap())])]),
        Entry::Attempted {
            at: Timestamp(1_795_358_703_000_000),
            results: vec![
                (0, failed),
                (2, Status::local(EnhancedCode::new(4, 4, 1), "connection timed out")),
            ],
        },
        Entry::Notified {
            at: Timestamp(1_795_358_703_000_001),
            recipients: vec![0],
            notification: Some("0BCDFGHJKLMNPQRS".parse().unwrap()),
        },
        Entry::Held { at: Timestamp(1_795_358_703_000_002) },
        Entry::Released { at: Timestamp(1_795_358_703_000_003) },
        Entry::Retry { attempts: 1, due: Timestamp(1_795_359_003_000_000) },
    ]
}

fn journal() -> Vec<Entry> {
    let mut journal = journal_1();
    journal.push(Entry::Told {
        at: Timestamp(1_795_359_003_000_001),
        news: News::Delayed,
        recipients: vec![2],
        notification: Some("0BCDFGHJKLMNPQRT".parse().unwrap()),
    });
    journal.push(Entry::Told {
        at: Timestamp(1_795_359_003_000_002),
        news: News::Succeeded,
        recipients: vec![2],
        notification: None,
    });
    journal
}

/// Writes the message of all golden files into a folder.
fn write(folder: &Path) -> PathBuf {
    let spooler = Spooler::open(folder, 0o600).unwrap();
    let mut writer = spooler.begin(Timestamp(1_795_358_702_123_456)).unwrap();
    writer.set_envelope(&envelope()).unwrap();
    writer.write(CONTENT).unwrap();
    let path = folder.join(writer.commit().unwrap().as_str());
    let file = QueueFile::open_for_update(&path).unwrap();
    file.journal().unwrap().0.append(&spool::storage::Disk, file.file(), &journal(), true).unwrap();
    path
}

#[test]
fn version_3_is_written_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let written = std::fs::read(write(folder.path())).unwrap();
    if std::env::var_os("IRONPOST_WRITE_GOLDEN").is_some() {
        std::fs::write(golden("version-3.queue"), &written).unwrap();
    }
    assert!(
        written == std::fs::read(golden("version-3.queue")).unwrap(),
        "the format has changed: it needs a new version"
    );
}

#[test]
fn every_version_is_read() {
    for (name, envelope, journal) in [
        ("version-1.queue", envelope_1(), journal_1()),
        ("version-2.queue", envelope_2(), journal()),
        ("version-3.queue", envelope(), journal()),
    ] {
        let file = QueueFile::open(&golden(name)).unwrap();
        assert_eq!(*file.envelope(), envelope, "{name}");
        let mut content = Vec::new();
        file.content().unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, CONTENT, "{name}");
        let facts = file.facts();
        assert!(facts.eight_bit && facts.leading_dot && !facts.ends_with_newline, "{name}");
        assert_eq!(facts.longest_line, 21, "{name}");
        assert_eq!(facts.eight_bit_header, name == "version-3.queue", "{name}");
        assert_eq!(file.journal().unwrap().1, journal, "{name}");
    }
}

/// A message that waited while the program was exchanged: its journal goes on in today's form.
#[test]
fn the_journal_of_an_old_file_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    std::fs::copy(golden("version-1.queue"), &path).unwrap();
    let file = QueueFile::open_for_update(&path).unwrap();
    let more = &journal()[journal_1().len()..];
    file.journal().unwrap().0.append(&spool::storage::Disk, file.file(), more, true).unwrap();
    let file = QueueFile::open(&path).unwrap();
    assert_eq!((file.envelope(), file.journal().unwrap().1), (&envelope_1(), journal()));
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 4;
    std::fs::write(&path, bytes).unwrap();
    assert!(QueueFile::open(&path).unwrap_err().to_string().contains("version 4 is not known"));
}
