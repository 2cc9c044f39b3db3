//! Clients with certificates: who is asked, what is told of them, what they may do. Real clients: OpenSSL, swaks, Postfix.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use ironpost_tests::certificates::{Authority, Certificate, self_signed};
use ironpost_tests::clients::swaks;
use ironpost_tests::counterpart::postfix::Postfix;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::own_address;
use ironpost_tests::process::{Output, run};
use ironpost_tests::setup::Setup;
use ironpost_tests::{is_root, skipped};

/// Writes `NAME.pem` and `NAME.key`.
fn write(folder: &Path, name: &str, certificate: &Certificate) {
    fs::write(folder.join(format!("{name}.pem")), &certificate.pem).unwrap();
    fs::write(folder.join(format!("{name}.key")), &certificate.key).unwrap();
}

/// As OpenSSL writes it, of the certificate or of its public key.
fn fingerprint(certificate: &Certificate, of_key: bool) -> String {
    let openssl = |args: &[&str], input: &[u8]| run(Command::new("openssl").args(args), input).ok();
    if !of_key {
        let text = openssl(&["x509", "-noout", "-fingerprint", "-sha256"], certificate.pem.as_bytes()).text();
        return text.trim().rsplit('=').next().unwrap().to_owned();
    }
    let public = openssl(&["x509", "-noout", "-pubkey"], certificate.pem.as_bytes()).out;
    let public = openssl(&["pkey", "-pubin", "-outform", "DER"], &public).out;
    let digest = openssl(&["dgst", "-sha256", "-c"], &public).text();
    digest.trim().rsplit(' ').next().unwrap().to_owned()
}

fn swaks_with(ironpost: &Ironpost, server: SocketAddr, certificate: &str, to: &str) -> Output {
    let file = |end: &str| ironpost.path().join(format!("{certificate}.{end}")).display().to_string();
    let (pem, key) = (file("pem"), file("key"));
    let mut more = vec!["--tls"];
    if !certificate.is_empty() {
        more.extend(["--tls-cert", &pem, "--tls-key", &key]);
    }
    swaks(server, "a@remote.test", &[to], "Subject: x\n\nx\n", &more)
}

/// `[[smtpd.listen]]` that asks so, by STARTTLS.
fn listening(how: &str) -> Setup {
    Setup::new().asking(how)
}

#[test]
fn certificates_are_asked_for_and_told() {
    let (ca, other) = (Authority::new("Test (CA)"), Authority::new("Somebody Else"));
    let setup = listening("ask").text("smtpd.tls", "client_ca_file", "ca.pem").file("ca.pem", &ca.pem());
    let own = self_signed(&["own.client.test"]);
    let good = ca.issue(&["good.client.test"]);
    for (name, certificate) in [
        ("good", &good),
        ("expired", &ca.issue_expired(&["old.client.test"])),
        ("stranger", &other.issue(&["stranger.client.test"])),
        ("own", &own),
    ] {
        write(setup.path(), name, certificate);
    }
    let ironpost = setup.start();
    for (name, word, why, header) in [
        ("", "Anonymous", "", "(Client did not present a certificate)"),
        ("good", "Trusted", "", "(Client CN \"good.client.test\", Issuer \"Test ?CA?\" (verified OK))"),
        (
            "expired",
            "Untrusted",
            "expired",
            "(Client CN \"old.client.test\", Issuer \"Test ?CA?\" (not verified))",
        ),
        (
            "stranger",
            "Untrusted",
            "its issuer is not known",
            "(Client CN \"stranger.client.test\", Issuer \"Somebody Else\" (not verified))",
        ),
        (
            "own",
            "Untrusted",
            "",
            "(Client CN \"own.client.test\", Issuer \"own.client.test\" (not verified))",
        ),
    ] {
        let mark = ironpost.log.mark();
        let before = ironpost.mail("alice").len();
        swaks_with(&ironpost, ironpost.smtp(), name, "alice@example.test").ok();
        let mails = ironpost.wait_mail("alice", before + 1);
        let received = mails.iter().filter(|mail| mail.text().contains(header)).count();
        assert_eq!(received, 1, "{name}: {header}");
        let line = format!("{word} TLS connection established from localhost[127.0.0.1]: TLSv1.3 with");
        ironpost.log.wait_after(mark, "the connection", |found| found.contains(&line).then_some(()));
        if !why.is_empty() {
            ironpost.log.wait_after(mark, "the reason", |line| {
                let begins = line.contains("certificate verification failed for localhost[127.0.0.1]: ");
                (begins && line.contains(why)).then_some(())
            });
        }
    }
    let told = format!(
        "localhost[127.0.0.1]: Trusted: subject_CN=good.client.test, issuer=Test (CA), fingerprint={}, pkey_fingerprint={}",
        fingerprint(&good, false),
        fingerprint(&good, true).to_uppercase()
    );
    ironpost.log.wait_text(&told);
    // The client's own certificate in the file counts, within its time.
    fs::write(ironpost.path().join("ca.pem"), &own.pem).unwrap();
    ironpost.ironpost(&["reload", "smtpd"]).ok();
    let mark = ironpost.log.mark();
    swaks_with(&ironpost, ironpost.smtp(), "own", "alice@example.test").ok();
    ironpost.log.wait_after(mark, "trust", |line| {
        line.contains("[127.0.0.1]: Trusted: subject_CN=own.client.test").then_some(())
    });
    // A broken file changes nothing, and is told.
    fs::write(ironpost.path().join("ca.pem"), "nothing").unwrap();
    let said = ironpost.ironpost(&["reload", "smtpd"]);
    assert!(said.code == 78 && said.err.contains("ca.pem: has no certificate"), "{}", said.err);
    assert_eq!(ironpost.ironpost(&["check"]).code, 78);
}

