//! TLS towards other hosts: every state of a server's TLS at every level, against Postfix with OpenSSL, and against
//! scripted servers for what no real one does.

use std::net::Ipv4Addr;

use ironpost_tests::certificates::{Authority, Certificate, self_signed};
use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::dns::{Dnsmasq, Zone};
use ironpost_tests::counterpart::postfix::Postfix;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::own_address;
use ironpost_tests::process::run;
use ironpost_tests::setup::Setup;
use ironpost_tests::{is_root, skipped};

const TLS: &str = "smtpd_tls_security_level = may
smtpd_tls_cert_file = {folder}/cert.pem
smtpd_tls_key_file = {folder}/key.pem
smtpd_tls_loglevel = 1
virtual_mailbox_domains = remote.test, may.test, encrypt.test, verify.test, secure.test
";

/// A Postfix with this certificate, and these lines in its main.cf.
fn postfix(address: Ipv4Addr, certificate: &Certificate, more: &str) -> Postfix {
    Postfix::start_with(address, None, &format!("{TLS}{more}"), |folder| {
        certificate.write(folder);
    })
}

/// An Ironpost for which `u@LEVEL.test` goes to `[LEVEL.remote.test]:PORT` at that level, all at `address`.
fn ironpost(address: Ipv4Addr, port: u16, ca: &Authority) -> (Ironpost, Dnsmasq) {
    let (setup, dns) = setup(address, port, ca);
    (setup.start(), dns)
}

fn setup(address: Ipv4Addr, port: u16, ca: &Authority) -> (Setup, Dnsmasq) {
    let levels = ["may", "encrypt", "verify", "secure"];
    let mut zone = Zone::new();
    for name in ["may.remote.test", "encrypt.remote.test", "verify.remote.test", "secure.remote.test"] {
        zone = zone.host(name, address);
    }
    let dns = zone.serve();
    let each = |line: &dyn Fn(&str) -> String| levels.iter().map(|level| line(level)).collect::<String>();
    let setup = Setup::new()
        .dns(dns.address(), port)
        .text("deliverd", "transport", "transport")
        .text("deliverd", "tls_policy", "tls_policy")
        .text("deliverd", "ca_file", "ca.pem")
        .file("ca.pem", &ca.pem())
        .file("transport", &each(&|level| format!("{level}.test smtp:[{level}.remote.test]:{port}\n")))
        .file("tls_policy", &each(&|level| format!("[{level}.remote.test]:{port} {level}\n")));
    (setup, dns)
}

/// Sends to `u@LEVEL.test`, and gives the lines about the connection (if any) and the outcome.
fn send(ironpost: &Ironpost, level: &str) -> (String, String) {
    let id = ironpost.send("alice@example.test", &[&format!("u@{level}.test")], &short("x"));
    let outcome = ironpost
        .log
        .wait("an outcome", |line| (line.contains(&id) && line.contains("status=")).then(|| line.to_owned()));
    let established = format!("TLS connection established to {level}.remote.test[");
    let lines = ironpost.log.all();
    let line = lines.iter().rev().find(|line| line.contains(&established)).cloned().unwrap_or_default();
    (line, outcome)
}

#[test]
fn every_kind_of_certificate_at_every_level() {
    if !is_root() {
        return skipped("every_kind_of_certificate_at_every_level", "Postfix's master runs only as root");
    }
    let (ca, other) = (Authority::new("Test Authority"), Authority::new("Somebody Else"));
    let names = &["verify.remote.test", "secure.remote.test"][..];
    for (kind, certificate, word, says) in [
        ("good", ca.issue(names), "Verified", ""),
        ("wrong name", ca.issue(&["else.test"]), "Trusted", "not verified: it is for else.test, not for"),
        ("expired", ca.issue_expired(names), "Untrusted", "not trusted: it has expired"),
        ("self-signed", self_signed(names), "Untrusted", "not trusted: it is self-signed"),
        ("unknown authority", other.issue(names), "Untrusted", "not trusted: its issuer is not known"),
    ] {
        let address = own_address();
        let postfix = postfix(address, &certificate, "");
        let (ironpost, _dns) = ironpost(address, postfix.address().port(), &ca);
        for level in ["may", "encrypt", "verify", "secure"] {
            let (connection, outcome) = send(&ironpost, level);
            assert!(connection.contains(&format!("level={level}")), "{kind} {level}: {connection:?}");
            assert!(connection.contains(": TLSv1.3 with cipher TLS_AES_"), "{kind} {level}: {connection}");
            if matches!(level, "may" | "encrypt") {
                // Any certificate will do; no name is asked for.
                let word = if word == "Untrusted" { word } else { "Trusted" };
                assert!(connection.contains(&format!(" {word} TLS")), "{kind} {level}: {connection}");
                assert!(outcome.contains("status=sent"), "{kind} {level}: {outcome}");
                continue;
            }
            assert!(connection.contains(&format!(" {word} TLS")), "{kind} {level}: {connection}");
            if says.is_empty() {
                assert!(outcome.contains("status=sent"), "{kind} {level}: {outcome}");
            } else {
                let deferred = outcome.contains("status=deferred (Server certificate ")
                    && outcome.contains("dsn=4.7.5")
                    && outcome.contains(says);
                assert!(deferred, "{kind} {level}: {outcome}");
            }
        }
        let sent = if says.is_empty() { 4 } else { 2 };
        assert_eq!(postfix.wait_mail(sent).len(), sent, "{kind}");
        assert!(postfix.mail().iter().all(|mail| mail.text().contains("with ESMTPS")), "{kind}");
    }
}

