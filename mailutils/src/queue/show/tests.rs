//! A message in a spool in a temporary folder, shown.

use super::*;
use common::dsn::{EnvelopeId, MessageDsn, OriginalRecipient, Return};
use common::status::{EnhancedCode, Status};
use common::time::Timestamp;
use spool::envelope::{Envelope, Recipient};
use spool::writer::Spooler;

#[test]
fn envelope_and_journal_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path());
    std::fs::create_dir_all(spool.directory(Queue::Active)).unwrap();
    let mut writer =
        Spooler::open(&spool.directory(Queue::Active), 0o600).unwrap().begin(Timestamp::now()).unwrap();
    let arrived = Timestamp(1_795_358_702_123_456);
    let envelope = Envelope {
        sender: "joe@here.example".parse().unwrap(),
        arrived,
        origin: Origin::Smtp {
            client: "x[192.0.2.1]".into(),
            helo: "x\x1b[0m".into(),
            protocol: "ESMTP".into(),
        },
        body: Body::EightBitMime,
        recipients: vec![Recipient {
            dsn: RecipientDsn {
                notify: "SUCCESS".parse().unwrap(),
                original: OriginalRecipient::from_xtext("rfc822;l+2Bx@there").ok(),
            },
            ..Recipient::new("list@here.example".parse().unwrap())
        }],
        dsn: MessageDsn { ret: Some(Return::Full), envelope_id: EnvelopeId::from_xtext("a+20b").ok() },
    };
    writer.set_envelope(&envelope).unwrap();
    writer.write(b"Subject: x\r\n\r\n\xff\r\n").unwrap();
    let id = writer.commit().unwrap();
    let file = QueueFile::open_for_update(&spool.path(Queue::Active, id)).unwrap();
    let (mut journal, _) = file.journal().unwrap();
    let by = vec![Recipient::new("a@b".parse().unwrap()), Recipient::new("c@d".parse().unwrap())];
    let status = Status::local(EnhancedCode::new(4, 4, 1), "refused");
    let entries = [
        Entry::Expanded(vec![(0, by)]),
        Entry::Attempted { at: arrived, results: vec![(2, status)] },
        Entry::Retry { attempts: 1, due: arrived },
        Entry::Held { at: arrived },
        Entry::Told { at: arrived, news: News::Succeeded, recipients: vec![0], notification: Some(id) },
        Entry::Told { at: arrived, news: News::Succeeded, recipients: vec![1, 2], notification: None },
    ];
    journal.append(&spool::storage::Disk, file.file(), &entries, false).unwrap();

    let mut out = Vec::new();
    show(&spool, id, &mut out).unwrap();
    let stamp = arrived.rfc5322();
    let expected = format!(
        "\
Queue ID:    {id}
Queue:       active
Arrived:     {stamp}
Origin:      ESMTP from x[192.0.2.1], HELO x\\x1b[0m
Sender:      <joe@here.example>
Content:     17 octets, octets above 127, longest line 10, BODY=8BITMIME
Envelope ID: a b
Return:      RET=FULL
Recipients:
  0  <list@here.example>, NOTIFY=SUCCESS, ORCPT=rfc822;l+2Bx@there
Journal:
  recipient 0 expanded:
    1  <a@b>
    2  <c@d>
  {stamp}  recipient 2 deferred: 4.4.1 refused
  attempts so far: 1; the next one is due {stamp}
  {stamp}  held
  {stamp}  sender notified of success by {id}: recipients 0
  {stamp}  next host notifies of success: recipients 1, 2
"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let other = QueueId::new(Timestamp(5), 5);
    assert_eq!(show(&spool, other, &mut Vec::new()).unwrap_err().code, exit::NO_INPUT);
}

#[test]
fn control_sequences_in_content_do_not_reach_a_terminal() {
    assert_eq!(for_terminal(b"a\tb\r\n\x1b[2Jc\r\n"), "a\tb\n\\u{1b}[2Jc\n");
}
