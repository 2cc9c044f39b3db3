//! A queue in a folder, worked by the real file code of queued, with the test in the place of scheduler and next hosts.

use crate::promise::{CameOut, Said};
use crate::recorder::Recorder;
use crate::states::{Op, State};
use common::config::Config;
use common::status::{EnhancedCode, Status};
use common::tables::Tables;
use common::time::Timestamp;
use queued::bounce::Texts;
use queued::disk::{Disk, Done, Loaded, Picked, Ready, Settings, Settle, Settled, Task};
use queued::scheduler::Source;
use spool::commit_log::{self, Geometry};
use spool::control::Verb;
use spool::envelope::Origin;
use spool::id::QueueId;
use spool::journal::Entry;
use spool::layout::{Queue, Spool};
use spool::queue_file::QueueFile;
use spool::scan::{Found, scan};
use spool::storage::Storage;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// More turns than any of these queues takes to run empty.
const TURNS: usize = 20;
/// Deferred mail is due then; recovery does not wait for it.
pub const DUE: Timestamp = Timestamp(1_800_000_000_000_000);

/// Log lines go nowhere: there would be millions.
pub fn quiet() {
    std::mem::forget(common::log::init("power-cut", &config(Path::new("/"))));
    // A panic is for whoever runs the test.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
}

fn config(folder: &Path) -> Config {
    let text = "hostname = \"mail.here.example\"\nmail_name = \"here.example\"\nlocal_domains = [\"here.example\"]\n\
                spool_directory = \"spool\"\n[local]\nusers = \"users\"\naliases = \"aliases\"\n[log]\nto = \"/dev/null\"\n";
    Config::parse(text, Path::new("ironpost.toml"), folder).unwrap()
}

/// An empty folder, in memory where that can be had.
pub fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Makes the folders and tables of an empty system.
pub fn lay_out(folder: &Path) {
    let queues = Queue::ALL.into_iter().map(Queue::name);
    for name in queues.chain(["commit/segments", "commit/claims", "commit/done"]) {
        fs::create_dir_all(folder.join("spool").join(name)).unwrap();
    }
    fs::write(folder.join("users"), "alice\nsender\npostmaster\n").unwrap();
    fs::write(folder.join("aliases"), "team: alice, bob@far.example\n").unwrap();
}

/// Starts on this disk as queued does, delivers everything that can be delivered, and says what came out. An `Err` says what is wrong in itself.
pub fn recover(state: &State, recorder: Option<&Arc<Recorder>>) -> Result<CameOut, String> {
    let folder = found(state, recorder);
    recover_in(folder.path(), recorder, "the next boot")
}

/// The same in a boot of this name.
pub fn recover_in(folder: &Path, recorder: Option<&Arc<Recorder>>, boot: &str) -> Result<CameOut, String> {
    let mut keeper = Keeper::in_boot(folder, recorder, NO_LOG, boot);
    keeper.run_empty()?;
    keeper.tend_log();
    Ok(keeper.came_out)
}

/// Starts, and is killed when the commit log has been seen to.
pub fn begin(folder: &Path, recorder: &Arc<Recorder>, boot: &str) {
    let spool = Spool::on(&folder.join("spool"), recorder.clone() as Arc<dyn Storage>);
    drop(commit_log::Keeper::open(&spool, NO_LOG, boot, false, 0o600));
}

/// A folder with this disk.
pub fn found(state: &State, recorder: Option<&Arc<Recorder>>) -> TempDir {
    let folder = folder();
    lay_out(folder.path());
    let spool = folder.path().join("spool");
    for path in &state.folders {
        fs::create_dir_all(spool.join(path)).unwrap();
    }
    for (path, bytes) in &state.files {
        fs::write(spool.join(path), &**bytes).unwrap();
        if let Some(recorder) = recorder {
            let file = fs::metadata(spool.join(path)).unwrap().ino();
            recorder.note(Op::Found { file, path: path.clone() });
        }
    }
    folder
}