#[test]
fn exchanges_are_verified_by_their_name_or_by_that_of_the_domain() {
    if !is_root() {
        return skipped("exchanges_are_verified", "Postfix's master runs only as root");
    }
    let ca = Authority::new("Test Authority");
    let address = own_address();
    let certificate = ca.issue(&["mx.host.test"]);
    let postfix = postfix(address, &certificate, "");
    let port = postfix.address().port();
    let dns = Zone::new()
        .mx("verify.test", 10, "mx.host.test")
        .mx("secure.test", 10, "mx.host.test")
        .mx("remote.test", 10, "mx.host.test")
        .host("mx.host.test", address)
        .serve();
    // What an admin would do to get the fingerprint.
    let print = run(
        std::process::Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha256"]),
        certificate.pem.as_bytes(),
    );
    let print = print.ok().text().trim().rsplit('=').next().unwrap().to_owned();
    let ironpost = Setup::new()
        .dns(dns.address(), port)
        .text("deliverd", "tls", "verify")
        .text("deliverd", "tls_policy", "tls_policy")
        .text("deliverd", "ca_file", "ca.pem")
        .file("ca.pem", &ca.pem())
        .file("tls_policy", &format!("secure.test secure\nremote.test fingerprint fingerprint={print}\n"))
        .start();
    for (domain, word, expected) in [
        ("verify.test", "Verified", "status=sent"),
        // Who can forge the DNS can name any exchange.
        (
            "secure.test",
            "Trusted",
            "Server certificate not verified: it is for mx.host.test, not for secure.test",
        ),
        ("remote.test", "Verified", "status=sent"),
    ] {
        let mark = ironpost.log.mark();
        let id = ironpost.send("alice@example.test", &[&format!("u@{domain}")], &short("x"));
        let outcome = ironpost.log.wait("an outcome", |line| {
            (line.contains(&id) && line.contains("status=")).then(|| line.to_owned())
        });
        assert!(outcome.contains(expected), "{outcome}");
        ironpost.log.wait_after(mark, "the connection", |line| {
            line.contains(&format!(" {word} TLS connection established to mx.host.test[")).then_some(())
        });
    }
    let route = ironpost.ironpost(&["route", "u@secure.test"]).ok();
    assert!(route.text().contains("tls         secure (by the table tls_policy)"), "{}", route.text());
}

#[test]
fn a_handshake_that_fails_costs_encryption_at_level_may_only() {
    if !is_root() {
        return skipped("a_handshake_that_fails", "Postfix's master runs only as root");
    }
    let ca = Authority::new("Test Authority");
    let address = own_address();
    // Knows nothing but what is too old for us.
    let more = "smtpd_tls_protocols = !TLSv1.2, !TLSv1.3\n";
    let postfix = postfix(address, &ca.issue(&["secure.remote.test"]), more);
    let (ironpost, _dns) = ironpost(address, postfix.address().port(), &ca);
    for level in ["encrypt", "verify", "secure"] {
        let (_, outcome) = send(&ironpost, level);
        let deferred = outcome.contains("dsn=4.7.5")
            && outcome.contains("status=deferred (Cannot start TLS: handshake failure (");
        assert!(deferred, "{outcome}");
    }
    let before = postfix.log().matches("connect from").count();
    for _ in 0..2 {
        let (connection, outcome) = send(&ironpost, "may");
        assert!(connection.is_empty() && outcome.contains("status=sent"), "{connection} {outcome}");
    }
    let mails = postfix.wait_mail(2);
    assert!(mails.iter().all(|mail| mail.text().contains("with ESMTP ")), "in plain text");
    assert_eq!(ironpost.log.count(|line| line.contains("TLS does not work there")), 1, "remembered");
    assert!(postfix.log().matches("connect from").count() - before >= 2);
}

