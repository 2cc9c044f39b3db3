//! The life of the process: configuration, log, the spool and its lock, sockets, then down to its own identity and off the
//! network, and only then the first byte from outside.

use crate::bounce::Texts;
use crate::disk::{self, Disk, Pool};
use crate::manager::{Event, Manager};
use crate::message::Lifetimes;
use crate::scheduler::backoff::Backoff;
use crate::scheduler::limits::{Limit, Limits};
use crate::scheduler::{self, Scheduler};
use crate::{control, dispatch, intake, lock};
use common::config::{CommitBy, Config, Rate};
use common::daemon::Failure;
use common::identity::{self, Identities};
use common::packet::PacketListener;
use common::reload::door::Door;
use common::reload::{Daemon, Report};
use common::secret::Secrets;
use common::tables::Tables;
use common::time::Timestamp;
use spool::commit_log::{self, Geometry, Keeper};
use spool::layout::{self, Spool};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Most messages in memory.
const ACTIVE_LIMIT: usize = 20_000;
/// Most recipients in memory.
const RECIPIENT_LIMIT: usize = 200_000;
/// Delivery agents: group and owner.
const DISPATCH_MODE: u32 = 0o660;
/// Between two looks at the commit log.
const LOG_PAUSE: Duration = Duration::from_millis(500);
/// Users' commands: anyone.
const CONTROL_MODE: u32 = 0o666;

/// Runs until SIGTERM.
pub fn run(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path).map_err(Failure::configuration)?;
    let _log = common::log::init("qmgr", &config).map_err(Failure::io)?;
    common::scheduling::take_batch_policy();
    start(&config, path).inspect_err(|failure| common::fatal!("{}", failure.text))
}

fn start(config: &Config, path: &Path) -> Result<(), Failure> {
    let ids = Identities::resolve(config).map_err(Failure::configuration)?;
    let spool = Spool::new(&config.spool_directory);
    layout::prepare(&spool, &ids).map_err(Failure::io)?;
    let secrets = Secrets::new(&ids.queued);
    identity::drop_to(&ids.queued, &[ids.smtpd.gid, ids.maildrop, ids.deliverd.gid])
        .map_err(Failure::not_permitted)?;
    common::sandbox::deny_network().map_err(Failure::configuration)?;
    let Some(_lock) = lock::take(&spool.lock_file()).map_err(Failure::io)? else {
        let text = format!("another queue manager runs on {}: stop it first", spool.root().display());
        return Err(Failure::try_again(text));
    };
    // Who holds the lock is the only one who may replace it. It gets no secrets, so root need not vouch for it.
    let door = Door::open(&spool.reload_socket(Daemon::Queued)).map_err(Failure::io)?;
    // Before anybody can see that we are there.
    let (events, receiver) = channel();
    let on_signal = events.clone();
    common::signals::spawn(door, &secrets, move |signal| {
        let _ = on_signal.send(Event::Signal(signal));
    })
    .map_err(Failure::io)?;
    common::log::write_from_thread().map_err(Failure::io)?;

    let tables = Tables::load(config).map_err(Failure::configuration)?;
    let texts = Texts::load(config).map_err(Failure::configuration)?;
    let settings_for_disk = disk::Settings::new(config, tables, texts);
    let log = open_log(&spool, config.smtpd.commit, &ids).map_err(Failure::io)?;
    let disk = Arc::new(Disk::open(spool.clone(), log, settings_for_disk).map_err(Failure::io)?);
    tend_log(disk.clone()).map_err(Failure::io)?;
    let report = events.clone();
    let pool = Pool::start(&disk, move |done| {
        // Nobody listens any more when the process is about to end.
        let _ = report.send(Event::Done(done));
    })
    .map_err(Failure::io)?;
    // Last: who can connect is served.
    let listen = |path: &Path, mode| {
        PacketListener::bind(path, mode).map_err(|e| {
            Failure::io(io::Error::new(e.kind(), format!("cannot listen on {}: {e}", path.display())))
        })
    };
    let workers = listen(&spool.dispatch_socket(), DISPATCH_MODE)?;
    let commands = listen(&spool.control_socket(), CONTROL_MODE)?;
    dispatch::serve(workers, dispatch::Peers::new(&ids), spool.clone(), events.clone())
        .map_err(Failure::io)?;
    control::serve(commands, disk.clone(), ids.queued.uid.as_raw(), events.clone()).map_err(Failure::io)?;
    intake::start(&spool, &events).map_err(Failure::io)?;
    common::notify::ready();
    let scheduler = Scheduler::new(settings(config), seed(), Timestamp::now());
    Manager::new(scheduler, disk.clone(), pool, receiver, reload(path.to_owned(), config.clone())).run();
    common::notify::stopping();
    // What has left the queue since the last look is known to nobody else.
    if let Err(error) = disk.close_log() {
        common::warn!(
            "commit log: {error}; what was delivered last can be delivered again after a power cut, or at the next start where a restore is not complete"
        );
    }
    Ok(())
}

