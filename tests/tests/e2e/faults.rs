//! The disk fails under the daemons: syncs and writes that end with EIO, no room, no inodes, a file system that becomes read-only.
//!
//! In each case clients get 4xx and never 250 for what is not stored, nothing acknowledged is lost, and when the fault is gone everything
//! goes on without help.

use std::collections::BTreeSet;

use ironpost_tests::client::Client;
use ironpost_tests::corpus::plain;
use ironpost_tests::counterpart::script::{Act, Script, Server};
use ironpost_tests::disk::SmallDisk;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::mailbox::header;
use ironpost_tests::net::{free_port, own_address};
use ironpost_tests::setup::Setup;
use ironpost_tests::strace::{Strace, assert_no_sync_retried};
use ironpost_tests::{is_root, skipped};

const NO_PTRACE: &str = "strace may not attach to processes here";

/// Sends messages named `name` and a number until `enough` says so; gives the accepted ones and how many were refused, with 4xx each.
fn send_until(
    client: &mut Client,
    name: &str,
    to: &str,
    size: usize,
    enough: impl Fn(usize, usize) -> bool,
) -> (BTreeSet<String>, usize) {
    let (mut accepted, mut refused) = (BTreeSet::new(), 0);
    for number in 0.. {
        assert!(number < 500, "the fault does not show: {} accepted, {refused} refused", accepted.len());
        let subject = format!("{name}{number}");
        let reply = match client.command("MAIL FROM:<dave@example.test>") {
            reply if reply.starts_with("250 ") => {
                client.expect(&format!("RCPT TO:<{to}>"), "250 2.1.5 Ok");
                client.expect("DATA", "354 ");
                client.content(&plain(&subject, size))
            }
            reply => reply,
        };
        if reply.starts_with("250 2.0.0 Ok: queued as ") {
            accepted.insert(subject);
        } else {
            assert!(reply.starts_with("45"), "{subject}: {reply}");
            refused += 1;
        }
        if enough(accepted.len(), refused) {
            break;
        }
    }
    (accepted, refused)
}

fn subjects<'a>(contents: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    contents.filter_map(|content| header(content, "Subject")).collect()
}

/// What lies in bob's Maildir, by subject.
fn bobs(ironpost: &Ironpost) -> Vec<String> {
    subjects(ironpost.mail("bob").iter().map(|mail| &mail.bytes[..]))
}

fn nothing_is_corrupt(ironpost: &Ironpost) {
    let corrupt = ironpost.spool().join("corrupt");
    assert_eq!(std::fs::read_dir(corrupt).map(Iterator::count).unwrap_or_default(), 0, "corrupt queue files");
}

#[test]
fn message_whose_data_cannot_be_synced_is_refused_and_forgotten() {
    const TEST: &str = "message_whose_data_cannot_be_synced_is_refused_and_forgotten";
    let ironpost = Setup::new().text("smtpd", "commit", "file").start();
    let smtpd = ironpost.daemon(&["smtpd"]);
    let mut client = ironpost.connect();
    client.hello();
    let faults = ["fdatasync:error=EIO:when=1+2"];
    let Some(strace) = Strace::attach(smtpd, "fsync,fdatasync,close,linkat", &faults) else {
        return skipped(TEST, NO_PTRACE);
    };
    let (mut accepted, refused) =
        send_until(&mut client, "m", "bob@example.test", 500, |accepted, refused| {
            accepted >= 20 && refused >= 20
        });
    let calls = strace.detach();
    let failures = assert_no_sync_retried(&calls, |args| args.ends_with("/incoming>"));
    assert_eq!(failures, refused, "a sync that failed is a message refused");
    let links = calls.iter().filter(|call| call.name == "linkat" && call.result.starts_with('0')).count();
    assert_eq!(links, accepted.len(), "a message whose data was not synced got a name");
    // The same session, and the same process, go on.
    client.send_mail("dave@example.test", &["bob@example.test"], &plain("after", 500));
    client.quit();
    accepted.insert("after".to_owned());
    ironpost.wait_empty();
    let mut found = bobs(&ironpost);
    found.sort();
    assert_eq!(found, accepted.into_iter().collect::<Vec<_>>(), "each accepted one once, and nothing else");
    assert_eq!(ironpost.daemon(&["smtpd"]), smtpd, "it was started anew");
}

