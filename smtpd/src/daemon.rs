//! The life of the process: configuration, log, sockets, the spool's folder, then down to its own identity,
//! and only then the first byte from outside.

use crate::listen;
use crate::lookup::users::TURNS;
use crate::message::{Store, WRITERS};
use crate::rules::Rules;
use crate::server::{self, Shared, Stop};
use crate::tls::{self, Certificates};
use auth::Authenticator;
use common::config::{CommitBy, Config, Listen, ListenKind, Smtpd};
use common::daemon::Failure;
use common::identity::{self, Identities};
use common::reload::door::Door;
use common::reload::{Daemon, Report};
use common::secret::Secrets;
use common::signals::{self, Signal};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use spool::commit_log::{self, Committer, Geometry};
use spool::layout::{self, Queue, Spool};
use spool::writer::Spooler;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Threads for work that may block: one for each message being written, and for each look-up of a user, and some for what else there is.
const BLOCKING_THREADS: usize = WRITERS + TURNS + 16;
/// Files for everything but connections and their messages.
const OTHER_FILES: u64 = 256;
/// What greylisting has learnt is written down so often.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// So often it is looked whether the certificate's files have changed.
const LOOK: Duration = Duration::from_secs(2);
/// Threads need little.
const STACK: usize = 512 * 1024;

/// Runs until SIGTERM.
pub fn run(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path).map_err(Failure::configuration)?;
    let _log = common::log::init("smtpd", &config).map_err(Failure::io)?;
    common::scheduling::take_batch_policy();
    start(&config, path).inspect_err(|failure| common::fatal!("{}", failure.text))
}

fn start(config: &Config, path: &Path) -> Result<(), Failure> {
    let io = Failure::io;
    let ids = Identities::resolve(config).map_err(Failure::configuration)?;
    let listeners = listen::bind_all(&config.smtpd.listen).map_err(io)?;
    let spool = Spool::new(&config.spool_directory);
    layout::prepare(&spool, &ids).map_err(io)?;
    // Files for queued get the bits of their group as they are made, instead of a change of their mode each.
    umask(Mode::from_bits_truncate(0o007));
    // Still as root: afterwards the folder can be added to, but not opened.
    let mode = layout::incoming_mode(identity::is_root());
    let spooler = Spooler::open(&spool.directory(Queue::Incoming), mode).map_err(io)?;
    let secrets = Secrets::new(&ids.smtpd);
    let certificates = Certificates::open(config, &spool, &secrets).map_err(Failure::configuration)?;
    let certificates = certificates.map(Arc::new);
    let authenticator = Authenticator::open(config, &secrets).map_err(Failure::configuration)?;
    let authorities = tls::Authorities::open(config.smtpd.tls.client_ca_file.as_deref());
    let authorities = Arc::new(authorities.map_err(Failure::configuration)?);
    let asked = Door::open(&spool.reload_socket(Daemon::Smtpd)).map_err(io)?;
    let ceiling = raise_file_limit(connections(config));
    identity::drop_to(&ids.smtpd, &[]).map_err(Failure::not_permitted)?;
    common::sandbox::confine_to_adding().map_err(Failure::configuration)?;
    common::log::write_from_thread().map_err(io)?;

    let rules = Rules::load(config).map_err(Failure::configuration)?.with_authenticator(authenticator);
    let doors =
        config.smtpd.listen.iter().map(|one| tls::Door::new(one, certificates.as_ref(), &authorities));
    let doors = doors.collect::<Result<Vec<_>, _>>().map_err(Failure::configuration)?;
    let log = match config.smtpd.commit {
        CommitBy::Log => Some(committer(&spool).map_err(io)?),
        CommitBy::File => None,
    };
    let store = Store::new(spooler, &spool, log);
    let shared = Arc::new(Shared::new(rules, store, ceiling).with_doors(doors));
    let greylist = spool.greylist();
    load_greylist(&shared, &greylist);
    let (stop, _) = watch::channel(Stop::No);
    let reloaded = (shared.clone(), certificates.clone(), authorities);
    let on_signal = on_signal(path.to_owned(), (config.clone(), secrets.clone()), reloaded, stop.clone());
    signals::spawn(asked, &secrets, on_signal).map_err(io)?;
    listen::announce(&listeners, &config.smtpd.listen);
    let runtime = runtime(config.smtpd.workers).map_err(io)?;
    let served = runtime.block_on(async {
        let listeners = listeners.into_iter().zip(&config.smtpd.listen).map(|(listener, how)| {
            listener.set_nonblocking(true)?;
            Ok((tokio::net::TcpListener::from_std(listener)?, how.clone()))
        });
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        common::notify::ready();
        if let Some(authenticator) = shared.rules().authenticator.clone() {
            tokio::spawn(async move { authenticator.prepare().await });
        }
        if let Some(certificates) = certificates {
            tokio::spawn(watch_files(certificates));
        }
        tokio::spawn(save_greylist(shared.clone(), greylist.clone()));
        server::serve(listeners, shared.clone(), stop).await;
        Ok(())
    });
    if let Err(error) = shared.greylist.save(&greylist) {
        common::error!("the greylist cannot be kept: {}: {error}", greylist.display());
    }
    // A sync that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    served.map_err(io)
}

