//! `ironpost user`: the users file is made, changed and listed, whoever types and whatever goes wrong.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use ironpost_tests::client::Client;
use ironpost_tests::counterpart::pam::Service;
use ironpost_tests::ironpost::alive;
use ironpost_tests::process::{Output, run};
use ironpost_tests::setup::Setup;
use ironpost_tests::tools::{binary, ironpost_bin, python};
use ironpost_tests::{is_root, skipped};
use nix::unistd::Pid;

struct Users {
    setup: Setup,
    config: PathBuf,
}

impl Users {
    fn new() -> Self {
        let setup = Setup::new().text("smtpd.auth", "users", "logins");
        let config = setup.write();
        Self { setup, config }
    }

    fn path(&self) -> PathBuf {
        self.setup.path().join("logins")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn user(&self, args: &[&str], input: &str) -> Output {
        run(
            Command::new(binary("ironpost")).arg("-c").arg(&self.config).arg("user").args(args),
            input.as_bytes(),
        )
    }
}

#[test]
fn users_are_added_changed_listed_and_removed() {
    let users = Users::new();
    assert_eq!(users.user(&["list"], "").code, 66, "there is no file yet");
    let added = users.user(&["add", "joe"], "first secret\n").ok();
    assert!(added.text().starts_with("joe added (argon2id)"), "{}", added.text());
    let meta = fs::metadata(users.path()).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o600);
    for (name, scheme) in [
        ("jane@example.test", "scram-sha-256"),
        ("a", "scrypt"),
        ("b", "yescrypt"),
        ("c", "bcrypt"),
        ("d", "sha512-crypt"),
        ("e", "sha256-crypt"),
    ] {
        users.user(&["add", name, "--scheme", scheme], "another secret").ok();
    }
    fs::write(users.path(), format!("# staff\n{}\n  # end\n", users.text())).unwrap();
    let before = users.text();
    let listed = users.user(&["list"], "").ok().text();
    assert_eq!(
        listed,
        "joe argon2id\njane@example.test scram-sha-256\na scrypt\nb yescrypt\nc bcrypt\nd sha512-crypt\ne sha256-crypt\n"
    );
    users.user(&["passwd", "JOE"], "second secret\r\n").ok();
    let after = users.text();
    let (changed, same): (Vec<_>, Vec<_>) =
        before.lines().zip(after.lines()).partition(|(old, new)| old != new);
    assert_eq!((changed.len(), same.len()), (1, before.lines().count() - 1), "{after}");
    assert!(changed[0].1.starts_with("joe:$argon2id$"));
    users.user(&["remove", "joe"], "").ok();
    assert_eq!(
        users.text(),
        before.lines().filter(|line| !line.starts_with("joe:")).map(|l| format!("{l}\n")).collect::<String>()
    );
    for secret in ["first secret", "second secret", "another secret"] {
        assert!(!users.text().contains(secret));
    }
    // All of them can be used.
    run(Command::new(binary("ironpost")).arg("check").arg("-c").arg(&users.config), b"").ok();
    // Where all have verifiers for SCRAM, a new one gets one.
    let file = users.setup.path().join("scram");
    let with = |args: &[&str]| users.user(&[args, &["--file", file.to_str().unwrap()]].concat(), "secret\n");
    with(&["add", "x", "--scheme", "scram-sha-256"]).ok();
    assert!(with(&["add", "y"]).ok().text().contains("scram-sha-256"));
}

/// What crypt(3) of this machine says of what we make.
#[test]
fn hashes_are_those_of_other_programs() {
    let users = Users::new();
    for scheme in ["yescrypt", "bcrypt", "sha512-crypt", "sha256-crypt"] {
        users.user(&["add", scheme, "--scheme", scheme], "Hello world!\n").ok();
    }
    let script = "import crypt, sys\nfor line in sys.stdin:\n    name, hash = line.strip().split(':')\n    print(name, crypt.crypt('Hello world!', hash) == hash)";
    let said = run(python().args(["-W", "ignore", "-c", script]), users.text().as_bytes()).ok().text();
    assert_eq!(said, "yescrypt True\nbcrypt True\nsha512-crypt True\nsha256-crypt True\n");
}

