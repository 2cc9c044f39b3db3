//! `deliverd local`: delivery into mailboxes of this machine, Maildir and mbox, as the receiving user.
//!
//! The parent ([`run`]) speaks with queued, looks users up and keeps children; started by root it stays
//! root, and therefore parses no mail. Each child ([`child::run`]) becomes one user for good and writes
//! mailboxes. Started by anyone else, the children are the same, without a change of identity.
//!
//! | module | holds |
//! | --- | --- |
//! | [`template`], [`content`], [`fields`], [`pool`], [`jobs`] | pure: path, formatting, fields that are not taken, children, books |
//! | [`worker`], [`link`], [`place`], [`process`] | the parent: its loop, queued, look-ups, processes |
//! | [`child`], [`privileges`], [`delivery`], [`message`] | the child: its loop, its identity, one delivery |
//! | [`maildir`], [`mbox`], [`lock`], [`folder`], [`failure`] | mailboxes |
//! | [`frames`] | what parent and child say to each other |

pub mod child;
pub mod content;
pub mod delivery;
pub mod failure;
pub mod fields;
pub mod folder;
pub mod frames;
pub mod jobs;
pub mod link;
pub mod lock;
pub mod maildir;
pub mod mbox;
pub mod message;
pub mod place;
pub mod pool;
pub mod privileges;
pub mod process;
pub mod template;
pub mod worker;

use common::config::{Config, LogTo};
use common::daemon::Failure;
use common::identity::{self, Identities};
use common::reload::door::Door;
use common::reload::{Daemon, Report, Wish};
use common::secret::Secrets;
use common::signals::{self, Signal};
use common::{log, notify};
use link::Link;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pool::ChildId;
use spool::layout::{self, Spool};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use worker::{CAPACITY, Local, Settings};

/// What is in hand at SIGTERM may take this long.
const STOP: Duration = Duration::from_secs(15);
/// Children that have been let go, or killed, may take this long.
const LEAVE: Duration = Duration::from_secs(2);

