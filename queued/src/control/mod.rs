//! What users' commands ask: `public/control`.
//!
//! One thread a connection, a bounded number of them, one request each, with time-outs in both directions: a command that stops reading
//! is left alone. Anyone may list and submit, only root and the spool's owner may change; the kernel says who is asking. Lists are made
//! from the files, a message at a time, and take nothing from the thread that owns the queue.

mod clients;

use crate::disk::Disk;
use crate::dispatch::set_timeout;
use crate::manager::{Event, Tally, status};
use clients::Clients;
use common::codec;
use common::packet::{MAX_PACKET, PacketListener, PacketSocket};
use common::text::printable;
use common::time::Timestamp;
use spool::control::{Answer, Counts, MAX_IDS, QueueStatus, Request, Selection, Verb};
use spool::id::QueueId;
use spool::layout::Queue;
use spool::listing::{self, Listed};
use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, sync_channel};
use std::time::Duration;

/// For each packet of a client.
const CLIENT_TIME: Duration = Duration::from_secs(30);
/// For the owner of the queue to answer.
const CHANGE_TIME: Duration = Duration::from_secs(120);
/// For the owner of the queue to say how it is.
const STATUS_TIME: Duration = Duration::from_secs(10);
/// Messages that are changed together.
const BATCH: usize = 500;

const EX_DATAERR: u8 = 65;
const EX_UNAVAILABLE: u8 = 69;
const EX_TEMPFAIL: u8 = 75;
const EX_NOPERM: u8 = 77;

/// Accepts clients until the process ends.
pub fn serve(listener: PacketListener, disk: Arc<Disk>, owner: u32, events: Sender<Event>) -> io::Result<()> {
    let clients = Clients::new(owner);
    let accept = move || {
        loop {
            let accepted = listener.accept().and_then(|socket| Ok((socket.peer()?.uid(), socket)));
            let (uid, socket) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    common::error!("cannot accept commands: {error}");
                    std::thread::sleep(Duration::from_secs(1));
                    continue;
                }
            };
            let Some(place) = clients.enter(uid) else {
                let _ = set_timeout(&socket, Some(Duration::from_secs(1)));
                let _ = answer(&socket, &refused(EX_TEMPFAIL, "too many commands at once: try again"));
                continue;
            };
            let (disk, events) = (disk.clone(), events.clone());
            let started = std::thread::Builder::new().name("command".into()).spawn(move || {
                if let Err(error) = client(&socket, uid, &disk, owner, &events) {
                    common::warn!("command not answered: {error}");
                }
                drop(place);
            });
            if let Err(error) = started {
                common::error!("cannot start a thread for a command: {error}");
            }
        }
    };
    std::thread::Builder::new().name("control".into()).spawn(accept)?;
    Ok(())
}

fn client(
    socket: &PacketSocket,
    uid: u32,
    disk: &Arc<Disk>,
    owner: u32,
    events: &Sender<Event>,
) -> io::Result<()> {
    set_timeout(socket, Some(CLIENT_TIME))?;
    let Some(packet) = socket.receive()? else { return Ok(()) };
    let request = match codec::decode::<Request, MAX_PACKET>(&packet.bytes) {
        Ok(request) => request,
        Err(error) => {
            return answer(socket, &refused(EX_DATAERR, &format!("request not understood: {error}")));
        }
    };
    match request {
        Request::List(selection) if selection.ids.len() <= MAX_IDS => list(socket, disk, selection),
        Request::Change { .. } if uid != 0 && uid != owner => {
            answer(socket, &refused(EX_NOPERM, "only root and the owner of the queue may do this"))
        }
        Request::Change { verb, selection } if selection.ids.len() <= MAX_IDS => {
            change(socket, disk, verb, selection, events)
        }
        Request::List(_) | Request::Change { .. } => {
            answer(socket, &refused(EX_DATAERR, &format!("more than {MAX_IDS} queue IDs at once")))
        }
        Request::Status => status(socket, disk, events),
        Request::Submit => match packet.files.into_iter().next() {
            Some(file) => submit(socket, disk, File::from(file), uid),
            None => answer(socket, &refused(EX_DATAERR, "no file attached")),
        },
    }
}

fn list(socket: &PacketSocket, disk: &Disk, selection: Selection) -> io::Result<()> {
    let mut count = 0;
    let missing = walk(disk, selection, |listed| {
        count += 1;
        answer(socket, &Answer::Listed(Box::new(listed)))
    })?;
    answer(socket, &Answer::Done { count, missing, failed: 0 })
}