#[test]
fn what_cannot_be_done_is_said_and_changes_nothing() {
    let users = Users::new();
    users.user(&["add", "joe"], "secret\n").ok();
    let before = users.text();
    for (args, input, code, says) in [
        (&["add", "Joe"][..], "x\n", 73, "user passwd"),
        (&["passwd", "bob"], "x\n", 67, "bob is not in"),
        (&["remove", "bob"], "", 67, "bob is not in"),
        (&["add", "bob"], "", 65, "cannot be empty"),
        (&["add", "bob"], "\n", 65, "cannot be empty"),
        (&["add", "bob"], "a\u{1b}b\n", 65, "control characters"),
        (&["add", "a b"], "x\n", 64, "white space"),
        (&["add", "a:b"], "x\n", 64, "\":\""),
        (&["add", "bob", "--scheme", "md5"], "x\n", 64, "md5"),
        (&["add", "bob", "--scheme", "bcrypt"], &"x".repeat(73), 1, "72 octets"),
        (&["add"], "", 64, "NAME"),
    ] {
        let output = users.user(args, input);
        assert_eq!(output.code, code, "{args:?}: {}", output.err);
        assert!(output.err.contains(says), "{args:?}: {}", output.err);
        assert_eq!(users.text(), before, "{args:?}");
    }
    let long = users.user(&["add", "bob"], &"x".repeat(2000));
    assert!(long.code == 65 && long.err.contains("1024 octets"), "{}", long.err);
    // Others could read it.
    fs::set_permissions(users.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let open = users.user(&["add", "bob"], "x\n");
    assert!(open.code == 78 && open.err.contains("chmod 600"), "{}", open.err);
    let check = run(Command::new(binary("ironpost")).arg("check").arg("-c").arg(&users.config), b"");
    assert!(check.code == 78 && check.err.contains("chmod 600"), "{}", check.err);
    fs::set_permissions(users.path(), fs::Permissions::from_mode(0o600)).unwrap();
    // Garbage is told at its line, and nothing that may be a password with it.
    fs::write(users.path(), format!("{before}eve:hunter2\n")).unwrap();
    let check = run(Command::new(binary("ironpost")).arg("check").arg("-c").arg(&users.config), b"");
    assert!(
        check.code == 78 && check.err.contains("logins:2: \"eve\": ") && !check.err.contains("hunter2"),
        "{}",
        check.err
    );
    let listed = users.user(&["list"], "").ok();
    assert!(listed.text() == "joe argon2id\n" && listed.err.contains("logins:2:"), "{}", listed.err);
    users.user(&["passwd", "eve"], "mended\n").ok();
    run(Command::new(binary("ironpost")).arg("check").arg("-c").arg(&users.config), b"").ok();
    // Elsewhere than in a file.
    let setup = Setup::new().text("smtpd.auth", "users", "dovecot:/run/dovecot/auth");
    let elsewhere =
        run(Command::new(binary("ironpost")).args(["user", "list", "-c"]).arg(setup.write()), b"");
    assert!(elsewhere.code == 78 && elsewhere.err.contains("kept elsewhere"), "{}", elsewhere.err);
    let none =
        run(Command::new(binary("ironpost")).args(["user", "list", "-c"]).arg(Setup::new().write()), b"");
    assert!(none.code == 78 && none.err.contains("[smtpd.auth] users"), "{}", none.err);
}

#[test]
fn owner_and_mode_stay() {
    if !is_root() {
        return skipped("owner_and_mode_stay", "giving files away is root's");
    }
    let users = Users::new();
    users.user(&["add", "joe"], "secret\n").ok();
    fs::set_permissions(users.path(), fs::Permissions::from_mode(0o400)).unwrap();
    chown(users.path(), Some(61_201), Some(61_201)).unwrap();
    let said = users.user(&["passwd", "joe"], "other\n").ok().text();
    let meta = fs::metadata(users.path()).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (61_201, 61_201, 0o400));
    assert!(said.contains("joe has a new password"), "{said}");
}