/// A segment whose sync fails is never touched again: its group, and what comes while there is no other segment, commits as files.
#[test]
fn commit_log_that_cannot_be_synced_is_left_for_files() {
    const TEST: &str = "commit_log_that_cannot_be_synced_is_left_for_files";
    let ironpost = Setup::new().start();
    ironpost.wait_commit_log();
    let smtpd = ironpost.daemon(&["smtpd"]);
    let mut client = ironpost.connect();
    client.hello();
    let faults = ["fdatasync:error=EIO:when=3"];
    let Some(strace) = Strace::attach(smtpd, "fsync,fdatasync,close,linkat", &faults) else {
        return skipped(TEST, NO_PTRACE);
    };
    let (accepted, refused) =
        send_until(&mut client, "m", "bob@example.test", 500, |accepted, _| accepted >= 6);
    let calls = strace.detach();
    assert_eq!((accepted.len(), refused), (6, 0), "{calls:?}");
    let failures = assert_no_sync_retried(&calls, |_| false);
    assert_eq!(failures, 1, "{calls:?}");
    let synced = calls.iter().filter(|call| call.name == "fdatasync" && call.args.contains("/incoming/#"));
    assert!(synced.count() >= 1, "the message whose log failed was not synced as a file: {calls:?}");
    ironpost.log.wait_text("this group commits as files");
    client.quit();
    ironpost.wait_empty();
    let mut found = bobs(&ironpost);
    found.sort();
    assert_eq!(found, accepted.into_iter().collect::<Vec<_>>(), "each accepted one once");
}

#[test]
fn message_whose_name_cannot_be_synced_is_refused() {
    const TEST: &str = "message_whose_name_cannot_be_synced_is_refused";
    let ironpost = Setup::new().text("smtpd", "commit", "file").start();
    let smtpd = ironpost.daemon(&["smtpd"]);
    let mut client = ironpost.connect();
    client.hello();
    let faults = ["fsync:error=EIO:when=1+2"];
    let Some(strace) = Strace::attach(smtpd, "fsync,fdatasync,close,linkat,unlinkat", &faults) else {
        return skipped(TEST, NO_PTRACE);
    };
    let (accepted, refused) = send_until(&mut client, "m", "bob@example.test", 500, |accepted, refused| {
        accepted >= 20 && refused >= 20
    });
    let calls = strace.detach();
    let of_folder =
        |call: &&ironpost_tests::strace::Call| call.name == "fsync" && call.args.ends_with("/incoming>");
    let failed: Vec<_> = calls.iter().filter(of_folder).filter(|call| call.injected()).collect();
    assert_eq!(failed.len(), refused, "a sync that failed is a message refused");
    // The name that was not made durable is taken away, and the next sync is another message's.
    for failed in failed {
        let mut later = calls.iter().filter(|call| call.began > failed.ended);
        let unlinked = later.find(|call| call.name != "close").expect("nothing follows a failed sync");
        assert_eq!(unlinked.name, "unlinkat", "after {failed:?}: {unlinked:?}");
        if let Some(next) = later.find(|call| call.name == "linkat" || call.name == "fsync") {
            assert_eq!(next.name, "linkat", "after {failed:?}: {next:?}");
        }
    }
    client.send_mail("dave@example.test", &["bob@example.test"], &plain("after", 500));
    client.quit();
    ironpost.wait_empty();
    // One that was refused may have been taken in before its name was taken away: the client's next try is then a duplicate. None is lost.
    let found = bobs(&ironpost);
    let missing: Vec<_> = accepted.iter().filter(|subject| !found.contains(subject)).collect();
    assert!(missing.is_empty() && found.contains(&"after".to_owned()), "lost: {missing:?}");
    println!(
        "{TEST}: {refused} refused, {} of them delivered all the same",
        found.len() - accepted.len() - 1
    );
    assert_eq!(ironpost.daemon(&["smtpd"]), smtpd, "it was started anew");
    nothing_is_corrupt(&ironpost);
}

