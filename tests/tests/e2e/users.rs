//! `ironpost user`: the users file is made, changed and listed, whoever types and whatever goes wrong.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use ironpost_tests::is_root;
use ironpost_tests::process::{Output, run};
use ironpost_tests::setup::Setup;
use ironpost_tests::tools::{binary, python};

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
        return ironpost_tests::skipped("owner_and_mode_stay", "giving files away is root's");
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
