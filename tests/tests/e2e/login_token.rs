//! Clients that log in with a token, about which smtpd asks its provider: curl and Python's smtplib, and a provider that answers by HTTPS.

use std::net::SocketAddr;
use std::process::Command;

use ironpost_tests::certificates::Authority;
use ironpost_tests::client::Client;
use ironpost_tests::counterpart::oauth::{CLIENT_SECRET, Provider};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::own_address;
use ironpost_tests::process::{Output, run};
use ironpost_tests::setup::Setup;
use ironpost_tests::tools::python;

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";

fn setup(provider: &Provider, ca: &Authority) -> Setup {
    let auth = "smtpd.auth.introspection";
    Setup::new()
        .entrance("kind = \"submission\"\ntls = \"none\"\nauth_without_tls = true")
        .text(auth, "url", &provider.url("/introspect"))
        .text(auth, "client_id", "ironpost")
        .text(auth, "client_secret", "introspection_secret")
        .text(auth, "scope", "mail")
        .text(auth, "ca_file", "ca.pem")
        .text(auth, "timeout", "5s")
        .file("ca.pem", &ca.pem())
        .secret("introspection_secret", &format!("{CLIENT_SECRET}\n"))
}

fn server(ironpost: &Ironpost) -> SocketAddr {
    ironpost.listeners()[1]
}

/// It takes OAUTHBEARER where that is offered.
fn curl(ironpost: &Ironpost, user: &str, token: &str) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--url", &format!("smtp://{}/client.test", server(ironpost))]);
    command.args([
        "--mail-from",
        "alice@example.test",
        "--mail-rcpt",
        "bob@example.test",
        "--upload-file",
        "-",
    ]);
    command.args(["--user", &format!("{user}:"), "--oauth2-bearer", token]);
    run(&mut command, MESSAGE)
}

fn asked(provider: &Provider) -> usize {
    provider.process.out.count(|line| line.starts_with("introspected"))
}

#[test]
fn curl_and_python_log_in_with_a_token() {
    let ca = Authority::new("Test Authority");
    let provider = Provider::start(own_address(), &ca);
    provider.behave(r#"{"known": ["access-of-alice"]}"#);
    let ironpost = setup(&provider, &ca).start();
    let mut client = Client::connect(server(&ironpost));
    let offers = client.command("EHLO client.test");
    assert!(offers.contains("AUTH OAUTHBEARER XOAUTH2\n"), "{offers}");
    client.quit();
    let sent = curl(&ironpost, "alice", "access-of-alice");
    assert_eq!(sent.code, 0, "{}", sent.err);
    ironpost.wait_mail("bob", 1);
    ironpost.log.wait_text("sasl_method=OAUTHBEARER, sasl_username=alice");
    let script = "
import smtplib, sys
host, port, token = sys.argv[1:]
smtp = smtplib.SMTP(host, int(port), local_hostname='client.test')
smtp.ehlo()
said = smtp.auth('XOAUTH2', lambda challenge=None: 'user=alice\\x01auth=Bearer %s\\x01\\x01' % token if challenge is None else '')
assert said[0] == 235, said
smtp.sendmail('alice@example.test', ['bob@example.test'], sys.stdin.buffer.read())
smtp.quit()
";
    let mut command = python();
    command.args(["-c", script, &server(&ironpost).ip().to_string(), &server(&ironpost).port().to_string()]);
    let sent = run(command.arg("access-of-alice"), MESSAGE);
    assert_eq!(sent.code, 0, "{}", sent.err);
    ironpost.wait_mail("bob", 2);
    ironpost.log.wait_text("sasl_method=XOAUTH2, sasl_username=alice");
    assert_eq!(asked(&provider), 1, "one question for all of them");
    let log = ironpost.log.all().join("\n");
    assert!(!log.contains("access-of-alice") && !log.contains(CLIENT_SECRET), "{log}");
    ironpost.ironpost(&["check"]).ok();
}

#[test]
fn tokens_that_are_not_good_are_refused() {
    let ca = Authority::new("Test Authority");
    let provider = Provider::start(own_address(), &ca);
    let ironpost = setup(&provider, &ca).start();
    for (number, claims, user, why) in [
        (1, "{\"active\": false}", "alice", "the token is not active"),
        (2, "{\"scope\": \"other\"}", "alice", "the token is not for mail"),
        (3, "{\"exp\": 1000}", "alice", "the token has ended"),
        (4, "{}", "bob", "the token is somebody else's"),
    ] {
        let token = format!("access-{number}-x");
        provider.behave(&format!("{{\"known\": [\"{token}\"], \"claims\": {claims}}}"));
        let sent = curl(&ironpost, user, &token);
        assert_eq!(sent.code, 67, "login denied: {}", sent.err);
        ironpost.log.wait_text(why);
    }
    // What a client is told, word by word (RFC 7628 3.2.2).
    let mut client = Client::connect(server(&ironpost));
    client.hello();
    // base64 of "n,a=alice,^Aauth=Bearer nonsense^A^A"
    let told = client.command("AUTH OAUTHBEARER bixhPWFsaWNlLAFhdXRoPUJlYXJlciBub25zZW5zZQEB");
    // base64 of {"schemes":"bearer","scope":"mail","status":"invalid_token"}
    assert_eq!(
        told.trim(),
        "334 eyJzY2hlbWVzIjoiYmVhcmVyIiwic2NvcGUiOiJtYWlsIiwic3RhdHVzIjoiaW52YWxpZF90b2tlbiJ9"
    );
    client.expect("AQ==", "535 5.7.8");
    client.expect("AUTH OAUTHBEARER bm9uc2Vuc2U=", "501 5.5.2");
    client.quit();
    assert!(ironpost.mail("bob").is_empty());
}

#[test]
fn a_provider_in_trouble_is_no_reason_to_refuse_anybody() {
    let ca = Authority::new("Test Authority");
    let provider = Provider::start(own_address(), &ca);
    let ironpost = setup(&provider, &ca).start();
    for (behaviour, why) in [
        (r#"{"raw": "sorry", "status": 503}"#, "it says HTTP 503"),
        (r#"{"raw": "<html>"}"#, "its answer is no JSON"),
        (r#"{"raw": "{}", "status": 401}"#, "it says HTTP 401: look at client_id and client_secret"),
        (r#"{"known": ["access-1"], "claims": {"username": null}}"#, "its answer has no text \"username\""),
    ] {
        provider.behave(behaviour);
        let mut client = Client::connect(server(&ironpost));
        client.hello();
        // base64 of "n,a=alice,^Aauth=Bearer access-1^A^A"
        client.expect("AUTH OAUTHBEARER bixhPWFsaWNlLAFhdXRoPUJlYXJlciBhY2Nlc3MtMQEB", "454 4.7.0");
        client.quit();
        ironpost.log.wait_text(why);
    }
    provider.behave(r#"{"known": ["access-1"]}"#);
    assert_eq!(curl(&ironpost, "alice", "access-1").code, 0);
}
