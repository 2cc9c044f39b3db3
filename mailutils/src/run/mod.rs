//! `ironpost run`: supervises the daemons in the foreground.
//!
//! | file | what |
//! | --- | --- |
//! | [`programs`] | which daemons there are and where they lie |
//! | [`crew`], [`backoff`] | what is done when: no processes, no clock |
//! | [`notify`] | the daemons say that they are ready |
//! | [`driver`] | processes, signals, time |
//!
//! It checks the configuration before it starts anything, prints `ready` on a line of its own to standard
//! output once all daemons serve, and nothing else there. The daemons end when it ends, also when it is
//! killed: see [`common::lifeline`].

pub mod backoff;
pub mod crew;
pub mod driver;
pub mod notify;
pub mod programs;

use crate::exit;
use crate::reload::{self, Told};
use common::config::{Config, LogTo};
use common::identity::Identities;
use common::reload::Daemon;
use spool::layout::Spool;
use std::path::{Path, PathBuf};

/// Runs until SIGTERM; the exit code.
pub fn run(file: &Path) -> u8 {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return exit::CONFIG;
        }
    };
    let programs = match programs::find(file) {
        Ok(programs) => programs,
        Err(text) => {
            eprintln!("ironpost: {text}");
            return exit::OS_FILE;
        }
    };
    let flush = match common::log::init("master", &config) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("ironpost: {error}");
            return exit::CONFIG;
        }
    };
    let voice = Voice { log_is_stderr: config.log.to == LogTo::Stderr };
    let reload = Reload { spool: Spool::new(&config.spool_directory), file: file.to_owned() };
    let code = match driver::supervise(programs, voice, reload) {
        Ok(code) => code,
        Err(error) => {
            voice.error(&format!("cannot supervise: {error}"));
            exit::OS_ERROR
        }
    };
    drop(flush);
    code
}

/// What is needed to have the daemons read everything anew.
#[derive(Debug)]
pub struct Reload {
    /// Where the daemons that run are found, whatever a new configuration says.
    spool: Spool,
    file: PathBuf,
}

impl Reload {
    /// Is there something to take? Errors: the configuration is broken.
    pub fn check(&self) -> Result<(), String> {
        Config::load(&self.file).map(drop).map_err(|error| error.to_string())
    }

    /// Has one daemon do it, with the secrets that only this process may be able to open. Errors: the configuration is broken.
    pub fn tell(&self, daemon: Daemon) -> Result<Told, String> {
        let config = Config::load(&self.file).map_err(|error| error.to_string())?;
        let ids = Identities::resolve(&config).map_err(|error| error.to_string())?;
        Ok(reload::tell(daemon, &self.spool, &config, &ids))
    }

    /// Where the daemons are.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }
}

/// Tells the log, and the person at the terminal unless the log goes there anyway.
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    log_is_stderr: bool,
}

impl Voice {
    /// What goes its way.
    pub fn info(&self, text: &str) {
        common::info!("{text}");
        self.person(text);
    }

    /// What was coped with.
    pub fn warn(&self, text: &str) {
        common::warn!("{text}");
        self.person(text);
    }

    /// What an admin should act on.
    pub fn error(&self, text: &str) {
        common::error!("{text}");
        self.person(text);
    }

    fn person(&self, text: &str) {
        if !self.log_is_stderr {
            // Several lines (a configuration error with its spot) stay several lines here; the log escapes
            // them.
            eprintln!("ironpost: {text}");
        }
    }
}
