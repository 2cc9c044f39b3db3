//! `ironpost.toml(5)` tells of every key that there is, with its default, and of no other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use common::config::Config;
use std::collections::BTreeMap;
use std::path::Path;

/// Keys that are absent by default, so that all of them are seen.
const OPTIONAL: &str = "[smtpd]\nuser = \"a\"\nsender_logins = \"s\"\nrelay_recipients = \"s\"\n[smtpd.tls]\ncertificate = \"i\"\nprivate_key = \"j\"\nclient_ca_file = \"p\"\nrelay_clientcerts = \"o\"\n[[smtpd.tls.certificates]]\ncertificate = \"l\"\nprivate_key = \"m\"\n[queued]\nuser = \"b\"\nnotification_templates = \"f\"\n[deliverd]\nuser = \"c\"\n\
                        relay_host = \"[d]:1\"\ntransport = \"e\"\nrelay_credentials = \"k\"\ntls_policy = \"g\"\nca_file = \"h\"\n\
                        [smtpd.auth]\nusers = \"n\"\nmechanisms = [\"PLAIN\"]\n\
                        [smtpd.auth.introspection]\nurl = \"https://o/\"\nclient_id = \"p\"\nclient_secret = \"q\"\naudience = \"r\"\nca_file = \"s\"\n";
/// Keys whose default depends on the machine, or is nothing.
const WITHOUT_DEFAULT: [&str; 22] = [
    "url",
    "client_id",
    "client_secret",
    "audience",
    "client_ca_file",
    "relay_clientcerts",
    "mechanisms",
    "certificate",
    "sender_logins",
    "relay_recipients",
    "private_key",
    "hostname",
    "mail_name",
    "local_domains",
    "user",
    "notification_templates",
    "relay_host",
    "relay_credentials",
    "tls_policy",
    "ca_file",
    "transport",
    "nameservers",
];

/// Values by section (`""`: the top) and key.
type Keys = BTreeMap<(String, String), toml::Value>;

fn flatten(section: &str, table: &toml::Table, found: &mut Keys) {
    for (key, value) in table {
        let inner = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match value {
            toml::Value::Table(table) => flatten(&inner, table, found),
            toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                list.iter().filter_map(toml::Value::as_table).for_each(|one| flatten(&inner, one, found));
            }
            value => drop(found.insert((section.to_owned(), key.clone()), value.clone())),
        }
    }
}

/// The text behind `.It Ic KEY`, by section and key.
fn page() -> BTreeMap<(String, String), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/man/ironpost.toml.5");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut section, mut key, mut found) = (None, None, BTreeMap::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix(".Ss ") {
            let name = title.trim_matches(['[', ']']);
            section = Some(if name == title { String::new() } else { name.to_owned() });
        } else if line.starts_with(".Sh ") {
            section = None;
        }
        if line.starts_with(".Ss ") || line.starts_with(".Sh ") {
            key = None;
        }
        if let (Some(section), Some(name)) = (&section, line.strip_prefix(".It Ic ")) {
            key = Some((section.clone(), name.to_owned()));
        }
        if let Some(key) = &key {
            *found.entry(key.clone()).or_insert_with(String::new) += &format!("{line}\n");
        }
    }
    found
}

#[test]
fn every_key_is_described_with_its_default() {
    let config = Config::parse(OPTIONAL, Path::new("x"), Path::new("/")).unwrap();
    let mut keys = Keys::new();
    flatten("", &toml::Table::try_from(&config).unwrap(), &mut keys);
    let page = page();
    let described: Vec<_> = page.keys().collect();
    assert_eq!(described, keys.keys().collect::<Vec<_>>());
    for ((section, key), value) in &keys {
        let text = &page[&(section.clone(), key.clone())];
        if WITHOUT_DEFAULT.contains(&key.as_str())
            || ["smtpd.listen", "smtpd.tls.certificates"].contains(&section.as_str())
            || (section == "smtpd.auth" && key == "users")
        {
            continue;
        }
        let parts: Vec<String> = match value {
            toml::Value::Integer(number) => vec![format!("Default: {number}.")],
            toml::Value::Boolean(truth) => vec![format!("Default: {truth}.")],
            toml::Value::String(text) => vec![format!("Default:\n.Dq {text} .")],
            toml::Value::Array(list) if list.is_empty() => vec!["Default: none.".to_owned()],
            toml::Value::Array(list) => {
                list.iter().map(|one| format!(".Dq {}", one.as_str().unwrap())).collect()
            }
            other => panic!("{section}.{key}: {other:?}"),
        };
        for part in parts {
            assert!(text.contains(&part), "{section}.{key}: {part:?} is not in\n{text}");
        }
    }
}