#[test]
fn a_server_without_starttls_gets_nothing_where_tls_is_a_must() {
    let ca = Authority::new("Test Authority");
    let address = own_address();
    let server = Server::start_at(address, 0, Script::new());
    let (ironpost, _dns) = ironpost(address, server.port(), &ca);
    for level in ["encrypt", "verify", "secure"] {
        let (_, outcome) = send(&ironpost, level);
        let expected = format!(
            "dsn=4.7.4, status=deferred (TLS is required, but was not offered by host {level}.remote.test["
        );
        assert!(outcome.contains(&expected), "{outcome}");
    }
    assert!(!server.commands().iter().any(|line| line.starts_with("MAIL")), "not even the sender's name");
    let (_, outcome) = send(&ironpost, "may");
    assert!(outcome.contains("status=sent"), "{outcome}");
}

#[test]
fn text_behind_the_reply_to_starttls_is_not_taken_for_the_servers() {
    let ca = Authority::new("Test Authority");
    let address = own_address();
    let script = Script::new()
        .extensions(&["STARTTLS"])
        .on("STARTTLS", Act::Raw(b"220 go\r\n250-injected\r\n250 DSN\r\n"));
    let server = Server::start_at(address, 0, script);
    let (ironpost, _dns) = ironpost(address, server.port(), &ca);
    let (_, outcome) = send(&ironpost, "encrypt");
    assert!(outcome.contains("dsn=4.7.5") && outcome.contains("Cannot start TLS"), "{outcome}");
    assert_eq!(server.connections(), 1);
    assert!(!server.commands().iter().any(|line| line.starts_with("MAIL")));
    // At level may, a new connection without TLS.
    let (_, outcome) = send(&ironpost, "may");
    assert!(outcome.contains("status=sent"), "{outcome}");
    assert_eq!(server.connections(), 3);
}

#[test]
fn a_refused_starttls_costs_encryption_at_level_may_only() {
    let ca = Authority::new("Test Authority");
    let address = own_address();
    let script =
        Script::new().extensions(&["STARTTLS"]).on("STARTTLS", Act::Reply("454 4.7.0 TLS not available"));
    let server = Server::start_at(address, 0, script);
    let (ironpost, _dns) = ironpost(address, server.port(), &ca);
    let (_, outcome) = send(&ironpost, "encrypt");
    let refused = outcome.contains("dsn=4.7.4")
        && outcome.contains("refused to start TLS: 454 4.7.0 TLS not available");
    assert!(refused, "{outcome}");
    let (_, outcome) = send(&ironpost, "may");
    assert!(outcome.contains("status=sent"), "{outcome}");
    assert_eq!(server.connections(), 2, "the same connection went on");
}

#[test]
fn a_server_that_hangs_in_the_handshake_costs_one_attempt() {
    let ca = Authority::new("Test Authority");
    let address = own_address();
    let script =
        || Script::new().extensions(&["STARTTLS"]).on("STARTTLS", Act::ReplyAndStall("220 2.0.0 go"));
    let server = Server::start_at(address, 0, script());
    let (ironpost, _dns) = ironpost(address, server.port(), &ca);
    let hanging = ironpost.send("alice@example.test", &["u@encrypt.test"], &short("x"));
    let plain = ironpost.send("alice@example.test", &["u@may.test"], &short("x"));
    server.wait_command("STARTTLS", 2);
    // Nothing else waits for it.
    let meanwhile = ironpost.send("alice@example.test", &["bob@example.test"], &short("x"));
    ironpost.wait_removed(&meanwhile);
    assert_eq!(ironpost.log.count(|line| line.contains(&hanging) && line.contains("status=")), 0);
    let outcome = ironpost.log.wait("a deferral", |line| {
        (line.contains(&hanging) && line.contains("status=deferred")).then(|| line.to_owned())
    });
    assert!(outcome.contains("Cannot start TLS: handshake failure (timed out)"), "{outcome}");
    ironpost.wait_removed(&plain);
    assert_eq!(server.taken().len(), 1);
}

