//! Ironpost's commands, as a library beside their `main`s.
//!
//! | module | holds |
//! | --- | --- |
//! | [`cli`], [`exit`], [`failure`], [`terminal`] | command line of `ironpost`; exit codes; texts for people |
//! | [`run`] | `ironpost run`: the supervisor |
//! | [`reload`] | `ironpost reload` |
//! | [`check`], [`config`], [`route`] | `ironpost check`, `config`, `route` |
//! | [`queue`], [`control`] | `ironpost queue`, `mailq`; asking queued |
//! | [`user`] | `ironpost user` |
//! | [`sendmail`] | `sendmail`, `newaliases` |
//! | [`generate`] | completions and man page |

pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod exit;
pub mod failure;
pub mod generate;
pub mod queue;
pub mod reload;
pub mod route;
pub mod run;
pub mod sendmail;
pub mod status;
pub mod terminal;
pub mod user;

use clap::Parser;
use cli::{Cli, Command};
use common::config::Config;
use failure::Failure;
use std::ffi::OsString;
use std::path::Path;

/// `ironpost` with these arguments (the first is its own name); the exit code.
pub fn ironpost(args: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" for standard output.
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            return if error.print().is_ok() { code } else { exit::FAILURE };
        }
    };
    let done = match &cli.command {
        Command::Run => return run::run(&cli.config),
        Command::Check => check::run(&cli.config),
        Command::Reload { daemons } => reload::run(&cli.config, daemons),
        Command::Config { defaults } => config::run(&cli.config, *defaults),
        Command::Route { address } => load(&cli.config).and_then(|config| route::run(&config, address)),
        Command::Status { json } => load(&cli.config).and_then(|config| status::run(&config, *json)),
        Command::Queue(command) => load(&cli.config).and_then(|config| queue::run(&config, command)),
        Command::User(command) => user::run(&cli.config, command),
        Command::Completions { shell } => generate::completions(*shell),
        Command::Manpage => generate::manpage(),
    };
    match done {
        Ok(()) => exit::OK,
        Err(failure) => failure.report("ironpost"),
    }
}

pub(crate) fn load(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(|e| Failure::new(exit::CONFIG, e.to_string()))
}