/// The log that scenarios use: as small as can be.
pub const GEOMETRY: Geometry = Geometry { size: 2048, segments: 2 };

const NO_LOG: Geometry = Geometry { segments: 0, ..GEOMETRY };

/// The boot that the power cut ends.
pub const BOOT: &str = "this boot";

/// Works a queue.
pub struct Keeper {
    disk: Disk,
    recorder: Option<Arc<Recorder>>,
    /// Is this the first attempt? Then recipients named `later…` are deferred.
    pub first_attempt: bool,
    /// Write outcomes down one by one, as they come?
    pub as_they_come: bool,
    pub came_out: CameOut,
}

impl Keeper {
    pub fn open(folder: &Path, recorder: Option<&Arc<Recorder>>) -> Self {
        Self::with_log(folder, recorder, NO_LOG)
    }

    /// With a commit log of this size.
    pub fn with_log(folder: &Path, recorder: Option<&Arc<Recorder>>, geometry: Geometry) -> Self {
        Self::in_boot(folder, recorder, geometry, BOOT)
    }

    fn in_boot(folder: &Path, recorder: Option<&Arc<Recorder>>, geometry: Geometry, boot: &str) -> Self {
        let config = config(folder);
        let spool = match recorder {
            Some(recorder) => Spool::on(&config.spool_directory, recorder.clone() as Arc<dyn Storage>),
            None => Spool::new(&config.spool_directory),
        };
        let tables = Tables::load(&config).unwrap();
        let log = commit_log::Keeper::open(&spool, geometry, boot, geometry.segments > 0, 0o600).unwrap();
        let settings = Settings::new(&config, tables, Texts::load(&config).unwrap());
        let disk = Disk::open(spool, log, settings).unwrap();
        let recorder = recorder.cloned();
        Self { disk, recorder, first_attempt: false, as_they_come: false, came_out: CameOut::default() }
    }

    fn say(&self, said: Said) {
        if let Some(recorder) = &self.recorder {
            recorder.note(Op::Said(said));
        }
    }

    /// Until nothing is left but what is held.
    pub fn run_empty(&mut self) -> Result<(), String> {
        for _ in 0..TURNS {
            if self.turn()? == 0 {
                return self.look_at_the_rest();
            }
        }
        Err("the queue does not run empty".into())
    }

    /// Every message that is there now, once. Gives how many there were.
    pub fn turn(&mut self) -> Result<usize, String> {
        let spool = self.disk.spool().clone();
        let queues = [Queue::Maildrop, Queue::Incoming, Queue::Active, Queue::Deferred];
        let found: Vec<_> = queues
            .into_iter()
            .flat_map(|queue| scan(&spool, queue).map(move |found| (queue, found.unwrap())))
            .collect();
        let count = found.len();
        for (queue, found) in found {
            let Found::Message { id, due, .. } = found else {
                return Err(format!("a name that is no message's in {}: {found:?}", queue.name()));
            };
            match (queue, due) {
                (Queue::Maildrop, _) => match self.disk.run(Task::PickUp(id)) {
                    Done::PickUp(_, Picked::Taken(_)) => {}
                    other => return Err(format!("{id} is not picked up: {other:?}")),
                },
                (Queue::Incoming, _) => self.attempt(id, Source::Incoming)?,
                (Queue::Active, _) => self.attempt(id, Source::Active)?,
                (_, Some(due)) => self.attempt(id, Source::Deferred(due))?,
                (_, None) => return Err(format!("{id}: no due time")),
            }
        }
        Ok(count)
    }

    fn attempt(&mut self, id: QueueId, source: Source) -> Result<(), String> {
        match self.disk.run(Task::Load(id, source)) {
            Done::Load(_, _, Loaded::Ready(ready)) => self.deliver(*ready),
            // Under two names, and gone with the first: there is no such state, but corrupt/ will tell.
            Done::Load(_, _, Loaded::Gone) => Ok(()),
            other => Err(format!("{id} is not loaded: {other:?}")),
        }
    }

