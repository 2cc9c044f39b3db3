//! Which daemons there are, and where they lie: beside our own executable, else in [`SYSTEM_FOLDER`].

use common::reload::Daemon;
use std::path::{Path, PathBuf};

/// Where an installed Ironpost has its daemons.
pub const SYSTEM_FOLDER: &str = "/usr/lib/ironpost";

/// Which, file, role.
const DAEMONS: [(Daemon, &str, Option<&str>); 4] = [
    (Daemon::Queued, "queued", None),
    (Daemon::Smtpd, "smtpd", None),
    (Daemon::DeliverdSmtp, "deliverd", Some("smtp")),
    (Daemon::DeliverdLocal, "deliverd", Some("local")),
];

/// A daemon to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Which one.
    pub daemon: Daemon,
    /// For messages.
    pub name: &'static str,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<PathBuf>,
}

/// The daemons, to be started with this configuration file. The error says where they were looked for.
pub fn find(config: &Path) -> Result<Vec<Program>, String> {
    let config = std::path::absolute(config).map_err(|e| format!("cannot name {}: {e}", config.display()))?;
    let own = std::env::current_exe().map_err(|e| format!("cannot find the own executable: {e}"))?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    find_in(&[beside, Path::new(SYSTEM_FOLDER)], &config)
}

/// The first folder that has all of them counts: a lone `smtpd` beside us may be another mail system's.
fn find_in(folders: &[&Path], config: &Path) -> Result<Vec<Program>, String> {
    let complete = |folder: &&&Path| DAEMONS.iter().all(|(_, file, _)| folder.join(file).is_file());
    let Some(folder) = folders.iter().find(complete) else {
        let names = folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(" nor in ");
        return Err(format!("smtpd, queued and deliverd are neither in {names}"));
    };
    let program = |(daemon, file, role): &(Daemon, &str, Option<&str>)| Program {
        daemon: *daemon,
        name: daemon.name(),
        path: folder.join(file),
        args: role.iter().map(PathBuf::from).chain(["-c".into(), config.to_owned()]).collect(),
    };
    Ok(DAEMONS.iter().map(program).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_counts_only_when_it_has_all_daemons() {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (temp.path().join("one"), temp.path().join("two"));
        for folder in [&one, &two] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(one.join("smtpd"), "").unwrap();
        let config = Path::new("/etc/x.toml");
        let error = find_in(&[&one, &two], config).unwrap_err();
        assert!(error.contains("one") && error.contains("two"), "{error}");
        for file in ["smtpd", "queued", "deliverd"] {
            std::fs::write(two.join(file), "").unwrap();
        }
        let found = find_in(&[&one, &two], config).unwrap();
        let lines: Vec<_> = found
            .iter()
            .map(|p| {
                let args: Vec<_> = p.args.iter().map(|a| a.to_str().unwrap()).collect();
                format!("{}: {} {}", p.name, p.path.file_name().unwrap().to_str().unwrap(), args.join(" "))
            })
            .collect();
        assert_eq!(
            lines,
            [
                "queued: queued -c /etc/x.toml",
                "smtpd: smtpd -c /etc/x.toml",
                "deliverd smtp: deliverd smtp -c /etc/x.toml",
                "deliverd local: deliverd local -c /etc/x.toml",
            ]
        );
        assert!(found.iter().all(|p| p.path.starts_with(&two)));
    }
}
