//! The owner of the queue with real files and real sockets, and a clock that the test sets.

use super::*;
use crate::disk::{self, Settle};
use crate::dispatch::{self, ANSWER_GRACE, Peers};
use crate::scheduler::limits::{Limit, Limits};
use crate::scheduler::{Settings, backoff::Backoff};
use common::codec;
use common::config::Config;
use common::destination::Transport;
use common::identity::Identities;
use common::packet::{PacketListener, PacketSocket};
use common::tables::Tables;
use spool::content::ContentReader;
use spool::dispatch::{FromWorker, Job, MAX_FRAME, ToWorker, VERSION};
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::journal::Entry;
use spool::layout::{OWN_MODE, Queue, Spool};
use spool::writer::Spooler;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::channel;

/// Nothing here takes long.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(folder: &Path) -> Config {
    std::fs::write(folder.join("users"), "alice\npostmaster\n").unwrap();
    std::fs::write(folder.join("aliases"), "").unwrap();
    let text = "hostname = \"mail.here.example\"\nlocal_domains = [\"here.example\"]\nspool_directory = \"spool\"\n\
                [local]\nusers = \"users\"\naliases = \"aliases\"\nmailbox = \"mail/{user}/\"\n";
    Config::parse(text, &folder.join("x"), folder).unwrap()
}

fn scheduler(config: &Config) -> Scheduler {
    let settings = Settings {
        backoff: Backoff { first_retry: Duration::from_secs(300), max_retry: Duration::from_secs(3600) },
        lifetimes: crate::message::Lifetimes {
            lifetime: config.queued.lifetime.0,
            bounce_lifetime: config.queued.bounce_lifetime.0,
        },
        limits: Limits {
            all: Limit { concurrency: 20, recipients: 50, gap: Duration::ZERO },
            of: HashMap::new(),
        },
        active_limit: 100,
        recipient_limit: 1000,
    };
    Scheduler::new(settings, 1, Timestamp::now())
}

struct Agent(PacketSocket);

impl Agent {
    fn connect(spool: &Spool) -> Self {
        let agent = Self(PacketSocket::connect(&spool.dispatch_socket()).unwrap());
        agent.say(&FromWorker::Hello { version: VERSION, transport: Transport::Smtp, capacity: 10 });
        agent
    }

    fn say(&self, frame: &FromWorker) {
        self.0.send(&codec::encode(frame).unwrap(), &[]).unwrap();
    }

    fn job(&self) -> Job {
        let packet = self.0.receive().unwrap().expect("connection closed");
        let ToWorker::Job(job) = codec::decode::<ToWorker, MAX_FRAME>(&packet.bytes).unwrap() else {
            panic!("no job")
        };
        let file = std::fs::File::from(packet.files.into_iter().next().unwrap());
        let mut content = Vec::new();
        ContentReader::new(file, job.content_offset, &job.content).read_to_end(&mut content).unwrap();
        assert_eq!(content, b"Subject: x\r\n\r\n");
        job
    }
}

impl Manager {
    /// Takes events, and does what follows at `now`, until this is so.
    fn until(&mut self, now: Timestamp, so: impl Fn(&Self) -> bool) {
        loop {
            self.follow(now);
            self.pool.wake();
            if so(self) {
                return;
            }
            let event = self.events.recv_timeout(PATIENCE).expect("waited in vain");
            self.take(event);
        }
    }
}

/// An agent's word for it.
fn delivered(job: &Job) -> FromWorker {
    let status = common::status::Status::local("2.0.0".parse().unwrap(), "250 ok");
    let results = job.recipients.iter().map(|to| (to.index, status.clone())).collect();
    FromWorker::Done { number: job.number, results, reached: true, handed_over: vec![] }
}

/// An empty spool.
fn open(config: &Config) -> (Spool, Arc<Disk>) {
    let spool = Spool::new(&config.spool_directory);
    for queue in [Queue::Incoming, Queue::Active, Queue::Deferred, Queue::Corrupt] {
        std::fs::create_dir_all(spool.directory(queue)).unwrap();
    }
    for name in ["commit/segments", "commit/claims", "commit/done"] {
        std::fs::create_dir_all(spool.root().join(name)).unwrap();
    }
    std::fs::create_dir_all(spool.dispatch_socket().parent().unwrap()).unwrap();
    let disk = disk::Settings::new(
        config,
        Tables::load(config).unwrap(),
        crate::bounce::Texts::load(config).unwrap(),
    );
    let log = spool::commit_log::Keeper::open(&spool, Default::default(), "boot", false, 0o600).unwrap();
    let disk = Arc::new(Disk::open(spool.clone(), log, disk).unwrap());
    (spool, disk)
}