/// Runs until SIGTERM. `config_path` is read again at SIGHUP. Exit code 0 after SIGTERM; 78 for a
/// configuration that cannot be worked with; 77 or 75 when the system refuses what is needed, for good or
/// for now.
pub fn run(config: &Config, config_path: &Path) -> ExitCode {
    let result = log::init("local", config).map_err(Failure::io).and_then(|flush| {
        let started = start(config).inspect_err(|failure| common::fatal!("{}", failure.text));
        started.map(|(local, inbox)| serve(local, inbox, config, config_path))?;
        drop(flush);
        Ok(())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if config.log.to != LogTo::Stderr {
                eprintln!("deliverd local: {}", failure.text);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// What comes from outside: an octet in the pipe wakes the loop, which then looks what it is.
struct Inbox {
    wake: PipeReader,
    signals: Receiver<Signal>,
}

fn start(config: &Config) -> Result<(Local, Inbox), Failure> {
    let ids = Identities::resolve(config).map_err(Failure::configuration)?;
    let settings = Settings::new(config).map_err(Failure::configuration)?;
    let spool = Spool::new(&config.spool_directory);
    layout::prepare(&spool, &ids).map_err(Failure::io)?;
    let (wake, mut writer) = io::pipe().map_err(Failure::io)?;
    let (sender, signals) = channel();
    let door = Door::open(&spool.reload_socket(Daemon::DeliverdLocal)).map_err(Failure::io)?;
    // It has none.
    let secrets = Secrets::new(&ids.deliverd);
    signals::spawn(door, &secrets, move |signal| {
        // The loop reads it; it ends only with the process.
        let _ = sender.send(signal);
        let _ = writer.write_all(b"!");
    })
    .map_err(Failure::io)?;
    log::write_from_thread().map_err(Failure::io)?;
    let me = nix::unistd::geteuid().as_raw();
    let trusted = if identity::is_root() { vec![0, ids.queued.uid.as_raw()] } else { vec![0, me] };
    let link = Link::new(spool.dispatch_socket(), trusted, CAPACITY, Instant::now());
    Ok((Local::new(settings, link), Inbox { wake, signals }))
}

/// What poll(2) found.
#[derive(Default)]
struct Ready {
    signal: bool,
    queue: bool,
    children: Vec<ChildId>,
}

fn serve(mut local: Local, mut inbox: Inbox, config: &Config, config_path: &Path) {
    notify::ready();
    let mut stop: Option<Instant> = None;
    loop {
        let now = Instant::now();
        if stop.is_none() {
            local.link.connect(now);
        }
        local.advance(now);
        match stop {
            Some(_) if local.is_done() => break,
            Some(limit) if limit <= now => {
                common::warn!("deliveries do not end: giving them back");
                local.give_up();
                break;
            }
            _ => {}
        }
        let ready = wait(&local, &inbox.wake, stop, now);
        let now = Instant::now();
        local.link.flush();
        for child in ready.children {
            local.read_child(child, now);
        }
        if ready.queue && stop.is_none() {
            local.read_queue(now);
        }
        if ready.signal {
            match next_signal(&mut inbox) {
                Signal::Reload(wish) => reload(&mut local, config, config_path, wish),
                Signal::Terminate => {
                    notify::stopping();
                    stop.get_or_insert(now + STOP);
                }
            }
        }
    }
    let limit = Instant::now() + LEAVE;
    while !local.close_children() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
    local.kill_children();
}

fn next_signal(inbox: &mut Inbox) -> Signal {
    // An end of the pipe would mean that no signal can reach us any more.
    match (inbox.wake.read(&mut [0]), inbox.signals.try_recv()) {
        (Ok(1), Ok(signal)) => signal,
        _ => Signal::Terminate,
    }
}

fn wait(local: &Local, signals: &PipeReader, stop: Option<Instant>, now: Instant) -> Ready {
    let attempt = local.link.next_attempt().filter(|_| stop.is_none());
    let next = [local.next_event(now), attempt, stop].into_iter().flatten().min();
    // Rounded up: waking up a moment too early would only mean to wait again.
    let timeout = next.map_or(PollTimeout::NONE, |next| {
        let millis = next.saturating_duration_since(now).as_micros().div_ceil(1000);
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    });
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    let (mut names, mut ready) = (Vec::new(), Ready::default());
    for (child, socket) in local.sockets() {
        names.push(child);
        fds.push(PollFd::new(socket, PollFlags::POLLIN));
    }
    if let Some(socket) = local.link.socket() {
        let read = if stop.is_none() { PollFlags::POLLIN } else { PollFlags::empty() };
        let write = if local.link.wants_to_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
        // While we stop, a queued that hangs up would wake us for ever: it is listened to only if there is
        // something for it.
        if !(read | write).is_empty() {
            fds.push(PollFd::new(socket, read | write));
        }
    }
    match poll(&mut fds, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return ready,
        Err(errno) => {
            common::error!("poll: {}", errno.desc());
            std::thread::sleep(Duration::from_millis(100));
            return ready;
        }
    }
    let mut happened = fds.iter().map(|fd| fd.any().unwrap_or(true));
    ready.signal = happened.next().unwrap_or(false);
    for child in names {
        if happened.next().unwrap_or(false) {
            ready.children.push(child);
        }
    }
    ready.queue = happened.next().unwrap_or(false);
    ready
}

/// What comes from now on goes by the new configuration; a broken one changes nothing.
fn reload(local: &mut Local, started_with: &Config, path: &Path, wish: Wish) {
    log::reopen();
    let loaded = Config::load(path).map_err(|error| error.to_string()).and_then(|config| {
        Settings::new(&config).map(|settings| (config, settings)).map_err(|error| error.to_string())
    });
    let (config, settings) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return wish.answer(Report::refused(&error)),
    };
    let mut report = Report::default();
    for (what, same) in [
        ("spool_directory", config.spool_directory == started_with.spool_directory),
        ("log", config.log == started_with.log),
    ] {
        if !same {
            report.later(what, Daemon::DeliverdLocal);
        }
    }
    local.set_settings(settings);
    report.taken();
    wish.answer(report);
}
