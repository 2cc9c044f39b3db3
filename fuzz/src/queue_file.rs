//! Any octets as a queue file: refused, or read whole, shown, listed, folded, told about in a notification.

use crate::input::{Input, file};
use common::codec;
use common::time::Timestamp;
use mailutils::queue::show;
use queued::bounce::{self, Action, Kind, Notification, Report, Texts};
use queued::message::{Message, State};
use spool::envelope::{Body, Envelope, MAX_ENVELOPE};
use spool::id::QueueId;
use spool::layout::Queue;
use spool::listing;
use spool::prologue::PROLOGUE;
use spool::queue_file::QueueFile;
use std::io::Read;

/// The first octet's bits: make the checksum of the prologue right (1), of the envelope (2), of the journal (4), and
/// the lengths as if the envelope took all that the prologue leaves it (8). The rest is the file.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mend = input.octet();
    let mut octets = input.rest().to_vec();
    mend_file(&mut octets, mend);
    let limit = crate::memory::DECODING + 64 * octets.len();
    let opened = crate::memory::bounded(limit, || QueueFile::from_file(file(&octets)));
    let queue_file = match opened {
        Ok(queue_file) => queue_file,
        Err(error) => {
            assert!(error.is_corrupt(), "a file in memory can be read: {error}");
            printable(&error.to_string());
            return;
        }
    };
    let envelope = queue_file.envelope();
    let written = codec::encode(envelope).expect("what was read can be written");
    let again: Envelope = codec::decode::<_, MAX_ENVELOPE>(&written).expect("what was written can be read");
    assert_eq!(again, *envelope);
    content(&queue_file);
    let (_, journal) = queue_file.journal().expect("a file in memory can be read");
    let id = QueueId::new(Timestamp(0), 7);
    let mut shown = Vec::new();
    show::describe(&mut shown, Queue::Active, None, id, &queue_file, &journal).expect("room in memory");
    shown.split(|b| *b == b'\n').for_each(|line| printable(&String::from_utf8_lossy(line)));
    let listed = listing::of_file(Queue::Active, id, None, &queue_file).expect("it can be read");
    assert!(listed.recipients.len() <= listed.recipients_total as usize);
    printable(&mailutils::queue::json::line(&listed));
    let mut message =
        Message::new(id, envelope.clone(), queue_file.facts(), queue_file.content_offset(), journal);
    assert!(!message.is_empty());
    assert_eq!(message.pending().count(), listed.recipients.len(), "both read the same from the journal");
    tell(&message);
    crate::journal::settle(&mut message);
}

fn mend_file(octets: &mut [u8], mend: u8) {
    let total = octets.len();
    let Some((prologue, rest)) = octets.split_first_chunk_mut::<PROLOGUE>() else { return };
    let mut put = |at: usize, value: &[u8]| {
        prologue.iter_mut().skip(at).zip(value).for_each(|(to, from)| *to = *from);
    };
    if mend & 8 != 0 {
        let all = u32::try_from(total - PROLOGUE).unwrap_or(u32::MAX);
        put(12, &all.to_le_bytes());
        put(16, &[0; 8]);
    }
    let [.., a, b, c, d] = prologue.first_chunk::<16>().copied().unwrap_or_default();
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if let (true, Some(envelope)) = (mend & 2 != 0, rest.get(..length)) {
        let checksum = crc32fast::hash(envelope).to_le_bytes();
        prologue.iter_mut().skip(24).zip(checksum).for_each(|(to, from)| *to = from);
    }
    if mend & 1 != 0 {
        let checksum = crc32fast::hash(prologue.get(..PROLOGUE - 4).unwrap_or_default()).to_le_bytes();
        prologue.iter_mut().skip(PROLOGUE - 4).zip(checksum).for_each(|(to, from)| *to = from);
    }
    let content = prologue.get(16..24).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes);
    let start = usize::try_from(content).unwrap_or(usize::MAX).saturating_add(length);
    if let (true, Some(journal)) = (mend & 4 != 0, rest.get_mut(start..)) {
        crate::journal::mend_frames(journal);
    }
}

/// Comes out as it went in, or not to its end.
fn content(queue_file: &QueueFile) {
    let mut content = Vec::new();
    match queue_file.content().expect("a descriptor").read_to_end(&mut content) {
        Ok(_) => {
            assert_eq!(content.len() as u64, queue_file.facts().length);
            assert_eq!(crc32fast::hash(&content), queue_file.facts().checksum);
        }
        Err(_) => {
            let length = queue_file.facts().length;
            assert!((content.len() as u64) < length || length == 0);
        }
    }
}

/// A notification about whoever failed is well formed, whatever stands in the journal and in the content.
fn tell(message: &Message) {
    let texts = Texts::new(Default::default()).expect("the built-in texts are right");
    let hostname = "mail.example".parse().expect("a domain");
    let to = "joe@mail.example".parse().expect("an address");
    let reports: Vec<Report<'_>> = (0..u32::try_from(message.len().min(50)).unwrap_or(0))
        .filter_map(|number| match message.recipient(number)? {
            (
                recipient,
                State::Failed(status) | State::Pending(Some(status)) | State::Succeeded(_, status),
            ) => Some(Report {
                address: &recipient.address,
                original: recipient.original.as_ref(),
                named: recipient.dsn.original.as_ref(),
                action: Action::Failed,
                status,
            }),
            _ => None,
        })
        .collect();
    let (text, _) = bounce::compose(&Notification {
        kind: Kind::Bounce,
        texts: &texts,
        hostname: &hostname,
        to: &to,
        id: message.id,
        original_id: message.id,
        envelope_id: message.dsn.envelope_id.as_ref(),
        arrived: message.arrived,
        now: Timestamp(0),
        retry_until: Timestamp(0),
        reports: &reports,
        original: b"Subject: x\r\n\r\n",
        whole: false,
        utf8: message.body == Body::Utf8,
    });
    let text = String::from_utf8(text).expect("nothing in it is anything else");
    assert!(text.ends_with("\r\n"));
    for line in text.split("\r\n") {
        assert!(line.len() <= 998);
        printable(line);
    }
    let fields = text.split("\r\n").filter(|line| line.starts_with("Final-Recipient: ")).count();
    assert_eq!(fields, reports.len(), "nothing that a server said is a field of its own");
}

fn printable(line: &str) {
    assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
}
