//! Bringing a message into memory: read, expand, route.
//!
//! A new message stays in `incoming/` meanwhile: most are delivered and gone in a moment, and need no other name for it. What stays, or gets a journal, goes to
//! `active/` ([`Disk::settle_in`]). Nothing is synced here: under which name a file is found after a power cut makes no difference. Expansion is written down before anything is
//! delivered, so that it happens once; routes are computed anew at each attempt and written nowhere.

use super::{Disk, Place, corrupt, deliver_here};
use crate::dispatch::OpenFile;
use crate::message::Message;
use crate::scheduler::destinations::Lane;
use crate::scheduler::{Share, Source};
use common::address::Address;
use common::destination::Transport;
use common::routing::{Expansion, Router};
use common::status::Status;
use common::time::Timestamp;
use common::users::Lookup;
use spool::envelope::Recipient;
use spool::id::QueueId;
use spool::journal::Entry;
use spool::layout::Queue;
use spool::queue_file::{QueueFile, QueueFileError};
use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Instant;

/// What came of loading.
#[derive(Debug)]
pub enum Loaded {
    /// In memory.
    Ready(Box<Ready>),
    /// The file is not there any more, or not a message.
    Gone,
    /// Something was in the way that may pass; the file lies there.
    Later(Source),
}

/// A message ready for an attempt.
#[derive(Debug)]
pub struct Ready {
    /// With all that the journal says.
    pub message: Message,
    /// Where its file lies, and which it is.
    pub place: Place,
    /// What workers have to do.
    pub shares: Vec<Share>,
    /// What is decided without them.
    pub decided: Vec<(u32, Status)>,
    /// Facts that could not be written to the journal.
    pub unsaved: Vec<Entry>,
    /// When this attempt began.
    pub activated: Timestamp,
    /// For the first job.
    pub file: Option<OpenFile>,
}

pub(super) fn load(disk: &Disk, id: QueueId, source: Source, now: Timestamp) -> Loaded {
    let (result, lies_in) = match source {
        Source::Incoming => (read(disk, id, Queue::Incoming, now), source),
        Source::Active => match read(disk, id, Queue::Active, now) {
            // It has been in memory before and was let go: perhaps before it was worth a name there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (read(disk, id, Queue::Incoming, now), Source::Incoming)
            }
            result => (result, source),
        },
        Source::Deferred(due) => {
            let active = disk.spool.path(Queue::Active, id);
            match disk.spool.storage().rename(&disk.spool.deferred_path(id, due), &active) {
                Ok(()) => (read(disk, id, Queue::Active, now), Source::Active),
                Err(error) => (Err(error), source),
            }
        }
    };
    match result {
        Ok(loaded) => loaded,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Loaded::Gone,
        Err(error) => {
            common::error!("{id}: cannot be loaded: {error}; tried again later");
            Loaded::Later(lies_in)
        }
    }
}

fn read(disk: &Disk, id: QueueId, queue: Queue, now: Timestamp) -> io::Result<Loaded> {
    let path = disk.spool.path(queue, id);
    if queue == Queue::Incoming {
        disk.writable.check(&disk.spool.directory(queue), Instant::now())?;
    }
    let opened = QueueFile::open(&path).and_then(|file| Ok((file.entries()?, file)));
    let (entries, file) = match opened {
        Ok(parts) => parts,
        Err(error) if error.is_corrupt() => {
            corrupt::set_aside(disk, &path, &format!("queue file damaged: {error}"));
            return Ok(Loaded::Gone);
        }
        Err(QueueFileError::Io(error)) => return Err(error),
        Err(error) => return Err(io::Error::other(error)),
    };
    let mut place = Place { queue, inode: file.inode() };
    let (facts, content_offset) = (file.facts(), file.content_offset());
    let (envelope, file) = file.into_parts();
    let mut message = Message::new(id, envelope, facts, content_offset, entries);
    common::info!(
        "{id}: from=<{}>, size={}, nrcpt={} (queue active)",
        message.sender,
        message.facts.length,
        message.pending().count()
    );
    let router = disk.settings().tables.router();
    let (expanded, broken) = expand(&message, &router);
    expanded.iter().cloned().for_each(|entry| message.apply(entry));
    let mut unsaved = Vec::new();
    if !expanded.is_empty()
        && let Err(error) = disk.append(id, &mut place, &expanded, false)
    {
        // On a full disk, delivering is what makes room.
        common::error!("{id}: journal not written: {error}; delivered all the same");
        unsaved = expanded;
    }
    let (shares, mut decided) = route(&message, &router, &broken);
    for (number, status) in &broken {
        deliver_here::log("local", &message, *number, status, now);
    }
    decided.extend(broken);
    let file = if shares.is_empty() { None } else { OpenFile::keep(file) };
    Ok(Loaded::Ready(Box::new(Ready { message, place, shares, decided, unsaved, activated: now, file })))
}

