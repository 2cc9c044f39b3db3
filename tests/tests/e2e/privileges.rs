//! Who may do what, looked at from inside: identities of running daemons, and what those identities can
//! reach.
//!
//! Only when the tests run as root: otherwise everything runs as one user, and there is nothing to see.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use ironpost_tests::corpus::short;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::{free_port, own_address};
use ironpost_tests::process::{Output, children, run};
use ironpost_tests::setup::{MAILBOX_OWNER, Setup};
use ironpost_tests::{is_root, skipped};
use nix::unistd::{Pid, User};

/// What `/proc/PID/status` says after `key`, as words.
fn status(pid: Pid, key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The user and group of a process: the same in all four kinds, or this panics.
fn identity(pid: Pid) -> (u32, u32) {
    let one = |key: &str| {
        let words = status(pid, key);
        assert_eq!(words.len(), 4);
        assert!(words.iter().all(|word| *word == words[0]), "{pid}: {key}: {words:?}");
        words[0].parse().unwrap()
    };
    (one("Uid"), one("Gid"))
}

fn descendants(pid: Pid) -> Vec<(Pid, Vec<String>)> {
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() {
        let more = children(found[next].0);
        found.extend(more);
        next += 1;
    }
    found
}

/// Runs a shell command as a process runs: its user, group and other groups, without capabilities.
fn as_process(pid: Pid, script: &str) -> Output {
    let (user, group) = identity(pid);
    as_identity((user, group), &status(pid, "Groups").join(","), script)
}

fn as_identity((user, group): (u32, u32), groups: &str, script: &str) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user.to_string(), "--regid", &group.to_string()]);
    match groups {
        "" => command.arg("--clear-groups"),
        groups => command.args(["--groups", groups]),
    };
    command.args(["--inh-caps=-all", "--bounding-set=-all", "sh", "-c", script]);
    run(&mut command, b"")
}

fn with_a_waiting_message() -> (Ironpost, String) {
    let address = own_address();
    let ironpost = Setup::new().relay_to((address, free_port(address)).into()).start();
    let id =
        ironpost.send("alice@example.test", &["u@remote.test"], b"Subject: secret\r\n\r\nsecret words\r\n");
    ironpost.wait_deferred(&id);
    (ironpost, id)
}

#[test]
fn daemons_have_identities_of_their_own() {
    if !is_root() {
        return skipped("daemons_have_identities_of_their_own", "not root");
    }
    let ironpost = Setup::new().start();
    let mut users = Vec::new();
    for (words, name, number) in [
        (&["smtpd"][..], "ironpost-smtpd", 61201),
        (&["queued"], "ironpost-queued", 61202),
        (&["deliverd", "smtp"], "ironpost-deliverd", 61203),
    ] {
        let pid = ironpost.daemon(words);
        let (user, group) = identity(pid);
        let expected = User::from_name(name).unwrap().map_or(number, |user| user.uid.as_raw());
        assert_eq!(user, expected, "{words:?}");
        assert_ne!(group, 0, "{words:?}");
        assert!(
            status(pid, "Groups").iter().all(|group| group != "0"),
            "{words:?}: {:?}",
            status(pid, "Groups")
        );
        for capabilities in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            let set = u64::from_str_radix(&status(pid, capabilities)[0], 16).unwrap();
            assert_eq!(set, 0, "{words:?}: {capabilities}");
        }
        users.push(user);
    }
    users.dedup();
    assert_eq!(users.len(), 3);
    // Of all processes only the one that starts deliveries as the recipient may be root.
    for (pid, line) in descendants(ironpost.supervisor()) {
        let (user, _) = identity(pid);
        let local =
            line.iter().any(|word| word.ends_with("deliverd")) && line.iter().any(|word| word == "local");
        assert!(user != 0 || local, "root: {line:?}");
    }
    let roots =
        descendants(ironpost.supervisor()).into_iter().filter(|(pid, _)| identity(*pid).0 == 0).count();
    assert!(roots <= 1, "{roots} processes of root");
}

#[test]
fn identities_reach_only_what_they_need() {
    if !is_root() {
        return skipped("identities_reach_only_what_they_need", "not root");
    }
    let (ironpost, _) = with_a_waiting_message();
    let smtpd = ironpost.daemon(&["smtpd"]);
    let queued = ironpost.daemon(&["queued"]);
    let deliverd = ironpost.daemon(&["deliverd", "smtp"]);
    let spool = ironpost.spool();
    let file = ironpost.files_in_spool().pop().unwrap();
    let denied = |output: Output, who: &str, script: &str| {
        assert_ne!(output.code, 0, "{who} may: {script}: {}", output.text());
        assert!(output.err.contains("denied"), "{who}: {script}: {}", output.err);
    };
    let refused = |who: Pid, script: &str, path: &Path| {
        let script = script.replace("{}", &path.display().to_string());
        denied(as_process(who, &script), &format!("{:?}", identity(who)), &script);
    };
    // smtpd adds names to incoming/ and sees nothing there.
    as_process(smtpd, &format!("touch {}/incoming/try", spool.display())).ok();
    refused(smtpd, "ls {}", &spool.join("incoming"));
    refused(smtpd, "cat {}", &file);
    for queue in ["active", "deferred", "hold", "corrupt", "maildrop"] {
        refused(smtpd, "ls {}", &spool.join(queue));
        refused(smtpd, "touch {}/x", &spool.join(queue));
    }
    refused(smtpd, "ls {}", &spool.join("private"));
    // deliverd sees no queue at all.
    refused(deliverd, "cat {}", &file);
    for queue in ["incoming", "active", "deferred", "hold", "corrupt", "maildrop"] {
        refused(deliverd, "ls {}", &spool.join(queue));
        refused(deliverd, "touch {}/x", &spool.join(queue));
    }
    // Anyone else neither.
    for (script, path) in [("cat", file.clone())].into_iter().chain(
        ["incoming", "active", "deferred", "hold", "corrupt", "private"].map(|name| ("ls", spool.join(name))),
    ) {
        let script = format!("{script} {}", path.display());
        denied(as_identity((61299, 61299), "", &script), "anyone", &script);
    }
    // queued owns it.
    as_process(queued, &format!("cat {} > /dev/null", file.display())).ok();
    for who in [smtpd, queued, deliverd] {
        refused(who, "cat {}", Path::new("/etc/shadow"));
    }
}

