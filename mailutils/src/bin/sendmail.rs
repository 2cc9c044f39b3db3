//! `sendmail`, and `mailq` and `newaliases` when it is called by those names.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(mailutils::sendmail::main(std::env::args_os()))
}
