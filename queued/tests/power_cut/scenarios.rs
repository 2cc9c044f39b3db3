//! What happens before the power goes: each scenario covers one kind of step in a message's life.

use crate::promise::Said;
use crate::recorder::Recorder;
use crate::recovery::Keeper;
use crate::states::Op;
use common::time::Timestamp;
use spool::control::Verb;
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::layout::Queue;
use spool::storage::Storage;
use spool::writer::{IN_MEMORY, Spooler};
use std::path::Path;
use std::sync::{Arc, Barrier};

pub struct Scenario {
    pub name: &'static str,
    pub run: fn(&Path, &Arc<Recorder>),
    /// Is recovery from it cut short in turn? (For those where recovery has something to do that the others have not.)
    pub cut_twice: bool,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "one message accepted", run: one, cut_twice: true },
    Scenario { name: "three accepted at once", run: group, cut_twice: false },
    Scenario { name: "a large message accepted", run: large, cut_twice: false },
    Scenario { name: "delivered at once", run: delivered, cut_twice: false },
    Scenario {
        name: "partly delivered, partly bounced, deferred, then delivered",
        run: mixed,
        cut_twice: true,
    },
    Scenario { name: "outcomes written as they come", run: as_they_come, cut_twice: false },
    Scenario { name: "deferred twice", run: deferred, cut_twice: false },
    Scenario { name: "expanded by an alias", run: expanded, cut_twice: true },
    Scenario { name: "submitted by a program", run: submitted, cut_twice: true },
    Scenario { name: "held and released", run: held, cut_twice: false },
    Scenario { name: "deleted", run: deleted, cut_twice: false },
];

/// The body of the message with this tag: a large one has its size in the tag.
pub fn content(tag: &str) -> String {
    let lines = if tag.starts_with("large") { 3 * IN_MEMORY / 64 } else { 2 };
    let line = format!("{:-<62}\r\n", format!("a line of {tag} "));
    format!("Subject: {tag}\r\n\r\n{}", line.repeat(lines))
}

fn commit(
    folder: &Path,
    recorder: &Arc<Recorder>,
    queue: Queue,
    tag: &str,
    to: &[&str],
    really: &[&str],
) -> QueueId {
    let storage = recorder.clone() as Arc<dyn Storage>;
    let spooler = Spooler::open_on(storage, &folder.join("spool").join(queue.name()), 0o600).unwrap();
    commit_with(&spooler, recorder, tag, to, really)
}

fn commit_with(
    spooler: &Spooler,
    recorder: &Arc<Recorder>,
    tag: &str,
    to: &[&str],
    really: &[&str],
) -> QueueId {
    let mut writer = spooler.begin(Timestamp::now()).unwrap();
    let recipients = to.iter().map(|to| Recipient::new(to.parse().unwrap())).collect();
    let origin =
        Origin::Smtp { client: "unknown[192.0.2.1]".into(), helo: "x".into(), protocol: "SMTP".into() };
    let sender = "sender@here.example".parse().unwrap();
    writer
        .set_envelope(&Envelope {
            sender,
            arrived: Timestamp::now(),
            origin,
            body: Body::SevenBit,
            recipients,
            dsn: Default::default(),
        })
        .unwrap();
    for chunk in content(tag).as_bytes().chunks(IN_MEMORY / 2) {
        writer.write(chunk).unwrap();
    }
    let id = writer.commit().unwrap();
    let recipients = really.iter().map(|r| (*r).to_owned()).collect();
    recorder.note(Op::Said(Said::Acknowledged { tag: tag.into(), recipients }));
    id
}

fn accept(folder: &Path, recorder: &Arc<Recorder>, tag: &str, to: &[&str]) -> QueueId {
    commit(folder, recorder, Queue::Incoming, tag, to, to)
}

fn one(folder: &Path, recorder: &Arc<Recorder>) {
    accept(folder, recorder, "one", &["alice@here.example"]);
}

fn group(folder: &Path, recorder: &Arc<Recorder>) {
    let storage = recorder.clone() as Arc<dyn Storage>;
    let spooler = Spooler::open_on(storage, &folder.join("spool/incoming"), 0o600).unwrap();
    let together = Barrier::new(3);
    std::thread::scope(|scope| {
        for tag in ["first", "second", "third"] {
            let (spooler, together) = (&spooler, &together);
            scope.spawn(move || {
                together.wait();
                commit_with(spooler, recorder, tag, &["alice@here.example"], &["alice@here.example"]);
            });
        }
    });
}

fn large(folder: &Path, recorder: &Arc<Recorder>) {
    accept(folder, recorder, "large", &["alice@here.example"]);
}

fn delivered(folder: &Path, recorder: &Arc<Recorder>) {
    accept(folder, recorder, "plain", &["alice@here.example", "bob@far.example"]);
    Keeper::open(folder, Some(recorder)).run_empty().unwrap();
}

const MIXED: [&str; 4] = ["alice@here.example", "later@far.example", "bad@far.example", "later2@far.example"];

fn mixed(folder: &Path, recorder: &Arc<Recorder>) {
    accept(folder, recorder, "mixed", &MIXED);
    let mut keeper = Keeper::open(folder, Some(recorder));
    keeper.first_attempt = true;
    keeper.turn().unwrap();
    keeper.first_attempt = false;
    keeper.run_empty().unwrap();
}

fn as_they_come(folder: &Path, recorder: &Arc<Recorder>) {
    accept(folder, recorder, "many", &MIXED);
    let mut keeper = Keeper::open(folder, Some(recorder));
    keeper.as_they_come = true;
    keeper.run_empty().unwrap();
}

fn deferred(folder: &Path, recorder: &Arc<Recorder>) {
    accept(folder, recorder, "patient", &["later@far.example"]);
    let mut keeper = Keeper::open(folder, Some(recorder));
    keeper.first_attempt = true;
    keeper.turn().unwrap();
    keeper.turn().unwrap();
    keeper.first_attempt = false;
    keeper.run_empty().unwrap();
}

fn expanded(folder: &Path, recorder: &Arc<Recorder>) {
    let to = ["alice@here.example", "bob@far.example"];
    commit(folder, recorder, Queue::Incoming, "team", &["team@here.example"], &to);
    Keeper::open(folder, Some(recorder)).run_empty().unwrap();
}

fn submitted(folder: &Path, recorder: &Arc<Recorder>) {
    let to = ["bob@far.example", "bad@far.example"];
    commit(folder, recorder, Queue::Maildrop, "program", &to, &to);
    Keeper::open(folder, Some(recorder)).run_empty().unwrap();
}

fn held(folder: &Path, recorder: &Arc<Recorder>) {
    let id = accept(folder, recorder, "held", &["later@far.example"]);
    let mut keeper = Keeper::open(folder, Some(recorder));
    keeper.first_attempt = true;
    keeper.turn().unwrap();
    // From the moment on that it is asked for, it may be so.
    recorder.note(Op::Said(Said::Held { tag: "held".into() }));
    keeper.change(id, Verb::Hold);
    keeper.change(id, Verb::Release);
    recorder.note(Op::Said(Said::Released { tag: "held".into() }));
    keeper.first_attempt = false;
    keeper.run_empty().unwrap();
}

fn deleted(folder: &Path, recorder: &Arc<Recorder>) {
    let id = accept(folder, recorder, "deleted", &["alice@here.example"]);
    recorder.note(Op::Said(Said::Deleted { tag: "deleted".into() }));
    Keeper::open(folder, Some(recorder)).change(id, Verb::Delete);
}
