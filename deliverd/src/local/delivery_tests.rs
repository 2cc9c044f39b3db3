//! Deliveries into real folders, and what goes wrong there.

use super::*;
use crate::local::template::MailboxPath;
use common::address::{Address, ReversePath};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use spool::envelope::ContentFacts;
use spool::facts::FactsBuilder;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;

/// A resource limit holds for the whole process: tests that write take turns with the one that sets it.
static WRITING: Mutex<()> = Mutex::new(());

const CONTENT: &[u8] = b"Received: x\r\nSubject: hi\r\n\r\n.dot\r\nFrom here\r\n\xff\r\n";
const TOP: &str = "Return-Path: <s@x.example>\nX-Original-To: info@x.example\nDelivered-To: bob@x.example\n";

struct Place {
    _turn: std::sync::MutexGuard<'static, ()>,
    folder: TempDir,
    kind: Kind,
    names: Names,
}

impl Place {
    fn new(kind: Kind) -> Self {
        let turn = WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        Self { _turn: turn, folder, kind, names: Names::new("mx.example", 7) }
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.folder.path().join(rest)
    }

    fn task(&self, content: &ContentFacts) -> Task {
        Task {
            number: 5,
            sender: "s@x.example".parse::<ReversePath>().unwrap(),
            original: "info@x.example".parse().unwrap(),
            recipient: "bob@x.example".parse().unwrap(),
            mailbox: MailboxPath { folder: self.folder.path().to_owned(), steps: vec!["bob".into()] },
            kind: self.kind,
            content_offset: 3,
            content: *content,
            deadline: Timestamp::now(),
        }
    }

    fn deliver(&mut self, content: &[u8]) -> Answer {
        self.deliver_as(content, |_| {})
    }

    fn deliver_as(&mut self, content: &[u8], change: impl FnOnce(&mut Task)) -> Answer {
        let (file, facts) = queued(content);
        let mut task = self.task(&facts);
        change(&mut task);
        let answer = deliver(&task, file, &mut self.names, Timestamp::now());
        assert_eq!(answer.number, 5);
        answer
    }

    #[track_caller]
    fn fails(&mut self, code: &str, says: &str) -> Answer {
        let answer = self.deliver(CONTENT);
        assert_eq!(answer.status.code.to_string(), code, "{}", answer.status.text);
        assert!(answer.status.text.contains(says), "{}", answer.status.text);
        answer
    }

    fn files(&self, rest: &str) -> Vec<PathBuf> {
        fs::read_dir(self.path(rest)).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }
}

/// A file as queued hands it over: the content stands behind other octets.
fn queued(content: &[u8]) -> (File, ContentFacts) {
    let mut facts = FactsBuilder::default();
    facts.feed(content);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"xyz").unwrap();
    file.write_all(content).unwrap();
    (file, facts.facts())
}

fn sent(kind: Kind) -> (String, String) {
    let text = if kind == Kind::Maildir { "delivered to maildir" } else { "delivered to mailbox" };
    ("2.0.0".into(), text.into())
}

