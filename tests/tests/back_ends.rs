//! What knows names and passwords behind the crate `auth`, for real: Dovecot's authentication service, and PAM behind its helper.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use auth::pam::Pam;
use auth::prepare::Password;
use auth::{Authenticator, Channel, Exchange, Failure, Login, Step};
use aws_lc_rs::{digest, hmac, pbkdf2};
use common::config::Config;
use common::identity::Identity;
use common::secret::Secrets;
use data_encoding::BASE64;
use ironpost_tests::counterpart::dovecot::Dovecot;
use ironpost_tests::counterpart::pam::Service;
use ironpost_tests::tools::ironpost_bin;
use ironpost_tests::{DEADLINE, is_root, skipped};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn channel(tls: bool) -> Channel {
    let local = IpAddr::from([127, 0, 0, 1]);
    Channel { tls, plaintext_allowed: !tls, binding: None, client: IpAddr::from([192, 0, 2, 1]), local }
}

fn done(name: &str, mechanism: &str) -> Step {
    Step::Done(Login { name: name.into(), mechanism: mechanism.into() })
}

/// The client's side of SCRAM-SHA-256, with this password.
async fn scram(exchange: &mut Exchange, name: &str, password: &str) -> Step {
    let mac =
        |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec();
    let bare = format!("n={name},r=fyko+d2lbbFgONRv9qkxdawL");
    let first = exchange.step(Some(format!("n,,{bare}").as_bytes())).await;
    let Step::Challenge(first) = first else { return first };
    let first = String::from_utf8(first).unwrap();
    let field = |name: &str| first.split(',').find_map(|field| field.strip_prefix(name)).unwrap().to_owned();
    let salt = BASE64.decode(field("s=").as_bytes()).unwrap();
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        field("i=").parse().unwrap(),
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let client_key = mac(&salted, b"Client Key");
    let without_proof = format!("c=biws,r={}", field("r="));
    let signed = format!("{bare},{first},{without_proof}");
    let signature = mac(digest::digest(&digest::SHA256, &client_key).as_ref(), signed.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    let last = exchange.step(Some(format!("{without_proof},p={}", BASE64.encode(&proof)).as_bytes())).await;
    let Step::Challenge(last) = last else { return last };
    let expected = mac(&mac(&salted, b"Server Key"), signed.as_bytes());
    assert_eq!(String::from_utf8(last).unwrap(), format!("v={}", BASE64.encode(&expected)));
    exchange.step(Some(b"")).await
}

/// An authenticator in front of a real Dovecot.
fn in_front_of(dovecot: &Dovecot, more: &str) -> Authenticator {
    let text = format!("[smtpd.auth]\nusers = \"dovecot:{}\"\n{more}", dovecot.socket().display());
    let config = Config::parse(&text, Path::new("c"), Path::new("/")).unwrap();
    let me = Identity { name: "me".into(), uid: nix::unistd::geteuid(), gid: nix::unistd::getegid() };
    Authenticator::open(&config, &Secrets::new(&me)).unwrap().unwrap()
}

#[tokio::test]
async fn dovecot_decides_in_every_mechanism_that_it_has() {
    if !is_root() {
        return skipped("dovecot_decides_in_every_mechanism_that_it_has", "Dovecot wants root");
    }
    let dovecot = Dovecot::start(
        &[("joe", "right one"), ("jane@example.test", "p,=äö")],
        "plain login scram-sha-256 cram-md5 anonymous",
    );
    let auth = in_front_of(&dovecot, "");
    auth.prepare().await;
    // The stronger ones first; nobody is anonymous.
    assert_eq!(auth.mechanisms(&channel(true)), ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"]);
    assert!(auth.begin("ANONYMOUS", &channel(true)).is_none());
    let begin = |name: &str| auth.begin(name, &channel(true)).unwrap();

    assert_eq!(begin("PLAIN").step(Some(b"\0joe\0right one")).await, done("joe", "PLAIN"));
    let mut plain = begin("plain");
    assert_eq!(plain.step(None).await, Step::Challenge(Vec::new()));
    assert_eq!(
        plain.step(Some("\0jane@example.test\0p,=äö".as_bytes())).await,
        done("jane@example.test", "PLAIN")
    );
    let mut login = begin("LOGIN");
    assert_eq!(login.step(None).await, Step::Challenge(b"Username:".to_vec()));
    assert_eq!(login.step(Some(b"JOE")).await, Step::Challenge(b"Password:".to_vec()));
    assert_eq!(login.step(Some(b"right one")).await, done("joe", "LOGIN"), "the name as Dovecot has it");
    assert_eq!(scram(&mut begin("SCRAM-SHA-256"), "joe", "right one").await, done("joe", "SCRAM-SHA-256"));
    let mut cram = begin("CRAM-MD5");
    assert!(matches!(cram.step(None).await, Step::Challenge(asked) if asked.starts_with(b"<")));

    let wrong = |step: Step, user: &str| match step {
        Step::Failed(Failure::Wrong { user: told, why }) => {
            assert_eq!((told.as_deref(), why.as_str()), (Some(user), "wrong name or password"));
        }
        other => panic!("{other:?}"),
    };
    // All at once over one connection, each with Dovecot's pause.
    let (mut a, mut b, mut c) = (begin("PLAIN"), begin("PLAIN"), begin("SCRAM-SHA-256"));
    let started = Instant::now();
    let (a, b, c) = tokio::join!(
        a.step(Some(b"\0joe\0wrong one")),
        b.step(Some(b"\0nobody\0x")),
        scram(&mut c, "joe", "wrong one")
    );
    wrong(a, "joe");
    wrong(b, "nobody");
    wrong(c, "joe");
    assert!(started.elapsed() < *DEADLINE);
    // What Dovecot cannot make sense of is no login either.
    let step = begin("PLAIN").step(Some(&[b'x'; 3000])).await;
    assert!(matches!(step, Step::Failed(Failure::Wrong { .. })), "{step:?}");
    // Sessions that go away in the middle, more than it takes to fill a table.
    for _ in 0..100 {
        let mut login = begin("LOGIN");
        assert!(matches!(login.step(Some(b"joe")).await, Step::Challenge(_)));
    }
    assert_eq!(begin("PLAIN").step(Some(b"\0joe\0right one")).await, done("joe", "PLAIN"));

    let named = in_front_of(&dovecot, "mechanisms = [\"plain\"]\n");
    named.prepare().await;
    assert_eq!(named.mechanisms(&channel(false)), ["PLAIN"]);
    let socket = dovecot.socket();
    drop(dovecot);
    let step = begin("PLAIN").step(Some(b"\0joe\0right one")).await;
    match step {
        Step::Failed(Failure::Unavailable(why)) => {
            assert!(why.contains(&socket.display().to_string()), "{why}")
        }
        other => panic!("{other:?}"),
    }
}

/// The helper, where this machine can build and run it.
fn helper(test: &str) -> Option<PathBuf> {
    let path = ironpost_bin().join(auth::pam::HELPER);
    if !is_root() || !path.exists() {
        skipped(test, "PAM services are root's, and the helper needs libpam0g-dev");
        return None;
    }
    Some(path)
}

async fn ask(pam: &Pam, name: &str, password: &str) -> Result<String, Failure> {
    let password = Password::new(password.as_bytes()).unwrap();
    pam.check(name, &password, IpAddr::from([192, 0, 2, 1])).await
}

/// PAM's modules run this for authentication (with the password as input) and for the account.
const SCRIPT: &str = r#"#!/bin/sh
[ "$PAM_RHOST" = 192.0.2.1 ] || exit 1
if [ "$PAM_TYPE" = account ]; then [ "$PAM_USER" != locked ]; exit; fi
password=$(tr -d '\000')
case "$PAM_USER:$password" in
joe:"right one" | locked:"right one") exit 0 ;;
hanging:*) echo > "$0.hangs"; while kill -0 $PPID 2>/dev/null; do sleep 1; done ;;
esac
exit 1
"#;

