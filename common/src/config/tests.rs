//! Good and bad configurations.

use super::*;
use std::path::Path;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("ironpost.toml"), Path::new("/etc/ironpost"))
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.smtpd, Smtpd::default());
    assert!(config.local_domains.contains(&"localhost".parse().unwrap()));
    assert!(config.trusted_networks.contains("127.3.4.5".parse().unwrap()));
    assert!(config.trusted_networks.contains("::ffff:127.0.0.1".parse().unwrap()));
    assert!(!config.trusted_networks.contains("128.0.0.1".parse().unwrap()));
}

#[test]
fn what_is_written_is_read_again() {
    let text = r#"
hostname = "mx.example.com"
relay_domains = ["relay.example"]
trusted_networks = ["10.0.0.0/8", "2001:db8::/32"]
spool_directory = "spool"
[smtpd]
message_size_limit = "10M"
idle_timeout = "90s"
bare_newlines = "normalize"
[[smtpd.listen]]
address = "127.0.0.1:2525"
[queued]
first_retry = "500ms"
notification_templates = "texts"
[queued.destinations]
concurrency = 5
rate = "10/s"
[queued.destinations."Slow.example"]
rate = "500/2h"
concurrency = 1
[queued.destinations."[mx.example]:2525"]
recipients = 1
rate = "none"
[queued.destinations.local]
[deliverd]
relay_host = "[smtp.example.net]:587"
nameservers = ["127.0.0.1:5353"]
transport = "transport"
[local]
users = "users"
mailbox = "mail/{domain}/{user}/"
recipient_delimiter = ""
[log]
to = "log/mail.log"
format = "json"
"#;
    let config = parse(text).unwrap();
    assert_eq!(config.spool_directory, Path::new("/etc/ironpost/spool"));
    assert_eq!(config.local.mailbox, "/etc/ironpost/mail/{domain}/{user}/");
    assert_eq!(config.smtpd.message_size_limit.0, 10 << 20);
    assert_eq!(config.queued.first_retry.as_millis(), 500);
    assert_eq!(config.queued.notification_templates.as_deref(), Some(Path::new("/etc/ironpost/texts")));
    assert_eq!(config.smtpd.recipient_limit, 1000, "other keys keep their defaults");
    let mut limits: Vec<_> = config.queued.destinations.each().collect();
    limits.sort_by_key(|(nexthop, ..)| format!("{nexthop:?}"));
    let limits: Vec<_> =
        limits.iter().map(|(n, c, r, rate)| format!("{n} {c} {r} {rate} {:?}", rate.gap())).collect();
    assert_eq!(
        limits,
        [
            "local 5 50 10/s 100ms",
            "slow.example 1 50 500/2h 14.4s",
            "local 5 50 10/s 100ms",
            "[mx.example]:2525 5 1 none 0ns"
        ]
    );
    let written = toml::to_string(&config).unwrap();
    assert_eq!(parse(&written).unwrap(), config, "{written}");
}

#[test]
fn bad_keys_and_values_are_shown_at_their_place() {
    for (text, place, says) in [
        ("hostnme = \"x\"", "1:1:", "unknown field `hostnme`"),
        ("\n\n[smtpd]\n  colour = 1", "4:3:", "unknown field `colour`"),
        ("[smtpd]\nmessage_size_limit = \"lots\"", "2:22:", "\"lots\" is no size"),
        ("[queued]\nfirst_retry = \"5\"", "2:15:", "\"5\" is no time"),
        ("[queued]\nfirst_retry = 5", "2:15:", "invalid type"),
        ("[queued]\nfirst_retry = \"0s\"", "2:15:", "must not be 0"),
        ("trusted_networks = [\"10.0.0.1/8\"]", "1:20:", "bits set behind"),
        ("trusted_networks = [\"10.0.0.0/33\"]", "1:20:", "is no network"),
        ("hostname = \"a b\"", "1:12:", "malformed domain"),
        ("[[smtpd.listen]]\naddress = \"x\"", "2:11:", "socket address"),
        ("[[smtpd.listen]]\naddress = \"[::]:25\"\ntls = \"always\"", "3:7:", "unknown variant"),
        ("[[smtpd.listen]]\naddress = \"[::]:25\"\nkind = \"submision\"", "3:8:", "unknown variant"),
        (
            "[[smtpd.listen]]\naddress = \"[::]:25\"\n[[smtpd.listen]]\naddress = \"[::]:587\"\nkind = \"submission\"",
            "3:1:",
            "set users in [smtpd.auth]",
        ),
        (
            "[[smtpd.listen]]\naddress = \"[::]:25\"\nauth = true\ntls = \"none\"\n[smtpd.auth]\nusers = \"u\"",
            "1:1:",
            "nobody could log in",
        ),
        ("[[smtpd.listen]]\naddress = \"[::]:25\"\nhide_client = true", "1:1:", "kind = \"submission\""),
        ("[[smtpd.listen]]\naddress = \"[::]:25\"\nauth_without_tls = true", "1:1:", "kind = \"submission\""),
        ("[smtpd]\nclient_auth_failure_rate = \"5/0m\"", "2:28:", "is no rate"),
        ("[smtpd]\nclient_auth_failure_rate = \"warn:5\"", "2:28:", "\"5\" is no rate"),
        ("[smtpd]\nclient_message_rate = \"warn:none\"", "2:23:", "without a limit"),
        ("[queued.destinations]\nrate = \"warn:5/s\"", "2:8:", "is no rate"),
        ("[smtpd]\nmax_submission_connections = 0", "2:30:", "must not be 0"),
        ("[local]\nmailbox = \"/var/mail/all\"", "2:11:", "share one mailbox"),
        ("[local]\nmailbox = \"/m/{usr}\"", "2:11:", "{usr} is not known"),
        ("[local]\nmailbox = \"/m/../{user}\"", "2:11:", "\"..\""),
        ("[deliverd]\nrelay_host = \"[x\"", "2:14:", "missing \"]\""),
        ("[queued]\nmax_retry = \"1s\"", "2:13:", "shorter than first_retry"),
        ("[queued.destinations]\nconcurency = 5", "2:14:", "unknown field `concurency`"),
        ("[queued.destinations]\nratio = \"5/s\"", "2:9:", "unknown field `ratio`"),
        ("[queued.destinations]\nrate = \"5\"", "2:8:", "\"5\" is no rate"),
        ("[queued.destinations]\nrate = \"0/s\"", "2:8:", "\"0/s\" is no rate"),
        ("[queued.destinations]\nconcurrency = 0", "2:15:", "must not be 0"),
        ("[queued.destinations.\"a.example\"]\nrat = 5", "2:1:", "unknown field `rat`"),
        ("[queued.destinations.\"a.example\"]\nconcurrency = 0", "2:15:", "nonzero"),
        ("[queued.destinations.\"a.example\"]\nrecipients = 51", "2:14:", "50 at most"),
        ("[queued.destinations.\"a b\"]\nrecipients = 5", "1:1:", "a nexthop, as"),
        ("[queued.destinations.\"a.b\"]\n[queued.destinations.\"A.b\"]\n", "1:9:", "twice"),
        ("relay_domains = [\"localhost\"]", "1:17:", "local_domains as well"),
        ("hostname = ", "1:12:", ""),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("ironpost.toml:{place}")), "{text:?} gave\n{error}");
        assert!(error.contains(says) && error.contains('^') || says.is_empty(), "{text:?} gave\n{error}");
    }
}
