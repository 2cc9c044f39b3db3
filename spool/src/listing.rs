//! What `mailq` shows: one entry a message, made from its queue file and nothing else, so that it can be had while the daemons are down.

use crate::control::Selection;
use crate::envelope::Recipient;
use crate::id::QueueId;
use crate::journal::Entry;
use crate::layout::{Queue, Spool};
use crate::queue_file::{QueueFile, QueueFileError};
use crate::scan::{Found, scan};
use common::address::{Address, ReversePath};
use common::status::Outcome;
use common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

/// Most recipients of one entry; `recipients_total` tells how many there are.
pub const MAX_LISTED: usize = 50;

/// A message in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Where it lies.
    pub queue: Queue,
    /// Its name.
    pub id: QueueId,
    /// When it was accepted.
    pub arrived: Timestamp,
    /// Octets of content.
    pub size: u64,
    /// Its sender.
    pub sender: ReversePath,
    /// The recipients that are still outstanding, at most [`MAX_LISTED`].
    pub recipients: Vec<Outstanding>,
    /// How many are outstanding in all.
    pub recipients_total: u64,
    /// When it is tried next, where that is known.
    pub next_attempt: Option<Timestamp>,
    /// Attempts so far.
    pub attempts: u32,
}

/// A recipient that still waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outstanding {
    /// Who.
    pub address: Address,
    /// Why it still waits, in the words of the last attempt.
    pub reason: Option<String>,
}

/// Names that are looked into at once; with [`MAX_LISTED`] recipients each, some megabytes at the most.
const BATCH: usize = 256;

/// All messages of the selected queues, streaming. Files that vanish meanwhile are passed over; unreadable ones come as errors with
/// their name. Uses all processors: most of the time goes into opening files.
pub fn list(
    spool: &Spool,
    selection: Selection,
    now: Timestamp,
) -> impl Iterator<Item = Line> + Send + use<> {
    let spool = spool.clone();
    let queues = Queue::ALL.into_iter().filter({
        let wanted = selection.queue;
        move |queue| *queue != Queue::Corrupt && wanted.is_none_or(|wanted| wanted == *queue)
    });
    let found = queues.flat_map(move |queue| scan(&spool, queue).map(move |found| (queue, found)));
    Batches { found: Box::new(found), wanted: Wanted { selection, now }, ready: Vec::new().into_iter() }
}

/// A message, or why its file cannot be read.
pub type Line = Result<Listed, (QueueId, QueueFileError)>;
type Name = (Queue, io::Result<Found>);

struct Batches {
    found: Box<dyn Iterator<Item = Name> + Send>,
    wanted: Wanted,
    ready: std::vec::IntoIter<Line>,
}

impl Iterator for Batches {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.ready.next() {
                return Some(line);
            }
            let names: Vec<Name> = self.found.by_ref().take(BATCH).collect();
            if names.is_empty() {
                return None;
            }
            self.ready = self.wanted.look_into(&names).into_iter();
        }
    }
}

/// Which lines are wanted.
struct Wanted {
    selection: Selection,
    now: Timestamp,
}

impl Wanted {
    /// The lines for these names, in their order.
    fn look_into(&self, names: &[Name]) -> Vec<Line> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let part = names.len().div_ceil(threads).max(16);
        let lines = |part: &[Name]| part.iter().filter_map(|name| self.line(name)).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            let mut parts = names.chunks(part);
            let own = parts.next().unwrap_or_default();
            let others: Vec<_> = parts
                .map(|part| (part, std::thread::Builder::new().spawn_scoped(scope, move || lines(part))))
                .collect();
            let mut all = lines(own);
            for (part, thread) in others {
                // Without another thread it takes longer, nothing more.
                let done = thread.ok().and_then(|thread| thread.join().ok());
                all.extend(done.unwrap_or_else(|| lines(part)));
            }
            all
        })
    }

    fn line(&self, (queue, found): &Name) -> Option<Line> {
        let Ok(Found::Message { id, due, path }) = found else { return None };
        if !self.selection.ids.is_empty() && !self.selection.ids.contains(id) {
            return None;
        }
        match entry(*queue, *id, *due, path) {
            Err(QueueFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Err((*id, error))),
            Ok(listed) if self.selection.matches(&listed, self.now) => Some(Ok(bounded(listed))),
            Ok(_) => None,
        }
    }
}

