//! The tables on disk, read anew within seconds of a change: nothing to compile, nothing to tell the daemons.
//!
//! [`Tables::router`] looks at the files at most once a second. A file that has become unreadable or wrong is logged once, and what it said before stays in force.

use crate::aliases::Aliases;
use crate::config::{self, Config};
use crate::routing::{Router, Transports};
use crate::table::{MAX_FILE, TableError};
use crate::users::Users;
use crate::watched::is_old;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All tables of a configuration.
#[derive(Debug)]
pub struct Tables {
    config: Config,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    looked: Instant,
    stamps: Vec<Stamp>,
    /// A change that was seen at the last look: it counts when it is still the same at the next one, or was made a while ago, so that no file is read
    /// while it is being written.
    changing: Option<Vec<Stamp>>,
    /// Those for which the last reading failed.
    failed: Option<Vec<Stamp>>,
    router: Arc<Router>,
}

/// Tells one state of a file from the next: changed time, length, inode. `None`: not there.
type Stamp = Option<(i64, i64, u64, u64)>;

impl Tables {
    /// Reads all tables. An aliases file that does not exist is empty; every other file must be there and right.
    pub fn load(config: &Config) -> Result<Self, TableError> {
        let stamps = stamps(config);
        let router = Arc::new(read(config)?);
        let state = State { looked: Instant::now(), stamps, changing: None, failed: None, router };
        Ok(Self { config: config.clone(), state: Mutex::new(state) })
    }

    /// The tables as they are now.
    pub fn router(&self) -> Arc<Router> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            let now = stamps(&self.config);
            let old = now.iter().zip(&state.stamps).all(|(now, before)| now == before || is_old(*now));
            let settled = old || state.changing.as_ref() == Some(&now);
            state.changing = Some(now.clone());
            if settled && now != state.stamps && state.failed.as_ref() != Some(&now) {
                match still_there(&self.config, &state.stamps, &now).and_then(|()| read(&self.config)) {
                    Ok(router) => {
                        crate::info!("tables read anew");
                        state.router = Arc::new(router);
                        state.stamps = now;
                        state.failed = None;
                    }
                    Err(error) => {
                        crate::error!("{error}; what the tables said before stays in force");
                        state.failed = Some(now);
                    }
                }
            }
        }
        state.router.clone()
    }
}

/// A file that was there and is gone is being replaced, or missed: that it is empty now is the last thing to believe.
fn still_there(config: &Config, before: &[Stamp], now: &[Stamp]) -> Result<(), TableError> {
    let gone =
        files(config).into_iter().zip(before.iter().zip(now)).find(|(_, (b, n))| b.is_some() && n.is_none());
    gone.map_or(Ok(()), |(path, _)| {
        Err(TableError::file(path, "it was there and is gone: put it back, or restart to go on without it"))
    })
}

fn files(config: &Config) -> Vec<&Path> {
    let users = match &config.local.users {
        config::Users::File(path) => Some(path),
        config::Users::System => None,
    };
    [Some(&config.local.aliases), users, config.deliverd.transport.as_ref()]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect()
}

fn stamps(config: &Config) -> Vec<Stamp> {
    let stamp =
        |path| fs::metadata(path).ok().map(|m: fs::Metadata| (m.mtime(), m.mtime_nsec(), m.len(), m.ino()));
    files(config).into_iter().map(stamp).collect()
}

/// Reads everything. Public through `ironpost check`, which wants the errors.
fn read(config: &Config) -> Result<Router, TableError> {
    let aliases = match text(&config.local.aliases) {
        Ok(text) => Aliases::parse(&config.local.aliases, &text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Aliases::default(),
        Err(error) => return Err(unreadable(&config.local.aliases, &error)),
    };
    for problem in aliases.problems() {
        crate::warn!("{problem}: its mail waits");
    }
    for line in aliases.ignored() {
        crate::warn!("{line}");
    }
    let users = match &config.local.users {
        config::Users::System => Users::System,
        config::Users::File(path) => Users::parse(path, &text(path).map_err(|e| unreadable(path, &e))?)?,
    };
    let transports = match &config.deliverd.transport {
        None => Transports::default(),
        Some(path) => Transports::parse(path, &text(path).map_err(|e| unreadable(path, &e))?)?,
    };
    Ok(Router {
        mail_name: config.mail_name.clone(),
        local_domains: config.local_domains.iter().cloned().collect(),
        relay_domains: config.relay_domains.iter().cloned().collect(),
        own_addresses: own_addresses(),
        delimiter: config.local.recipient_delimiter,
        relay_host: config.deliverd.relay_host.clone(),
        transports,
        aliases,
        users,
    })
}

fn text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::other("larger than 256 MiB"));
    }
    fs::read_to_string(path)
}

fn unreadable(path: &Path, error: &io::Error) -> TableError {
    TableError::file(path, &format!("cannot read: {error}"))
}

/// The addresses of this machine's interfaces.
pub fn own_addresses() -> HashSet<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::routing::Existence;

    #[test]
    fn a_changed_file_is_read_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        fs::write(&users, "joe\n").unwrap();
        let text = "local_domains = [\"here.example\"]\n[local]\nusers = \"users\"\naliases = \"none\"\n";
        let config = Config::parse(text, Path::new("ironpost.toml"), folder.path()).unwrap();
        let tables = Tables::load(&config).unwrap();
        let exists = |name: &str| {
            let address: Address = format!("{name}@here.example").parse().unwrap();
            // A change counts at the second look that sees it.
            for _ in 0..2 {
                tables.state.lock().unwrap().looked -= LOOK_EVERY;
                tables.router();
            }
            tables.router().recipient_exists(&address) == Existence::Yes
        };
        assert!(exists("joe") && !exists("jane"));
        fs::write(&users, "joe\njane\n").unwrap();
        assert!(exists("jane"));
        fs::write(&users, "joe\n../jane\n").unwrap();
        assert!(exists("jane") && exists("joe"), "the old table stays");
        fs::write(&users, "jane\n").unwrap();
        assert!(exists("jane") && !exists("joe"));
        // Who looks for the first time long after a change sees it at once: the first mail after a quiet night.
        fs::write(&users, "jane\njim\n").unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let file = fs::File::options().write(true).open(&users).unwrap();
        file.set_modified(std::time::SystemTime::now() - hour).unwrap();
        tables.state.lock().unwrap().looked -= LOOK_EVERY;
        assert_eq!(tables.router().recipient_exists(&"jim@here.example".parse().unwrap()), Existence::Yes);
        fs::write(folder.path().join("none"), "root: jane\n").unwrap();
        assert!(exists("root"));
        fs::remove_file(folder.path().join("none")).unwrap();
        assert!(exists("root"), "an aliases file that vanishes is not an empty one");
        fs::write(folder.path().join("none"), "postmaster: jane\n").unwrap();
        tables.state.lock().unwrap().looked -= LOOK_EVERY;
        tables.router();
        assert!(
            tables.state.lock().unwrap().router.aliases.get("root").is_some(),
            "not while it may be half written"
        );
        assert!(!exists("root"));
    }
}