/// A queue that agents can connect to; whoever runs the test delivers, as an ordinary user's.
fn start(folder: &Path) -> (Spool, Manager) {
    let config = config(folder);
    let (spool, disk) = open(&config);
    let (events, receiver) = channel();
    let report = events.clone();
    let pool = Pool::start(&disk, move |done| drop(report.send(Event::Done(done)))).unwrap();
    let listener = PacketListener::bind(&spool.dispatch_socket(), 0o600).unwrap();
    let peers = Peers::new(&Identities::resolve(&config).unwrap());
    dispatch::serve(listener, peers, spool.clone(), events).unwrap();
    let reload = |_: &Disk| (None, common::reload::Report::default());
    (spool, Manager::new(scheduler(&config), disk, pool, receiver, reload))
}

/// A message in `incoming/`.
fn accept(spool: &Spool) -> QueueId {
    accept_for(spool, &["b@far.example"])
}

fn accept_for(spool: &Spool, recipients: &[&str]) -> QueueId {
    let spooler = Spooler::open(&spool.directory(Queue::Incoming), OWN_MODE).unwrap();
    let mut writer = spooler.begin(Timestamp::now()).unwrap();
    writer
        .set_envelope(&Envelope {
            sender: "a@here.example".parse().unwrap(),
            arrived: Timestamp::now(),
            origin: Origin::Bounce,
            body: Body::SevenBit,
            recipients: recipients.iter().map(|to| Recipient::new(to.parse().unwrap())).collect(),
            dsn: Default::default(),
        })
        .unwrap();
    writer.write(b"Subject: x\r\n\r\n").unwrap();
    writer.commit().unwrap()
}

/// Somebody who has broken into smtpd puts another message where one was that has been read: it is not taken for that one.
#[test]
fn another_file_in_the_place_of_a_message_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, disk) = open(&config(folder.path()));
    for (swapped, journal) in [(false, false), (true, false), (false, true), (true, true)] {
        let id = accept(&spool);
        let Done::Load(_, _, Loaded::Ready(ready)) = disk.run(Task::Load(id, Source::Incoming)) else {
            panic!("not loaded")
        };
        assert_eq!(ready.place.queue, Queue::Incoming);
        if swapped {
            let other = accept(&spool);
            std::fs::rename(spool.path(Queue::Incoming, other), spool.path(Queue::Incoming, id)).unwrap();
        }
        let place = ready.place;
        if journal {
            let Done::Journal(_, place, left) = disk.run(Task::Journal(id, place, Vec::new())) else {
                panic!()
            };
            assert_eq!((place.queue, left), (Queue::Active, Vec::new()));
        } else {
            // Its outcome: to be tried again.
            let settle = Settle {
                message: ready.message,
                place,
                unsaved: Vec::new(),
                due: Timestamp::now(),
                failures: 0,
                suspect: false,
            };
            let Done::Settle(_, settled) = disk.run(Task::Settle(Box::new(settle))) else { panic!() };
            assert_eq!(matches!(settled, crate::disk::Settled::Deferred(_)), !swapped, "{settled:?}");
        }
        let lies_in = if swapped {
            Queue::Corrupt
        } else if journal {
            Queue::Active
        } else {
            Queue::Deferred
        };
        assert_eq!(spool.find(id).map(|(queue, _)| queue), Some(lies_in), "{swapped} {journal}");
    }
}

