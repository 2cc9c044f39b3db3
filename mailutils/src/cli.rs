//! The command line of `ironpost`: the one description from which `--help`, completions and the man page are made.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Ironpost, a mail system: run it, look into it, tend its queue.
#[derive(Debug, Parser)]
#[command(name = "ironpost", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true, default_value = common::config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemons in the foreground until SIGTERM; SIGHUP reloads
    #[command(
        long_about = "Run the daemons in the foreground. Prints `ready` on a line of its own to standard output once all of \
        them serve, starts again what ends, stops all on SIGTERM or SIGINT, and reloads all on SIGHUP (when the configuration is good)."
    )]
    Run,
}