/// Expands the recipients that no expansion has touched yet. Gives the facts for the journal, and the recipients that cannot be expanded.
/// A recipient that is there already does not come in a second time.
fn expand(message: &Message, router: &Router) -> (Vec<Entry>, Vec<(u32, Status)>) {
    let mut seen: HashSet<Address> = HashSet::new();
    let mut candidates = Vec::new();
    for (number, (recipient, pending)) in (0..).zip(message.members()) {
        // What expansion made is final; so are those who have come to their end. (smtpd, too, may have given a recipient of the envelope
        // another address than the client named: that is no expansion.)
        if pending && number < message.in_envelope() {
            candidates.push((number, recipient));
        } else {
            seen.insert(recipient.address.clone());
        }
    }
    let (mut replacements, mut broken) = (Vec::new(), Vec::new());
    for (number, recipient) in candidates {
        let targets = match router.expand(&recipient.address) {
            Expansion::Same if seen.insert(recipient.address.clone()) => continue,
            Expansion::Same => Vec::new(),
            Expansion::Into(addresses) => addresses,
            Expansion::Broken(status) => {
                broken.push((number, status));
                continue;
            }
        };
        let fresh: Vec<Address> =
            targets.into_iter().filter(|address| seen.insert(address.clone())).collect();
        let original = Some(recipient.original().clone());
        let mut dsn = recipient.dsn.clone();
        if fresh.len() > 1 {
            // The sender is told of the expansion; see `Member::expanded`.
            dsn.notify = dsn.notify.without_success();
        }
        let by = fresh
            .into_iter()
            .map(|address| Recipient { address, original: original.clone(), dsn: dsn.clone() })
            .collect();
        replacements.push((number, by));
    }
    (as_entries(replacements), broken)
}

/// Recipients of an entry of expansions at most, far below what an entry may have.
const TOGETHER: usize = 10_000;

/// In as few entries as possible: an entry is in the journal as a whole or not at all, and the numbers of recipients go by it.
fn as_entries(replacements: Vec<(u32, Vec<Recipient>)>) -> Vec<Entry> {
    let mut entries: Vec<Vec<(u32, Vec<Recipient>)>> = Vec::new();
    let mut count = 0;
    for (number, by) in replacements {
        count += by.len() + 1;
        match entries.last_mut().filter(|_| count <= TOGETHER) {
            Some(last) => last.push((number, by)),
            None => {
                count = by.len() + 1;
                entries.push(vec![(number, by)]);
            }
        }
    }
    entries.into_iter().map(Entry::Expanded).collect()
}

/// Where each pending recipient goes: shares for workers, in the order of the recipients, and what is decided without them.
fn route(message: &Message, router: &Router, broken: &[(u32, Status)]) -> (Vec<Share>, Vec<(u32, Status)>) {
    let broken: HashSet<u32> = broken.iter().map(|(number, _)| *number).collect();
    let now = Timestamp::now();
    let mut shares: Vec<Share> = Vec::new();
    let mut by_lane: HashMap<Lane, usize> = HashMap::new();
    let mut decided = Vec::new();
    for (number, recipient) in message.pending().filter(|(number, _)| !broken.contains(number)) {
        let destination = router.route(&recipient.address);
        if let Some(status) = deliver_here::decide(&destination) {
            deliver_here::log(destination.transport.name(), message, number, &status, now);
            decided.push((number, status));
            continue;
        }
        let mailbox =
            (destination.transport == Transport::Local).then(|| mailbox_of(&recipient.address, router));
        let lane = Lane { destination, mailbox };
        let index = *by_lane.entry(lane.clone()).or_insert_with(|| {
            shares.push(Share { lane, recipients: Vec::new() });
            shares.len() - 1
        });
        if let Some(share) = shares.get_mut(index) {
            share.recipients.push(number);
        }
    }
    (shares, decided)
}

/// Whose mailbox it is, as `user@domain` in lower case: the same for every extension. Otherwise one user could fill all places for local mail
/// with mail for joe+1, joe+2, … and keep his mailbox locked.
fn mailbox_of(address: &Address, router: &Router) -> String {
    let local = address.local_part().value();
    let user = match router.users.find(&local, router.delimiter) {
        Lookup::Found { user, .. } => user,
        // Nobody's: decided without waiting.
        Lookup::NotFound | Lookup::Unavailable(_) => {
            let user = router.delimiter.and_then(|delimiter| local.split_once(delimiter));
            user.map_or(&*local, |(user, _)| user).to_lowercase()
        }
    };
    format!("{user}@{}", address.domain().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::tables::Tables;

    #[test]
    fn expansions_share_an_entry_as_far_as_they_fit() {
        let one = Recipient::new("a@b.example".parse().unwrap());
        let into = |count: usize| vec![one.clone(); count];
        for (counts, expected) in [
            (vec![], vec![]),
            (vec![0, 2, 3], vec![3]),
            (vec![TOGETHER - 2, 0, 0], vec![2, 1]),
            (vec![3 * TOGETHER, 1], vec![1, 1]),
        ] {
            let entries = as_entries((0..).zip(counts.iter().map(|count| into(*count))).collect());
            let lengths: Vec<usize> = entries
                .iter()
                .map(|entry| match entry {
                    Entry::Expanded(replacements) => replacements.len(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(lengths, expected, "{counts:?}");
        }
    }

    #[test]
    fn extensions_share_their_users_lane() {
        let folder = tempfile::tempdir().unwrap();
        let text = "hostname = \"mx.example.test\"\nlocal_domains = [\"example.test\"]\n\
                    [local]\nusers = \"users\"\naliases = \"aliases\"\nmailbox = \"mail/{user}\"\n";
        let path = folder.path().join("ironpost.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("users"), "joe\na+b\n").unwrap();
        let router = Tables::load(&common::config::Config::load(&path).unwrap()).unwrap().router();
        for (address, lane) in [
            ("joe@example.test", "joe@example.test"),
            ("joe+1@example.test", "joe@example.test"),
            ("JOE+2+3@Example.TEST", "joe@example.test"),
            ("\"joe+4\"@example.test", "joe@example.test"),
            ("joe+1@other.test", "joe@other.test"),
            ("A+B@example.test", "a+b@example.test"),
            ("a+b+c@example.test", "a@example.test"),
            ("Nobody+x@example.test", "nobody@example.test"),
        ] {
            assert_eq!(mailbox_of(&address.parse().unwrap(), &router), lane, "{address}");
        }
    }
}
