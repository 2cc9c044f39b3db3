//! Hearing of messages: what lies in the spool when we start, and what appears while we run.
//!
//! The watch is set up before anything is scanned, so that no name falls between. Whatever is heard twice is ignored by the owner of the queue.
//! Names that are no message's are reported as strays.

use crate::manager::Event;
use crate::scheduler::Source;
use spool::id::QueueId;
use spool::layout::{Queue, Spool};
use spool::scan::{Found, scan};
use spool::watch::{self, Watch};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Messages reported at once.
const BATCH: usize = 1000;
/// A queue that could not be read whole is read again after this time, and after twice as long each time that it fails again, up to the other.
const AGAIN: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// Begins to watch, and scans everything once.
pub fn start(spool: &Spool, events: &Sender<Event>) -> io::Result<()> {
    let (incoming, maildrop) = (spool.directory(Queue::Incoming), spool.directory(Queue::Maildrop));
    let watch = Watch::new(&[&incoming, &maildrop])?;
    let (again, unread) = channel();
    let (watch_spool, watch_events, watch_again) = (spool.clone(), events.clone(), again.clone());
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || follow(&watch, &watch_spool, &watch_events, &watch_again))?;
    let (spool, events) = (spool.clone(), events.clone());
    std::thread::Builder::new().name("scan".into()).spawn(move || {
        // maildrop/ before incoming/: a submission whose copy is there already has to go before the copy is looked at.
        for queue in [Queue::Active, Queue::Maildrop, Queue::Incoming, Queue::Deferred] {
            read(&spool, queue, &events, &again);
        }
        if events.send(Event::Scanned).is_ok() {
            read_again(&spool, &events, (&again, &unread), AGAIN);
        }
    })?;
    Ok(())
}

/// As [`walk`]; a queue that cannot be read whole is to be read again.
fn read(spool: &Spool, queue: Queue, events: &Sender<Event>, again: &Sender<Queue>) -> bool {
    match walk(spool, queue, events) {
        Walked::Whole => true,
        Walked::Failed => again.send(queue).is_ok(),
        Walked::Unheard => false,
    }
}

/// What lies in a folder that cannot be read is mail that nobody knows of: until it can be.
fn read_again(
    spool: &Spool,
    events: &Sender<Event>,
    (again, unread): (&Sender<Queue>, &Receiver<Queue>),
    first: Duration,
) {
    let mut pause = first;
    loop {
        let mut queues: Vec<Queue> = unread.try_iter().collect();
        if queues.is_empty() {
            pause = first;
            match unread.recv() {
                Ok(queue) => queues.push(queue),
                Err(_) => return,
            }
        } else {
            pause = (pause * 2).min(LONGEST);
        }
        std::thread::sleep(pause);
        queues.extend(unread.try_iter());
        queues.sort_unstable();
        queues.dedup();
        for queue in queues {
            if !read(spool, queue, events, again) {
                return;
            }
        }
    }
}

fn follow(watch: &Watch, spool: &Spool, events: &Sender<Event>, again: &Sender<Queue>) {
    loop {
        let heard = match watch.read() {
            Ok(heard) => heard,
            Err(error) => {
                // Not expected at all; scanning now and then keeps mail going.
                common::error!("cannot watch incoming/ and maildrop/: {error}");
                std::thread::sleep(Duration::from_secs(5));
                vec![watch::Event::Overflow]
            }
        };
        let (mut incoming, mut maildrop, mut rescan) = (Vec::new(), Vec::new(), [false; 2]);
        for event in heard {
            match event {
                watch::Event::New { folder: 0, id } => incoming.push((id, Source::Incoming)),
                watch::Event::New { id, .. } => maildrop.push(id),
                watch::Event::Stray { folder } => {
                    if let Some(wanted) = rescan.get_mut(folder) {
                        *wanted = true;
                    }
                }
                watch::Event::Overflow => rescan = [true; 2],
            }
        }
        let mut gone = false;
        if !maildrop.is_empty() {
            gone |= events.send(Event::Submitted(maildrop)).is_err();
        }
        if !incoming.is_empty() {
            gone |= events.send(Event::Arrived(incoming)).is_err();
        }
        for (queue, wanted) in [Queue::Incoming, Queue::Maildrop].into_iter().zip(rescan) {
            if wanted {
                gone |= !read(spool, queue, events, again);
            }
        }
        if gone {
            return;
        }
    }
}

/// How a look through a queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walked {
    Whole,
    /// Not all could be read.
    Failed,
    /// Nobody listens any more.
    Unheard,
}

