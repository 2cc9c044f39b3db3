//! Are the tables right? Each one by itself, so that one mistake does not hide another.

use super::Finding;
use common::access::AccessTable;
use common::aliases::Aliases;
use common::config::{self, Config};
use common::credentials;
use common::oauth::TokenFile;
use common::relay_recipients::RelayRecipients;
use common::routing::{Expansion, Router, Transports};
use common::sender_logins::SenderLogins;
use common::table::{MAX_FILE, TableError};
use common::templates::Templates;
use common::time::Timestamp;
use common::tls::{ClientCerts, Identity, Level, Policies, Roots};
use common::users::Users;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// All tables; when each is right by itself, the aliases are also followed to their ends.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = aliases(&config.local.aliases);
    if let config::Users::File(path) = &config.local.users {
        findings.extend(read(path, |text| Users::parse(path, text).map(drop)));
    }
    if let Some(path) = &config.deliverd.transport {
        findings.extend(lines(path, |path, text| Transports::parse(path, text).map(drop)));
    }
    if let Some(path) = &config.deliverd.tls_policy {
        findings.extend(lines(path, |path, text| Policies::parse(path, text).map(drop)));
    }
    if let Some(path) = &config.deliverd.relay_credentials {
        findings.extend(credentials(path, config));
    }
    for path in [&config.deliverd.ca_file, &config.smtpd.auth.introspection.ca_file].into_iter().flatten() {
        let wrong = Roots::from_file(path).err();
        findings.extend(wrong.map(|what| Finding::Error(format!("{}: {what}", path.display()))));
    }
    if let Some(path) = &config.smtpd.sender_logins {
        findings.extend(lines(path, |path, text| SenderLogins::parse(path, text).map(drop)));
    }
    if let Some(path) = &config.smtpd.relay_recipients {
        findings.extend(lines(path, |path, text| RelayRecipients::parse(path, text).map(drop)));
    }
    for path in config.smtpd.access_tables() {
        findings.extend(read(path, |text| AccessTable::parse(path, text).map(drop)));
    }
    if let Some(path) = config.smtpd.auth.users_file() {
        findings.extend(logins(path));
    }
    if config.smtpd.auth.users == Some(config::AuthUsers::System) {
        let missing = auth::pam::find(&config.smtpd.auth.pam_service).err();
        findings
            .extend(missing.map(|what| Finding::Error(format!("[smtpd.auth] users = \"system\": {what}"))));
    }
    findings.extend(certificates(config));
    let tls = &config.smtpd.tls;
    let asks = |one: &config::Listen| one.client_certificate != config::ClientCertificates::None;
    if (tls.client_ca_file.is_some() || tls.relay_clientcerts.is_some())
        && !config.smtpd.listen.iter().any(asks)
    {
        findings.push(Finding::Warning(
            "client_ca_file and relay_clientcerts have no effect: no listener asks clients for certificates (client_certificate)"
                .into(),
        ));
    }
    if let Some(path) = &config.smtpd.tls.client_ca_file {
        let wrong = Roots::from_file(path).err();
        findings.extend(wrong.map(|what| Finding::Error(format!("{}: {what}", path.display()))));
    }
    if let Some(path) = &config.smtpd.tls.relay_clientcerts {
        findings.extend(lines(path, |path, text| ClientCerts::parse(path, text).map(drop)));
    }
    if !findings.iter().any(|f| matches!(f, Finding::Error(_))) {
        findings.extend(loops(config));
    }
    if let Some(path) = &config.queued.notification_templates {
        findings.extend(Templates::load(path).err().map(|error| Finding::Error(error.to_string())));
    }
    findings
}

