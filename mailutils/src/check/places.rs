//! The folders and files that the daemons will need, each looked at with the eyes of whoever needs it.

use super::Finding;
use super::reach::{Obstacle, Who};
use common::config::{AuthUsers, Config, LogTo, Users};
use common::identity::{Identities, Identity, is_root};
use spool::layout::{Queue, Spool};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Everything on disk.
pub fn check(file: &Path, config: &Config, ids: &Identities) -> Vec<Finding> {
    let daemons = [("smtpd", &ids.smtpd), ("queued", &ids.queued), ("deliverd", &ids.deliverd)]
        .map(|(n, id)| who(n, id));
    let [smtpd, queued, deliverd] = &daemons;
    let mut findings = Vec::new();
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    for daemon in &daemons {
        // They read it again when they reload, which they do as themselves.
        findings.extend(error(daemon, daemon.read(&absolute)));
    }
    for daemon in [smtpd, queued] {
        for table in tables(config) {
            findings.extend(error(daemon, daemon.read(table)));
        }
    }
    for table in
        config.smtpd.access_tables().chain(&config.smtpd.sender_logins).chain(&config.smtpd.relay_recipients)
    {
        findings.extend(error(smtpd, smtpd.read(table)));
    }
    let tls = &config.smtpd.tls;
    for file in [&tls.client_ca_file, &tls.relay_clientcerts].into_iter().flatten() {
        findings.extend(error(smtpd, smtpd.read(file)));
    }
    if let Some(texts) = &config.queued.notification_templates {
        findings.extend(error(queued, queued.read(texts)));
    }
    for file in [&config.deliverd.tls_policy, &config.deliverd.ca_file].into_iter().flatten() {
        findings.extend(error(deliverd, deliverd.read(file)));
    }
    if let Some(path) = &config.smtpd.auth.introspection.client_secret {
        match fs::metadata(path) {
            Err(error) => findings.push(Finding::Error(format!("{}: cannot read: {error}", path.display()))),
            Ok(meta) => {
                let what = common::secret::problem(&meta, &ids.smtpd);
                findings.extend(what.map(|what| Finding::Error(format!("{}: {what}", path.display()))));
            }
        }
    }
    let table = config.deliverd.relay_credentials.clone();
    for path in table.into_iter().chain(crate::reload::token_files(config)) {
        if let Ok(meta) = fs::metadata(&path)
            && let Some(what) = common::secret::problem(&meta, &ids.deliverd)
        {
            findings.push(Finding::Error(format!("{}: {what}", path.display())));
        }
    }
    if let Some(path) = config.smtpd.auth.users_file()
        && let Ok(meta) = fs::metadata(path)
        && let Some(what) = common::secret::problem(&meta, &ids.smtpd)
    {
        findings.push(Finding::Error(format!("{}: {what}", path.display())));
    }
    if let Some(AuthUsers::Dovecot(socket)) = &config.smtpd.auth.users {
        findings.extend(match smtpd.connect(socket) {
            Err(Obstacle::Missing(path)) => Some(Finding::Warning(format!(
                "{}: not there: nobody can log in until Dovecot runs, with this unix_listener",
                path.display()
            ))),
            other => error(smtpd, other),
        });
    }
    findings.extend(spool(config, ids, &daemons));
    findings.extend(mailboxes(config));
    findings.extend(log(config));
    // One folder may be in the way to several places.
    let mut distinct: Vec<Finding> = Vec::new();
    for finding in findings {
        if !distinct.contains(&finding) {
            distinct.push(finding);
        }
    }
    distinct
}

fn who(daemon: &str, identity: &Identity) -> Who {
    let groups = match is_root() {
        true => vec![identity.gid],
        false => nix::unistd::getgroups().unwrap_or_default().into_iter().chain([identity.gid]).collect(),
    };
    Who { name: format!("{daemon} ({})", identity.name), uid: Some(identity.uid), groups }
}

fn error(who: &Who, result: Result<(), Obstacle>) -> Option<Finding> {
    result.err()?.text(who).map(Finding::Error)
}

fn tables(config: &Config) -> Vec<&Path> {
    let mut paths = vec![config.local.aliases.as_path()];
    if let Users::File(path) = &config.local.users {
        paths.push(path);
    }
    paths.extend(config.deliverd.transport.as_deref());
    paths
}

/// The way to the spool for all three, and the owner of what is there. Modes are mended by the daemons when
/// they start.
fn spool(config: &Config, ids: &Identities, daemons: &[Who]) -> Vec<Finding> {
    let spool = Spool::new(&config.spool_directory);
    let mut findings: Vec<Finding> =
        daemons.iter().filter_map(|who| error(who, who.enter(spool.root()))).collect();
    for queue in Queue::ALL {
        let folder = spool.directory(queue);
        let Ok(meta) = fs::symlink_metadata(&folder) else { continue };
        if !meta.is_dir() {
            findings.push(Finding::Error(format!("{} is not a folder: move it away", folder.display())));
            continue;
        }
        if meta.uid() != ids.queued.uid.as_raw() {
            let text = format!(
                "{} belongs to uid {}, not to queued ({})",
                folder.display(),
                meta.uid(),
                ids.queued.name
            );
            // Root mends it when it starts the daemons; nobody else can.
            findings.push(if is_root() { Finding::Warning(text) } else { Finding::Error(text) });
        }
        let everybody = if queue == Queue::Maildrop { 0o002 } else { 0o007 };
        if meta.mode() & everybody != 0 {
            findings
                .push(Finding::Warning(format!("{} is open to everybody: chmod o-rwx it", folder.display())));
        }
    }
    findings
}