/// A worker takes a job and never answers: its connection ends when the time of the attempt is over, and the job goes to another.
#[test]
fn a_stuck_worker_is_ended_by_the_wall_clock_limit_and_its_job_is_retried() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, mut manager) = start(folder.path());
    let id = accept(&spool);

    let stuck = Agent::connect(&spool);
    let now = Timestamp::now();
    manager.until(now, |manager| manager.deliveries.workers.len() == 1);
    manager.take(Event::Arrived(vec![(id, Source::Incoming)]));
    manager.until(now, |manager| manager.scheduler.in_hand() == 1);
    let job = stuck.job();
    assert_eq!(job.queue_id, id);
    let other = Agent::connect(&spool);
    manager.until(now, |manager| manager.deliveries.workers.len() == 2);

    let end = job.deadline.after(ANSWER_GRACE);
    assert!(end.since(now) >= Duration::from_secs(1800) && end.since(now) < Duration::from_secs(2000));
    // A message that stays gets a name in active/, and no moment earlier.
    let lies_in = |queue| spool.find(id).is_some_and(|(found, _)| found == queue);
    let soon = manager.deadline().unwrap();
    manager.until(Timestamp(soon.0 - 1), |manager| manager.pool.outstanding() == 0);
    assert!(lies_in(Queue::Incoming));
    manager.until(soon, |manager| manager.pool.outstanding() == 0);
    assert!(lies_in(Queue::Active));
    assert_eq!(manager.deadline(), Some(end), "it wakes for that");
    manager.until(Timestamp(end.0 - 1), |_| true);
    assert_eq!(manager.deliveries.workers.len(), 2, "not a moment earlier");
    manager.until(end, |manager| manager.deliveries.workers.len() == 1);
    manager.until(end, |manager| manager.scheduler.in_hand() == 1);
    let again = other.job();
    assert_eq!((again.queue_id, &again.recipients), (id, &job.recipients));
    // What the first one says now is not heard any more.
    let done = delivered(&again);
    assert!(stuck.0.send(&codec::encode(&done).unwrap(), &[]).is_err());
    other.say(&done);
    manager.until(end, |manager| manager.active.is_empty() && manager.pool.outstanding() == 0);
    assert!(spool.find(id).is_none(), "delivered and removed");
    assert_eq!((manager.scheduler.active_len(), manager.deliveries.deadline()), (0, None));
}

/// What has been delivered and is not written down would be delivered again after a crash: it is counted, and does not grow without bound.
#[test]
fn a_slow_disk_is_not_outrun() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, mut manager) = start(folder.path());
    let agent = Agent::connect(&spool);
    let now = Timestamp::now();
    manager.until(now, |manager| manager.deliveries.workers.len() == 1);
    let id = accept_for(&spool, &["b@far.example", "c@other.example"]);
    manager.take(Event::Arrived(vec![(id, Source::Incoming)]));
    manager.until(now, |manager| manager.scheduler.in_hand() == 2);
    for left in [1, 0] {
        let job = agent.job();
        agent.say(&delivered(&job));
        while manager.scheduler.in_hand() > left {
            let event = manager.events.recv_timeout(PATIENCE).unwrap();
            manager.take(event);
        }
        // Its journal, and then its settlement, is with the file threads, which have not been woken.
        manager.follow(now);
        assert_eq!(manager.unwritten, 1);
        manager.until(now, |manager| manager.pool.outstanding() == 0);
        assert_eq!(manager.unwritten, 0);
    }
    assert!(manager.active.is_empty());

    manager.unwritten = MAX_UNWRITTEN;
    let id = accept(&spool);
    manager.take(Event::Arrived(vec![(id, Source::Incoming)]));
    manager.until(now, |manager| manager.active.contains_key(&id) && manager.pool.outstanding() == 0);
    assert_eq!(manager.scheduler.in_hand(), 0);
    manager.unwritten -= 1;
    manager.until(now, |manager| manager.scheduler.in_hand() == 1);
}

/// A recipient may be deferred a hundred times while its message waits for another host: what counts is the last time.
#[test]
fn what_is_to_be_written_down_does_not_grow_with_the_deferrals() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, disk) = open(&config(folder.path()));
    let id = accept_for(&spool, &["b@far.example", "c@other.example"]);
    let Done::Load(_, _, Loaded::Ready(ready)) = disk.run(Task::Load(id, Source::Incoming)) else {
        panic!("not loaded")
    };
    let mut active = Active::new(*ready);
    let status = |n| common::status::Status::local("4.3.0".parse().unwrap(), format!("attempt {n}"));
    active.suspend(&[1], &status(0), Timestamp::now());
    (1..=100).for_each(|n| active.suspend(&[0], &status(n), Timestamp::now()));
    let Some(Entry::Attempted { results, .. }) = active.save().1.pop() else { panic!() };
    assert!(results.len() <= 4, "{results:?}");
    let last = |who| results.iter().rfind(|(number, _)| *number == who).map(|(_, status)| status);
    assert_eq!((last(0), last(1)), (Some(&status(100)), Some(&status(0))));
}