/// The server's own certificates, each by itself.
fn certificates(config: &Config) -> Vec<Finding> {
    let tls = &config.smtpd.tls;
    let first = tls.certificate.as_ref().zip(tls.private_key.as_ref());
    let others = tls.certificates.iter().map(|one| (&one.certificate, &one.private_key));
    let problem = |(certificate, key): (&PathBuf, &PathBuf)| match Identity::load(certificate, key) {
        Ok(identity) => identity
            .problem(Timestamp::now())
            .map(|problem| Finding::Error(format!("{}: {problem}", certificate.display()))),
        Err(error) => Some(Finding::Error(error.to_string())),
    };
    first.into_iter().chain(others).filter_map(problem).collect()
}

/// The aliases file, which need not exist.
pub fn aliases(path: &Path) -> Vec<Finding> {
    if fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return vec![Finding::Warning(format!("{}: not there: there are no aliases", path.display()))];
    }
    let mut findings = Vec::new();
    let problem = read(path, |text| {
        let aliases = Aliases::parse(path, text)?;
        findings
            .extend(aliases.problems().map(|problem| Finding::Warning(format!("{problem}: its mail waits"))));
        findings.extend(aliases.ignored().map(|line| Finding::Warning(line.to_owned())));
        Ok(())
    });
    findings.extend(problem);
    findings
}

/// The table with passwords: right line by line, and each password can be sent.
fn credentials(path: &Path, config: &Config) -> Vec<Finding> {
    if fs::File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return vec![Finding::Warning(format!("{}: cannot be read by you, so not checked", path.display()))];
    }
    let mut findings = lines(path, |path, text| credentials::Table::parse(path, text).map(drop));
    let Ok(table) = fs::read_to_string(path).map(|text| credentials::Table::parse(path, &text)) else {
        return findings;
    };
    let policies = config
        .deliverd
        .tls_policy
        .as_ref()
        .and_then(|policy| Policies::parse(policy, &fs::read_to_string(policy).ok()?).ok());
    let files =
        table.iter().flat_map(credentials::Table::iter).filter_map(credentials::Credentials::token_file);
    findings.extend(files.flat_map(token_file));
    for line in table.iter().flat_map(credentials::Table::iter).filter(|line| !line.is_insecure()) {
        let Ok(nexthop) = line.key().parse() else { continue };
        let level = policies.as_ref().and_then(|policies| policies.find(&nexthop)).map(|policy| policy.level);
        if level.unwrap_or(config.deliverd.tls) == Level::None {
            findings.push(Finding::Error(format!(
                "{}: the password for {} cannot be sent, because tls is none for it: remove that, or write \"insecure\" before the name",
                path.display(),
                line.key()
            )));
        }
    }
    findings
}

/// The users file: each line that is wrong.
fn logins(path: &Path) -> Vec<Finding> {
    if fs::File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return vec![Finding::Warning(format!("{}: cannot be read by you, so not checked", path.display()))];
    }
    let mut findings = Vec::new();
    let whole = read(path, |text| {
        let users = auth::users::Users::parse(path, text);
        findings.extend(users.problems().iter().cloned().map(Finding::Error));
        if users.is_empty() {
            findings.push(Finding::Warning(format!("{}: there are no users in it", path.display())));
        }
        Ok(())
    });
    findings.extend(whole);
    findings
}

/// A file that says where a token comes from, and the authorities that it names.
fn token_file(path: &Path) -> Vec<Finding> {
    if fs::File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        return vec![Finding::Warning(format!("{}: cannot be read by you, so not checked", path.display()))];
    }
    let mut findings = Vec::new();
    let wrong = read(path, |text| {
        if let TokenFile::Endpoint(endpoint) = TokenFile::parse(path, text)?
            && let Some(authorities) = &endpoint.ca_file
            && let Err(what) = Roots::from_file(authorities)
        {
            findings.push(Finding::Error(format!("{}: {what}", authorities.display())));
        }
        Ok(())
    });
    findings.extend(wrong);
    findings
}