/// Reports everything in a queue.
fn walk(spool: &Spool, queue: Queue, events: &Sender<Event>) -> Walked {
    let mut batch = Batch::new(queue);
    let mut walked = Walked::Whole;
    for found in scan(spool, queue) {
        let full = match found {
            Ok(Found::Message { id, due, .. }) => batch.add(id, due.map(Source::Deferred)),
            Ok(Found::Stray { path, .. }) => {
                if events.send(Event::Stray(path)).is_err() {
                    return Walked::Unheard;
                }
                continue;
            }
            Err(error) => {
                common::error!("cannot read {}/: {error}; it is read again within the hour", queue.name());
                walked = Walked::Failed;
                continue;
            }
        };
        if full && !batch.send(events) {
            return Walked::Unheard;
        }
    }
    if batch.send(events) { walked } else { Walked::Unheard }
}

struct Batch {
    queue: Queue,
    found: Vec<(QueueId, Option<Source>)>,
}

impl Batch {
    fn new(queue: Queue) -> Self {
        Self { queue, found: Vec::new() }
    }

    fn add(&mut self, id: QueueId, source: Option<Source>) -> bool {
        self.found.push((id, source));
        self.found.len() >= BATCH
    }

    fn send(&mut self, events: &Sender<Event>) -> bool {
        let found = std::mem::take(&mut self.found);
        if found.is_empty() {
            return true;
        }
        let event = if self.queue == Queue::Maildrop {
            Event::Submitted(found.into_iter().map(|(id, _)| id).collect())
        } else {
            let plain = if self.queue == Queue::Active { Source::Active } else { Source::Incoming };
            Event::Arrived(found.into_iter().map(|(id, source)| (id, source.unwrap_or(plain))).collect())
        };
        events.send(event).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::time::Timestamp;
    use std::fs;
    use std::sync::mpsc::channel;

    /// A folder that cannot be read (here it is a file at first) is read again until it can be.
    #[test]
    fn what_could_not_be_read_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path());
        let id = QueueId::new(Timestamp::from_seconds(1_700_000_000), 1);
        fs::write(spool.directory(Queue::Incoming), "").unwrap();
        let (events, receiver) = channel();
        let (again, unread) = channel();
        assert!(read(&spool, Queue::Incoming, &events, &again));
        assert!(receiver.try_recv().is_err());
        fs::remove_file(spool.directory(Queue::Incoming)).unwrap();
        fs::create_dir(spool.directory(Queue::Incoming)).unwrap();
        fs::write(spool.path(Queue::Incoming, id), "").unwrap();
        std::thread::spawn(move || read_again(&spool, &events, (&again, &unread), Duration::ZERO));
        match receiver.recv_timeout(Duration::from_secs(30)).unwrap() {
            Event::Arrived(found) => assert_eq!(found, [(id, Source::Incoming)]),
            other => panic!("{other:?}"),
        }
    }

    /// However long the scan of `deferred/` takes: by then everything else has been reported, and the owner of the queue works on it.
    #[test]
    fn new_mail_is_reported_before_the_scan_of_deferred_begins() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path());
        let id = |n| QueueId::new(Timestamp::from_seconds(1_700_000_000), n);
        for queue in [Queue::Active, Queue::Maildrop, Queue::Incoming] {
            fs::create_dir_all(spool.directory(queue)).unwrap();
        }
        let numbers = 0..2 * BATCH as u64;
        for n in numbers.clone() {
            let path = spool.deferred_path(id(n), Timestamp::from_seconds(1_800_000_000));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(spool.path(Queue::Active, id(10_000)), "").unwrap();
        fs::write(spool.path(Queue::Incoming, id(10_001)), "").unwrap();
        fs::write(spool.path(Queue::Maildrop, id(10_002)), "").unwrap();
        let (events, receiver) = channel();
        start(&spool, &events).unwrap();
        let mut order = Vec::new();
        let mut deferred = 0;
        loop {
            match receiver.recv_timeout(Duration::from_secs(30)).unwrap() {
                Event::Arrived(found) => {
                    let late = found.iter().filter(|(_, s)| matches!(s, Source::Deferred(_))).count();
                    deferred += late;
                    assert!(found.len() <= BATCH && (late == 0 || late == found.len()));
                    order.push(if late > 0 { "deferred" } else { "new" });
                }
                Event::Submitted(_) => order.push("submitted"),
                Event::Scanned => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(order[..3], ["new", "submitted", "new"]);
        assert_eq!((order[3], deferred), ("deferred", 2 * BATCH));
    }
}
