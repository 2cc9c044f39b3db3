//! Ironpost's commands, as a library beside their `main`s.
//!
//! | module | holds |
//! | --- | --- |
//! | [`cli`], [`exit`] | the command line of `ironpost`; exit codes |
//! | [`run`] | `ironpost run`: the supervisor |

pub mod cli;
pub mod exit;
pub mod run;

use clap::Parser;
use cli::{Cli, Command};
use std::ffi::OsString;

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
    match cli.command {
        Command::Run => run::run(&cli.config),
    }
}