impl Selection {
    /// Do all conditions hold for this message? Its recipients must be all there.
    pub fn matches(&self, listed: &Listed, now: Timestamp) -> bool {
        let any = |test: &dyn Fn(&Outstanding) -> bool| listed.recipients.iter().any(test);
        (self.ids.is_empty() || self.ids.contains(&listed.id))
            && self.sender.as_ref().is_none_or(|sender| *sender == listed.sender)
            && self.recipient.as_ref().is_none_or(|address| any(&|r| r.address == *address))
            && self.domain.as_ref().is_none_or(|domain| any(&|r| r.address.domain() == domain))
            && self.older_than.is_none_or(|seconds| now.since(listed.arrived).as_secs() >= seconds)
            && self.queue.is_none_or(|queue| queue == listed.queue)
            && self
                .reason
                .as_ref()
                .is_none_or(|text| any(&|r| r.reason.as_ref().is_some_and(|reason| reason.contains(text))))
    }
}

/// The entry of one file, with all of its outstanding recipients.
pub fn entry(
    queue: Queue,
    id: QueueId,
    due: Option<Timestamp>,
    path: &Path,
) -> Result<Listed, QueueFileError> {
    of_file(queue, id, due, &QueueFile::open(path)?)
}

/// The same of a file that is open.
pub fn of_file(
    queue: Queue,
    id: QueueId,
    due: Option<Timestamp>,
    file: &QueueFile,
) -> Result<Listed, QueueFileError> {
    let journal = file.entries()?;
    let envelope = file.envelope();
    let mut recipients: Vec<Option<(Recipient, Option<String>)>> =
        envelope.recipients.iter().map(|r| Some((r.clone(), None))).collect();
    let mut attempts = 0;
    for fact in journal {
        match fact {
            Entry::Expanded(replacements) => {
                for (replaced, by) in replacements {
                    // A replacement counts only once; the numbers that it gave out stay given out.
                    let fresh = slot(&mut recipients, replaced).and_then(Option::take).is_some();
                    recipients.extend(by.into_iter().map(|r| fresh.then_some((r, None))));
                }
            }
            Entry::Attempted { results, .. } => {
                for (number, status) in results {
                    let Some(slot) = slot(&mut recipients, number) else { continue };
                    match (status.outcome, slot.as_mut()) {
                        (Outcome::Deferred, Some(waiting)) => waiting.1 = Some(status.text),
                        _ => *slot = None,
                    }
                }
            }
            Entry::Retry { attempts: so_far, .. } => attempts = so_far,
            Entry::Notified { .. }
            | Entry::Held { .. }
            | Entry::Released { .. }
            | Entry::Told { .. }
            | Entry::ExpandedV1(_) => {}
        }
    }
    let recipients: Vec<_> = recipients
        .into_iter()
        .flatten()
        .map(|(r, reason)| Outstanding { address: r.address, reason })
        .collect();
    Ok(Listed {
        queue,
        id,
        arrived: envelope.arrived,
        size: file.facts().length,
        sender: envelope.sender.clone(),
        recipients_total: recipients.len() as u64,
        recipients,
        next_attempt: due,
        attempts,
    })
}

fn slot<T>(slots: &mut [T], number: u32) -> Option<&mut T> {
    usize::try_from(number).ok().and_then(|i| slots.get_mut(i))
}

fn bounded(mut listed: Listed) -> Listed {
    listed.recipients.truncate(MAX_LISTED);
    listed
}
