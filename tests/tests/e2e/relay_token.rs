//! A relay host that wants a token instead of a password: Postfix with Dovecot's XOAUTH2 and OAUTHBEARER, which asks a provider about each token; that
//! provider's token endpoint gives them out.

use std::fs;
use std::net::SocketAddr;

use ironpost_tests::certificates::Authority;
use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::dovecot::Dovecot;
use ironpost_tests::counterpart::oauth::{CLIENT_SECRET, Provider};
use ironpost_tests::counterpart::postfix::Postfix;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::own_address;
use ironpost_tests::setup::Setup;
use ironpost_tests::{is_root, skipped};

use crate::relay_host::provider as postfix;

/// Everybody who takes part but Ironpost.
struct World {
    ca: Authority,
    provider: Provider,
    dovecot: Dovecot,
    postfix: Postfix,
}

impl World {
    fn new(mechanisms: &str) -> Self {
        let ca = Authority::new("Test Authority");
        let provider = Provider::start(own_address(), &ca);
        let dovecot = Dovecot::start_oauth(&provider.open_introspection(), mechanisms);
        let postfix = postfix(own_address(), &dovecot, &ca, "");
        Self { ca, provider, dovecot, postfix }
    }

    fn relay(&self) -> SocketAddr {
        self.postfix.address()
    }

    /// `key` stands in the table before `xoauth2 alice:tokens.toml`, whose text is `tokens`.
    fn setup(&self, tokens: &str) -> Setup {
        let key = format!("[{}]:{}", self.relay().ip(), self.relay().port());
        Setup::new()
            .relay_to(self.relay())
            .quick_retries()
            .text("deliverd", "relay_credentials", "relay_credentials")
            .text("deliverd", "ca_file", "ca.pem")
            .file("ca.pem", &self.ca.pem())
            .secret("relay_credentials", &format!("{key} xoauth2 alice:tokens.toml\n"))
            .secret("tokens.toml", tokens)
    }

    /// A file for the token endpoint, with these lines added.
    fn endpoint(&self, more: &str) -> String {
        format!(
            "token_endpoint = \"{}\"\nclient_id = \"ironpost\"\nclient_secret = \"{CLIENT_SECRET}\"\nca_file = \"ca.pem\"\n{more}",
            self.provider.url("/token")
        )
    }

    fn granted(&self) -> Vec<String> {
        self.provider.process.out.all().into_iter().filter(|line| line.starts_with("granted")).collect()
    }
}

fn send(ironpost: &Ironpost) -> String {
    ironpost.send("a@example.test", &["u@remote.test"], &short("x"))
}

