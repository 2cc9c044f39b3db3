//! Committing a notification: to the sender, or to the postmaster, or to nobody.

use super::{Disk, Settings};
use crate::bounce::{Action, Kind, MAX_HEADER, Notification, Report, compose};
use crate::message::{Message, State, Success};
use common::address::{Address, LocalPart, ReversePath};
use common::dsn::Return;
use common::time::Timestamp;
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::journal::{self, Entry};
use spool::layout::Queue;
use spool::queue_file::QueueFile;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Given up.
    Failed,
    /// Late.
    Delayed,
    /// Delivered, relayed or expanded.
    Succeeded,
}

impl News {
    /// The fact for the journal that it was told.
    pub(super) fn entry(self, at: Timestamp, recipients: Vec<u32>, notification: Option<QueueId>) -> Entry {
        let news = match self {
            Self::Failed => return Entry::Notified { at, recipients, notification },
            Self::Delayed => journal::News::Delayed,
            Self::Succeeded => journal::News::Succeeded,
        };
        Entry::Told { at, news, recipients, notification }
    }
}

/// Tells whoever has to be told about these recipients. On return the notification is on stable storage in `incoming/`; `None` when
/// there is nobody to tell. Mail that was itself about a failed notification is dropped, so that no loop can come about (RFC 5321 6.1).
pub(super) fn commit(
    disk: &Disk,
    settings: &Settings,
    message: &Message,
    news: News,
    recipients: &[u32],
    now: Timestamp,
) -> io::Result<Option<QueueId>> {
    let Some((kind, to)) = addressee(settings, message, news)? else {
        common::log::submit(
            Some("bounce"),
            common::log::Severity::Warning,
            format!("{}: undeliverable notification to the postmaster dropped", message.id),
        );
        return Ok(None);
    };
    let (original, whole) = original(disk, settings, message, news);
    let reports: Vec<Report<'_>> =
        recipients.iter().filter_map(|number| report(message.recipient(*number)?)).collect();
    let mut writer = disk.incoming.begin(now)?;
    let id = writer.id();
    let (content, body) = compose(&Notification {
        kind,
        texts: &settings.texts,
        hostname: &settings.hostname,
        to: &to,
        id,
        original_id: message.id,
        envelope_id: message.dsn.envelope_id.as_ref(),
        arrived: message.arrived,
        now,
        retry_until: message.arrived.after(settings.lifetimes.lifetime),
        reports: &reports,
        original: &original,
        whole,
        utf8: message.body == Body::Utf8,
    });
    writer.set_envelope(&Envelope {
        sender: ReversePath::Null,
        arrived: now,
        origin: if kind == Kind::DoubleBounce { Origin::DoubleBounce } else { Origin::Bounce },
        body,
        recipients: vec![Recipient::new(to)],
        dsn: Default::default(),
    })?;
    writer.write(&content)?;
    common::info_as!("cleanup", "{id}: message-id=<{id}@{}>", settings.hostname);
    let what = match kind {
        Kind::Bounce => "sender non-delivery notification",
        Kind::DoubleBounce => "postmaster non-delivery notification",
        Kind::Delay => "sender delay notification",
        Kind::Success => "sender delivery status notification",
    };
    let id = writer.commit()?;
    common::info_as!("bounce", "{}: {what}: {id}", message.id);
    Ok(Some(id))
}

fn addressee(settings: &Settings, message: &Message, news: News) -> io::Result<Option<(Kind, Address)>> {
    let kind = match news {
        News::Failed => Kind::Bounce,
        News::Delayed => Kind::Delay,
        News::Succeeded => Kind::Success,
    };
    match (&message.sender, &message.origin) {
        (ReversePath::Address(sender), _) => Ok(Some((kind, sender.clone()))),
        (ReversePath::Null, Origin::DoubleBounce) => Ok(None),
        (ReversePath::Null, _) => {
            let postmaster: LocalPart = "postmaster".parse().map_err(io::Error::other)?;
            let address = Address::new(postmaster, settings.mail_name.clone()).map_err(io::Error::other)?;
            Ok(Some((Kind::DoubleBounce, address)))
        }
    }
}

fn report<'a>((recipient, state): (&'a Recipient, &'a State)) -> Option<Report<'a>> {
    let (action, status) = match state {
        State::Failed(status) => (Action::Failed, status),
        State::Pending(Some(status)) => (Action::Delayed, status),
        State::Succeeded(Success::Delivered, status) => (Action::Delivered, status),
        State::Succeeded(Success::Relayed, status) => (Action::Relayed, status),
        State::Succeeded(Success::Expanded, status) => (Action::Expanded, status),
        State::Pending(None) | State::Expanded | State::Delivered | State::Notified => return None,
    };
    Some(Report {
        address: &recipient.address,
        original: recipient.original.as_ref(),
        named: recipient.dsn.original.as_ref(),
        action,
        status,
    })
}

/// The whole content and `true`, or its beginning. RFC 3461 4.3: RET is about failures, anything else returns the header only. Without
/// either the notification still says what happened: better than none.
fn original(disk: &Disk, settings: &Settings, message: &Message, news: News) -> (Vec<u8>, bool) {
    let wanted = news == News::Failed && message.dsn.ret != Some(Return::Headers);
    if wanted && message.facts.length <= settings.bounce_size_limit {
        let mut bytes = Vec::new();
        // Checked while it is read: nothing damaged is sent out.
        let read = QueueFile::open(&disk.spool.path(Queue::Active, message.id))
            .map_err(io::Error::other)
            .and_then(|file| file.content()?.read_to_end(&mut bytes));
        match read {
            Ok(_) => return (bytes, true),
            Err(error) => common::warn!("{}: not returned whole: {error}", message.id),
        }
    }
    (header(disk, message), false)
}

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
