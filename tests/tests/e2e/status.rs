//! `ironpost status` while the system works, while a destination is dead, and while daemons are down.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;

use ironpost_tests::certificates::Authority;
use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::is_root;
use ironpost_tests::net::{free_port, own_address};
use ironpost_tests::process::run;
use ironpost_tests::setup::Setup;
use serde_json::Value;

fn status(ironpost: &Ironpost) -> (i32, Value) {
    let output = ironpost.ironpost(&["status", "--json"]);
    let text = output.text();
    (output.code, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", output.err)))
}

/// Waits until the status is as wanted, and gives it.
fn wait(ironpost: &Ironpost, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    ironpost.log.wait_until(what, || Some(status(ironpost).1).filter(|status| is(status)))
}

#[test]
fn a_system_at_work_is_up_and_counted() {
    let ironpost = Setup::new().start();
    let id =
        ironpost.send("a@example.test", &["alice@example.test", "nobody@example.test"][..1], &short("x"));
    ironpost.wait_removed(&id);
    let told = wait(&ironpost, "a delivery that is counted", |told| told["lately"]["delivered"] == 1);
    assert_eq!((told["up"].clone(), told["lately"]["received"].clone()), (true.into(), 1.into()), "{told}");
    for daemon in ["queued", "smtpd", "deliverd-smtp", "deliverd-local"] {
        let one = &told["daemons"][daemon];
        assert_eq!(one["state"], "up", "{told}");
        assert!(one["since"].as_i64() > Some(1_700_000_000) && one["pid"].as_u64() > Some(1), "{told}");
    }
    let pid = ironpost.daemon(&["smtpd"]).as_raw();
    assert_eq!(told["daemons"]["smtpd"]["pid"], pid);
    let output = ironpost.ironpost(&["status"]).ok().text();
    assert!(
        output.starts_with("queued          up since ") && output.contains("\nqueue           empty"),
        "{output}"
    );
}

#[test]
fn a_dead_destination_is_told_with_its_reason() {
    let relay = SocketAddr::from((own_address(), free_port(own_address())));
    let ironpost = Setup::new().relay_to(relay).text("queued", "first_retry", "1h").start();
    // Its window closes after a few failures.
    for _ in 0..30 {
        ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
    }
    let told = wait(&ironpost, "a paused destination", |told| {
        told["paused_total"] == 1 && told["queue"]["deferred"] == 30
    });
    let paused = &told["paused"][0];
    assert_eq!(paused["destination"], format!("smtp:[{}]:{}", relay.ip(), relay.port()), "{told}");
    assert!(paused["reason"].as_str().unwrap().contains("Connection refused"), "{told}");
    assert!(paused["next_try"].as_i64().is_some(), "{told}");
    assert!(told["lately"]["deferred"].as_u64() >= Some(1), "{told}");
}

#[test]
fn daemons_that_are_down_make_exit_code_69() {
    let mut ironpost = Setup::new().start();
    ironpost.stop();
    let (code, told) = status(&ironpost);
    assert_eq!((code, told["up"].clone()), (69, false.into()));
    assert_eq!(told["daemons"]["smtpd"]["state"], "down");
    assert_eq!(told["queue"]["deferred"], 0, "counted without queued: {told}");
    let text = ironpost.ironpost(&["status"]);
    assert_eq!(text.code, 69);
    assert!(text.text().contains("deliverd local  down\n"), "{}", text.text());
}

#[test]
fn an_ordinary_user_sees_what_queued_tells() {
    if !is_root() {
        return;
    }
    let ironpost = Setup::new().start();
    // Delivery agents are seen as soon as they have come to queued.
    let told: Value = ironpost.log.wait_until("a system that an ordinary user sees up", || {
        let mut command = ironpost.command("ironpost", &["status", "--json"]);
        command.uid(65534).gid(65534);
        let output = run(&mut command, b"");
        (output.code == 0).then(|| serde_json::from_str(&output.text()).unwrap())
    });
    for (daemon, state) in
        [("queued", "up"), ("smtpd", "hidden"), ("deliverd-smtp", "up"), ("deliverd-local", "up")]
    {
        assert_eq!(told["daemons"][daemon]["state"], state, "{told}");
    }
    assert_eq!(told["queue"]["active"], 0, "{told}");
}

#[test]
fn a_refused_login_is_a_warning_until_it_is_mended() {
    let ca = Authority::new("Test Authority");
    let script = Script::new().extensions(&["AUTH PLAIN"]).on("AUTH", Act::Reply("535 5.7.8 no"));
    let server = Server::start_at(own_address(), 0, script);
    let key = format!("[{}]:{}", server.address().ip(), server.port());
    let ironpost = Setup::new()
        .relay_to(server.address())
        .text("deliverd", "relay_credentials", "relay_credentials")
        .text("deliverd", "ca_file", "ca.pem")
        .file("ca.pem", &ca.pem())
        .secret("relay_credentials", &format!("{key} insecure alice:hush-hush\n"))
        .start();
    let id = ironpost.send("a@example.test", &["u@remote.test"], &short("x"));
    ironpost.wait_deferred(&id);
    let told = wait(&ironpost, "a warning", |told| !told["warnings"].as_array().unwrap().is_empty());
    let warning = told["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("relay_credentials: cannot log in as \"alice\" for "), "{warning}");
    assert!(warning.contains("535 5.7.8 no") && !warning.contains("hush"), "{warning}");
}

#[test]
fn a_certificate_and_a_token_that_end_are_warnings() {
    let ca = Authority::new("Test Authority");
    let setup = Setup::new();
    ca.issue_expired(&["mail.example.test"]).write(setup.path());
    let ironpost = setup
        .text("smtpd.tls", "certificate", "cert.pem")
        .text("smtpd.tls", "private_key", "key.pem")
        .text("deliverd", "relay_credentials", "relay_credentials")
        .secret("relay_credentials", "[127.0.0.1]:9 xoauth2 alice:tokens.toml\n")
        .secret("tokens.toml", "access_token = \"access-1\"\nexpires = 2020-01-01T00:00:00Z\n")
        .start();
    let (_, told) = status(&ironpost);
    let warnings: Vec<&str> =
        told["warnings"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert!(
        warnings.iter().any(|text| text.contains("tokens.toml: the access token has ended at ")),
        "{warnings:?}"
    );
    assert!(
        warnings.iter().any(|text| text.contains("cert.pem: the certificate expired on ")),
        "{warnings:?}"
    );
}