/// No token or secret, nor what went over the line for one, is in the log.
fn assert_no_secret(ironpost: &Ironpost) {
    let log = ironpost.log.all().join("\n");
    // base64 of "auth=Bearer access-" at all three places in a group.
    for secret in
        ["access-", "refresh-", CLIENT_SECRET, "YXV0aD1CZWFyZXIg", "F1dGg9QmVhcmVyI", "hdXRoPUJlYXJlci"]
    {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[test]
fn a_token_is_fetched_and_used_with_both_mechanisms() {
    if !is_root() {
        return skipped("a_token_is_fetched_and_used", "Postfix and Dovecot run only as root");
    }
    for (mechanisms, expected) in [("xoauth2 oauthbearer", "OAUTHBEARER"), ("xoauth2", "XOAUTH2")] {
        let world = World::new(mechanisms);
        let tokens = world.endpoint("refresh_token = \"refresh-0\"\nscope = \"mail\"\n");
        let ironpost = world.setup(&tokens).start();
        let id = send(&ironpost);
        ironpost.wait_removed(&id);
        assert_eq!(world.postfix.wait_mail(1).len(), 1);
        world.postfix.wait_log(&format!("sasl_method={expected}, sasl_username=alice"), 1);
        ironpost.log.wait_text("Verified TLS connection established to ");
        assert_eq!(world.granted(), ["granted refresh_token access-1 mail"]);
        assert_no_secret(&ironpost);
        ironpost.ironpost(&["check"]).ok();
        let route = ironpost.ironpost(&["route", "u@remote.test"]).ok().text();
        assert!(route.contains("login       as alice, with a token by "), "{route}");
        assert!(world.dovecot.log().lines().all(|line| !line.contains("Error:")), "{}", world.dovecot.log());
    }
}

#[test]
fn a_client_by_its_own_right_gets_one_too() {
    if !is_root() {
        return skipped("a_client_by_its_own_right", "Postfix and Dovecot run only as root");
    }
    let world = World::new("oauthbearer");
    let ironpost = world.setup(&world.endpoint("client_auth = \"basic\"\n")).start();
    let id = send(&ironpost);
    ironpost.wait_removed(&id);
    assert_eq!(world.granted(), ["granted client_credentials access-1 -"]);
    assert_no_secret(&ironpost);
}

#[test]
fn a_replaced_refresh_token_outlives_the_process_until_an_admin_writes_another_one() {
    if !is_root() {
        return skipped("a_replaced_refresh_token", "Postfix and Dovecot run only as root");
    }
    let world = World::new("xoauth2");
    let mut ironpost = world.setup(&world.endpoint("refresh_token = \"refresh-0\"\n")).start();
    for count in 1..=3 {
        let id = send(&ironpost);
        ironpost.wait_removed(&id);
        assert_eq!(world.granted().len(), count, "each process asks once");
        ironpost.restart();
    }
    let folder = ironpost.spool().join("deliverd");
    let kept: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(fs::read_to_string(&kept[0]).unwrap().contains("refresh-3"));
    // What is kept belongs to the one that stands in the file.
    let other = world.endpoint("refresh_token = \"refresh-of-another-account\"\n");
    fs::write(ironpost.path().join("tokens.toml"), other).unwrap();
    ironpost.restart();
    let id = send(&ironpost);
    world.provider.process.out.wait_text("wrong refresh-of-another-account");
    let file = ironpost.wait_deferred(&id);
    assert!(file.exists());
    let line = ironpost.log.wait_text("status=deferred (SASL authentication failed: ");
    assert!(line.contains("it says HTTP 400, invalid_grant: [...] is used up"), "{line}");
    assert!(line.contains("get a new refresh token from the provider and put it into the file"), "{line}");
    // The admin does.
    fs::write(ironpost.path().join("tokens.toml"), world.endpoint("refresh_token = \"refresh-3\"\n"))
        .unwrap();
    ironpost.wait_removed(&id);
    assert_no_secret(&ironpost);
}

#[test]
fn a_token_that_is_refused_is_renewed_once_and_then_mail_waits() {
    if !is_root() {
        return skipped("a_token_that_is_refused", "Postfix and Dovecot run only as root");
    }
    let world = World::new("xoauth2 oauthbearer");
    world.provider.behave(r#"{"revoked": ["access-1"]}"#);
    let ironpost = world.setup("access_token = \"access-1\"\n").start();
    let id = send(&ironpost);
    ironpost.wait_deferred(&id);
    let line = ironpost.log.wait_text("status=deferred (SASL authentication failed; server ");
    assert!(line.contains(" said: 535 5.7.8 "), "{line}");
    assert!(line.contains("(about the token: status invalid_token"), "{line}");
    let warning = ironpost.log.wait_text("relay_credentials: cannot log in as \"alice\"");
    assert!(warning.contains("tokens.toml, which the line ["), "{warning}");
    assert!(ironpost.mail("postmaster").is_empty(), "nothing bounces");
    // An admin puts another one into the file.
    world.provider.behave(r#"{"known": ["access-of-mine"]}"#);
    fs::write(ironpost.path().join("tokens.toml"), "access_token = \"access-of-mine\"\n").unwrap();
    ironpost.wait_removed(&id);
    assert_no_secret(&ironpost);
}

#[test]
fn mail_waits_while_the_endpoint_is_down_and_goes_on_by_itself() {
    if !is_root() {
        return skipped("mail_waits_while_the_endpoint_is_down", "Postfix and Dovecot run only as root");
    }
    let world = World::new("xoauth2");
    for (behaviour, says) in [
        (r#"{"raw": "sorry", "status": 503}"#, "it says HTTP 503; it is asked again by itself"),
        (r#"{"raw": "<html>"}"#, "its answer is no JSON (line 1, column 1); it is asked again by itself"),
    ] {
        world.provider.behave(behaviour);
        let tokens = world.endpoint("refresh_token = \"refresh-0\"\n");
        let ironpost = world.setup(&tokens).start();
        let id = send(&ironpost);
        ironpost.wait_deferred(&id);
        let line = ironpost.log.wait_text("status=deferred (SASL authentication failed: ");
        assert!(line.contains("dsn=4.7.0") && line.contains(says), "{line}");
        // Many messages, one request.
        let before = world.provider.process.out.count(|line| line.starts_with("raw"));
        let more: Vec<String> = (0..5).map(|_| send(&ironpost)).collect();
        more.iter().for_each(|id| drop(ironpost.wait_deferred(id)));
        let after = world.provider.process.out.count(|line| line.starts_with("raw"));
        assert!(after <= before + 1, "{before} {after}");
    }
    // The last of them has left the endpoint's first refresh token alone.
    world.provider.behave("{}");
    let ironpost = world.setup(&world.endpoint("refresh_token = \"refresh-0\"\n")).start();
    let ids: Vec<String> = (0..20).map(|_| send(&ironpost)).collect();
    ids.iter().for_each(|id| ironpost.wait_removed(id));
    assert_eq!(world.granted().len(), 1, "one token for all");
}

#[test]
fn a_token_that_ends_soon_is_told_of() {
    let ca = Authority::new("Test Authority");
    for (expires, says) in [
        ("2020-01-01T00:00:00Z", "the access token has ended at Wed, 01 Jan 2020"),
        ("2099-01-01T00:00:00Z", ""),
    ] {
        let ironpost = Setup::new()
            .text("deliverd", "relay_credentials", "relay_credentials")
            .text("deliverd", "ca_file", "ca.pem")
            .file("ca.pem", &ca.pem())
            .secret("relay_credentials", "[127.0.0.1]:9 xoauth2 alice:tokens.toml\n")
            .secret("tokens.toml", &format!("access_token = \"access-1\"\nexpires = {expires}\n"))
            .start();
        if says.is_empty() {
            // By then everything that is said at the start was said.
            ironpost.log.wait_text("delivery agent");
            assert_eq!(ironpost.log.count(|line| line.contains("access token")), 0);
        } else {
            let line = ironpost.log.wait_text("tokens.toml: the access token");
            assert!(line.contains(says) && line.contains("put a new access_token into the file"), "{line}");
        }
    }
}

#[test]
fn mistakes_in_a_token_file_are_found_before_and_at_the_start() {
    for (text, mode, says) in [
        ("access_token = \"hush\"\nscopes = \"x\"\n", 0o600, "tokens.toml: \"scopes\" is not known here"),
        ("access_token = hush\n", 0o600, "tokens.toml:1: this is no KEY = \"VALUE\""),
        (
            "access_token = \"hush\"\n",
            0o640,
            "tokens.toml: others than its owner may use it (mode 0640): chmod 600 it",
        ),
    ] {
        let setup = Setup::new()
            .text("deliverd", "relay_credentials", "relay_credentials")
            .secret("relay_credentials", "[127.0.0.1]:9 xoauth2 alice:tokens.toml\n")
            .secret("tokens.toml", text);
        let path = setup.path().join("tokens.toml");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let ironpost = setup.stopped();
        let check = ironpost.ironpost(&["check"]);
        assert!(check.code == 78 && check.err.contains(says), "{}", check.err);
        let daemon = ironpost_tests::process::run(
            std::process::Command::new(ironpost_tests::tools::binary("deliverd"))
                .args(["smtp", "-c"])
                .arg(ironpost.config()),
            b"",
        );
        assert!(daemon.code == 78 && daemon.err.contains(says), "{}", daemon.err);
        assert!(!check.err.contains("hush") && !daemon.err.contains("hush"));
    }
}