fn status(socket: &PacketSocket, disk: &Disk, events: &Sender<Event>) -> io::Result<()> {
    let known = status::ask(events, STATUS_TIME);
    let counts = match Counts::of(disk.spool()) {
        Ok(counts) => counts,
        Err(error) => {
            return answer(socket, &refused(EX_TEMPFAIL, &format!("the queue cannot be read: {error}")));
        }
    };
    let Some(known) = known else {
        return answer(socket, &refused(EX_UNAVAILABLE, "the queue manager is stopping or stuck"));
    };
    let (paused, paused_total) = known.paused;
    let status = QueueStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        since: known.since,
        counts,
        in_hand: known.in_hand,
        agents: known.agents,
        lately: known.lately,
        paused,
        paused_total,
    };
    answer(socket, &Answer::Status(Box::new(status)))
}

fn change(
    socket: &PacketSocket,
    disk: &Disk,
    verb: Verb,
    selection: Selection,
    events: &Sender<Event>,
) -> io::Result<()> {
    let mut ids = Vec::new();
    let missing = walk(disk, selection, |listed| {
        let applies = match verb {
            // A held message stays held; a message that is not held needs no release.
            Verb::Retry => listed.queue != Queue::Hold,
            Verb::Release => listed.queue == Queue::Hold,
            Verb::Hold => !matches!(listed.queue, Queue::Hold | Queue::Maildrop),
            Verb::Delete => true,
        };
        if applies {
            ids.push(listed.id);
        }
        Ok(())
    })?;
    let mut sum = Tally::default();
    for part in ids.chunks(BATCH) {
        let (reply, changed) = sync_channel(1);
        let sent = events.send(Event::Change { verb, ids: part.to_vec(), reply });
        match changed.recv_timeout(CHANGE_TIME) {
            Ok(tally) if sent.is_ok() => sum = sum.plus(tally),
            _ => return answer(socket, &refused(EX_UNAVAILABLE, "the queue manager is stopping or stuck")),
        }
    }
    answer(socket, &Answer::Done { count: sum.done, missing, failed: sum.failed })
}

/// Shows every selected message once, although messages move on while the folders are read, and gives the named IDs that are not there.
fn walk(
    disk: &Disk,
    selection: Selection,
    mut show: impl FnMut(Listed) -> io::Result<()>,
) -> io::Result<Vec<QueueId>> {
    let mut missing: BTreeSet<QueueId> = selection.ids.iter().copied().collect();
    // From the queues that are read first: few, whatever waits in deferred/. Only these can come a second time.
    let mut moving: HashSet<QueueId> = HashSet::new();
    let mut pass = |selection: Selection, missing: &mut BTreeSet<QueueId>| {
        for item in listing::list(disk.spool(), selection, Timestamp::now()) {
            match item {
                Ok(listed) if moving.contains(&listed.id) => {}
                Ok(listed) => {
                    missing.remove(&listed.id);
                    if matches!(listed.queue, Queue::Maildrop | Queue::Incoming | Queue::Active) {
                        moving.insert(listed.id);
                    }
                    show(listed)?;
                }
                Err((id, error)) => common::warn!("{id}: cannot be listed: {error}"),
            }
        }
        Ok::<(), io::Error>(())
    };
    pass(selection.clone(), &mut missing)?;
    if !missing.is_empty() {
        // One that went to active/ behind our back.
        let ids = missing.iter().copied().collect();
        pass(Selection { ids, ..selection }, &mut missing)?;
    }
    Ok(missing.into_iter().collect())
}

fn submit(socket: &PacketSocket, disk: &Disk, file: File, uid: u32) -> io::Result<()> {
    // On this thread: a client that submits waits for its own message only.
    let said = match disk.submit(file, uid) {
        Ok(id) => Answer::Submitted(id),
        Err(why) => refused(if why.temporary { EX_TEMPFAIL } else { EX_DATAERR }, &why.text),
    };
    answer(socket, &said)
}

fn answer(socket: &PacketSocket, answer: &Answer) -> io::Result<()> {
    socket.send(&codec::encode(answer).map_err(io::Error::other)?, &[])
}

fn refused(exit: u8, text: &str) -> Answer {
    Answer::Refused { exit, text: printable(text, 1000) }
}