#[test]
fn tls_from_the_first_octet() {
    if !is_root() {
        return skipped("tls_from_the_first_octet", "Postfix's master runs only as root");
    }
    let ca = Authority::new("Test Authority");
    for (port, policy) in [(None, "secure implicit"), (Some(465), "encrypt")] {
        let address = own_address();
        let certificate = ca.issue(&[&address.to_string()]);
        let more = format!("{TLS}smtpd_tls_wrappermode = yes\n");
        let postfix = Postfix::start_with(address, port, &more, |folder| {
            certificate.write(folder);
        });
        let nexthop = format!("[{address}]:{}", postfix.address().port());
        let ironpost = Setup::new()
            .text("deliverd", "relay_host", &nexthop)
            .text("deliverd", "tls_policy", "tls_policy")
            .text("deliverd", "ca_file", "ca.pem")
            .file("ca.pem", &ca.pem())
            .file("tls_policy", &format!("{nexthop} {policy}\n"))
            .start();
        let id = ironpost.send("alice@example.test", &["u@remote.test"], &short("x"));
        ironpost.wait_removed(&id);
        assert!(postfix.wait_mail(1)[0].text().contains("with ESMTPS"), "{policy}");
        let word = if policy == "encrypt" { "Trusted" } else { "Verified" };
        ironpost.log.wait_text(&format!(" {word} TLS connection established to {address}[{address}]:"));
    }
}

#[test]
fn sessions_are_taken_up_again_and_judged_again() {
    if !is_root() {
        return skipped("sessions_are_taken_up_again", "Postfix's master runs only as root");
    }
    let ca = Authority::new("Test Authority");
    for (version, protocols) in [("TLSv1.3", ""), ("TLSv1.2", "smtpd_tls_protocols = TLSv1.2\n")] {
        let address = own_address();
        let postfix = postfix(address, &ca.issue(&["secure.remote.test"]), protocols);
        let (mut ironpost, _dns) = ironpost(address, postfix.address().port(), &ca);
        for round in 1..=2 {
            let (connection, outcome) = send(&ironpost, "secure");
            assert!(
                outcome.contains("status=sent") && connection.contains(version),
                "{outcome} {connection}"
            );
            assert!(connection.contains(" Verified TLS"), "{connection}");
            assert_eq!(connection.ends_with(", resumed"), round == 2, "{connection}");
            // The open connection ends by itself after a moment.
            postfix.wait_log("ehlo=2 starttls=1", round);
        }
        // The authority is not trusted any more: an earlier session does not help.
        std::fs::write(ironpost.path().join("ca.pem"), Authority::new("Somebody Else").pem()).unwrap();
        let mark = ironpost.log.mark();
        ironpost.signal(nix::sys::signal::Signal::SIGHUP);
        ironpost.log.wait_after(mark, "the reload of deliverd", |line| {
            (line.contains("/smtp[") && line.contains("configuration read anew")).then_some(())
        });
        let (_, outcome) = send(&ironpost, "secure");
        assert!(outcome.contains("Server certificate not trusted"), "{outcome}");
        // A broken file changes nothing.
        std::fs::write(ironpost.path().join("ca.pem"), "nothing").unwrap();
        let mark = ironpost.log.mark();
        ironpost.signal(nix::sys::signal::Signal::SIGHUP);
        ironpost.log.wait_after(mark, "the refusal", |line| {
            (line.contains("the old one stays in force") && line.contains("ca.pem")).then_some(())
        });
        let (_, outcome) = send(&ironpost, "may");
        assert!(outcome.contains("status=sent"), "{outcome}");
    }
}

#[test]
fn the_table_counts_within_seconds() {
    let address = own_address();
    let server = Server::start_at(address, 0, Script::new());
    let ca = Authority::new("Test Authority");
    let (setup, _dns) = setup(address, server.port(), &ca);
    let ironpost = setup.quick_retries().start();
    let id = ironpost.send("alice@example.test", &["u@encrypt.test"], &short("x"));
    ironpost.wait_deferred(&id);
    assert_eq!(server.count(), 0);
    std::fs::write(ironpost.path().join("tls_policy"), "[encrypt.remote.test] none\n").unwrap();
    // The message itself shows it: what is queued goes by the table of now.
    ironpost.wait_removed(&id);
    assert_eq!(server.taken().len(), 1);
}