    fn deliver(&mut self, ready: Ready) -> Result<(), String> {
        let Ready { mut message, mut place, decided, mut unsaved, .. } = ready;
        assert!(decided.is_empty(), "no route of these decides by itself");
        let (tag, about) = self.read(&self.disk.spool().path(place.queue, message.id))?;
        let pending: Vec<(u32, String)> =
            message.pending().map(|(number, r)| (number, r.address.to_string())).collect();
        for (number, recipient) in pending {
            let status = self.outcome(&recipient);
            if status.code.class() == 2 {
                for recipient in about.iter().cloned().chain(about.is_empty().then_some(recipient)) {
                    let (tag, key) = (tag.clone(), (tag.clone(), recipient.clone()));
                    let said = if about.is_empty() {
                        Said::Delivered { tag, recipient }
                    } else {
                        Said::Notified { tag, recipient }
                    };
                    self.say(said);
                    self.came_out.settled.insert(key);
                }
            }
            message.record(number, status.clone());
            let entry = Entry::Attempted { at: message.arrived, results: vec![(number, status)] };
            if self.as_they_come {
                if let Done::Journal(_, now, _) = self.disk.run(Task::Journal(message.id, place, vec![entry]))
                {
                    place = now;
                }
            } else {
                unsaved.push(entry);
            }
        }
        let id = message.id;
        match self.disk.run(Task::Settle(Box::new(Settle {
            message,
            place,
            unsaved,
            due: DUE,
            failures: 0,
            suspect: false,
        }))) {
            Done::Settle(_, Settled::Removed | Settled::Deferred(_)) => Ok(()),
            other => Err(format!("{id} is not settled: {other:?}")),
        }
    }

    fn outcome(&self, recipient: &str) -> Status {
        match recipient {
            bad if bad.starts_with("bad") => Status::local(EnhancedCode::new(5, 1, 1), "no such mailbox"),
            later if later.starts_with("later") && self.first_attempt => {
                Status::local(EnhancedCode::new(4, 4, 1), "not now")
            }
            _ => Status::local(EnhancedCode::new(2, 0, 0), "delivered"),
        }
    }

    /// The message's tag and, when it is a notification, the recipients that it is about. The content must be whole.
    fn read(&self, path: &Path) -> Result<(String, Vec<String>), String> {
        let file = QueueFile::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut content = String::new();
        file.content()
            .and_then(|mut reader| reader.read_to_string(&mut content))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let tag = content
            .lines()
            .filter_map(|line| line.strip_prefix("Subject: "))
            .next_back()
            .ok_or("a message without subject")?
            .to_owned();
        let notification = matches!(file.envelope().origin, Origin::Bounce | Origin::DoubleBounce);
        if !notification {
            let body = crate::scenarios::content(&tag);
            return if content.ends_with(&body) {
                Ok((tag, Vec::new()))
            } else {
                Err(format!("{tag} is not whole"))
            };
        }
        let about = content.lines().filter_map(|line| line.strip_prefix("Final-Recipient: rfc822; "));
        Ok((tag, about.map(str::to_owned).collect()))
    }

    /// What the commit log wants now and then.
    pub fn tend_log(&self) {
        self.disk.tend_log().unwrap();
    }

    /// What an admin does.
    pub fn change(&self, id: QueueId, verb: Verb) {
        self.disk.run(Task::Change(id, verb));
    }

    fn look_at_the_rest(&mut self) -> Result<(), String> {
        let spool = self.disk.spool().clone();
        for found in scan(&spool, Queue::Hold) {
            let Ok(Found::Message { path, .. }) = found else { return Err("a stray name in hold/".into()) };
            let (tag, _) = self.read(&path)?;
            self.came_out.held.insert(tag);
        }
        for found in scan(&spool, Queue::Corrupt) {
            self.came_out.corrupt.push(format!("{:?}", found.unwrap()));
        }
        Ok(())
    }
}
