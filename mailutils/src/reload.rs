//! `ironpost reload`: has the daemons read everything anew, and hands them the secrets that they cannot open themselves.
//!
//! The configuration is read first: a broken one is told with its spot, and no daemon hears of it. Then each daemon gets the files that
//! [`Config::secrets`] names for it, as open descriptors, and says what it has taken. `ironpost run` does the same on SIGHUP.

use crate::exit;
use crate::failure::Failure;
use common::config::Config;
use common::credentials::Table;
use common::identity::{Identities, Identity};
use common::reload::call::{self, Unanswered};
use common::reload::{Daemon, Line, Report};
use spool::layout::Spool;
use std::fs;
use std::path::{Path, PathBuf};

/// What came of telling one daemon.
#[derive(Debug)]
pub struct Told {
    /// Which.
    pub daemon: Daemon,
    /// Secrets that could not be opened.
    pub problems: Vec<String>,
    /// What it said.
    pub answer: Result<Report, Unanswered>,
}

/// `ironpost reload`; all daemons when none is named.
pub fn run(file: &Path, daemons: &[Daemon]) -> Result<(), Failure> {
    let config = Config::load(file).map_err(|e| Failure::new(exit::CONFIG, e.to_string()))?;
    let ids = Identities::resolve(&config).map_err(|e| Failure::new(exit::CONFIG, e.to_string()))?;
    let spool = Spool::new(&config.spool_directory);
    let mut code = exit::OK;
    for daemon in Daemon::ALL.into_iter().filter(|one| daemons.is_empty() || daemons.contains(one)) {
        let told = tell(daemon, &spool, &config, &ids);
        for (good, line) in told.lines(&spool) {
            let line = crate::terminal::line(&line);
            if good {
                print(&line)?;
            } else {
                eprintln!("{line}");
            }
        }
        code = worse(code, told.code());
    }
    match code {
        exit::OK => Ok(()),
        exit::UNAVAILABLE => Err(Failure::new(code, "not all daemons run: start the mail system")),
        _ => Err(Failure::new(code, "not everything is in force: see above")),
    }
}

fn print(line: &str) -> Result<(), Failure> {
    use std::io::Write;
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).map_err(|error| Failure::output(&error))
}

/// Has one daemon of the mail system with this spool reload, with the secrets of this configuration.
pub fn tell(daemon: Daemon, spool: &Spool, config: &Config, ids: &Identities) -> Told {
    let tokens = if daemon == Daemon::DeliverdSmtp { token_files(config) } else { Vec::new() };
    let (files, problems) =
        call::open(config.secrets(daemon).into_iter().chain(tokens.iter().map(PathBuf::as_path)));
    let answer = call::ask(&spool.reload_socket(daemon), owner(daemon, ids).uid, &files);
    Told { daemon, problems, answer }
}

/// The files with tokens that the table `relay_credentials` names, as far as it can be read here.
pub fn token_files(config: &Config) -> Vec<PathBuf> {
    let Some(path) = &config.deliverd.relay_credentials else { return Vec::new() };
    let table = fs::read_to_string(path).ok().and_then(|text| Table::parse(path, &text).ok());
    let files = table.iter().flat_map(Table::iter).filter_map(|line| line.token_file());
    files.map(Path::to_owned).collect()
}

/// As whom a daemon runs.
fn owner(daemon: Daemon, ids: &Identities) -> &Identity {
    match daemon {
        Daemon::Smtpd => &ids.smtpd,
        Daemon::Queued => &ids.queued,
        Daemon::DeliverdSmtp | Daemon::DeliverdLocal => &ids.deliverd,
    }
}

impl Told {
    /// For people, each with whether it is good news.
    pub fn lines(&self, spool: &Spool) -> Vec<(bool, String)> {
        let name = self.daemon.name();
        let socket = spool.reload_socket(self.daemon);
        let socket = socket.display();
        let mut lines: Vec<_> =
            self.problems.iter().map(|problem| (false, format!("{name}: {problem}"))).collect();
        match &self.answer {
            Ok(report) => lines.extend(report.lines().iter().map(|line| {
                let good = matches!(line, Line::Done(_));
                (good, format!("{name}: {}", line.text()))
            })),
            Err(Unanswered::Down) => {
                lines.push((false, format!("{name} does not run (nobody answers at {socket})")));
            }
            Err(Unanswered::Barred(error)) => lines.push((
                false,
                format!(
                    "{name}: cannot reach {socket}: {error}: run this as root, or as the user of the daemons"
                ),
            )),
            Err(Unanswered::Lost(what)) => lines.push((false, format!("{name}: not reloaded: {what}"))),
        }
        lines
    }

    /// What it means for the exit code.
    pub fn code(&self) -> u8 {
        match &self.answer {
            Ok(report) if report.is_whole() && self.problems.is_empty() => exit::OK,
            Ok(_) => exit::CONFIG,
            Err(Unanswered::Down) => exit::UNAVAILABLE,
            Err(Unanswered::Barred(_)) => exit::NO_PERMISSION,
            Err(Unanswered::Lost(_)) => exit::TRY_AGAIN,
        }
    }
}

/// The code that says more: nothing heard of a daemon, then broken files.
fn worse(one: u8, other: u8) -> u8 {
    const ORDER: [u8; 4] = [exit::NO_PERMISSION, exit::UNAVAILABLE, exit::TRY_AGAIN, exit::CONFIG];
    ORDER.into_iter().find(|code| [one, other].contains(code)).unwrap_or(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_the_worst() {
        for (codes, expected) in
            [(&[0, 0][..], 0), (&[0, 78, 0], 78), (&[69, 78], 69), (&[78, 75], 75), (&[69, 77, 0], 77)]
        {
            assert_eq!(codes.iter().copied().fold(0, worse), expected, "{codes:?}");
        }
    }
}
