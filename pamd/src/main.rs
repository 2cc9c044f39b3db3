//! `ironpost-pam`: is this the password of this user of the operating system? For smtpd alone, which starts it.
//!
//! It is root, where smtpd was, because PAM has to read /etc/shadow. So it does as little as can be: it reads bounded packets from its standard input, a socket whose other end
//! smtpd has; for each question it starts itself anew ([`ask`]), which alone loads PAM's modules, may take half a minute, and ends. It has no more capabilities than modules
//! need, opens nothing, writes nothing but answers, and ends with smtpd.

mod ask;
mod serve;

use std::process::ExitCode;

/// The word that makes a child of it.
const ASK: &str = "--ask";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [ASK, service] => ask::run(service),
        ["--version"] => {
            println!("ironpost-pam {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        [service] if !service.starts_with('-') => serve::run(service),
        _ => {
            eprintln!(
                "ironpost-pam: started by smtpd alone, with the name of a PAM service and a socket as standard input"
            );
            ExitCode::from(64)
        }
    }
}