/// Before anything else looks at the queue: some of it may have to be restored.
fn open_log(spool: &Spool, commit: CommitBy, ids: &Identities) -> io::Result<Keeper> {
    let mode = layout::segment_mode(ids.queued.uid != ids.smtpd.uid);
    let boot = commit_log::boot_id()?;
    let in_use = commit == CommitBy::Log;
    if let Some(release) = commit_log::silent_sync().filter(|_| in_use) {
        common::warn!(
            "Linux {release} does not tell when a file could not be written back: a failing disk can lose accepted mail; use 5.8 or later, or [smtpd] commit = \"file\""
        );
    }
    Keeper::open(spool, Geometry::default(), &boot, in_use, mode)
        .map_err(|e| io::Error::new(e.kind(), format!("commit log in {}: {e}", spool.root().display())))
}

fn tend_log(disk: Arc<Disk>) -> io::Result<()> {
    let tend = move || {
        let mut said = None;
        loop {
            let trouble = disk.tend_log().err().map(|error| error.to_string());
            if let Some(trouble) = trouble.as_ref().filter(|_| said != trouble) {
                common::error!("commit log: {trouble}; tried again until it can be kept");
            }
            said = trouble;
            std::thread::sleep(LOG_PAUSE);
        }
    };
    std::thread::Builder::new().name("commit-log".into()).spawn(tend).map(drop)
}

fn settings(config: &Config) -> scheduler::Settings {
    let destinations = &config.queued.destinations;
    let limit = |concurrency, recipients, rate: Rate| Limit { concurrency, recipients, gap: rate.gap() };
    let own = destinations.each();
    scheduler::Settings {
        backoff: Backoff { first_retry: config.queued.first_retry.0, max_retry: config.queued.max_retry.0 },
        lifetimes: Lifetimes {
            lifetime: config.queued.lifetime.0,
            bounce_lifetime: config.queued.bounce_lifetime.0,
        },
        limits: Limits {
            all: limit(destinations.concurrency, destinations.recipients, destinations.rate),
            of: own.map(|(name, most, recipients, rate)| (name, limit(most, recipients, rate))).collect(),
        },
        active_limit: ACTIVE_LIMIT,
        recipient_limit: RECIPIENT_LIMIT,
    }
}

/// Different in every process: machines that failed together shall not retry together.
fn seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// Reads the configuration anew; a broken one changes nothing.
fn reload(
    path: PathBuf,
    started_with: Config,
) -> impl FnMut(&Disk) -> (Option<scheduler::Settings>, Report) + Send {
    move |disk| {
        common::log::reopen();
        let loaded = Config::load(&path).map_err(|error| error.to_string()).and_then(|config| {
            let tables = Tables::load(&config).map_err(|error| error.to_string())?;
            let texts = Texts::load(&config).map_err(|error| error.to_string())?;
            Ok((config, tables, texts))
        });
        let (config, tables, texts) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return (None, Report::refused(&error)),
        };
        let mut report = Report::default();
        for (what, same) in [
            ("queued.user", config.queued.user == started_with.queued.user),
            ("spool_directory", config.spool_directory == started_with.spool_directory),
            ("log", config.log == started_with.log),
        ] {
            if !same {
                report.later(what, Daemon::Queued);
            }
        }
        let scheduling = settings(&config);
        disk.set(disk::Settings::new(&config, tables, texts));
        report.taken();
        (Some(scheduling), report)
    }
}