#[tokio::test]
async fn pam_decides_and_a_module_that_hangs_holds_up_nobody_else() {
    let Some(helper) = helper("pam_decides_and_a_module_that_hangs_holds_up_nobody_else") else { return };
    let service = Service::script("script", SCRIPT);
    let pam = Pam::start(&helper, service.name()).unwrap();
    let others = async {
        // The one that hangs does so by now.
        let hangs = service.folder().join("script.hangs");
        let started = Instant::now();
        while !hangs.exists() {
            assert!(started.elapsed() < *DEADLINE, "it does not hang");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(ask(&pam, "joe", "right one").await.unwrap(), "joe");
        for (name, password) in
            [("joe", "wrong"), ("joe", ""), ("nobody", "right one"), ("locked", "right one")]
        {
            match ask(&pam, name, password).await {
                Err(Failure::Wrong { user, .. }) if name != "locked" => {
                    assert_eq!(user.as_deref(), Some(name))
                }
                // pam_exec's word for an account that its script refuses is an error of the system.
                Err(Failure::Unavailable(_)) if name == "locked" => {}
                other => panic!("{name}: {other:?}"),
            }
        }
        // Names that cannot be are not asked for.
        for name in ["a b", "a\nb", ""] {
            assert!(matches!(ask(&pam, name, "x").await, Err(Failure::Wrong { .. })), "{name:?}");
        }
        // Several at once.
        let (a, b, c) =
            tokio::join!(ask(&pam, "joe", "right one"), ask(&pam, "joe", "x"), ask(&pam, "joe", "right one"));
        assert!(a.is_ok() && b.is_err() && c.is_ok());
    };
    let (hung, ()) = tokio::join!(ask(&pam, "hanging", "x"), others);
    match hung {
        Err(Failure::Unavailable(why)) => assert!(why.contains("30 seconds"), "{why}"),
        other => panic!("{other:?}"),
    }
    // The helper goes with whoever asked.
    let process = PathBuf::from(format!("/proc/{}", pam.process()));
    assert!(process.exists());
    drop(pam);
    let started = Instant::now();
    while process.exists() {
        assert!(started.elapsed() < *DEADLINE, "the helper stays");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[tokio::test]
async fn pam_reads_the_shadow_file_and_a_helper_that_ends_is_a_temporary_failure() {
    let Some(helper) = helper("pam_reads_the_shadow_file_and_a_helper_that_ends_is_a_temporary_failure")
    else {
        return;
    };
    let service =
        Service::new("unix", |_| "auth required pam_unix.so nodelay\naccount required pam_unix.so\n".into());
    let pam = Pam::start(&helper, service.name()).unwrap();
    for name in ["root", "ironpost-nobody-has-this-name"] {
        match ask(&pam, name, "this is not the password").await {
            Err(Failure::Wrong { user, .. }) => assert_eq!(user.as_deref(), Some(name)),
            other => panic!("{name}: {other:?}"),
        }
    }
    let process = nix::unistd::Pid::from_raw(i32::try_from(pam.process()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
    for _ in 0..2 {
        match ask(&pam, "root", "x").await {
            Err(Failure::Unavailable(why)) => {
                assert!(why.contains("start smtpd again") || why.contains("cannot be asked"), "{why}")
            }
            other => panic!("{other:?}"),
        }
    }
}