/// A table whose lines stand for themselves. A wrong one is told with its place, and the others with theirs.
fn lines(path: &Path, parse: impl Fn(&Path, &str) -> Result<(), TableError>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let whole = read(path, |text| {
        for (number, line) in common::table::logical_lines(text) {
            if let Err(error) = parse(path, &line) {
                findings.push(Finding::Error(at_line(path, number, &error)));
            }
        }
        // What a line alone cannot show: a key that is there twice.
        if findings.is_empty() { parse(path, text) } else { Ok(()) }
    });
    findings.extend(whole);
    findings
}

/// The text of an error about a file of just this line, with the line's place in the real file.
fn at_line(path: &Path, number: usize, error: &TableError) -> String {
    let text = error.to_string();
    let place = format!("{}:", path.display());
    let what = text.strip_prefix(&place).unwrap_or(&text);
    let what = what.strip_prefix("1:").unwrap_or(what);
    format!("{place}{number}:{what}")
}

fn read(path: &Path, parse: impl FnOnce(&str) -> Result<(), TableError>) -> Option<Finding> {
    let text = match fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_FILE => {
            Err(io::Error::other(format!("larger than {} MiB", MAX_FILE >> 20)))
        }
        Ok(_) => fs::read_to_string(path),
        Err(error) => Err(error),
    };
    match text {
        Ok(text) => parse(&text).err().map(|error| Finding::Error(error.to_string())),
        Err(error) => Some(Finding::Error(format!("{}: cannot read: {error}", path.display()))),
    }
}