#[test]
fn accepted_message_cannot_be_read_back_by_smtpd() {
    if !is_root() {
        return skipped("accepted_message_cannot_be_read_back_by_smtpd", "not root");
    }
    let (ironpost, _) = with_a_waiting_message();
    for file in ironpost.files_in_spool() {
        let facts = std::fs::metadata(&file).unwrap();
        assert_eq!(facts.mode() & 0o007, 0, "{:o} {}", facts.mode(), file.display());
    }
}

#[test]
fn mail_for_system_users_is_theirs() {
    if !is_root() {
        return skipped("mail_for_system_users_is_theirs", "not root");
    }
    let setup = Setup::new().text("local", "users", "system");
    std::fs::set_permissions(setup.path().join("mail"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))
        .unwrap();
    let ironpost = setup.start();
    let mut ids = Vec::new();
    for name in ["nobody", "daemon"] {
        ids.push(ironpost.send("a@client.test", &[&format!("{name}@example.test")], &short("x")));
    }
    for id in ids {
        ironpost.wait_removed(&id);
    }
    for name in ["nobody", "daemon"] {
        let user = User::from_name(name).unwrap().unwrap();
        let mails = ironpost.mail(name);
        assert_eq!(mails.len(), 1, "{name}");
        let facts = std::fs::metadata(&mails[0].path).unwrap();
        assert_eq!((facts.uid(), facts.gid()), (user.uid.as_raw(), user.gid.as_raw()), "{name}");
        assert_eq!(facts.mode() & 0o077, 0, "{name}: {:o}", facts.mode());
    }
    // No such system user.
    let mut client = ironpost.connect();
    client.hello();
    client.expect("MAIL FROM:<a@client.test>", "250");
    client.expect("RCPT TO:<no-such-user-here@example.test>", "550 5.1.1 ");
}

#[test]
fn mailboxes_of_a_users_file_belong_to_the_folders_owner() {
    if !is_root() {
        return skipped("mailboxes_of_a_users_file_belong_to_the_folders_owner", "not root");
    }
    let ironpost = Setup::new().start();
    ironpost.send("a@client.test", &["alice@example.test"], &short("x"));
    let mails = ironpost.wait_mail("alice", 1);
    assert_eq!(std::fs::metadata(&mails[0].path).unwrap().uid(), MAILBOX_OWNER);
    let folder = std::fs::metadata(ironpost.path().join("mail/alice")).unwrap();
    assert_eq!((folder.uid(), folder.mode() & 0o777), (MAILBOX_OWNER, 0o700));
}

#[test]
fn delivery_as_another_user_cannot_touch_what_is_not_theirs() {
    if !is_root() {
        return skipped("delivery_as_another_user_cannot_touch_what_is_not_theirs", "not root");
    }
    // Alice's Maildir is a link to a folder of root: delivery happens as the mailboxes' owner, who may not write there.
    let setup = Setup::new();
    let target = setup.path().join("precious");
    for folder in ["", "new", "cur", "tmp"] {
        std::fs::create_dir(target.join(folder)).unwrap();
    }
    std::os::unix::fs::symlink(&target, setup.path().join("mail/alice")).unwrap();
    let ironpost = setup.start();
    let id = ironpost.send("dave@example.test", &["alice@example.test", "bob@example.test"], &short("x"));
    ironpost.log.wait("an outcome", |line| {
        (line.contains(&id) && line.contains("to=<alice@") && !line.contains("status=sent")).then_some(())
    });
    ironpost.wait_mail("bob", 1);
    assert_eq!(std::fs::read_dir(target.join("new")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(target.join("tmp")).unwrap().count(), 0);
}

#[test]
fn user_names_never_leave_the_mailbox_folder() {
    let ironpost = Setup::new().file("users", "alice\n..\n../escape\na/b\n").stopped();
    let check = ironpost.ironpost(&["check"]);
    let mut ironpost = ironpost;
    if check.code == 0 {
        ironpost.start();
        for name in ["..", "../escape", "a/b", "\"../escape\"", "\"..\""] {
            let mut client = ironpost.connect();
            client.hello();
            client.expect("MAIL FROM:<a@client.test>", "250");
            let reply = client.command(&format!("RCPT TO:<{name}@example.test>"));
            if reply.starts_with("250") {
                client.expect("DATA", "354");
                let id = ironpost_tests::client::queue_id(&client.content(&short("x")));
                ironpost.wait_removed(&id);
            }
        }
    }
    assert!(!ironpost.path().join("escape").exists());
    assert!(!ironpost.path().join("new").exists());
    assert!(!ironpost.path().join("mail/a/b").exists());
}
