//! Committing a notification about recipients that failed: to the sender, or to the postmaster, or to nobody.

use super::{Disk, Settings};
use crate::bounce::{Failure, Kind, MAX_HEADER, Notification, compose};
use crate::message::{Message, State};
use common::address::{Address, LocalPart, ReversePath};
use common::time::Timestamp;
use spool::envelope::{Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::layout::Queue;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Tells whoever has to be told that these recipients failed. On return the notification is on stable storage in `incoming/`; `None` when
/// there is nobody to tell. Mail that was itself about a failed notification is dropped, so that no loop can come about (RFC 5321 6.1).
pub(super) fn commit(
    disk: &Disk,
    settings: &Settings,
    message: &Message,
    failed: &[u32],
    now: Timestamp,
) -> io::Result<Option<QueueId>> {
    let Some((kind, to)) = addressee(settings, message)? else {
        common::log::submit(
            Some("bounce"),
            common::log::Severity::Warning,
            &format!("{}: undeliverable notification to the postmaster dropped", message.id),
        );
        return Ok(None);
    };
    let original = header(disk, message);
    let failures: Vec<Failure<'_>> = failed
        .iter()
        .filter_map(|number| match message.recipient(*number)? {
            (recipient, State::Failed(status)) => {
                Some(Failure { address: &recipient.address, original: recipient.original.as_ref(), status })
            }
            _ => None,
        })
        .collect();
    let mut writer = disk.incoming.begin(now)?;
    let id = writer.id();
    let (content, body) = compose(&Notification {
        kind,
        hostname: &settings.hostname,
        to: &to,
        id,
        original_id: message.id,
        arrived: message.arrived,
        now,
        failures: &failures,
        original: &original,
        complete: original.len() as u64 == message.facts.length,
    });
    writer.set_envelope(&Envelope {
        sender: ReversePath::Null,
        arrived: now,
        origin: if kind == Kind::Bounce { Origin::Bounce } else { Origin::DoubleBounce },
        body,
        recipients: vec![Recipient::new(to)],
    })?;
    writer.write(&content)?;
    common::info_as!("cleanup", "{id}: message-id=<{id}@{}>", settings.hostname);
    let who = if kind == Kind::Bounce { "sender" } else { "postmaster" };
    let id = writer.commit()?;
    common::info_as!("bounce", "{}: {who} non-delivery notification: {id}", message.id);
    Ok(Some(id))
}

fn addressee(settings: &Settings, message: &Message) -> io::Result<Option<(Kind, Address)>> {
    match (&message.sender, &message.origin) {
        (ReversePath::Address(sender), _) => Ok(Some((Kind::Bounce, sender.clone()))),
        (ReversePath::Null, Origin::DoubleBounce) => Ok(None),
        (ReversePath::Null, _) => {
            let postmaster: LocalPart = "postmaster".parse().map_err(io::Error::other)?;
            let address = Address::new(postmaster, settings.mail_name.clone()).map_err(io::Error::other)?;
            Ok(Some((Kind::DoubleBounce, address)))
        }
    }
}

/// The beginning of the content. Without it the notification still says what happened: better than none.
fn header(disk: &Disk, message: &Message) -> Vec<u8> {
    let most = usize::try_from(message.facts.length).unwrap_or(usize::MAX).min(MAX_HEADER + 2);
    let mut bytes = Vec::new();
    let read = File::open(disk.spool.path(Queue::Active, message.id)).and_then(|file| {
        let from = At { file, at: message.content_offset };
        from.take(most as u64).read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        common::warn!("{}: header not returned: {error}", message.id);
    }
    bytes
}

struct At {
    file: File,
    at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}
