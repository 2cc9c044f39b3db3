//! Local submissions: files that anyone on this machine may have made, copied into messages of our own.
//!
//! A submission is hostile until it is copied: it may be a link, a FIFO, a file that changes while it is read, or no queue file at all. It is opened
//! without following links or waiting, read once through its checksum, and never renamed into the queue. Who submitted it is what the kernel says about the file's owner
//! (or the client's credentials), whatever the file claims.
//!
//! The copy keeps the ID of the file in `maildrop/`. After a crash between the copy's commit and the removal of the original the two are recognised
//! as one; the copy is not looked at before the original is gone.

use super::submission::{LineEnds, MAX_HEADER, top};
use super::{Disk, NotTaken, Picked, corrupt};
use common::time::Timestamp;
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::layout::{Queue, parse_deferred_name};
use spool::queue_file::{QueueFile, QueueFileError};
use spool::writer::MessageWriter;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const CHUNK: usize = 64 * 1024;

/// Why a submission is not taken.
#[derive(Debug)]
enum Refusal {
    /// The submission is at fault.
    Bad(String),
    /// The machine is; it may be taken later.
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<QueueFileError> for Refusal {
    fn from(error: QueueFileError) -> Self {
        match error {
            QueueFileError::Io(error) => Self::Io(error),
            other => Self::Bad(format!("not a queue file: {other}")),
        }
    }
}

/// Takes `maildrop/ID` in.
pub(super) fn pick_up(disk: &Disk, id: QueueId, now: Timestamp) -> Picked {
    let path = disk.spool.path(Queue::Maildrop, id);
    match try_pick_up(disk, &path, id, now) {
        Ok(taken) => Picked::Taken(taken),
        Err(Refusal::Io(error)) if error.kind() == io::ErrorKind::NotFound => Picked::Gone,
        Err(Refusal::Io(error)) => {
            common::error!("{id}: cannot be picked up: {error}; tried again later");
            Picked::Later
        }
        Err(Refusal::Bad(why)) => {
            corrupt::set_aside(disk, &path, &why);
            Picked::Gone
        }
    }
}

fn try_pick_up(disk: &Disk, path: &Path, id: QueueId, now: Timestamp) -> Result<QueueId, Refusal> {
    let file = open(path)?;
    let owner = file.metadata()?.uid();
    let copied = if already_copied(disk, id) {
        id
    } else {
        // The name is the submitter's choice. With the file's own inode in it nobody else can have it; with any other it gets a name of ours.
        let own_name = QueueId::new(id.time(), file.metadata()?.ino()) == id;
        copy(disk, file, owner, now, own_name.then_some(id))?
    };
    disk.spool.storage().remove(path)?;
    Ok(copied)
}

/// Is there a message of ours under this ID?
fn already_copied(disk: &Disk, id: QueueId) -> bool {
    let by_name = |queue| fs::symlink_metadata(disk.spool.path(queue, id)).is_ok();
    let waits = || {
        let folder = disk.spool.directory(Queue::Deferred).join(id.folder());
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        names
            .filter_map(|entry| parse_deferred_name(entry.file_name().to_str()?))
            .any(|(other, _)| other == id)
    };
    [Queue::Incoming, Queue::Active, Queue::Hold].into_iter().any(by_name) || waits()
}

fn open(path: &Path) -> Result<File, Refusal> {
    use nix::fcntl::OFlag;
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err(Refusal::Bad("a symbolic link".into()));
        }
        // A socket, or a device without driver.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => {
            return Err(Refusal::Bad("not a regular file".into()));
        }
        other => other?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Refusal::Bad("not a regular file".into()));
    }
    if meta.nlink() != 1 {
        return Err(Refusal::Bad("has several names".into()));
    }
    Ok(file)
}

/// Takes an open file that `uid` handed over.
pub(super) fn submit(disk: &Disk, file: File, uid: u32, now: Timestamp) -> Result<QueueId, NotTaken> {
    copy(disk, file, uid, now, None).map_err(|refusal| match refusal {
        Refusal::Bad(text) => NotTaken { temporary: false, text },
        Refusal::Io(error) => {
            common::error!("submission by uid {uid}: {error}");
            NotTaken { temporary: true, text: format!("cannot be stored now: {error}") }
        }
    })
}

/// Writes a message of our own with the submission's sender, recipients and content, and commits it to `incoming/`.
fn copy(disk: &Disk, file: File, uid: u32, now: Timestamp, id: Option<QueueId>) -> Result<QueueId, Refusal> {
    let settings = disk.settings();
    let modified = Timestamp::from(file.metadata()?.modified()?);
    let source = QueueFile::from_file(file)?;
    let limit = settings.message_size_limit;
    if limit > 0 && source.facts().length > limit {
        return Err(Refusal::Bad(format!("larger than {limit} octets")));
    }
    let mut writer = match id {
        Some(id) => disk.incoming.begin_with_id(id)?,
        None => disk.incoming.begin(now)?,
    };
    let id = writer.id();
    let envelope = source.envelope();
    let utf8 = !envelope.sender.is_ascii() || envelope.recipients.iter().any(|r| !r.address.is_ascii());
    let eight_bit = source.facts().eight_bit || envelope.body == Body::EightBitMime;
    let recipient = |r: &Recipient| Recipient { dsn: r.dsn.clone(), ..Recipient::new(r.address.clone()) };
    let recipients = envelope.recipients.iter().map(recipient).collect();
    let ours = Envelope {
        sender: envelope.sender.clone(),
        // When it was written, so that the time it waited while we were down counts.
        arrived: modified.min(now),
        origin: Origin::Local { uid },
        body: match (utf8 || envelope.body == Body::Utf8, eight_bit) {
            (true, _) => Body::Utf8,
            (false, true) => Body::EightBitMime,
            (false, false) => Body::SevenBit,
        },
        recipients,
        dsn: envelope.dsn.clone(),
    };
    writer.set_envelope(&ours)?;
    common::info_as!("pickup", "{id}: uid={uid} from=<{}>", ours.sender);
    let message_id = copy_content(&source, &mut writer, |start| {
        top(start, &ours.sender, &settings.hostname, uid, id, now)
    })?;
    common::info_as!("cleanup", "{id}: message-id={message_id}");
    Ok(writer.commit()?)
}

fn copy_content(
    source: &QueueFile,
    writer: &mut MessageWriter,
    top: impl FnOnce(&[u8]) -> super::submission::Top,
) -> Result<String, Refusal> {
    let mut content = source.content()?;
    let (mut line_ends, mut buffer) = (LineEnds::default(), vec![0; CHUNK]);
    let mut top = Some(top);
    let mut message_id = String::new();
    let mut pending = Vec::new();
    loop {
        let got = match content.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Refusal::Bad(error.to_string()));
            }
            other => other?,
        };
        line_ends.feed(buffer.get(..got).unwrap_or_default(), &mut pending);
        if got > 0 && top.is_some() && pending.len() < MAX_HEADER {
            continue;
        }
        if let Some(top) = top.take() {
            let top = top(&pending);
            writer.write(&top.bytes)?;
            message_id = top.message_id;
        }
        writer.write(&pending)?;
        pending.clear();
        if got == 0 {
            return Ok(message_id);
        }
    }
}