#[test]
fn outcomes_that_cannot_be_written_down_are_not_forgotten() {
    const TEST: &str = "outcomes_that_cannot_be_written_down_are_not_forgotten";
    // Each message: one copy at once, one refused for good (a notification), one later.
    let server = Server::start(
        Script::new().extensions(&[]).about("RCPT", "never", Act::Reply("550 5.1.1 never")).times(
            20,
            "RCPT",
            "later",
            Act::Reply("450 4.2.0 later"),
        ),
    );
    let ironpost = Setup::new().relay_to(server.address()).quick_retries().start();
    let queued = ironpost.daemon(&["queued"]);
    let faults = ["pwrite64:error=EIO:when=1+2", "fdatasync:error=EIO:when=1+2", "fsync:error=EIO:when=1+3"];
    let Some(strace) = Strace::attach(queued, "pwrite64,fdatasync,fsync,close", &faults) else {
        return skipped(TEST, NO_PTRACE);
    };
    let mut client = ironpost.connect();
    client.hello();
    let subjects_sent: Vec<_> = (0..10).map(|number| format!("m{number}")).collect();
    for subject in &subjects_sent {
        let to = ["bob@example.test", "never@remote.test", "later@remote.test"];
        client.send_mail("carol@example.test", &to, &plain(subject, 500));
    }
    client.quit();
    // It keeps trying, and says so; meanwhile nothing leaves the queue that is owed something.
    ironpost.log.wait_text("Input/output error");
    ironpost.wait_mail("bob", 10);
    let calls = strace.detach();
    assert!(calls.iter().any(|call| call.injected() && call.name == "pwrite64"), "no write failed");
    assert_no_sync_retried(&calls, |args| args.ends_with("/incoming>"));
    ironpost.wait_empty();
    assert_eq!(ironpost.daemon(&["queued"]), queued, "it was started anew");
    let taken = server.taken();
    for (place, mut found) in
        [("bob", bobs(&ironpost)), ("next host", subjects(taken.iter().map(|taken| &taken.content[..])))]
    {
        found.sort();
        assert_eq!(
            found, subjects_sent,
            "{place}: each once: the process never forgot that it was delivered"
        );
    }
    let bounces = ironpost.mail("carol");
    for subject in &subjects_sent {
        let told =
            bounces.iter().filter(|mail| mail.text().contains(&format!("Subject: {subject}\n"))).count();
        // A notification whose commit failed at its very end may have been taken in all the same.
        assert!(told >= 1, "{subject}: the sender was not told");
    }
    nothing_is_corrupt(&ironpost);
}

