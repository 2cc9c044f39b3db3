use super::*;
use crate::exchange::{Login, Step};
use common::identity::Identity;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const SHA: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";

fn secrets() -> Arc<Secrets> {
    Secrets::new(&Identity { name: "me".into(), uid: nix::unistd::geteuid(), gid: nix::unistd::getegid() })
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(users: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write(users);
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    fn write(&self, users: &str) {
        fs::write(self.path(), users).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
        // Not one that may still be being written.
        let file = fs::File::options().write(true).open(self.path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(10)).unwrap();
    }

    fn config(&self, more: &str) -> Config {
        let text = format!("[smtpd.auth]\nusers = \"users\"\n{more}");
        Config::parse(&text, Path::new("c"), self.folder.path()).unwrap()
    }

    fn open(&self, more: &str) -> Authenticator {
        Authenticator::open(&self.config(more), &secrets()).unwrap().unwrap()
    }
}

fn channel(tls: bool) -> Channel {
    let local = IpAddr::from([127, 0, 0, 1]);
    Channel { tls, plaintext_allowed: false, binding: None, client: local, local }
}

async fn plain(authenticator: &Authenticator, message: &str) -> Step {
    authenticator.begin("plain", &channel(true)).unwrap().step(Some(message.as_bytes())).await
}

fn done(name: &str, mechanism: &str) -> Step {
    Step::Done(Login { name: name.into(), mechanism: mechanism.into() })
}

fn wrong(user: &str, why: &str) -> Step {
    Step::Failed(Failure::Wrong { user: Some(user.into()), why: why.into() })
}

#[test]
fn nobody_logs_in_without_users() {
    let config = Config::parse("", Path::new("c"), Path::new("/")).unwrap();
    assert!(Authenticator::open(&config, &secrets()).unwrap().is_none());
}

#[test]
fn a_users_file_that_cannot_be_read_is_named() {
    let place = Place::new("");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let error = Authenticator::open(&place.config(""), &secrets()).unwrap_err();
    assert!(error.contains("users: ") && error.contains("chmod 600"), "{error}");
    fs::remove_file(place.path()).unwrap();
    let error = Authenticator::open(&place.config(""), &secrets()).unwrap_err();
    assert!(error.contains(&place.path().display().to_string()) && error.contains("cannot read"), "{error}");
}

#[test]
fn mechanisms_are_offered_where_they_are_safe_and_wanted() {
    let place = Place::new(&format!("joe:{SHA}\n"));
    for (more, names) in [("", &["PLAIN", "LOGIN"][..]), ("mechanisms = [\"login\"]", &["LOGIN"])] {
        let authenticator = place.open(more);
        assert_eq!(authenticator.mechanisms(&channel(true)), names);
        assert!(authenticator.mechanisms(&channel(false)).is_empty());
        assert!(authenticator.begin("LOGIN", &channel(false)).is_none());
        assert!(
            authenticator.needs_tls("login", &channel(false))
                && !authenticator.needs_tls("login", &channel(true))
        );
        assert!(!authenticator.needs_tls("CRAM-MD5", &channel(false)));
        let allowed = Channel { plaintext_allowed: true, ..channel(false) };
        assert_eq!(authenticator.mechanisms(&allowed), names);
        assert_eq!(authenticator.begin("PLAIN", &allowed).is_some(), more.is_empty());
    }
}

#[tokio::test]
async fn plain_and_login_tell_right_from_wrong() {
    let place = Place::new(&format!("Joe:{SHA}\ngarbage\n"));
    let authenticator = place.open("");
    for (message, expected) in [
        ("\0joe\0Hello world!", done("Joe", "PLAIN")),
        ("JOE\0joe\0Hello world!", done("Joe", "PLAIN")),
        ("\0joe\0Hello world", wrong("joe", "wrong password")),
        ("\0joe\0", wrong("joe", "wrong password")),
        ("\0JANE\x1b\0Hello world!", wrong("jane\\x1b", "no such user")),
        ("jane\0joe\0Hello world!", wrong("joe", "acting for another user is not allowed")),
        ("joe", Step::Failed(Failure::Malformed("wanted two NUL in the response"))),
    ] {
        assert_eq!(plain(&authenticator, message).await, expected, "{message:?}");
    }
    let mut exchange = authenticator.begin("PLAIN", &channel(true)).unwrap();
    assert_eq!(exchange.step(None).await, Step::Challenge(Vec::new()));
    assert_eq!(exchange.step(Some(b"\0joe\0Hello world!")).await, done("Joe", "PLAIN"));
    assert!(matches!(exchange.step(Some(b"\0joe\0Hello world!")).await, Step::Failed(Failure::Malformed(_))));

    for initial in [None, Some(&b"joe"[..])] {
        let mut exchange = authenticator.begin("LOGIN", &channel(true)).unwrap();
        if initial.is_none() {
            assert_eq!(exchange.step(None).await, Step::Challenge(b"Username:".to_vec()));
        }
        assert_eq!(exchange.step(Some(b"joe")).await, Step::Challenge(b"Password:".to_vec()));
        assert!(!format!("{exchange:?}").contains("Hello"));
        assert_eq!(exchange.step(Some(b"Hello world!")).await, done("Joe", "LOGIN"));
    }
    let mut exchange = authenticator.begin("LOGIN", &channel(true)).unwrap();
    assert_eq!(exchange.step(Some(b"")).await, Step::Failed(Failure::Malformed("the name is empty")));
}

const PENCIL: &str = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

#[test]
fn scram_is_offered_where_all_can_use_it_or_where_it_is_named() {
    let scram = Place::new(&format!("joe:{PENCIL}\n"));
    let mixed = Place::new(&format!("joe:{PENCIL}\njane:{SHA}\n"));
    let bound = Channel { binding: Some(vec![1]), ..channel(true) };
    let all = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"];
    assert_eq!(scram.open("").mechanisms(&bound), all);
    assert_eq!(scram.open("").mechanisms(&channel(true)), all[1..]);
    assert_eq!(mixed.open("").mechanisms(&bound), all[2..]);
    let named = "mechanisms = [\"SCRAM-SHA-256\", \"SCRAM-SHA-256-PLUS\"]";
    assert_eq!(mixed.open(named).mechanisms(&bound), all[..2]);
    assert!(Place::new("").open("").mechanisms(&bound).len() == 2);
    assert!(Hash::parse(NOBODY).is_ok());
}

/// What the server says at first to somebody with this name, without its nonce.
async fn first(authenticator: &Authenticator, name: &str) -> String {
    let mut exchange = authenticator.begin(SCRAM, &channel(true)).unwrap();
    assert_eq!(exchange.step(None).await, Step::Challenge(Vec::new()));
    match exchange.step(Some(format!("n,,n={name},r=abc").as_bytes())).await {
        Step::Challenge(said) => {
            let said = String::from_utf8(said).unwrap();
            let nonce = said.split(',').next().unwrap();
            assert!(nonce.starts_with("r=abc") && nonce.len() > 20, "{said}");
            let proof = format!("c=biws,{nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
            let failed = exchange.step(Some(proof.as_bytes())).await;
            let Step::Failed(Failure::Wrong { user, .. }) = failed else { panic!("{failed:?}") };
            assert_eq!(user.unwrap(), name::key(name));
            said.split_once(',').unwrap().1.to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_is_answered_like_one_that_somebody_has() {
    let place = Place::new(&format!("Joe:{PENCIL}\n"));
    let authenticator = place.open("");
    assert_eq!(first(&authenticator, "joe").await, "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let nobody = first(&authenticator, "nobody").await;
    assert!(
        nobody.len() == "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".len() && nobody.ends_with("==,i=4096"),
        "{nobody}"
    );
    assert_eq!(first(&authenticator, "NOBODY").await, nobody, "the same each time");
    assert_ne!(first(&authenticator, "nobody2").await, nobody);
    let again =
        Authenticator::open_again(&place.config(""), &secrets(), Some(&authenticator)).unwrap().unwrap();
    assert_eq!(first(&again, "nobody").await, nobody, "also after the configuration was read anew");
}

#[tokio::test]
async fn the_file_is_followed() {
    let place = Place::new("");
    let authenticator = place.open("");
    assert_eq!(plain(&authenticator, "\0joe\0Hello world!").await, wrong("joe", "no such user"));
    place.write(&format!("joe:{SHA}\n"));
    let open = || Authenticator::open_again(&place.config(""), &secrets(), Some(&authenticator));
    let again = open().unwrap().unwrap();
    assert_eq!(plain(&again, "\0joe\0Hello world!").await, done("joe", "PLAIN"));
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open().unwrap_err().contains("chmod 600"));
    place.write(&format!("jane:{SHA}\n"));
    // It looks once a second.
    let started = std::time::Instant::now();
    while plain(&again, "\0jane\0Hello world!").await != done("jane", "PLAIN") {
        assert!(started.elapsed() < Duration::from_secs(60), "the file is not followed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(plain(&again, "\0joe\0Hello world!").await, wrong("joe", "no such user"));
}