#[test]
fn a_listener_can_insist() {
    let (ca, other) = (Authority::new("Test CA"), Authority::new("Somebody Else"));
    for with_ca in [true, false] {
        let mut setup = listening("require");
        if with_ca {
            setup = setup.text("smtpd.tls", "client_ca_file", "ca.pem").file("ca.pem", &ca.pem());
        }
        write(setup.path(), "good", &ca.issue(&["good.test"]));
        write(setup.path(), "stranger", &other.issue(&["stranger.test"]));
        let ironpost = setup.start();
        let server = ironpost.smtp();
        swaks_with(&ironpost, server, "good", "alice@example.test").ok();
        let stranger = swaks_with(&ironpost, server, "stranger", "alice@example.test");
        assert_eq!(stranger.code == 0, !with_ca, "{}", stranger.text());
        for version in ["-tls1_2", "-tls1_3"] {
            let mut command = Command::new("openssl");
            command.args(["s_client", "-connect", &server.to_string(), "-starttls", "smtp", version]);
            // In TLS 1.3 the client believes at first that the handshake is over.
            let said = run(command.args(["-name", "client.test", "-ign_eof"]), b"EHLO x\r\n");
            assert!(said.err.contains("alert") || said.text().contains("alert"), "{version}: {}", said.err);
        }
        ironpost.log.wait_count(2, "refused handshakes", |line| {
            line.contains("SSL_accept error from localhost[127.0.0.1]: peer sent no certificates")
        });
        // Without TLS nothing is asked.
        let id = ironpost.send("a@remote.test", &["alice@example.test"], b"Subject: x\r\n\r\nx\r\n");
        ironpost.wait_removed(&id);
    }
}

#[test]
fn a_resumed_session_has_the_certificate_that_it_began_with() {
    let ca = Authority::new("Test CA");
    let setup = listening("ask").text("smtpd.tls", "client_ca_file", "ca.pem").file("ca.pem", &ca.pem());
    write(setup.path(), "good", &ca.issue(&["good.test"]));
    let ironpost = setup.start();
    let session = ironpost.path().join("session").display().to_string();
    let talk = |version: &str, option: &str, certificate: bool| {
        let mut command = Command::new("openssl");
        // To the server's own end: tickets come before it.
        command.args([
            "s_client",
            "-ign_eof",
            "-starttls",
            "smtp",
            "-name",
            "x.test",
            version,
            option,
            &session,
        ]);
        command.args(["-connect", &ironpost.smtp().to_string()]);
        if certificate {
            command.args(["-cert", "good.pem", "-key", "good.key"]).current_dir(ironpost.path());
        }
        run(&mut command, b"QUIT\r\n").text()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(talk(version, "-sess_out", true).contains("New, TLS"), "{version}");
        let mark = ironpost.log.mark();
        assert!(talk(version, "-sess_in", false).contains("Reused, TLS"), "{version}");
        ironpost.log.wait_after(mark, "the resumed session", |line| {
            (line.contains(" Trusted TLS connection established") && line.ends_with(", resumed"))
                .then_some(())
        });
        // Who vouched for it does not count any more: the session is judged by the authorities of now.
        fs::write(ironpost.path().join("ca.pem"), Authority::new("Somebody Else").pem()).unwrap();
        ironpost.ironpost(&["reload", "smtpd"]).ok();
        let mark = ironpost.log.mark();
        assert!(talk(version, "-sess_in", false).contains("Reused, TLS"), "{version}");
        ironpost.log.wait_after(mark, "the resumed session", |line| {
            (line.contains(" Untrusted TLS connection established") && line.ends_with(", resumed"))
                .then_some(())
        });
        fs::write(ironpost.path().join("ca.pem"), ca.pem()).unwrap();
        ironpost.ironpost(&["reload", "smtpd"]).ok();
    }
}