/// At a terminal: asked twice, shown never, and the terminal is as before.
#[test]
fn a_typed_password_is_not_shown() {
    let users = Users::new();
    let script = r#"
import os, pty, sys, termios
def dialogue(answers):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    seen = b''
    for question, answer in answers:
        while question not in seen:
            seen += os.read(fd, 1000)
        shown = bool(termios.tcgetattr(fd)[3] & termios.ECHO)
        print('echo' if shown else 'quiet')
        os.write(fd, answer + b'\n')
    try:
        while True:
            some = os.read(fd, 1000)
            if not some:
                break
            seen += some
    except OSError:
        pass
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), repr(seen))
dialogue([(b'New password for joe: ', sys.stdin.readline().strip().encode()), (b'The same again: ', sys.stdin.readline().strip().encode())])
"#;
    let dialogue = |input: &str| {
        let mut command = python();
        command
            .args(["-c", script])
            .arg(binary("ironpost"))
            .arg("-c")
            .arg(&users.config)
            .args(["user", "add", "joe"]);
        run(&mut command, input.as_bytes()).ok().text()
    };
    let said = dialogue("typed secret\nother secret\n");
    assert!(said.starts_with("quiet\nquiet\n65 ") && said.contains("not the same"), "{said}");
    assert!(!said.contains("secret") && !users.path().exists(), "{said}");
    let said = dialogue("typed secret\ntyped secret\n");
    assert!(
        said.starts_with("quiet\nquiet\n0 ") && said.contains("joe added") && !said.contains("secret"),
        "{said}"
    );
    assert_eq!(users.user(&["list"], "").ok().text(), "joe argon2id\n");
}

/// The field of a process's status.
fn status(process: Pid, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::trim));
    found.unwrap().to_owned()
}

#[test]
fn users_of_the_system_log_in_through_a_helper_that_alone_is_root() {
    const TEST: &str = "users_of_the_system_log_in_through_a_helper_that_alone_is_root";
    if !is_root() || !ironpost_bin().join("ironpost-pam").exists() {
        return skipped(TEST, "PAM services are root's, and the helper needs libpam0g-dev");
    }
    let script = "#!/bin/sh\n[ \"$PAM_TYPE\" = account ] && exit 0\n[ \"$PAM_USER:$(tr -d '\\000')\" = \"joe:right one\" ]\n";
    let service = Service::script("e2e", script);
    let mut ironpost = Setup::new()
        .text("smtpd.auth", "users", "system")
        .text("smtpd.auth", "pam_service", service.name())
        .entrance("auth = true\nauth_without_tls = true")
        .start();
    let address = ironpost.listeners()[1];
    let log_in = |response: &str, reply: &str| {
        let mut client = Client::connect(address);
        assert!(client.command("EHLO client.test").contains("AUTH PLAIN LOGIN"));
        client.expect(&format!("AUTH PLAIN {response}"), reply);
    };
    // NUL joe NUL right one; NUL joe NUL wrong.
    log_in("AGpvZQByaWdodCBvbmU=", "235 2.7.0");
    log_in("AGpvZQB3cm9uZw==", "535 5.7.8");
    ironpost.log.wait_text("SASL PLAIN authentication failed: ");

    let smtpd = ironpost.daemon(&["smtpd"]);
    let children = fs::read_to_string(format!("/proc/{smtpd}/task/{smtpd}/children")).unwrap();
    let helper = Pid::from_raw(children.trim().parse().expect("one child"));
    assert_eq!(status(helper, "Name"), "ironpost-pam");
    assert!(status(helper, "Uid").starts_with("0\t0\t0") && !status(smtpd, "Uid").starts_with('0'));
    // Of all capabilities those of KEPT in pamd/src/serve.rs: no administration, no network, no devices, no tracing.
    let bounding = u64::from_str_radix(&status(helper, "CapBnd"), 16).unwrap();
    assert_eq!(bounding & !0b10_0000_0000_0000_0000_0000_1110_1111, 0, "{bounding:x}");
    // Its words on its command line are the service, and nothing secret.
    let line = fs::read(format!("/proc/{helper}/cmdline")).unwrap();
    assert!(line.ends_with(format!("\0{}\0", service.name()).as_bytes()));
    // A reload keeps it.
    ironpost.ironpost(&["reload", "smtpd"]).ok();
    log_in("AGpvZQByaWdodCBvbmU=", "235 2.7.0");
    assert!(alive(helper));
    ironpost.stop();
    ironpost.log.wait_until("the helper's end", || (!alive(helper)).then_some(()));

    // Without its service nothing starts, and check says what is missing.
    drop(service);
    let said = ironpost.ironpost(&["check"]);
    assert!(said.code == 78 && said.err.contains("there is no /etc/pam.d/ironpost-test-"), "{}", said.err);
}
