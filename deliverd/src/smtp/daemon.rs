//! The life of the process: configuration, log, name servers, down to its own identity, and only then the
//! first byte from outside.

use super::attempt::Context;
use super::memory::Memory;
use super::pool::Pool;
use super::resolve::Ourselves;
use super::resolve::dns::{Resolver, Settings};
use super::tls::{self, Outbound};
use super::worker::{self, Inputs};
use common::config::Config;
use common::daemon::Failure;
use common::identity::{self, Identities};
use common::reload::door::Door;
use common::reload::{Daemon, Report};
use common::secret::Secrets;
use common::signals::{self, Signal};
use common::time::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use spool::layout::{self, Spool};
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

/// Between two looks at tokens that end.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Between two looks at what this machine is.
const FOLLOW_EVERY: Duration = Duration::from_secs(60);
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Threads that read message content.
const BLOCKING_THREADS: usize = 32;
/// They need little.
const STACK: usize = 1024 * 1024;

/// Runs until SIGTERM. `path` is read anew on SIGHUP.
pub fn run(config: &Config, path: &Path) -> ExitCode {
    let _log = match common::log::init("smtp", config) {
        Ok(flush) => flush,
        Err(error) => {
            eprintln!("deliverd smtp: cannot open the log: {error}");
            return ExitCode::from(75);
        }
    };
    common::scheduling::take_batch_policy();
    match start(config, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            common::fatal!("{text}");
            eprintln!("deliverd smtp: {text}");
            ExitCode::from(code)
        }
    }
}

fn start(config: &Config, path: &Path) -> Result<(), Failure> {
    let ids = Identities::resolve(config).map_err(Failure::configuration)?;
    let spool = Spool::new(&config.spool_directory);
    layout::prepare(&spool, &ids).map_err(Failure::io)?;
    let names = Settings::new(&config.deliverd.nameservers);
    let tls_memory = tls::Memory::new().map_err(Failure::try_again)?;
    let secrets = Secrets::new(&ids.deliverd);
    // Before privileges are dropped: the files may be for root alone.
    let tls = Outbound::load(config, tls_memory.clone(), &secrets).map_err(Failure::configuration)?;
    let door = Door::open(&spool.reload_socket(Daemon::DeliverdSmtp)).map_err(Failure::io)?;
    let door = door.telling({
        let memory = tls_memory.clone();
        move || memory.warnings()
    });
    raise_file_limit();
    identity::drop_to(&ids.deliverd, &[]).map_err(Failure::not_permitted)?;
    common::log::write_from_thread().map_err(Failure::io)?;

    let runtime = runtime(config.deliverd.workers).map_err(Failure::io)?;
    runtime.spawn(warn(tls_memory.clone()));
    let seen = Surroundings::look(config, RESOLV_CONF);
    let shared = Shared { memory: Arc::new(Memory::new()), pool: Pool::new(), tls: tls_memory };
    let context = runtime.block_on(async { context(config, names, Arc::new(tls), &shared) });
    let (contexts, context) = watch::channel(context.map_err(Failure::configuration)?);
    let (stopper, stop) = watch::channel(false);
    let pool = shared.pool.clone();
    let reload = Arc::new(Reload {
        path: path.to_owned(),
        started_with: config.clone(),
        current: Mutex::new(config.clone()),
        secrets: secrets.clone(),
        contexts,
        shared,
        runtime: runtime.handle().clone(),
    });
    runtime.spawn(follow(reload.clone(), seen));
    signals::spawn(door, &secrets, on_signal(reload, stopper)).map_err(Failure::io)?;
    common::notify::ready();
    let inputs = Inputs { socket: spool.dispatch_socket(), queued: ids.queued.uid, context, stop };
    runtime.block_on(async {
        // On a thread of the runtime: here each job would be a hand-over between two threads.
        let _ = tokio::spawn(worker::run(inputs)).await;
        let _ = tokio::time::timeout(Duration::from_secs(2), pool.close()).await;
    });
    // A read that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Tells in the log, now and each hour, of tokens that end.
async fn warn(memory: Arc<tls::Memory>) {
    loop {
        memory.tokens().warn(Timestamp::now());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What of this machine may be another after the start: on a host that gets its address later, or from time to time a new one, both were wrong for ever.
#[derive(Debug, PartialEq, Eq)]
struct Surroundings {
    /// Where the configuration names no servers.
    resolv_conf: Option<Vec<u8>>,
    addresses: HashSet<IpAddr>,
}

impl Surroundings {
    fn look(config: &Config, resolv_conf: &str) -> Self {
        let by_itself = config.deliverd.nameservers.is_empty();
        Self {
            resolv_conf: by_itself.then(|| std::fs::read(resolv_conf).ok()).flatten(),
            addresses: common::tables::own_addresses(),
        }
    }
}

/// Looks again and again whether the machine has other addresses or name servers.
async fn follow(reload: Arc<Reload>, mut seen: Surroundings) {
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let now = Surroundings::look(&reload.config(), RESOLV_CONF);
        if now != seen {
            seen = now;
            reload.surroundings();
        }
    }
}

/// What goes on when the configuration is read anew.
struct Shared {
    memory: Arc<Memory>,
    pool: Arc<Pool<TcpStream>>,
    tls: Arc<tls::Memory>,
}

/// Inside the runtime: the resolver starts tasks.
fn context(
    config: &Config,
    names: Settings,
    tls: Arc<Outbound>,
    shared: &Shared,
) -> Result<Arc<Context<Resolver>>, String> {
    let listeners = config.smtpd.listen.iter().map(|listener| listener.address).collect();
    let local = common::tables::own_addresses().into_iter().collect();
    Ok(Arc::new(Context {
        hello_name: config.hostname.clone(),
        port: config.deliverd.smtp_port,
        relay_host: config.deliverd.relay_host.clone(),
        ourselves: Ourselves::new(config.hostname.clone(), listeners, local),
        dns: Resolver::new(names)?,
        tls,
        memory: shared.memory.clone(),
        pool: shared.pool.clone(),
    }))
}

fn runtime(workers: u16) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(common::daemon::workers(workers))
        .thread_name("smtp")
        .thread_stack_size(STACK)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
}

/// A job needs a few descriptors; the usual soft limit of 1024 is too low for the capacity.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(16 * 1024);
        if soft < wanted
            && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
        {
            common::warn!("cannot raise the limit of open files: {error}");
        }
    }
}