/// A greylist that cannot be read is an empty one: its senders come again once more.
fn load_greylist(shared: &Shared, path: &Path) {
    match shared.greylist.load(path) {
        Ok((_, 0)) => {}
        Ok((_, bad)) => common::warn!("{}: {bad} lines cannot be read", path.display()),
        Err(error) => common::error!("{}: cannot read the greylist: {error}", path.display()),
    }
}

/// Now and then, when it has changed; a failure is said once.
async fn save_greylist(shared: Arc<Shared>, path: PathBuf) {
    let mut failed = false;
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        let (shared, path) = (shared.clone(), path.clone());
        let saved = tokio::task::spawn_blocking(move || {
            shared.greylist.save(&path).map_err(|error| format!("{}: {error}", path.display()))
        });
        let result = saved.await.unwrap_or_else(|error| Err(error.to_string()));
        if let (Err(error), false) = (&result, failed) {
            common::error!("the greylist cannot be kept: {error}");
        }
        failed = result.is_err();
    }
}

fn committer(spool: &Spool) -> io::Result<Committer> {
    Committer::start(spool.clone(), Geometry::default(), commit_log::boot_id()?)
}

fn runtime(workers: u16) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(common::daemon::workers(workers))
        .thread_name("smtpd")
        .thread_stack_size(STACK)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
}

/// A renewed certificate is there for the first handshake that needs it.
async fn watch_files(certificates: Arc<Certificates>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let certificates = certificates.clone();
        let _ = tokio::task::spawn_blocking(move || certificates.look()).await;
    }
}

fn on_signal(
    path: PathBuf,
    (started_with, secrets): (Config, Arc<Secrets>),
    (shared, certificates, authorities): (Arc<Shared>, Option<Arc<Certificates>>, Arc<tls::Authorities>),
    stop: watch::Sender<Stop>,
) -> impl FnMut(Signal) + Send {
    move |signal| match signal {
        Signal::Terminate => {
            common::notify::stopping();
            stop.send_if_modified(|now| *now == Stop::No && std::mem::replace(now, Stop::Finish) == Stop::No);
        }
        Signal::Reload(wish) => {
            common::log::reopen();
            let certificates = (certificates.as_deref(), &*authorities);
            let report = reload(&path, (&started_with, &secrets), &shared, certificates);
            wish.answer(report.unwrap_or_else(|error| Report::refused(&error)));
        }
    }
}

