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
use common::config::{Config, LogTo};
use std::path::Path;

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
    let check = || Config::load(file).map(drop).map_err(|error| error.to_string());
    let code = match driver::supervise(programs, &voice, &check) {
        Ok(code) => code,
        Err(error) => {
            voice.error(&format!("cannot supervise: {error}"));
            exit::OS_ERROR
        }
    };
    drop(flush);
    code
}

/// Tells the log, and the person at the terminal unless the log goes there anyway.
#[derive(Debug)]
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
