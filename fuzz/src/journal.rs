//! Journals: torn, damaged and odd ones. What is read is a prefix of what is there, goes on where it ended, and folds
//! into a message whose remaining steps come to an end.

use common::time::Timestamp;
use queued::message::{Lifetimes, Message, Step};
use spool::envelope::{Body, ContentFacts, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::journal::{Entry, Journal, News, parse};
use spool::storage::Disk;
use std::time::Duration;

/// The first octet's lowest bit: are the frames' checksums made right, so that more than their framing is reached? Its
/// others say where the journal is torn, the second octet which octet is damaged. The rest is the journal.
pub fn run(input: &[u8]) {
    let mut input = crate::input::Input::new(input);
    let (choice, damage) = (input.octet(), input.octet());
    let mut octets = input.rest().to_vec();
    if choice & 1 == 1 {
        mend_frames(&mut octets);
    }
    let limit = crate::memory::DECODING + 64 * octets.len();
    let (entries, used) = crate::memory::bounded(limit, || parse(&octets));
    assert!(used <= octets.len());
    let torn = octets.len() * usize::from(choice >> 1) / 127;
    let (fewer, _) = parse(octets.get(..torn).unwrap_or_default());
    assert_eq!(entries.get(..fewer.len()), Some(fewer.as_slice()), "torn at {torn}");
    goes_on(&octets, &entries);
    ends(entries.clone());
    let at = usize::from(damage) % octets.len().max(1);
    if let Some(octet) = octets.get_mut(at) {
        *octet ^= 0x20;
        let (damaged, _) = parse(&octets);
        // No checksum of 32 bits misses a single octet.
        assert!(at >= used || damaged.len() < entries.len());
        assert_eq!(
            entries.get(..damaged.len()),
            Some(damaged.as_slice()).filter(|_| at < used).or(entries.get(..damaged.len()))
        );
    }
}

/// Gives every frame the checksum of its payload.
pub fn mend_frames(octets: &mut [u8]) {
    let mut rest = octets;
    while let Some((head, tail)) = rest.split_first_chunk_mut::<8>() {
        let [a, b, c, d, ..] = *head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let Some((payload, tail)) = tail.split_at_mut_checked(length) else { return };
        for (to, from) in head.iter_mut().skip(4).zip(crc32fast::hash(payload).to_le_bytes()) {
            *to = from;
        }
        rest = tail;
    }
}

/// What is appended stands behind the last good entry.
fn goes_on(octets: &[u8], entries: &[Entry]) {
    let file = crate::input::file(octets);
    let (mut journal, read) = Journal::read(&file, 0).expect("a file in memory can be read");
    assert_eq!(read, entries);
    let more = [Entry::Retry { attempts: 7, due: Timestamp(8) }, Entry::Held { at: Timestamp(9) }];
    journal.append(&Disk, &file, &more, false).expect("a file in memory can be written");
    let (_, all) = Journal::read(&file, 0).expect("a file in memory can be read");
    assert_eq!(all.split_at_checked(entries.len()), Some((entries, &more[..])));
}

/// Folded into a message of three recipients, whatever the journal says: final states stay, and telling the sender and
/// giving up leads to the end in a few steps.
fn ends(entries: Vec<Entry>) {
    let envelope = Envelope {
        sender: "sender@a.example".parse().expect("an address"),
        arrived: Timestamp(0),
        origin: Origin::Bounce,
        body: Body::SevenBit,
        recipients: ["a@b.example", "c@d.example", "e@f.example"]
            .iter()
            .map(|address| Recipient::new(address.parse().expect("an address")))
            .collect(),
        dsn: Default::default(),
    };
    let id = QueueId::new(Timestamp(0), 1);
    let mut message = Message::new(id, envelope, ContentFacts::default(), 64, entries.clone());
    settle(&mut message);
    let settled = message.clone();
    for entry in entries {
        // Said once more, it makes nobody pending again whom it named already.
        if !matches!(entry, Entry::Expanded(_)) {
            message.apply(entry);
            assert_eq!(message.pending().count(), 0);
        }
    }
    assert_eq!(message.len(), settled.len());
}

/// Until nothing is owed any more.
pub fn settle(message: &mut Message) {
    let lifetimes = Lifetimes { lifetime: Duration::ZERO, bounce_lifetime: Duration::ZERO };
    let at = Timestamp(i64::MAX);
    message.expire(at, &lifetimes);
    assert_eq!(message.pending().count(), 0);
    for _ in 0..3 {
        match message.next_step() {
            Step::Notify(recipients) => {
                message.apply(Entry::Notified { at, recipients, notification: None });
            }
            Step::Confirm(recipients) => {
                message.apply(Entry::Told { at, news: News::Succeeded, recipients, notification: None });
            }
            Step::Defer => panic!("nobody is pending"),
            Step::Remove => return,
        }
    }
    panic!("it does not end: {:?}", message.next_step());
}
