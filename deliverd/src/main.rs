//! The program `deliverd`, in one of its roles.

use clap::{Parser, Subcommand};
use common::config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// See doc/dependencies.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ironpost's delivery agents.
#[derive(Debug, Parser)]
#[command(name = "deliverd", version)]
struct Cli {
    /// Configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    #[arg(default_value = common::config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Takes mail to other hosts by SMTP
    Smtp,
    /// Takes mail into mailboxes of this machine
    Local,
    /// Writes into the mailboxes of one user (started by `deliverd local`)
    #[command(hide = true)]
    LocalChild,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    if let Role::LocalChild = cli.role {
        return deliverd::local::child::run();
    }
    let config = match Config::load(&cli.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("deliverd: {error}");
            return ExitCode::from(78);
        }
    };
    match cli.role {
        Role::Smtp => deliverd::smtp::daemon::run(&config, &cli.config),
        Role::Local | Role::LocalChild => deliverd::local::run(&config, &cli.config),
    }
}
