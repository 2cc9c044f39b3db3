//! The program `smtpd`.

use clap::Parser;
use smtpd::daemon;
use std::path::PathBuf;
use std::process::ExitCode;

/// See doc/dependencies.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ironpost's SMTP server.
#[derive(Debug, Parser)]
#[command(name = "smtpd", version)]
struct Cli {
    /// Configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = common::config::DEFAULT_PATH)]
    config: PathBuf,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    match daemon::run(&cli.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("smtpd: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}
