//! What happens before the power goes: each scenario covers one kind of step in a message's life.

use crate::promise::Said;
use crate::recorder::Recorder;
use crate::recovery::{BOOT, GEOMETRY, Keeper};
use crate::states::Op;
use common::time::Timestamp;
use spool::commit_log::{Commit, Committer, Geometry};
use spool::control::Verb;
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::layout::{Queue, Spool};
use spool::storage::Storage;
use spool::writer::{IN_MEMORY, MessageWriter, Spooler};
use std::io;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};

pub struct Scenario {
    pub name: &'static str,
    pub run: fn(&Path, &Arc<Recorder>),
    /// Is recovery from it cut short in turn? (For those where recovery has something to do that the others have not.)
    pub cut_twice: Twice,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Twice {
    No,
    Yes,
    /// It takes minutes: with `IRONPOST_POWER_CUT=all` only, as `make soak` sets it.
    Soak,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "one message accepted", run: one, cut_twice: Twice::Yes },
    Scenario { name: "three accepted at once", run: group, cut_twice: Twice::No },
    Scenario { name: "a large message accepted", run: large, cut_twice: Twice::No },
    Scenario { name: "delivered at once", run: delivered, cut_twice: Twice::No },
    Scenario {
        name: "partly delivered, partly bounced, deferred, then delivered",
        run: mixed,
        cut_twice: Twice::Yes,
    },
    Scenario { name: "outcomes written as they come", run: as_they_come, cut_twice: Twice::No },
    Scenario { name: "deferred twice", run: deferred, cut_twice: Twice::No },
    Scenario { name: "expanded by an alias", run: expanded, cut_twice: Twice::Yes },
    Scenario { name: "submitted by a program", run: submitted, cut_twice: Twice::Yes },
    Scenario { name: "held and released", run: held, cut_twice: Twice::No },
    Scenario { name: "deleted", run: deleted, cut_twice: Twice::No },
    Scenario { name: "the commit log made ready", run: made_ready, cut_twice: Twice::No },
    Scenario { name: "one message logged", run: logged, cut_twice: Twice::Yes },
    Scenario { name: "three logged, two in a group", run: logged_group, cut_twice: Twice::No },
    Scenario { name: "logged, delivered, noted", run: logged_delivered, cut_twice: Twice::No },
    Scenario { name: "logged, partly delivered, deferred", run: logged_deferred, cut_twice: Twice::No },
    Scenario { name: "logged, held and released", run: logged_held, cut_twice: Twice::No },
    Scenario { name: "a segment given back and used again", run: logged_again, cut_twice: Twice::Soak },
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
    let id = write(spooler, tag, to).commit().unwrap();
    acknowledge(recorder, tag, really);
    id
}

fn acknowledge(recorder: &Recorder, tag: &str, recipients: &[&str]) {
    let recipients = recipients.iter().map(|r| (*r).to_owned()).collect();
    recorder.note(Op::Said(Said::Acknowledged { tag: tag.into(), recipients }));
}

fn write(spooler: &Spooler, tag: &str, to: &[&str]) -> MessageWriter {
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
    writer
}

/// A system with a commit log, as smtpd and queued have it between them.
struct Logged<'a> {
    recorder: &'a Arc<Recorder>,
    spooler: Spooler,
    committer: Committer,
    keeper: Keeper,
}

impl<'a> Logged<'a> {
    fn new(folder: &Path, recorder: &'a Arc<Recorder>) -> Self {
        let system = Self::made_ready(folder, recorder, GEOMETRY);
        recorder.note(Op::Ready);
        system
    }

    fn made_ready(folder: &Path, recorder: &'a Arc<Recorder>, geometry: Geometry) -> Self {
        let keeper = Keeper::with_log(folder, Some(recorder), geometry);
        keeper.tend_log();
        let storage = recorder.clone() as Arc<dyn Storage>;
        let spool = Spool::on(&folder.join("spool"), storage.clone());
        let spooler = Spooler::open_on(storage, &spool.directory(Queue::Incoming), 0o600).unwrap();
        let committer = Committer::start(spool, geometry, BOOT.into()).unwrap();
        Self { recorder, spooler, committer, keeper }
    }