/// The folder above the first placeholder: where it lies, delivery decides who writes there.
fn mailboxes(config: &Config) -> Vec<Finding> {
    let fixed = fixed_part(&config.local.mailbox);
    if fixed.as_os_str().is_empty() {
        // {home}: everyone's own.
        return Vec::new();
    }
    match fs::metadata(&fixed) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::Error(format!(
                "{}: not there: make the folder for mailboxes",
                fixed.display()
            ))];
        }
        Err(error) => {
            return vec![Finding::Error(format!("{}: cannot look at it: {error}", fixed.display()))];
        }
        Ok(meta) if !meta.is_dir() => {
            return vec![Finding::Error(format!("{} is not a folder: mailboxes lie there", fixed.display()))];
        }
        Ok(_) => {}
    }
    if !is_root() {
        return Vec::new();
    }
    let owner = match &config.local.users {
        Users::System => Who { name: "the users it is for".into(), uid: None, groups: Vec::new() },
        Users::File(_) => {
            let Ok(meta) = fs::metadata(&fixed) else { return Vec::new() };
            let groups = vec![nix::unistd::Gid::from_raw(meta.gid())];
            Who { name: "its owner".into(), uid: Some(nix::unistd::Uid::from_raw(meta.uid())), groups }
        }
    };
    error(&owner, owner.enter(&fixed)).into_iter().collect()
}

/// The folders of a template before its first placeholder.
fn fixed_part(template: &str) -> PathBuf {
    let before = template.split('{').next().unwrap_or("");
    PathBuf::from(
        before.rsplit_once('/').map_or("", |(folder, _)| if folder.is_empty() { "/" } else { folder }),
    )
}

fn log(config: &Config) -> Vec<Finding> {
    let LogTo::File(path) = &config.log.to else { return Vec::new() };
    let folder = path.parent().unwrap_or(Path::new("/"));
    if folder.is_dir() {
        return Vec::new();
    }
    vec![Finding::Error(format!("{}: not there: make the folder for the log", folder.display()))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{Gid, Uid};

    #[test]
    fn the_fixed_part_ends_above_the_first_placeholder() {
        for (template, fixed) in [
            ("/var/mail/{user}", "/var/mail"),
            ("/var/mail/{domain}/{user}/", "/var/mail"),
            ("/var/mail/x{user}/Maildir/", "/var/mail"),
            ("{home}/Maildir/", ""),
            ("/{user}", "/"),
        ] {
            assert_eq!(fixed_part(template), Path::new(fixed), "{template}");
        }
    }

    #[test]
    fn a_folder_in_the_way_is_told_once_for_each_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(folder.path(), mode).unwrap();
        let file = folder.path().join("ironpost.toml");
        fs::write(
            &file,
            "spool_directory = \"spool\"\n[local]\nmailbox = \"{home}/m/\"\naliases = \"aliases\"\n",
        )
        .unwrap();
        let config = Config::load(&file).unwrap();
        let other = |uid| Identity { name: "x".into(), uid: Uid::from_raw(uid), gid: Gid::from_raw(uid) };
        let (smtpd, queued, deliverd) = (other(61_991), other(61_992), other(61_993));
        let ids = Identities { smtpd, queued, deliverd, maildrop: Gid::from_raw(61_992) };
        let found = check(&file, &config, &ids);
        let barred =
            |name: &str| format!("{} cannot be passed by {name} (x): chmod a+x it", folder.path().display());
        assert_eq!(found, ["smtpd", "queued", "deliverd"].map(|name| Finding::Error(barred(name))));
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), None, None).unwrap();
        let file = folder.path().join("ironpost.toml");
        let text = "spool_directory = \"spool\"\n\
            [local]\nmailbox = \"mail/{user}/\"\nusers = \"users\"\n\
            [log]\nto = \"log/mail.log\"\n";
        fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let me = Identity { name: "me".into(), uid: nix::unistd::geteuid(), gid: nix::unistd::getegid() };
        let ids = Identities { smtpd: me.clone(), queued: me.clone(), maildrop: me.gid, deliverd: me };
        let found = check(&file, &config, &ids);
        let root = folder.path().display();
        assert_eq!(
            found,
            [
                Finding::Error(format!("{root}/mail: not there: make the folder for mailboxes")),
                Finding::Error(format!("{root}/log: not there: make the folder for the log")),
            ]
        );
        for name in ["mail", "log", "spool"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("spool/active"), "").unwrap();
        let found = check(&file, &config, &ids);
        assert_eq!(found, [Finding::Error(format!("{root}/spool/active is not a folder: move it away"))]);
    }
}