struct Reload {
    path: PathBuf,
    started_with: Config,
    /// As it was read last; held while something of it is taken.
    current: Mutex<Config>,
    secrets: Arc<Secrets>,
    contexts: watch::Sender<Arc<Context<Resolver>>>,
    shared: Shared,
    runtime: Handle,
}

fn on_signal(reload: Arc<Reload>, stopper: watch::Sender<bool>) -> impl FnMut(Signal) + Send {
    move |signal| match signal {
        Signal::Terminate => {
            common::notify::stopping();
            stopper.send_replace(true);
        }
        Signal::Reload(wish) => {
            common::log::reopen();
            wish.answer(reload.run().unwrap_or_else(|error| Report::refused(&error)));
        }
    }
}

impl Reload {
    fn config(&self) -> MutexGuard<'_, Config> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs that come from now on go by the addresses and name servers that the machine has now.
    fn surroundings(&self) {
        let config = self.config();
        let tls = self.contexts.borrow().tls.clone();
        match context(&config, Settings::new(&config.deliverd.nameservers), tls, &self.shared) {
            Ok(context) => {
                common::info!("this machine has other addresses or name servers: they are used from now on");
                self.contexts.send_replace(context);
            }
            Err(error) => common::warn!("the new name servers cannot be used: {error}"),
        }
    }

    /// Jobs that come from now on go by the new configuration. Errors: it is broken, and nothing has changed.
    fn run(&self) -> Result<Report, String> {
        let config = Config::load(&self.path).map_err(|error| error.to_string())?;
        let names = Settings::new(&config.deliverd.nameservers);
        let tls = Outbound::load(&config, self.shared.tls.clone(), &self.secrets)?;
        let mut current = self.config();
        let context =
            self.runtime.block_on(async { context(&config, names, Arc::new(tls), &self.shared) })?;
        let mut report = Report::default();
        let before = &self.started_with;
        for (what, same) in [
            ("deliverd.user", config.deliverd.user == before.deliverd.user),
            ("deliverd.workers", config.deliverd.workers == before.deliverd.workers),
            ("spool_directory", config.spool_directory == before.spool_directory),
            ("log", config.log == before.log),
        ] {
            if !same {
                report.later(what, Daemon::DeliverdSmtp);
            }
        }
        self.contexts.send_replace(context);
        *current = config;
        report.taken();
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_name_servers_are_seen_where_they_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let resolv_conf = path.to_str().unwrap();
        let config = |text: &str| Config::parse(text, Path::new("x"), Path::new("/")).unwrap();
        let (by_itself, named) = (config(""), config("[deliverd]\nnameservers = [\"127.0.0.1:53\"]\n"));
        let look = |config| Surroundings::look(config, resolv_conf);
        let (first, fixed) = (look(&by_itself), look(&named));
        assert_eq!(first.resolv_conf, None);
        assert!(first.addresses.contains(&IpAddr::from([127, 0, 0, 1])));
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert_ne!(look(&by_itself), first);
        assert_eq!(look(&by_itself), look(&by_itself));
        assert_eq!(look(&named), fixed);
    }
}
