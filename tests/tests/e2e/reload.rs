//! `ironpost reload`, and SIGHUP to `ironpost run`: what changes takes effect without a restart, also what only root can read; what is
//! broken changes nothing; and nobody else is heard.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ironpost_tests::certificates::{Authority, Certificate};
use ironpost_tests::corpus::short;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::process::run;
use ironpost_tests::setup::Setup;
use ironpost_tests::tools::python;
use ironpost_tests::{is_root, skipped};
use nix::sys::signal::{Signal, kill};

const NAME: &str = "mail.example.test";

/// A folder that only its owner can enter, with a certificate and its key, as certbot keeps them.
fn with_secret_folder(authority: &Authority) -> Setup {
    let setup = Setup::new().text("smtpd.tls", "certificate", "secret/cert.pem").text(
        "smtpd.tls",
        "private_key",
        "secret/key.pem",
    );
    let folder = setup.path().join("secret");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    authority.issue(&[NAME]).write(&folder);
    setup
}

/// The certificate that is shown, as PEM without line ends.
fn shown(ironpost: &Ironpost) -> String {
    let mut command = Command::new("openssl");
    let server = ironpost.smtp().to_string();
    command.args([
        "s_client",
        "-connect",
        &server,
        "-starttls",
        "smtp",
        "-name",
        "client.test",
        "-showcerts",
    ]);
    let text = run(&mut command, b"QUIT\r\n").text();
    body(text.get(text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{text}"))..).unwrap())
}

fn body(pem: &str) -> String {
    pem[..pem.find("-----END CERTIFICATE-----").unwrap()].replace(['\r', '\n'], "")
}

/// As certbot does: new files, renamed over the old ones.
fn renew(folder: &Path, certificate: &Certificate) {
    let new = folder.join("new");
    fs::create_dir(&new).unwrap();
    certificate.write(&new);
    for name in ["cert.pem", "key.pem"] {
        fs::rename(new.join(name), folder.join(name)).unwrap();
    }
    fs::remove_dir(&new).unwrap();
}

#[test]
fn a_certificate_that_only_root_can_read_is_renewed() {
    let authority = Authority::new("test");
    let mut ironpost = with_secret_folder(&authority).start();
    let folder = ironpost.path().join("secret");
    let mut client = ironpost.connect();
    client.hello();
    let first = shown(&ironpost);
    let second = authority.issue(&[NAME]);
    renew(&folder, &second);
    if is_root() {
        // The daemon itself has no way to it, and says what would be one.
        let mark = ironpost.log.mark();
        kill(ironpost.daemon(&["smtpd"]), Signal::SIGHUP).unwrap();
        ironpost.log.wait_after(mark, "the refusal", |line| {
            (line.contains("certificate not read anew, the old one stays in force: ")
                && line.contains("only root can read it: run \"ironpost reload\""))
            .then_some(())
        });
        assert_eq!(shown(&ironpost), first);
    }
    let said = ironpost.ironpost(&["reload"]).ok();
    for line in [
        "queued: configuration read anew\n",
        "smtpd: configuration read anew\n",
        "smtpd: certificate read anew\n",
        "deliverd smtp: configuration read anew\n",
        "deliverd local: configuration read anew\n",
    ] {
        assert!(said.text().contains(line), "{line}: {}", said.text());
    }
    assert_eq!(said.err, "");
    assert_eq!(shown(&ironpost), body(&second.pem));
    // One daemon alone.
    let third = authority.issue(&[NAME]);
    renew(&folder, &third);
    let said = ironpost.ironpost(&["reload", "smtpd"]).ok();
    assert_eq!(said.text(), "smtpd: configuration read anew\nsmtpd: certificate read anew\n");
    assert_eq!(shown(&ironpost), body(&third.pem));
    // SIGHUP to `ironpost run` does the same.
    let fourth = authority.issue(&[NAME]);
    renew(&folder, &fourth);
    ironpost.signal(Signal::SIGHUP);
    ironpost
        .log
        .wait_until("the renewed certificate", || (shown(&ironpost) == body(&fourth.pem)).then_some(()));
    // Nothing of it stays open in the daemon.
    let smtpd = ironpost.daemon(&["smtpd"]);
    for entry in fs::read_dir(format!("/proc/{smtpd}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        assert!(!target.starts_with(&folder), "{}", target.display());
    }
    client.expect("NOOP", "250 2.0.0 Ok");
    client.quit();
}

#[test]
fn a_users_file_that_only_root_can_read_is_renewed() {
    // PLAIN of alice with one password and with the other.
    const OLD: &str = "AUTH PLAIN AGFsaWNlAG9sZCBwYXNzd29yZA==";
    const NEW: &str = "AUTH PLAIN AGFsaWNlAG5ldyBwYXNzd29yZA==";
    let users = [("alice", "old password"), ("bob", "new password")];
    let ironpost = Setup::new()
        .entrance("kind = \"submission\"\ntls = \"none\"\nauth_without_tls = true")
        .logins("sha512-crypt", &users)
        .start();
    let says = |command: &str| {
        let mut client = ironpost_tests::client::Client::connect(ironpost.listeners()[1]);
        client.hello();
        let reply = client.command(command);
        reply[..9].to_owned()
    };
    assert_eq!(says(OLD), "235 2.7.0");
    // alice gets bob's hash, in a new file.
    let file = ironpost.path().join("logins");
    let text = fs::read_to_string(&file).unwrap();
    let hash = text.lines().find_map(|line| line.strip_prefix("bob:")).unwrap();
    let replace = |text: &str| {
        let new = ironpost.path().join("logins.new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    replace(&format!("alice:{hash}\n"));
    if is_root() {
        assert_eq!(says(OLD), "235 2.7.0", "it has no way to the new one");
    }
    ironpost.ironpost(&["reload", "smtpd"]).ok();
    assert_eq!((says(OLD), says(NEW)), ("535 5.7.8".into(), "235 2.7.0".into()));
    // One that others may read is not taken.
    replace(&text);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let said = ironpost.ironpost(&["reload", "smtpd"]);
    assert!(
        said.code == 78 && said.err.contains("logins: ") && said.err.contains("chmod 600"),
        "{}",
        said.err
    );
    assert_eq!(says(NEW), "235 2.7.0");
}

#[test]
fn a_broken_certificate_or_configuration_changes_nothing_and_is_told() {
    let authority = Authority::new("test");
    let ironpost = with_secret_folder(&authority).start();
    let folder = ironpost.path().join("secret");
    let first = shown(&ironpost);
    fs::write(folder.join("key.pem"), authority.issue(&[NAME]).key).unwrap();
    let said = ironpost.ironpost(&["reload"]);
    assert_eq!(said.code, 78, "{}", said.err);
    let kept = "smtpd: certificate not read anew, the old one stays in force: ";
    assert!(said.err.contains(kept) && said.err.contains("key.pem: does not belong to "), "{}", said.err);
    assert!(said.text().contains("smtpd: configuration read anew\n"), "the rest is taken: {}", said.text());
    fs::remove_file(folder.join("key.pem")).unwrap();
    let said = ironpost.ironpost(&["reload", "smtpd"]);
    assert_eq!(said.code, 78);
    assert!(said.err.contains("key.pem: cannot read: No such file"), "{}", said.err);
    assert_eq!(shown(&ironpost), first);
    // A broken table: the daemons that use it keep what they had.
    fs::write(ironpost.path().join("aliases"), "nonsense\n").unwrap();
    let said = ironpost.ironpost(&["reload", "queued"]);
    assert_eq!(said.code, 78);
    let kept = "queued: configuration not read anew, the old one stays in force: ";
    assert!(said.err.contains(kept) && said.err.contains("aliases:1: "), "{}", said.err);
    fs::write(ironpost.path().join("aliases"), "").unwrap();
    // A broken configuration reaches no daemon.
    let good = fs::read_to_string(ironpost.config()).unwrap();
    fs::write(ironpost.config(), format!("{good}nonsense = 1\n")).unwrap();
    let mark = ironpost.log.mark();
    let said = ironpost.ironpost(&["reload"]);
    assert_eq!(said.code, 78);
    let line = good.lines().count() + 1;
    assert!(
        said.err.contains(&format!("ironpost.toml:{line}:1: ")) && said.err.contains('^'),
        "{}",
        said.err
    );
    assert_eq!(said.text(), "");
    fs::write(ironpost.config(), &good).unwrap();
    assert_eq!(ironpost.ironpost(&["reload", "queued"]).ok().text(), "queued: configuration read anew\n");
    // Of what was refused before this, lines may still come.
    let about = |line: &str| line.contains("not read anew") && line.contains("ironpost.toml");
    assert_eq!(ironpost.log.all().iter().skip(mark).filter(|line| about(line)).count(), 0);
    let id = ironpost.send("a@remote.test", &["alice@example.test"], &short("as before"));
    ironpost.wait_removed(&id);
}

#[test]
fn what_needs_a_restart_is_told() {
    let ironpost = Setup::new().start();
    let good = fs::read_to_string(ironpost.config()).unwrap();
    fs::write(ironpost.config(), good.replace("[log]", "[smtpd]\ncommit = \"file\"\n[log]")).unwrap();
    let said = ironpost.ironpost(&["reload", "smtpd"]).ok();
    assert!(
        said.err.contains("smtpd: smtpd.commit has changed: this takes effect when smtpd is"),
        "{}",
        said.err
    );
}

#[test]
fn a_daemon_that_does_not_run_is_told() {
    let ironpost = Setup::new().stopped();
    let said = ironpost.ironpost(&["reload"]);
    assert_eq!(said.code, 69, "{}", said.err);
    for name in ["queued", "smtpd", "deliverd smtp", "deliverd local"] {
        assert!(said.err.contains(&format!("{name} does not run (nobody answers at ")), "{}", said.err);
    }
    let usage = ironpost.ironpost(&["reload", "postfix"]);
    assert_eq!(usage.code, 64);
    assert!(usage.err.contains("there are queued, smtpd, deliverd-smtp, deliverd-local"), "{}", usage.err);
}

#[test]
fn nobody_else_can_hand_over_files() {
    if !is_root() {
        return skipped("nobody_else_can_hand_over_files", "not root");
    }
    let ironpost = Setup::new().start();
    let socket = ironpost.spool().join("private/smtpd");
    // What a user gets to see, who is kept away by nothing but the daemon itself.
    const SCRIPT: &str = "
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.settimeout(30)
s.connect(sys.argv[1])
try:
    socket.send_fds(s, [b'\\0' * 20], [os.open('/etc/passwd', os.O_RDONLY)])
except OSError:
    pass
try:
    answer = s.recv(10000)
except ConnectionResetError:
    answer = s.recv(10000)
print(answer)
";
    let talk = |user: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        command.arg(python().get_program()).args(["-c", SCRIPT]).arg(&socket);
        run(&mut command, b"")
    };
    let barred = talk("61299");
    assert!(barred.code != 0 && barred.err.contains("Permission denied"), "{}", barred.err);
    fs::set_permissions(ironpost.spool().join("private"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let refused = talk("61299").ok();
    assert!(refused.text().contains("only root and the daemon's own user"), "{}", refused.text());
    ironpost.log.wait_text("ironpost reload: uid 61299 is refused");
    // Another daemon's user is nobody, too.
    assert!(talk("61202").ok().text().contains("only root and the daemon's own user"));
    let mark = ironpost.log.all();
    assert!(!mark.iter().any(|line| line.contains("configuration read anew")));
    ironpost.ironpost(&["reload", "smtpd"]).ok();
}

#[test]
fn root_hands_nothing_to_who_poses_as_a_daemon() {
    if !is_root() {
        return skipped("root_hands_nothing_to_who_poses_as_a_daemon", "not root");
    }
    let ironpost = with_secret_folder(&Authority::new("test")).start();
    // queued owns the folder of the sockets: it can put one there, but not in root's name.
    let socket = ironpost.spool().join("private/smtpd");
    const SCRIPT: &str = "
import os, socket, sys
path = sys.argv[1]
os.rename(path, path + '.real')
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(path)
s.listen()
print('ready', flush=True)
s.settimeout(60)
peer, _ = s.accept()
files = 0
while True:
    data, fds, _, _ = socket.recv_fds(peer, 100000, 8)
    files += len(fds)
    if not data or data == b'\\1\\0\\0\\0':
        break
print(files, 'files', flush=True)
";
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "61202", "--regid", "61202", "--clear-groups"]);
    command.arg(python().get_program()).args(["-c", SCRIPT]).arg(&socket);
    let impostor = ironpost_tests::process::Process::start(&mut command);
    impostor.out.wait_text("ready");
    let said = ironpost.ironpost(&["reload", "smtpd"]);
    assert_eq!(said.code, 75, "{}", said.err);
    assert!(said.err.contains("smtpd: not reloaded: "), "{}", said.err);
    impostor.out.wait_text("0 files");
}

#[test]
fn keys_come_as_credentials_of_systemd() {
    let authority = Authority::new("test");
    let setup = Setup::new().text("smtpd.tls", "certificate", "cert.pem").text(
        "smtpd.tls",
        "private_key",
        "credential:key.pem",
    );
    let folder = setup.path().join("credentials");
    fs::create_dir(&folder).unwrap();
    let certificate = authority.issue(&[NAME]);
    certificate.write(setup.path());
    fs::rename(setup.path().join("key.pem"), folder.join("key.pem")).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    let ironpost = setup.stopped();
    let check = |folder: Option<&Path>| {
        let mut command = ironpost.command("ironpost", &["check"]);
        match folder {
            Some(folder) => command.env("CREDENTIALS_DIRECTORY", folder),
            None => command.env_remove("CREDENTIALS_DIRECTORY"),
        };
        run(&mut command, b"")
    };
    check(Some(&folder)).ok();
    let elsewhere = check(None);
    assert_eq!(elsewhere.code, 78);
    let place = "/run/credentials/ironpost-smtpd.service/key.pem: cannot read";
    assert!(elsewhere.err.contains(place), "{}", elsewhere.err);
    // The daemon itself, in the foreground.
    let config = ironpost.config().display().to_string();
    let mut command = ironpost.command("smtpd", &["-c", &config]);
    command.env("CREDENTIALS_DIRECTORY", &folder);
    let mut smtpd = ironpost_tests::process::Process::start(&mut command);
    let address = smtpd.err.wait("the port", |line| {
        line.split_once("listening on ")?.1.split_whitespace().next()?.parse::<std::net::SocketAddr>().ok()
    });
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &address.to_string(), "-starttls", "smtp", "-name", "client.test"]);
    let text = run(&mut client, b"QUIT\r\n").text();
    assert!(text.replace('\n', "").contains(&body(&certificate.pem)), "{text}");
    smtpd.signal(Signal::SIGTERM);
    assert_eq!(smtpd.wait().code(), Some(0));
}