    /// Commits a group at once, and waits for all of it.
    fn accept(&self, messages: &[(&'static str, &'static [&'static str])]) -> Vec<QueueId> {
        let (told, hear) = channel();
        let gate = Arc::new(Barrier::new(2));
        // Holds the thread until all are there, so that they are one group.
        let held = gate.clone();
        let nothing = move || {
            held.wait();
            Err(io::Error::other("only to wait"))
        };
        self.committer.commit(nothing, |_| {});
        for &(tag, to) in messages {
            let (spooler, recorder, told) = (self.spooler.clone(), self.recorder.clone(), told.clone());
            let prepare = move || Ok(Box::new(write(&spooler, tag, to)));
            self.committer.commit(prepare, move |came| {
                let Commit::Done(id) = came else { panic!("{tag} is not logged") };
                acknowledge(&recorder, tag, to);
                told.send(id).unwrap();
            });
        }
        drop(told);
        gate.wait();
        let ids: Vec<_> = hear.into_iter().collect();
        assert_eq!(ids.len(), messages.len());
        ids
    }
}

fn made_ready(folder: &Path, recorder: &Arc<Recorder>) {
    Logged::made_ready(folder, recorder, GEOMETRY).accept(&[("one", &["alice@here.example"])]);
}

fn logged(folder: &Path, recorder: &Arc<Recorder>) {
    Logged::new(folder, recorder).accept(&[("one", &["alice@here.example"])]);
}

fn logged_group(folder: &Path, recorder: &Arc<Recorder>) {
    let system = Logged::new(folder, recorder);
    system.accept(&[("first", &["alice@here.example"])]);
    system.accept(&[("second", &["alice@here.example"]), ("third", &["bob@far.example"])]);
}

fn logged_delivered(folder: &Path, recorder: &Arc<Recorder>) {
    let mut system = Logged::new(folder, recorder);
    system.accept(&[("plain", &["alice@here.example", "bob@far.example"])]);
    system.keeper.run_empty().unwrap();
    system.keeper.tend_log();
}

fn logged_deferred(folder: &Path, recorder: &Arc<Recorder>) {
    let mut system = Logged::new(folder, recorder);
    system.accept(&[("mixed", &["alice@here.example", "later@far.example"])]);
    system.keeper.first_attempt = true;
    system.keeper.turn().unwrap();
    system.keeper.first_attempt = false;
    system.keeper.run_empty().unwrap();
    system.keeper.tend_log();
}

fn logged_held(folder: &Path, recorder: &Arc<Recorder>) {
    let mut system = Logged::new(folder, recorder);
    let ids = system.accept(&[("held", &["alice@here.example"])]);
    recorder.note(Op::Said(Said::Held { tag: "held".into() }));
    system.keeper.change(ids[0], Verb::Hold);
    system.keeper.tend_log();
    system.keeper.change(ids[0], Verb::Release);
    recorder.note(Op::Said(Said::Released { tag: "held".into() }));
    system.keeper.run_empty().unwrap();
}

/// Each of these fills a segment: the second needs another one, the third the first one again.
fn logged_again(folder: &Path, recorder: &Arc<Recorder>) {
    let mut system = Logged::made_ready(folder, recorder, Geometry { size: 600, segments: 2 });
    recorder.note(Op::Ready);
    system.accept(&[("a", &["later@far.example"])]);
    system.keeper.first_attempt = true;
    system.keeper.turn().unwrap();
    system.keeper.first_attempt = false;
    system.accept(&[("b", &["alice@here.example"])]);
    system.keeper.tend_log();
    system.accept(&[("c", &["alice@here.example"])]);
    system.keeper.tend_log();
    system.keeper.run_empty().unwrap();
    system.keeper.tend_log();
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
