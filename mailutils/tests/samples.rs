//! The files under `etc/` say what the programs do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use common::aliases::Aliases;
use common::config::{AuthUsers, Config, NamedCertificate, Override, Rate, ServedName, Users};
use common::reload::Daemon;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;

const SAMPLE: &str = include_str!("../../etc/ironpost.toml");
const FOLDER: &str = "/etc/ironpost";

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("ironpost.toml"), Path::new(FOLDER)).unwrap_or_else(|e| panic!("{e}"))
}

/// `#key = value` is a default; `# key = value` an example where the default depends on the machine.
fn is_setting(line: &str) -> bool {
    let key = line.split(" = ").next().unwrap_or("");
    line.starts_with('[')
        || (line.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

fn uncommented(marks: &[&str]) -> String {
    let line = |line: &str| {
        let found = marks.iter().find_map(|mark| line.strip_prefix(mark).filter(|rest| is_setting(rest)));
        format!("{}\n", found.unwrap_or(line))
    };
    SAMPLE.lines().map(line).collect()
}

/// `section.key` of everything that is set.
fn keys(text: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| is_setting(line)) {
        match line.strip_prefix('[') {
            Some(name) => section = name.trim_matches(['[', ']']).to_owned(),
            None => {
                found.insert(format!("{section}.{}", line.split(" = ").next().unwrap()));
            }
        }
    }
    found
}

#[test]
fn the_sample_as_it_is_changes_nothing() {
    assert_eq!(parse(SAMPLE), parse(""));
}

#[test]
fn the_defaults_in_the_sample_are_the_defaults() {
    let text = uncommented(&["#"]);
    assert_eq!(parse(&text), parse(""), "{text}");
    assert!(keys(&text).len() > 20);
}

#[test]
fn the_examples_in_the_sample_are_valid() {
    parse(&uncommented(&["#", "# "]));
}

#[test]
fn every_key_is_in_the_sample_and_explained() {
    let mut all = parse("");
    all.smtpd.user = Some("x".into());
    all.smtpd.sender_logins = Some("x".into());
    all.smtpd.relay_recipients = Some("x".into());
    all.smtpd.tls.certificate = Some("x".into());
    all.smtpd.tls.private_key = Some("x".into());
    let names = vec![ServedName::try_from("x".to_owned()).unwrap()];
    let other = NamedCertificate { certificate: "x".into(), private_key: "x".into(), names };
    all.smtpd.tls.client_ca_file = Some("x".into());
    all.smtpd.tls.relay_clientcerts = Some("x".into());
    all.smtpd.tls.certificates = vec![other];
    all.smtpd.auth.users = Some(AuthUsers::System);
    all.smtpd.auth.mechanisms = Some(Vec::new());
    let introspection = &mut all.smtpd.auth.introspection;
    introspection.url = Some("https://x/".parse().unwrap());
    introspection.client_id = Some("x".into());
    introspection.client_secret = Some("x".into());
    introspection.audience = Some("x".into());
    introspection.ca_file = Some("x".into());
    all.queued.user = Some("x".into());
    all.queued.notification_templates = Some("x".into());
    all.deliverd.user = Some("x".into());
    all.deliverd.relay_host = Some("x".parse().unwrap());
    all.deliverd.relay_credentials = Some("x".into());
    all.deliverd.tls_policy = Some("x".into());
    all.deliverd.ca_file = Some("x".into());
    all.deliverd.transport = Some("x".into());
    all.local.users = Users::System;
    let own = Override { concurrency: NonZeroU32::new(2), recipients: None, rate: Some(Rate::NONE) };
    all.queued.destinations.overrides.insert("example.com".into(), own);
    assert_eq!(keys(&uncommented(&["#", "# "])), keys(&toml::to_string(&all).unwrap()));
    let mut explained = false;
    for line in SAMPLE.lines() {
        let setting = ["#", "# "]
            .iter()
            .any(|mark| line.strip_prefix(mark).is_some_and(|r| is_setting(r) && !r.starts_with('[')));
        assert!(!setting || explained, "no explanation above {line}");
        explained = line.starts_with("# ") && !setting;
    }
}

#[test]
fn the_sample_aliases_are_right() {
    let text = include_str!("../../etc/aliases");
    let aliases = Aliases::parse(Path::new("aliases"), text).unwrap();
    assert_eq!(aliases.problems().count(), 0);
    for name in ["postmaster", "abuse", "mailer-daemon"] {
        assert!(aliases.get(name).unwrap().is_ok(), "{name}");
    }
}

#[test]
fn units_start_the_daemons_that_ironpost_run_starts() {
    for (unit, command) in [
        (include_str!("../../etc/systemd/ironpost-smtpd.service"), "smtpd"),
        (include_str!("../../etc/systemd/ironpost-queued.service"), "queued"),
        (include_str!("../../etc/systemd/ironpost-deliverd-smtp.service"), "deliverd smtp"),
        (include_str!("../../etc/systemd/ironpost-deliverd-local.service"), "deliverd local"),
    ] {
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/lib/ironpost/")).unwrap();
        assert_eq!(start, command);
        assert!(unit.contains("\nType=notify\n"), "{command}");
        let name = command.replace(' ', "-");
        // As root, whatever the daemon has become.
        let reload = format!("\nExecReload=+/usr/sbin/ironpost reload {name}\n");
        assert!(unit.contains(&reload), "{command}");
        assert!(Daemon::ALL.iter().any(|daemon| daemon.unit() == name), "{command}");
        let target = include_str!("../../etc/systemd/ironpost.target");
        assert!(target.contains(&format!("ironpost-{}.service", command.replace(' ', "-"))), "{command}");
    }
}