fn result(answer: &Answer) -> (String, String) {
    (answer.status.code.to_string(), answer.status.text.clone())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_maildir_is_made_and_filled() {
    let mut place = Place::new(Kind::Maildir);
    for round in 1..=3 {
        assert_eq!(result(&place.deliver(CONTENT)), sent(Kind::Maildir));
        let new = place.files("bob/new");
        assert_eq!((new.len(), place.files("bob/tmp").len()), (round, 0));
        let expected = [TOP.as_bytes(), b"Received: x\nSubject: hi\n\n.dot\nFrom here\n\xff\n"].concat();
        for path in new {
            assert_eq!(fs::read(&path).unwrap(), expected);
            assert_eq!(mode(&path), 0o600);
            assert!(path.to_str().unwrap().ends_with(".mx.example"), "{}", path.display());
        }
    }
    for folder in ["bob", "bob/new", "bob/cur", "bob/tmp"] {
        assert_eq!(mode(&place.path(folder)), 0o700, "{folder}");
    }
}

#[test]
fn names_are_unique_and_free_of_what_a_maildir_gives_meaning_to() {
    let mut names = Names::new("a/b:c", 9);
    let now = Timestamp(1_800_000_000_000_042);
    assert_eq!(names.next(now), "1800000000.M42P9_1.a\\057b\\072c");
    assert_eq!(names.next(now), "1800000000.M42P9_2.a\\057b\\072c");
}

#[test]
fn an_mbox_is_made_and_appended_to() {
    let mut place = Place::new(Kind::Mbox);
    let body = "Received: x\nSubject: hi\n\n.dot\n>From here\n";
    let mut expected = Vec::new();
    for round in 1..=2 {
        assert_eq!(result(&place.deliver(CONTENT)), sent(Kind::Mbox), "{round}");
        let got = fs::read(place.path("bob")).unwrap();
        let (before, after) = got.split_at(expected.len());
        assert_eq!(before, expected);
        let line = after.iter().position(|b| *b == b'\n').unwrap();
        assert!(after.starts_with(b"From s@x.example  "), "{}", after.escape_ascii());
        assert_eq!(after[line + 1..], [TOP.as_bytes(), body.as_bytes(), b"\xff\n\n"].concat());
        expected = got;
    }
    assert_eq!(mode(&place.path("bob")), 0o600);
    assert_eq!(place.files(".").len(), 1, "a lock is left");
}

#[test]
fn a_long_message_goes_into_an_mbox_piece_by_piece() {
    let mut place = Place::new(Kind::Mbox);
    let content = b"0123456789abcde\r\n".repeat(100_000);
    assert!(content.len() as u64 > mbox::AT_ONCE);
    assert_eq!(result(&place.deliver(&content)), sent(Kind::Mbox));
    let got = fs::read(place.path("bob")).unwrap();
    let expected = [b"0123456789abcde\n".repeat(100_000), b"\n".to_vec()].concat();
    assert!(got.ends_with(&expected));
}

#[test]
fn messages_in_an_mbox_are_separated_whatever_was_at_the_end() {
    for (before, between) in
        [("", ""), ("x", "\n\n"), ("x\n", "\n"), ("x\n\n", ""), ("\n", ""), ("\n\n", ""), ("\nx", "\n\n")]
    {
        let mut place = Place::new(Kind::Mbox);
        fs::write(place.path("bob"), before).unwrap();
        assert_eq!(result(&place.deliver(CONTENT)), sent(Kind::Mbox));
        let got = fs::read(place.path("bob")).unwrap();
        let expected = format!("{before}{between}From s@x.example");
        assert!(got.starts_with(expected.as_bytes()), "{before:?}: {}", got.escape_ascii());
    }
}

#[test]
fn looking_at_the_end_of_an_mbox_is_not_reading_it() {
    let mut place = Place::new(Kind::Mbox);
    place.deliver(CONTENT);
    let before = fs::metadata(place.path("bob")).unwrap();
    place.deliver(CONTENT);
    let after = fs::metadata(place.path("bob")).unwrap();
    assert_eq!((before.atime(), before.atime_nsec()), (after.atime(), after.atime_nsec()));
}

#[test]
fn damaged_content_leaves_nothing() {
    for (kind, long) in
        [(Kind::Maildir, false), (Kind::Maildir, true), (Kind::Mbox, false), (Kind::Mbox, true)]
    {
        let mut place = Place::new(kind);
        let content = if long { b"0123456789abcde\r\n".repeat(100_000) } else { CONTENT.to_vec() };
        if kind == Kind::Mbox {
            fs::write(place.path("bob"), "old\n\n").unwrap();
        }
        let answer = place.deliver_as(&content, |task| task.content.checksum ^= 1);
        assert_eq!(answer.status.code.to_string(), "4.3.0");
        assert!(answer.alert && answer.status.text.contains("damaged"), "{}", answer.status.text);
        let answer = place.deliver_as(&content, |task| task.content.length += 1);
        assert_eq!((answer.status.code.to_string().as_str(), answer.alert), ("4.3.0", true));
        match kind {
            Kind::Mbox => assert_eq!(fs::read(place.path("bob")).unwrap(), b"old\n\n"),
            Kind::Maildir => assert_eq!(place.files("bob/new").len() + place.files("bob/tmp").len(), 0),
        }
    }
}

#[test]
fn a_message_file_that_is_no_file_is_refused() {
    let place = Place::new(Kind::Maildir);
    let (reader, _writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    let task = place.task(&ContentFacts { length: 10, ..ContentFacts::default() });
    let answer = deliver(&task, file, &mut Names::new("x", 1), Timestamp::now());
    assert_eq!((answer.status.code.to_string().as_str(), answer.alert), ("4.3.0", true));
}

#[test]
fn a_loop_is_bounced_and_leaves_nothing() {
    let mut place = Place::new(Kind::Maildir);
    let answer = place.deliver(b"Received: x\r\nDelivered-To: BOB@x.example\r\n\r\nx\r\n");
    assert_eq!(result(&answer), ("5.4.6".into(), "mail forwarding loop for bob@x.example".into()));
    assert!(place.files(".").is_empty());
    // Delivered to another address before is no loop.
    let answer = place.deliver(b"Received: x\r\nDelivered-To: info@x.example\r\n\r\nx\r\n");
    assert_eq!(result(&answer), sent(Kind::Maildir));
}

#[test]
fn symbolic_links_and_odd_files_are_not_delivered_to() {
    let mut place = Place::new(Kind::Mbox);
    let other = tempfile::tempdir().unwrap();
    let target = other.path().join("target");
    symlink(&target, place.path("bob")).unwrap();
    place.fails("4.2.0", "is a symbolic link");
    assert!(!target.exists());
    fs::write(&target, "").unwrap();
    place.fails("4.2.0", "is a symbolic link");
    assert_eq!(fs::read(&target).unwrap(), b"");
    fs::remove_file(place.path("bob")).unwrap();
    fs::create_dir(place.path("bob")).unwrap();
    place.fails("4.2.0", "is a folder: a Maildir is configured with a slash");
    fs::remove_dir(place.path("bob")).unwrap();
    nix::unistd::mkfifo(&place.path("bob"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    place.fails("4.2.0", "is not a regular file");
    fs::remove_file(place.path("bob")).unwrap();
    fs::write(place.path("bob"), "").unwrap();
    fs::hard_link(place.path("bob"), place.path("eve")).unwrap();
    place.fails("4.2.0", "has more than one name");
    assert!(!place.path("bob.lock").exists());
}

#[test]
fn symbolic_links_in_a_maildir_are_not_followed() {
    for (link, says) in
        [("bob", "bob is a symbolic link"), ("bob/new", "new is a symbolic link"), ("bob/tmp", "tmp is a")]
    {
        let mut place = Place::new(Kind::Maildir);
        let other = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path(link).parent().unwrap()).unwrap();
        symlink(other.path(), place.path(link)).unwrap();
        place.fails("4.2.0", says);
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0, "{link}");
    }
    let mut place = Place::new(Kind::Maildir);
    fs::write(place.path("bob"), "").unwrap();
    place.fails("4.2.0", "bob is not a folder");
}

#[test]
fn the_folder_above_must_exist_and_is_named() {
    let mut place = Place::new(Kind::Maildir);
    let missing = place.path("missing");
    let answer = place.deliver_as(CONTENT, |task| task.mailbox.folder.clone_from(&missing));
    assert_eq!(answer.status.code.to_string(), "4.2.0");
    let says = format!("the folder {} does not exist", missing.display());
    assert!(answer.status.text.contains(&says), "{}", answer.status.text);
    assert!(!missing.exists());
}

#[test]
fn folders_on_the_way_are_made() {
    for kind in [Kind::Maildir, Kind::Mbox] {
        let mut place = Place::new(kind);
        let steps = ["x.example", "bob", "mail"].map(String::from).to_vec();
        let answer = place.deliver_as(CONTENT, |task| task.mailbox.steps = steps);
        assert_eq!(result(&answer), sent(kind));
        for folder in ["x.example", "x.example/bob"] {
            assert_eq!(mode(&place.path(folder)), 0o700, "{folder}");
        }
    }
}

#[test]
fn a_folder_or_mailbox_of_somebody_else_is_refused() {
    if !common::identity::is_root() {
        return eprintln!("skipped: only root can give files away");
    }
    let mut place = Place::new(Kind::Maildir);
    fs::create_dir(place.path("bob")).unwrap();
    std::os::unix::fs::chown(place.path("bob"), Some(61299), None).unwrap();
    place.fails("4.2.0", "belongs to uid 61299, not to the recipient (uid 0)");
    drop(place);
    let mut place = Place::new(Kind::Mbox);
    fs::write(place.path("bob"), "").unwrap();
    std::os::unix::fs::chown(place.path("bob"), Some(61299), None).unwrap();
    place.fails("4.2.0", "belongs to uid 61299");
    assert_eq!(fs::read(place.path("bob")).unwrap(), b"");
}

#[test]
fn no_permission_is_deferred_with_the_path() {
    if common::identity::is_root() {
        return eprintln!("skipped: root may write anywhere");
    }
    let mut place = Place::new(Kind::Maildir);
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    place.fails("4.2.0", "bob: Permission denied");
}

#[test]
fn a_dotlock_is_respected_and_waited_for() {
    let mut place = Place::new(Kind::Mbox);
    let lock = place.path("bob.lock");
    fs::write(&lock, "").unwrap();
    // No time to wait: the task's deadline is now.
    place.fails("4.2.0", "bob.lock exists");
    assert_eq!(fs::read(place.path("bob")).unwrap_or_default(), b"");
    assert!(lock.exists(), "somebody else's lock was taken away");
    // Time to wait: the lock goes while we do.
    let holder = std::thread::spawn({
        let (lock, mailbox) = (lock.clone(), place.path("bob"));
        move || {
            assert_eq!(fs::read(mailbox).unwrap_or_default(), b"");
            fs::remove_file(lock).unwrap();
        }
    });
    let later = Timestamp::now().after(Duration::from_secs(60));
    let answer = place.deliver_as(CONTENT, |task| task.deadline = later);
    holder.join().unwrap();
    assert_eq!(result(&answer), sent(Kind::Mbox));
    assert!(!lock.exists());
}

#[test]
fn an_fcntl_lock_keeps_the_mailbox_unchanged() {
    let mut place = Place::new(Kind::Mbox);
    fs::write(place.path("bob"), "old\n\n").unwrap();
    let reader = fs::OpenOptions::new().read(true).write(true).open(place.path("bob")).unwrap();
    let lock = |kind: libc::c_int| libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // An open-file-description lock conflicts with a process's lock even within one process.
    fcntl(&reader, FcntlArg::F_OFD_SETLK(&lock(libc::F_WRLCK))).unwrap();
    place.fails("4.2.0", "bob is locked by another program");
    assert_eq!(fs::read(place.path("bob")).unwrap(), b"old\n\n");
    assert!(!place.path("bob.lock").exists());
    fcntl(&reader, FcntlArg::F_OFD_SETLK(&lock(libc::F_UNLCK))).unwrap();
    assert_eq!(result(&place.deliver(CONTENT)), sent(Kind::Mbox));
}

#[test]
fn a_write_that_fails_is_taken_back() {
    // As the child does it: exceeding the limit is an error, not a signal.
    let _ = signal_hook::flag::register(libc::SIGXFSZ, std::sync::Arc::new(false.into()));
    for (kind, length) in [(Kind::Maildir, 200_000), (Kind::Mbox, 200_000), (Kind::Mbox, 3_000_000)] {
        let mut place = Place::new(kind);
        let content = b"0123456789abcde\r\n".repeat(length / 17);
        let old = b"old line\n".repeat(5000);
        if kind == Kind::Mbox {
            fs::write(place.path("bob"), &old).unwrap();
        }
        let (file, facts) = queued(&content);
        let task = place.task(&facts);
        let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, 100_000, hard).unwrap();
        let answer = deliver(&task, file, &mut place.names, Timestamp::now());
        setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
        assert_eq!(answer.status.code.to_string(), "4.2.2", "{}", answer.status.text);
        assert!(answer.status.text.contains("File too large"), "{}", answer.status.text);
        match kind {
            Kind::Mbox => assert!(fs::read(place.path("bob")).unwrap() == old, "not taken back"),
            Kind::Maildir => assert_eq!(place.files("bob/new").len() + place.files("bob/tmp").len(), 0),
        }
        assert!(!place.path("bob.lock").exists());
    }
}

#[test]
fn a_loop_search_reads_damaged_headers_without_harm() {
    let address: Address = "bob@x.example".parse().unwrap();
    let (file, facts) = queued(b"no header at all");
    let message = Message::new(file, 3, ContentFacts { length: facts.length + 5, ..facts });
    assert!(message.loops(&address).is_err());
}