/// Fills a disk while the next host is down; when it is up everything goes on.
fn fills_and_goes_on(test: &str, size: usize, mount: impl Fn(&std::path::Path) -> Option<SmallDisk>) {
    if !is_root() {
        return skipped(test, "only root may mount a small disk");
    }
    let address = own_address();
    let port = free_port(address);
    let setup = Setup::new().relay_to((address, port).into()).quick_retries();
    let Some(disk) = mount(&setup.path().join("spool")) else {
        return skipped(test, "a small file system cannot be mounted here");
    };
    let mut ironpost = setup.start();
    let mut client = ironpost.connect();
    client.hello();
    let (mut accepted, _) = send_until(&mut client, "m", "box@remote.test", size, |_, refused| refused >= 3);
    assert!(accepted.len() >= 5, "only {} fitted", accepted.len());
    // With 452 4.3.1, which tells that it is for now and why.
    client.expect("RSET", "250");
    let reply = match client.command("MAIL FROM:<dave@example.test>") {
        reply if reply.starts_with("250 ") => {
            client.expect("RCPT TO:<box@remote.test>", "250");
            client.expect("DATA", "354");
            client.content(&plain("full", size))
        }
        reply => reply,
    };
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    let server = Server::start_at(address, port, Script::new());
    server.wait(accepted.len());
    ironpost.wait_empty();
    client.send_mail("dave@example.test", &["box@remote.test"], &plain("after", size));
    client.quit();
    accepted.insert("after".to_owned());
    ironpost.wait_empty();
    let mut found = subjects(server.taken().iter().map(|taken| &taken.content[..]));
    found.sort();
    assert_eq!(found, accepted.into_iter().collect::<Vec<_>>());
    nothing_is_corrupt(&ironpost);
    ironpost.stop();
    drop(disk);
}

#[test]
fn full_ext4_defers_clients_and_loses_nothing() {
    fills_and_goes_on("full_ext4_defers_clients_and_loses_nothing", 200_000, |path| {
        SmallDisk::ext4(path, 16 << 20, 1000)
    });
}

#[test]
fn ext4_without_inodes_defers_clients_and_loses_nothing() {
    fills_and_goes_on("ext4_without_inodes_defers_clients_and_loses_nothing", 500, |path| {
        SmallDisk::ext4(path, 64 << 20, 96)
    });
}

#[test]
fn tmpfs_without_inodes_defers_clients_and_loses_nothing() {
    fills_and_goes_on("tmpfs_without_inodes_defers_clients_and_loses_nothing", 500, |path| {
        SmallDisk::tmpfs(path, "size=64m,nr_inodes=80")
    });
}

#[test]
fn read_only_spool_defers_clients_and_loses_nothing() {
    const TEST: &str = "read_only_spool_defers_clients_and_loses_nothing";
    if !is_root() {
        return skipped(TEST, "only root may mount a small disk");
    }
    let address = own_address();
    let port = free_port(address);
    let setup = Setup::new().relay_to((address, port).into()).quick_retries();
    let Some(disk) = SmallDisk::ext4(&setup.path().join("spool"), 64 << 20, 1000) else {
        return skipped(TEST, "a small file system cannot be mounted here");
    };
    let mut ironpost = setup.start();
    let daemons = [&["smtpd"][..], &["queued"], &["deliverd", "smtp"]].map(|words| ironpost.daemon(words));
    let mut client = ironpost.connect();
    client.hello();
    let (mut accepted, _) =
        send_until(&mut client, "m", "box@remote.test", 500, |accepted, _| accepted >= 10);
    ironpost.log.wait_until("all in deferred/", || {
        let files = ironpost.files_in_spool();
        files.iter().all(|file| file.to_string_lossy().contains("/deferred/")).then_some(())
    });
    disk.remount("ro");
    let (more, refused) = send_until(&mut client, "ro", "box@remote.test", 500, |_, refused| refused >= 3);
    assert_eq!((more.len(), refused), (0, 3));
    // What is due cannot be brought into active/; that is said, and tried again.
    ironpost.log.wait_text("Read-only file system");
    let server = Server::start_at(address, port, Script::new());
    disk.remount("rw");
    client.send_mail("dave@example.test", &["box@remote.test"], &plain("after", 500));
    client.quit();
    accepted.insert("after".to_owned());
    ironpost.wait_empty();
    let mut found = subjects(server.taken().iter().map(|taken| &taken.content[..]));
    found.sort();
    assert_eq!(found, accepted.into_iter().collect::<Vec<_>>());
    nothing_is_corrupt(&ironpost);
    let now = [&["smtpd"][..], &["queued"], &["deliverd", "smtp"]].map(|words| ironpost.daemon(words));
    assert_eq!(now, daemons, "a daemon did not live through it");
    ironpost.stop();
    drop(disk);
}
