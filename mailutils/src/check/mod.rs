//! `ironpost check`, and what `newaliases` says: does everything that the daemons will need lie where they
//! can reach it?
//!
//! | file | what |
//! | --- | --- |
//! | [`tables`] | aliases, users, transport table, texts of notifications |
//! | [`reach`] | folders and files that an identity cannot pass or read |
//! | [`places`] | spool, mailboxes, configuration, log |
//! | [`network`] | names and listeners |
//!
//! Looks only; changes nothing. An error is what keeps a daemon from its work (exit code 78); a warning is
//! worth a look.

pub mod network;
pub mod places;
pub mod reach;
pub mod tables;

use crate::exit;
use crate::failure::Failure;
use common::config::Config;
use common::identity::Identities;
use std::path::Path;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Something will not work.
    Error(String),
    /// Something may not be meant.
    Warning(String),
}

impl Finding {
    fn text(&self) -> String {
        match self {
            Self::Error(text) => format!("error: {text}"),
            Self::Warning(text) => format!("warning: {text}"),
        }
    }
}

/// Checks everything that the file leads to.
pub fn run(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file).map_err(|e| Failure::new(exit::CONFIG, e.to_string()))?;
    let ids = Identities::resolve(&config).map_err(|e| Failure::new(exit::CONFIG, e.to_string()))?;
    let mut findings = network::check(&config);
    findings.extend(tables::check(&config));
    findings.extend(places::check(file, &config, &ids));
    for finding in &findings {
        for line in finding.text().lines() {
            eprintln!("{}", crate::terminal::line(line));
        }
    }
    let errors = findings.iter().filter(|f| matches!(f, Finding::Error(_))).count();
    match errors {
        0 => {
            let mut out = std::io::stdout();
            let text = format!("{}: no errors\n", file.display());
            std::io::Write::write_all(&mut out, text.as_bytes()).map_err(|e| Failure::output(&e))
        }
        1 => Err(Failure::new(exit::CONFIG, "1 error")),
        _ => Err(Failure::new(exit::CONFIG, format!("{errors} errors"))),
    }
}

/// `newaliases`: there is nothing to compile, so it does what else its callers expect: tell whether the
/// aliases are right.
pub fn newaliases(config: &Config) -> Result<(), Failure> {
    let path = &config.local.aliases;
    let mut errors = Vec::new();
    for finding in tables::aliases(path) {
        match finding {
            Finding::Error(text) => errors.push(text),
            Finding::Warning(text) => eprintln!("newaliases: warning: {}", crate::terminal::line(&text)),
        }
    }
    if !errors.is_empty() {
        return Err(Failure::new(exit::CONFIG, errors.join("\n")));
    }
    let text = format!("{}: read anew by itself when it changes; nothing needs compiling\n", path.display());
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).map_err(|e| Failure::output(&e))
}
