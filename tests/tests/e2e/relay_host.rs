//! A relay host that wants TLS, a name and a password: Postfix with Dovecot's SASL, Python's aiosmtpd, and scripted ones
//! for what no good provider does.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use ironpost_tests::certificates::{Authority, self_signed};
use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::aiosmtpd::Aiosmtpd;
use ironpost_tests::counterpart::dovecot::Dovecot;
use ironpost_tests::counterpart::postfix::Postfix;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::own_address;
use ironpost_tests::process::run;
use ironpost_tests::setup::Setup;
use ironpost_tests::tools::binary;
use ironpost_tests::{is_root, skipped};
use nix::sys::signal::Signal;

const PASSWORD: &str = "correct horse, battery=";

/// A provider: takes mail for anyone from those who log in over TLS, and keeps it.
pub fn provider(address: Ipv4Addr, dovecot: &Dovecot, ca: &Authority, more: &str) -> Postfix {
    let lines = format!(
        "smtpd_tls_security_level = may
smtpd_tls_cert_file = {{folder}}/cert.pem
smtpd_tls_key_file = {{folder}}/key.pem
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
{more}",
        dovecot.socket().display()
    );
    let certificate = ca.issue(&[&address.to_string()]);
    Postfix::start_with(address, None, &lines, |folder| {
        certificate.write(folder);
    })
}

/// The lab's set-up: a relay host, a password for it, an authority.
fn setup(relay: SocketAddr, ca: &Authority, credentials: &str) -> Setup {
    Setup::new()
        .relay_to(relay)
        .text("deliverd", "relay_credentials", "relay_credentials")
        .text("deliverd", "ca_file", "ca.pem")
        .file("ca.pem", &ca.pem())
        .secret("relay_credentials", credentials)
}

fn outcome(ironpost: &Ironpost, id: &str) -> String {
    ironpost
        .log
        .wait("an outcome", |line| (line.contains(id) && line.contains("status=")).then(|| line.to_owned()))
}