/// Aliases that lead back to themselves, or nowhere.
fn loops(config: &Config) -> Vec<Finding> {
    let text = fs::read_to_string(&config.local.aliases).unwrap_or_default();
    let Ok(aliases) = Aliases::parse(&config.local.aliases, &text) else { return Vec::new() };
    let router = Router {
        mail_name: config.mail_name.clone(),
        local_domains: config.local_domains.iter().cloned().collect(),
        relay_domains: config.relay_domains.iter().cloned().collect(),
        own_addresses: HashSet::new(),
        delimiter: config.local.recipient_delimiter,
        relay_host: None,
        transports: Transports::default(),
        aliases,
        users: Users::System,
    };
    let names = common::table::logical_lines(&text);
    let names = names.iter().filter_map(|(number, line)| {
        let name = line.split_once(':')?.0.trim().trim_matches('"');
        Some((number, common::address::LocalPart::quote(name).ok()?))
    });
    let path = config.local.aliases.display();
    names
        .filter_map(|(number, name)| {
            let address = common::address::Address::new(name, config.mail_name.clone()).ok()?;
            match router.expand(&address) {
                // Aliases that use what is not built are told of one by one already.
                Expansion::Broken(status) if status.code.class() == 5 => {
                    Some(Finding::Error(format!("{path}:{number}: {}", status.text)))
                }
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_found_at_their_lines() {
        for (aliases, users, transport, expected) in [
            ("a: b\n", "joe\n", "x smtp:[y]\n", &[][..]),
            ("a b\n", "joe\n", "x smtp:[y]\n", &["aliases:1: wanted NAME"]),
            ("a: b\nb: a\n", "joe\n", "x smtp:[y]\n", &["aliases:1: alias loop", "aliases:2: alias loop"]),
            ("a: |cmd\n", "joe\n", "x smtp:[y]\n", &["aliases:1: alias \"a\": delivery to commands"]),
            ("a b\n", "x/y\n", "x what:[y]\n", &["aliases:1: ", "users:1: ", "transport:1: x: transport"]),
            (
                "a: b\n",
                "joe\n",
                "x smtp:[y]\n\ny\nz what:\n",
                &["transport:3: \"y\" has no value", "transport:4: z: transport \"what\""],
            ),
            ("a: b\n", "joe\n", "x smtp:[y]\nX smtp:[z]\n", &["transport:2: \"X\" is there twice"]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in [("aliases", aliases), ("users", users), ("transport", transport)] {
                fs::write(folder.path().join(name), text).unwrap();
            }
            let text = "mail_name = \"here.example\"\n[local]\nusers = \"users\"\naliases = \"aliases\"\n\
                [deliverd]\ntransport = \"transport\"\n";
            let config = Config::parse(text, "x".as_ref(), folder.path()).unwrap();
            let found: Vec<String> = check(&config).iter().map(Finding::text).collect();
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, part) in found.iter().zip(expected) {
                assert!(found.contains(part), "{found:?} has no {part:?}");
            }
        }
    }

    #[test]
    fn mistakes_about_tls_are_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("aliases"), "").unwrap();
        fs::write(folder.path().join("tls_policy"), "a.example secure\nb.example dane\n[c encrypt\n")
            .unwrap();
        fs::write(folder.path().join("ca.pem"), "nothing\n").unwrap();
        fs::write(folder.path().join("logins"), "b.example me:hush\nc.example hush\n").unwrap();
        let text = "mail_name = \"here.example\"\n[local]\naliases = \"aliases\"\n\
            [deliverd]\ntls_policy = \"tls_policy\"\nca_file = \"ca.pem\"\nrelay_credentials = \"logins\"\n";
        let config = Config::parse(text, "x".as_ref(), folder.path()).unwrap();
        let found: Vec<String> = check(&config).iter().map(Finding::text).collect();
        let parts = [
            "tls_policy:2: \"dane\" is no level",
            "tls_policy:3: missing",
            "logins:2: c.example: wanted USER:PASSWORD",
            "ca.pem: has no certificate",
        ];
        assert_eq!(found.len(), parts.len(), "{found:?}");
        assert!(found.iter().zip(parts).all(|(found, part)| found.contains(part)), "{found:?}");
    }

    #[test]
    fn a_password_that_can_never_be_sent_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("aliases"), "").unwrap();
        fs::write(folder.path().join("tls_policy"), "b.example none\n").unwrap();
        let logins = "a.example me:hush\nb.example me:hush\n[b.example] insecure me:hush\n";
        fs::write(folder.path().join("logins"), logins).unwrap();
        let text = "mail_name = \"here.example\"\n[local]\naliases = \"aliases\"\n\
            [deliverd]\ntls_policy = \"tls_policy\"\nrelay_credentials = \"logins\"\n";
        let config = Config::parse(text, "x".as_ref(), folder.path()).unwrap();
        let found: Vec<String> = check(&config).iter().map(Finding::text).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("the password for b.example cannot be sent"), "{found:?}");
    }

    #[test]
    fn a_mistake_in_the_texts_of_notifications_is_found_at_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let text = "mail_name = \"here.example\"\n[queued]\nnotification_templates = \"texts\"\n\
            [local]\naliases = \"aliases\"\n";
        fs::write(folder.path().join("aliases"), "").unwrap();
        let config = Config::parse(text, "x".as_ref(), folder.path()).unwrap();
        let path = folder.path().join("texts");
        for (text, says) in [
            (None, Some(": cannot read: ")),
            (Some("[failed]\nSubject: x\n\n{sender}\n"), None),
            (Some("[failed]\nSubject: x\n\n{sendr}\n"), Some(":4: {sendr} is not known")),
        ] {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            let found: Vec<String> = check(&config).iter().map(Finding::text).collect();
            let expected = says.map(|says| format!("error: {}{says}", path.display()));
            assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
            assert!(found.iter().zip(&expected).all(|(found, start)| found.starts_with(start)), "{found:?}");
        }
    }

    #[test]
    fn missing_files_are_errors_but_for_the_aliases() {
        let text = "[local]\nusers = \"u\"\naliases = \"a\"\n[deliverd]\ntransport = \"t\"\n";
        let config = Config::parse(text, "x".as_ref(), "/nonexistent".as_ref()).unwrap();
        let found = check(&config);
        assert!(
            matches!(found.as_slice(), [Finding::Warning(_), Finding::Error(_), Finding::Error(_)]),
            "{found:?}"
        );
    }
}