#[test]
fn fingerprints_count_in_tables() {
    let ca = Authority::new("Test CA");
    let setup = listening("ask")
        .set("", "trusted_networks", "[]")
        .set("", "relay_domains", "[]")
        .text("smtpd.tls", "client_ca_file", "ca.pem")
        .text("smtpd.tls", "relay_clientcerts", "relay_clientcerts")
        .file("ca.pem", &ca.pem());
    let certificates: Vec<_> = ["relay", "key", "banned", "vouched", "stranger"]
        .iter()
        .map(|name| (*name, ca.issue(&[name])))
        .collect();
    for (name, certificate) in &certificates {
        write(setup.path(), name, certificate);
    }
    write(setup.path(), "stranger", &self_signed(&["stranger"]));
    let print = |wanted: &str, of_key| {
        fingerprint(&certificates.iter().find(|(name, _)| *name == wanted).unwrap().1, of_key)
    };
    let ironpost = setup
        .file(
            "relay_clientcerts",
            &format!("{} the laptop\n{}\n", print("relay", false), print("key", true).replace(':', "")),
        )
        .file("ccerts", &format!("{} REJECT it was stolen\n", print("banned", false).to_lowercase()))
        .set(
            "smtpd.restrictions",
            "rcpt",
            "[\"check_ccert_access:ccerts\", \"permit_tls_clientcerts\", \"permit_tls_all_clientcerts\", \"reject\"]",
        )
        .start();
    ironpost.ironpost(&["check"]).ok();
    let relay_denied = "554 5.7.1 <u@far.test>: Relay access denied";
    for (name, to, expected) in [
        ("relay", "u@far.test", None),
        ("key", "u@far.test", None),
        ("relay", "alice@example.test", None),
        ("vouched", "alice@example.test", None),
        ("vouched", "u@far.test", Some(relay_denied)),
        (
            "banned",
            "alice@example.test",
            Some("554 5.7.1 <localhost[127.0.0.1]>: Client certificate rejected: it was stolen"),
        ),
        (
            "stranger",
            "alice@example.test",
            Some("554 5.7.1 <alice@example.test>: Recipient address rejected: Access denied"),
        ),
        ("", "u@far.test", Some(relay_denied)),
    ] {
        let said = swaks_with(&ironpost, ironpost.smtp(), name, to);
        match expected {
            None => drop(said.ok()),
            Some(reply) => assert!(said.text().contains(reply), "{name} {to}: {}", said.text()),
        }
    }
    // Within seconds of a change.
    fs::write(ironpost.path().join("relay_clientcerts"), "").unwrap();
    ironpost.log.wait_until("the new table", || {
        swaks_with(&ironpost, ironpost.smtp(), "relay", "u@far.test")
            .text()
            .contains(relay_denied)
            .then_some(())
    });
}

#[test]
fn postfix_shows_its_certificate() {
    if !is_root() {
        return skipped("postfix_shows_its_certificate", "Postfix's master runs only as root");
    }
    let ca = Authority::new("Test CA");
    let setup = listening("require").text("smtpd.tls", "client_ca_file", "ca.pem").file("ca.pem", &ca.pem());
    let ironpost = setup.start();
    let lines = format!(
        "smtp_tls_security_level = encrypt
smtp_tls_cert_file = {{folder}}/cert.pem
smtp_tls_key_file = {{folder}}/key.pem
relayhost = [127.0.0.1]:{}
mydestination =
virtual_mailbox_domains =
",
        ironpost.smtp().port()
    );
    let postfix = Postfix::start_with(own_address(), None, &lines, |folder| {
        ca.issue(&["postfix.test"]).write(folder);
    });
    swaks(postfix.address(), "a@remote.test", &["alice@example.test"], "Subject: by Postfix\n\nx\n", &[])
        .ok();
    let mails = ironpost.wait_mail("alice", 1);
    let words = "(Client CN \"postfix.test\", Issuer \"Test CA\" (verified OK))";
    assert!(mails[0].text().contains(words), "{}", mails[0].text());
}