/// Neither the password nor what went over the line for it is in the log.
fn assert_no_password(ironpost: &Ironpost, user: &str, password: &str) {
    let plain = format!("\0{user}\0{password}");
    let script = "import base64,sys\nfor a in sys.argv[1:]: print(base64.b64encode(a.replace('~','\\0').encode()).decode())";
    let mut command = ironpost_tests::tools::python();
    command.args(["-c", script, &plain.replace('\0', "~"), password]);
    let tokens = run(&mut command, b"").ok().text();
    let log = ironpost.log.all().join("\n");
    for secret in tokens.lines().chain([password]) {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn every_mechanism_over_verified_tls() {
    if !is_root() {
        return skipped("every_mechanism_over_verified_tls", "Postfix and Dovecot run only as root");
    }
    let ca = Authority::new("Test Authority");
    for (mechanisms, expected) in
        [("plain login scram-sha-256", "SCRAM-SHA-256"), ("login plain", "PLAIN"), ("login", "LOGIN")]
    {
        let address = own_address();
        let dovecot = Dovecot::start(&[("alice", PASSWORD)], mechanisms);
        let provider = provider(address, &dovecot, &ca, "");
        let relay = provider.address();
        let ironpost =
            setup(relay, &ca, &format!("[{}]:{} alice:{PASSWORD}\n", relay.ip(), relay.port())).start();
        let id = ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
        ironpost.wait_removed(&id);
        assert_eq!(provider.wait_mail(1).len(), 1);
        provider.wait_log(&format!("sasl_method={expected}, sasl_username=alice"), 1);
        // Nobody said so: with a password the server must be who it is.
        ironpost.log.wait_text(&format!("Verified TLS connection established to {address}[{address}]:"));
        assert_no_password(&ironpost, "alice", PASSWORD);
        // As root, whom the file is for.
        let route = ironpost.ironpost(&["route", "u@remote.test"]).ok().text();
        assert!(route.contains("tls         secure (because a password is sent)"), "{route}");
        assert!(route.contains("login       as alice (by the line ["), "{route}");
        assert!(!route.contains(PASSWORD));
        ironpost.ironpost(&["check"]).ok();
    }
}

#[test]
fn a_wrong_password_makes_mail_wait_loudly_until_it_is_mended() {
    if !is_root() {
        return skipped("a_wrong_password_makes_mail_wait", "Postfix and Dovecot run only as root");
    }
    let ca = Authority::new("Test Authority");
    let dovecot = Dovecot::start(&[("alice", PASSWORD)], "plain scram-sha-256");
    let provider = provider(own_address(), &dovecot, &ca, "");
    let relay = provider.address();
    let key = format!("[{}]:{}", relay.ip(), relay.port());
    let ironpost = setup(relay, &ca, &format!("{key} alice:wrong-one\n")).quick_retries().start();
    let id = ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
    let line = outcome(&ironpost, &id);
    assert!(line.contains("dsn=4.7.8, status=deferred (SASL authentication failed; server "), "{line}");
    assert!(line.contains(" said: 535 5.7.8 "), "{line}");
    let warning = ironpost.log.wait_text("relay_credentials: cannot log in as \"alice\"");
    assert!(warning.contains("warning: ") && warning.contains(&format!("mend the line {key}")), "{warning}");
    assert_no_password(&ironpost, "alice", "wrong-one");
    assert!(ironpost.mail("alice").is_empty(), "nothing bounces");
    // Root writes into root's file: that is seen through the descriptor that was opened as root.
    fs::write(ironpost.path().join("relay_credentials"), format!("{key} alice:{PASSWORD}\n")).unwrap();
    ironpost.wait_removed(&id);
    assert_eq!(provider.wait_mail(1).len(), 1);
    assert_no_password(&ironpost, "alice", PASSWORD);
}

#[test]
fn a_new_file_that_only_root_can_read_is_handed_over() {
    if !is_root() {
        return skipped("a_new_file_that_only_root_can_read", "needs root");
    }
    let ca = Authority::new("Test Authority");
    let server = Server::start_at(own_address(), 0, Script::new().extensions(&["AUTH PLAIN"]));
    let key = format!("[{}]:{}", server.address().ip(), server.port());
    let mut ironpost = setup(server.address(), &ca, &format!("{key} insecure alice:first-one\n")).start();
    let folder = ironpost.path().to_owned();
    let replace = |text: String| {
        fs::write(folder.join("new"), text).unwrap();
        fs::set_permissions(folder.join("new"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(folder.join("new"), folder.join("relay_credentials")).unwrap();
    };
    replace(format!("{key} insecure alice:second-one\n"));
    // Nobody reads the table before there is mail.
    ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
    server.wait(1);
    // The daemon itself cannot, and says what to do.
    let mark = ironpost.log.mark();
    nix::sys::signal::kill(ironpost.daemon(&["deliverd", "smtp"]), Signal::SIGHUP).unwrap();
    let line = ironpost.log.wait_after(mark, "the refusal", |line| {
        (line.contains("relay_credentials: ") && line.contains("ironpost reload")).then(|| line.to_owned())
    });
    assert!(line.contains("the old one stays in force"), "{line}");
    ironpost.ironpost(&["reload", "deliverd-smtp"]).ok();
    ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
    server.wait(2);
    // A broken one, and one that others may read, change nothing.
    for (text, mode, says) in [
        ("nonsense\n".to_owned(), 0o600, "relay_credentials:1: "),
        (format!("{key} a:b\n"), 0o644, "chmod 600"),
    ] {
        replace(text);
        fs::set_permissions(folder.join("relay_credentials"), fs::Permissions::from_mode(mode)).unwrap();
        let said = ironpost.ironpost(&["reload", "deliverd-smtp"]);
        assert_eq!(said.code, 78);
        assert!(said.err.contains("the old one stays in force") && said.err.contains(says), "{}", said.err);
    }
    // SIGHUP to `ironpost run` hands over, too.
    replace(format!("{key} insecure alice:third-one\n"));
    let mark = ironpost.log.mark();
    ironpost.signal(Signal::SIGHUP);
    ironpost.log.wait_after(mark, "the reload of deliverd", |line| {
        (line.contains("/smtp[") && line.contains("configuration read anew")).then_some(())
    });
    ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
    server.wait(3);
    // base64 of "\0alice\0first-one", "\0alice\0second-one" and "\0alice\0third-one"
    let logins: Vec<_> = server.commands().into_iter().filter(|line| line.starts_with("AUTH")).collect();
    let words = ["AGFsaWNlAGZpcnN0LW9uZQ==", "AGFsaWNlAHNlY29uZC1vbmU=", "AGFsaWNlAHRoaXJkLW9uZQ=="];
    assert_eq!(logins, words.map(|word| format!("AUTH PLAIN {word}")));
}

#[test]
fn a_server_that_is_not_who_it_should_be_gets_no_password() {
    if !is_root() {
        return skipped("a_server_that_is_not_who_it_should_be", "Postfix and Dovecot run only as root");
    }
    let (ca, other) = (Authority::new("Test Authority"), Authority::new("Somebody Else"));
    let dovecot = Dovecot::start(&[("alice", PASSWORD)], "plain");
    let provider = provider(own_address(), &dovecot, &other, "smtpd_tls_loglevel = 1\n");
    let relay = provider.address();
    let key = format!("[{}]:{}", relay.ip(), relay.port());
    for (line, taken) in [("", false), ("insecure ", true)] {
        let ironpost = setup(relay, &ca, &format!("{key} {line}alice:{PASSWORD}\n")).start();
        let id = ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
        let outcome = outcome(&ironpost, &id);
        if taken {
            assert!(outcome.contains("status=sent"), "{outcome}");
            provider.wait_log("sasl_method=PLAIN", 1);
        } else {
            assert!(
                outcome.contains("dsn=4.7.5, status=deferred (Server certificate not trusted: "),
                "{outcome}"
            );
            assert!(!provider.log().contains("sasl_method="));
        }
    }
}

#[test]
fn nothing_goes_out_in_plain_text_unless_the_table_says_so() {
    let ca = Authority::new("Test Authority");
    // The login is offered, TLS is not.
    let script = || Script::new().extensions(&["PIPELINING", "AUTH PLAIN LOGIN"]);
    for (level, line, sent) in [("", "", false), ("none", "", false), ("", "insecure ", true)] {
        let server = Server::start_at(own_address(), 0, script());
        let key = format!("[{}]:{}", server.address().ip(), server.port());
        let mut setup = setup(server.address(), &ca, &format!("{key} {line}alice:{PASSWORD}\n"));
        if !level.is_empty() {
            setup = setup.text("deliverd", "tls", level);
        }
        let ironpost = setup.start();
        let id = ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
        let outcome = outcome(&ironpost, &id);
        let commands = server.commands();
        assert_eq!(commands.iter().any(|command| command.starts_with("AUTH PLAIN ")), sent, "{commands:?}");
        assert_eq!(outcome.contains("status=sent"), sent, "{outcome}");
        assert_eq!(commands.iter().any(|command| command.starts_with("MAIL")), sent, "{commands:?}");
        if level == "none" {
            assert!(outcome.contains("not encrypted, so the password is not sent"), "{outcome}");
            let check = ironpost.ironpost(&["check"]);
            assert!(
                check.code == 78 && check.err.contains("cannot be sent, because tls is none"),
                "{}",
                check.err
            );
        } else if !sent {
            assert!(outcome.contains("dsn=4.7.4") && outcome.contains("TLS is required"), "{outcome}");
        }
    }
}

#[test]
fn what_a_server_repeats_of_a_password_is_masked() {
    let ca = Authority::new("Test Authority");
    // base64 of "\0alice\0hush-hush"
    let said = "535 5.7.8 no: AGFsaWNlAGh1c2gtaHVzaA== hush-hush";
    let script = Script::new().extensions(&["AUTH PLAIN"]).on("AUTH", Act::Reply(said));
    let server = Server::start_at(own_address(), 0, script);
    let key = format!("[{}]:{}", server.address().ip(), server.port());
    let ironpost = setup(server.address(), &ca, &format!("{key} insecure alice:hush-hush\n")).start();
    let id = ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
    let outcome = outcome(&ironpost, &id);
    assert!(outcome.contains("said: 535 5.7.8 no: [...] [...])"), "{outcome}");
    assert_eq!(ironpost.log.count(|line| line.contains("hush-hush") || line.contains("aHVzaA")), 0);
    ironpost.wait_deferred(&id);
    let queue = ironpost.ironpost(&["queue", "list", "--json"]).ok().text();
    assert!(queue.contains("535 5.7.8") && !queue.contains("hush-hush"), "{queue}");
}

#[test]
fn senders_have_accounts_of_their_own() {
    if !is_root() {
        return skipped("senders_have_accounts_of_their_own", "Postfix and Dovecot run only as root");
    }
    let ca = Authority::new("Test Authority");
    let users = [("alice", "one-word"), ("bob", "two-words"), ("all", "many-words")];
    let dovecot = Dovecot::start(&users, "plain scram-sha-256");
    let provider = provider(own_address(), &dovecot, &ca, "");
    let relay = provider.address();
    let table = format!(
        "[{}]:{} all:many-words\nalice@example.test alice:one-word\n@other.test bob:two-words\n",
        relay.ip(),
        relay.port()
    );
    let ironpost = setup(relay, &ca, &table).start();
    for (sender, user, count) in [
        ("alice@example.test", "alice", 1),
        ("x@other.test", "bob", 1),
        ("carol@example.test", "all", 1),
        ("Alice@Example.Test", "alice", 2),
        ("", "all", 2),
    ] {
        let id = ironpost.send(sender, &["u@remote.test"], &short("x"));
        ironpost.wait_removed(&id);
        // Each account has its own connection: the next transaction of the same one may use it again.
        provider.wait_log(&format!("sasl_username={user}\n"), count);
    }
}

#[test]
fn python_is_a_provider_too() {
    let ca = Authority::new("Test Authority");
    let address = own_address();
    let folder = tempfile::tempdir().unwrap();
    ca.issue(&[&address.to_string()]).write(folder.path());
    let provider = Aiosmtpd::start(address, folder.path(), "bob", PASSWORD);
    let key = format!("[{address}]:{}", provider.address().port());
    let ironpost = setup(provider.address(), &ca, &format!("{key} bob:{PASSWORD}\n")).start();
    let id = ironpost.send("a@example.test", &["u@remote.test", "v@remote.test"], &short("x"));
    ironpost.wait_removed(&id);
    provider.process.out.wait_text("login PLAIN True");
    provider.process.out.wait_text("taken a@example.test u@remote.test v@remote.test TLSv1.3");
}

#[test]
fn a_self_signed_server_is_reached_by_its_fingerprint() {
    let ca = Authority::new("Test Authority");
    let address = own_address();
    let folder = tempfile::tempdir().unwrap();
    let certificate = self_signed(&["anything.test"]);
    certificate.write(folder.path());
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256"]);
    let print = run(&mut openssl, certificate.pem.as_bytes()).ok().text();
    let print = print.trim().rsplit('=').next().unwrap();
    let provider = Aiosmtpd::start(address, folder.path(), "bob", PASSWORD);
    let key = format!("[{address}]:{}", provider.address().port());
    let ironpost = setup(provider.address(), &ca, &format!("{key} bob:{PASSWORD}\n"))
        .text("deliverd", "tls_policy", "tls_policy")
        .file("tls_policy", &format!("{key} fingerprint match={print}\n"))
        .start();
    let id = ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
    ironpost.wait_removed(&id);
    provider.process.out.wait_text("login PLAIN True");
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let ca = Authority::new("Test Authority");
    let setup = setup("127.0.0.1:9".parse().unwrap(), &ca, "[127.0.0.1]:9 alice:hush-hush\n");
    let path = setup.path().join("relay_credentials");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let config = setup.write();
    let mut check = std::process::Command::new(binary("ironpost"));
    let check = run(check.args(["check", "-c"]).arg(&config), b"");
    assert_eq!(check.code, 78, "{}", check.err);
    assert!(
        check.err.contains("relay_credentials: others than its owner may use it (mode 0644): chmod 600 it"),
        "{}",
        check.err
    );
    let mut daemon = std::process::Command::new(binary("deliverd"));
    let daemon = run(daemon.args(["smtp", "-c"]).arg(&config), b"");
    assert_eq!(daemon.code, 78, "{}", daemon.err);
    assert!(daemon.err.contains("chmod 600") && !daemon.err.contains("hush"), "{}", daemon.err);
}