/// Sessions that begin from now on go by the new configuration. Errors: it is broken, and nothing has changed.
fn reload(
    path: &Path,
    (started_with, secrets): (&Config, &Secrets),
    shared: &Shared,
    (certificates, authorities): (Option<&Certificates>, &tls::Authorities),
) -> Result<Report, String> {
    let config = Config::load(path).map_err(|error| error.to_string())?;
    // Sockets stay as they were opened, and what is said of them must fit.
    let bound = Config {
        smtpd: Smtpd { listen: listeners(&config, started_with), ..config.smtpd.clone() },
        ..config.clone()
    };
    let before = shared.rules();
    let authenticator = Authenticator::open_again(&bound, secrets, before.authenticator.as_ref())?;
    let rules = Rules::load(&bound).map_err(|error| error.to_string())?.with_authenticator(authenticator);
    let mut report = Report::default();
    for (what, same) in [
        ("smtpd.listen", same_sockets(&config, started_with)),
        ("smtpd.user", config.smtpd.user == started_with.smtpd.user),
        ("smtpd.workers", config.smtpd.workers == started_with.smtpd.workers),
        ("smtpd.commit", config.smtpd.commit == started_with.smtpd.commit),
        ("spool_directory", config.spool_directory == started_with.spool_directory),
        ("log", config.log == started_with.log),
    ] {
        if !same {
            report.later(what, Daemon::Smtpd);
        }
    }
    shared.set_rules(rules);
    report.taken();
    if let Err(error) = authorities.reload(config.smtpd.tls.client_ca_file.as_deref()) {
        report.kept(&format!("authorities of clients not read anew, the old ones stay in force: {error}"));
    }
    if let Some(certificates) = certificates {
        certificates.reload(&config.smtpd.tls, &mut report);
    }
    Ok(report)
}

/// Are the listeners the same, but for what can change while they are open?
fn same_sockets(config: &Config, started_with: &Config) -> bool {
    let (new, old) = (&config.smtpd.listen, &started_with.smtpd.listen);
    let socket =
        |listen: &Listen| (listen.address, listen.tls, listen.client_certificate, listen.proxy_protocol);
    new.len() == old.len() && new.iter().zip(old).all(|(new, old)| socket(new) == socket(old))
}

/// The listeners that there are: with what the new configuration says of them, when they are the same.
fn listeners(config: &Config, started_with: &Config) -> Vec<Listen> {
    let from = if same_sockets(config, started_with) { config } else { started_with };
    from.smtpd.listen.clone()
}

/// Connections that are wanted.
fn connections(config: &Config) -> u32 {
    let smtpd = &config.smtpd;
    let has_submission = smtpd.listen.iter().any(|listen| listen.kind == ListenKind::Submission);
    let own = if has_submission { smtpd.max_submission_connections } else { 0 };
    smtpd.max_connections.saturating_add(own)
}

/// Each connection is a file, and some of them have a large message on its way into another one. Gives how
/// many connections there can be, so that one more is told to come again, instead of hanging or taking the
/// last file from a message.
fn raise_file_limit(max_connections: u32) -> u32 {
    let needed = u64::from(max_connections) + u64::from(max_connections) / 4 + OTHER_FILES;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return max_connections };
    if soft >= needed {
        return max_connections;
    }
    let wanted = needed.min(hard);
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    if limit >= needed {
        return max_connections;
    }
    let possible = connections_within(limit);
    common::warn!(
        "{limit} open files are not enough for max_connections = {max_connections}: taking {possible}; \
         raise the limit to {needed}"
    );
    possible
}

/// The reverse of what is needed above.
fn connections_within(files: u64) -> u32 {
    let connections = (files.saturating_sub(OTHER_FILES) * 4 / 5).max(files / 4).max(1);
    u32::try_from(connections).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_messages() {
        for (files, connections) in [(0, 1), (60, 15), (1024, 614), (20_000, 15_795)] {
            assert_eq!(connections_within(files), connections, "{files}");
        }
    }
}
