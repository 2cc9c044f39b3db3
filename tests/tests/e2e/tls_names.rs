//! Several certificates: which one a client is shown, by the name that it asks for; each is checked and renewed by itself.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use ironpost_tests::certificates::{Authority, Certificate};
use ironpost_tests::process::run;
use ironpost_tests::setup::Setup;

/// What `openssl s_client` is shown that asks for this name, in this form of key if one is named.
fn shown(server: SocketAddr, name: Option<&str>, key: Option<&str>) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.to_string(), "-starttls", "smtp", "-name", "client.test"]);
    command.arg("-showcerts");
    match name {
        Some(name) => command.args(["-servername", name]),
        None => command.arg("-noservername"),
    };
    if let Some(algorithms) = key {
        command.args(["-sigalgs", algorithms]);
    }
    let text = run(&mut command, b"QUIT\r\n").text();
    body(text.get(text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{text}"))..).unwrap())
}

fn body(pem: &str) -> String {
    pem[..pem.find("-----END CERTIFICATE-----").unwrap()].replace(['\r', '\n'], "")
}

/// Writes a pair under this name, and gives its section.
fn write(setup: &Setup, name: &str, certificate: &Certificate, names: &str) -> String {
    fs::write(setup.path().join(format!("{name}.pem")), &certificate.pem).unwrap();
    fs::write(setup.path().join(format!("{name}.key")), &certificate.key).unwrap();
    let pair = format!("certificate = \"{name}.pem\"\nprivate_key = \"{name}.key\"\n");
    format!("[[smtpd.tls.certificates]]\n{pair}{names}")
}

#[test]
fn a_client_is_shown_the_certificate_for_its_name() {
    let ca = Authority::new("test");
    let setup = Setup::new();
    let default = ca.issue(&["mail.example.test"]);
    let other = ca.issue(&["mail.other.test", "smtp.other.test"]);
    let wildcard = ca.issue(&["*.wild.test"]);
    let single = ca.issue(&["one.wild.test"]);
    let named = ca.issue(&["elsewhere.test"]);
    let rsa = ca.issue_rsa(&["mail.other.test"]);
    let mut sections = String::new();
    for (name, certificate, names) in [
        ("other", &other, ""),
        ("wildcard", &wildcard, ""),
        ("single", &single, ""),
        ("named", &named, "names = [\"mail.named.test\", \"*.named.test\"]\n"),
        ("rsa", &rsa, ""),
    ] {
        sections += &write(&setup, name, certificate, names);
    }
    write(&setup, "default", &default, "");
    let ironpost = setup
        .text("smtpd.tls", "certificate", "default.pem")
        .text("smtpd.tls", "private_key", "default.key")
        .more(&sections)
        .start();
    ironpost.ironpost(&["check"]).ok();
    let server = ironpost.smtp();
    for (name, expected) in [
        (None, &default),
        (Some("mail.example.test"), &default),
        (Some("unknown.test"), &default),
        (Some("mail.other.test"), &other),
        (Some("SMTP.Other.Test"), &other),
        (Some("x.mail.other.test"), &default),
        (Some("two.wild.test"), &wildcard),
        // One with the name itself goes before one with a pattern.
        (Some("one.wild.test"), &single),
        (Some("deep.two.wild.test"), &default),
        (Some("wild.test"), &default),
        (Some("mail.named.test"), &named),
        (Some("any.named.test"), &named),
        // Its own name does not count where others are given.
        (Some("elsewhere.test"), &default),
    ] {
        assert_eq!(shown(server, name, None), body(&expected.pem), "{name:?}");
    }
    // Of two for one name the one that the client can check.
    for (algorithms, expected) in [("rsa_pss_rsae_sha256", &rsa), ("ecdsa_secp256r1_sha256", &other)] {
        let shown = shown(server, Some("mail.other.test"), Some(algorithms));
        assert_eq!(shown, body(&expected.pem), "{algorithms}");
    }
}

#[test]
fn each_certificate_is_renewed_and_checked_by_itself() {
    let ca = Authority::new("test");
    let setup = Setup::new();
    let (first, second) = (ca.issue(&["a.test"]), ca.issue(&["b.test"]));
    let sections = write(&setup, "first", &first, "") + &write(&setup, "second", &second, "");
    let ironpost = setup.more(&sections).start();
    let server = ironpost.smtp();
    // Without one in [smtpd.tls] the first is the default.
    assert_eq!(shown(server, None, None), body(&first.pem));
    assert_eq!(shown(server, Some("b.test"), None), body(&second.pem));
    // The first becomes broken, the second is renewed.
    fs::write(ironpost.path().join("first.key"), &second.key).unwrap();
    let renewed = ca.issue(&["b.test"]);
    fs::write(ironpost.path().join("second.pem"), &renewed.pem).unwrap();
    fs::write(ironpost.path().join("second.key"), &renewed.key).unwrap();
    let check = ironpost.ironpost(&["check"]);
    assert!(check.code == 78 && check.err.contains("first.key: does not belong to "), "{}", check.err);
    assert!(!check.err.contains("second"), "{}", check.err);
    let said = ironpost.ironpost(&["reload", "smtpd"]);
    assert!(said.code == 78 && said.err.contains("first.key: does not belong to "), "{}", said.err);
    assert_eq!(shown(server, Some("b.test"), None), body(&renewed.pem));
    assert_eq!(shown(server, Some("a.test"), None), body(&first.pem));
    // One more, and one less, without a restart.
    let third = ca.issue(&["c.test"]);
    fs::write(ironpost.path().join("first.pem"), &third.pem).unwrap();
    fs::write(ironpost.path().join("first.key"), &third.key).unwrap();
    let text = fs::read_to_string(ironpost.config()).unwrap();
    let (before, _) = text.split_once("[[smtpd.tls.certificates]]\ncertificate = \"second").unwrap();
    fs::write(ironpost.config(), before).unwrap();
    ironpost.ironpost(&["reload", "smtpd"]).ok();
    assert_eq!(shown(server, Some("b.test"), None), body(&third.pem));
    // A new one that is broken changes nothing at all.
    fs::write(ironpost.path().join("second.key"), "").unwrap();
    fs::write(ironpost.config(), &text).unwrap();
    let said = ironpost.ironpost(&["reload", "smtpd"]);
    assert!(said.code == 78 && said.err.contains("second.key: has no private key"), "{}", said.err);
    assert_eq!(shown(server, Some("b.test"), None), body(&third.pem));
}
