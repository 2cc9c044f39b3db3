//! The admin's command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(mailutils::ironpost(std::env::args_os()))
}
