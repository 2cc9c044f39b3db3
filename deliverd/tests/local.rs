//! The real `deliverd local` with a queued that is played by the test: jobs in, mailboxes and answers out.
//!
//! Started by root, it delivers as another user, and that is looked at from outside; started by anyone
//! else, the same tests run without a change of identity.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use common::address::ReversePath;
use common::codec;
use common::destination::{Nexthop, Transport};
use common::identity::is_root;
use common::packet::{PacketListener, PacketSocket};
use common::status::Status;
use common::time::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use spool::dispatch::{FromWorker, Job, JobRecipient, ToWorker, VERSION};
use spool::envelope::Body;
use spool::facts::FactsBuilder;
use spool::id::QueueId;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Owner of the mailboxes when the tests run as root.
const OWNER: (u32, u32) = (61210, 61211);
/// Nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(30);
const CONTENT: &[u8] = b"Received: x\r\nSubject: hi\r\n\r\nhello\r\n";

struct Setup {
    folder: TempDir,
    listener: Arc<PacketListener>,
}

impl Setup {
    /// Mailboxes below `mail/`, as this template says.
    fn new(mailbox: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("mail")).unwrap();
        if is_root() {
            chown(path("mail"), Some(OWNER.0), Some(OWNER.1)).unwrap();
        }
        fs::write(path("users"), "alice\nbob\ncarol\n").unwrap();
        fs::create_dir_all(path("spool/private")).unwrap();
        let listener = PacketListener::bind(&path("spool/private/dispatch"), 0o660).unwrap();
        let setup = Self { folder, listener: Arc::new(listener) };
        setup.configure(mailbox);
        setup
    }

    fn configure(&self, mailbox: &str) {
        let text = format!(
            "hostname = \"mx.example.test\"\nlocal_domains = [\"example.test\"]\n\
             spool_directory = \"spool\"\n[local]\nusers = \"users\"\naliases = \"aliases\"\n\
             mailbox = \"{mailbox}\"\n[log]\nto = \"log\"\n"
        );
        fs::write(self.path("ironpost.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(self) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_deliverd"))
            .args(["local", "-c"])
            .arg(self.path("ironpost.toml"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let queue = accept(&self.listener);
        Running { setup: self, child, queue, next: 1 }
    }
}

struct Running {
    setup: Setup,
    child: Child,
    queue: PacketSocket,
    next: u64,
}

/// Waits until there is something to read, or fails.
fn readable(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut fds, timeout).unwrap(), 1, "nothing comes");
}

fn accept(listener: &Arc<PacketListener>) -> PacketSocket {
    let (sender, receiver) = std::sync::mpsc::channel();
    let listener = listener.clone();
    std::thread::spawn(move || sender.send(listener.accept()));
    let socket = receiver.recv_timeout(PATIENCE).expect("nobody connects").unwrap();
    let hello: FromWorker = receive(&socket).unwrap();
    let FromWorker::Hello { version: VERSION, transport: Transport::Local, capacity } = hello else {
        panic!("{hello:?}")
    };
    assert!(capacity > 0);
    socket
}

fn receive(socket: &PacketSocket) -> Option<FromWorker> {
    readable(socket);
    let packet = socket.receive().unwrap()?;
    Some(codec::decode::<_, { spool::dispatch::MAX_FRAME }>(&packet.bytes).unwrap())
}

fn later(millis: u64) -> Timestamp {
    Timestamp::now().after(Duration::from_millis(millis))
}

/// Asks again and again, for what tells nobody when it happens.
fn until<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

impl Running {
    /// Sends a job and gives its number. The recipients' indices are 100, 101, …
    fn job(&mut self, recipients: &[&str], deadline: Timestamp) -> u64 {
        self.job_with(recipients, deadline, |_| {})
    }

    fn job_with(&mut self, recipients: &[&str], deadline: Timestamp, change: impl FnOnce(&mut Job)) -> u64 {
        let mut facts = FactsBuilder::new();
        facts.feed(CONTENT);
        let path = self.setup.path("message");
        let _ = fs::remove_file(&path);
        fs::write(&path, [b"head", CONTENT].concat()).unwrap();
        let recipient = |(index, address): (u32, &&str)| JobRecipient {
            index,
            address: format!("{address}@example.test").parse().unwrap(),
            original: Some("list@example.test".parse().unwrap()),
            dsn: Default::default(),
        };
        let now = Timestamp::now();
        let mut job = Job {
            number: self.next,
            queue_id: QueueId::new(now, self.next),
            sender: "s@client.test".parse::<ReversePath>().unwrap(),
            recipients: (100..).zip(recipients).map(recipient).collect(),
            nexthop: Nexthop::Here,
            body: Body::SevenBit,
            dsn: Default::default(),
            content_offset: 4,
            content: facts.facts(),
            arrived: now,
            activated: now,
            dispatched: now,
            deadline,
        };
        self.next += 1;
        change(&mut job);
        let number = job.number;
        let file = File::open(path).unwrap();
        self.queue.send(&codec::encode(&ToWorker::Job(job)).unwrap(), &[file.as_fd()]).unwrap();
        number
    }

    /// Number, reached, results.
    fn any_answer(&self) -> (u64, bool, Vec<(u32, Status)>) {
        let Some(FromWorker::Done { number, results, reached, .. }) = receive(&self.queue) else {
            panic!("no answer")
        };
        (number, reached, results)
    }

    /// The answer to a job: statuses in the order of the recipients.
    fn answer(&self, wanted: u64) -> Vec<Status> {
        let (number, reached, mut results) = self.any_answer();
        assert_eq!((number, reached), (wanted, true));
        results.sort_by_key(|(index, _)| *index);
        assert!((100..).zip(&results).all(|(expected, (index, _))| expected == *index), "{results:?}");
        results.into_iter().map(|(_, status)| status).collect()
    }

    #[track_caller]
    fn expect(&mut self, recipients: &[&str], codes: &[&str]) -> Vec<Status> {
        let number = self.job(recipients, later(60_000));
        let statuses = self.answer(number);
        let got: Vec<_> = statuses.iter().map(|status| status.code.to_string()).collect();
        assert_eq!(got, codes, "{statuses:?}");
        statuses
    }

    fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    fn mails(&self, user: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("mail").join(user).join("new")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// The delivery processes.
    fn children(&self) -> Vec<Pid> {
        let folder = format!("/proc/{0}/task", self.pid());
        let mut found = Vec::new();
        for thread in fs::read_dir(folder).unwrap() {
            let list = fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default();
            found.extend(list.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())));
        }
        found
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// SIGTERM; gives the exit status and the log.
    fn stop(mut self) -> (ExitStatus, String) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        let status = until("the end", || self.child.try_wait().unwrap());
        (status, self.log())
    }

    fn ends_well(self) -> String {
        let (status, log) = self.stop();
        assert_eq!(status.code(), Some(0), "{status}: {log}");
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status_of(pid: Pid, key: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn recipients_of_one_job_are_answered_together() {
    let mut running = Setup::new("mail/{user}/").start();
    running.expect(&["alice", "nobody", "bob+x", "alice"], &["2.0.0", "5.1.1", "2.0.0", "2.0.0"]);
    assert_eq!((running.mails("alice").len(), running.mails("bob").len()), (2, 1));
    let text = fs::read_to_string(&running.mails("bob")[0]).unwrap();
    let top =
        "Return-Path: <s@client.test>\nX-Original-To: list@example.test\nDelivered-To: bob+x@example.test\n";
    assert_eq!(text, format!("{top}Received: x\nSubject: hi\n\nhello\n"));
    let owner = if is_root() { OWNER } else { (geteuid().as_raw(), getegid().as_raw()) };
    for path in [running.mails("bob")[0].clone(), running.path("mail/bob"), running.path("mail/bob/new")] {
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), owner, "{}", path.display());
        assert_eq!(meta.mode() & 0o077, 0);
    }
    let log = running.ends_well();
    for part in [
        ": to=<bob+x@example.test>, orig_to=<list@example.test>, relay=local, delay=",
        ", dsn=2.0.0, status=sent (delivered to maildir)",
        ", dsn=5.1.1, status=bounced (unknown user: \"nobody\")",
        "ironpost/local[",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[test]
fn a_child_is_the_recipient_and_nothing_more() {
    let mut running = Setup::new("mail/{user}").start();
    running.expect(&["alice"], &["2.0.0"]);
    let children = running.children();
    assert_eq!(children.len(), 1);
    let child = children[0];
    // Its descriptors: the socket twice (one is standard input), standard output and error nowhere.
    if is_root() {
        let fds: Vec<PathBuf> = fs::read_dir(format!("/proc/{child}/fd"))
            .unwrap()
            .map(|entry| fs::read_link(entry.unwrap().path()).unwrap())
            .collect();
        let sockets = fds.iter().filter(|path| path.to_str().unwrap().starts_with("socket:")).count();
        let nowhere = fds.iter().filter(|path| *path == Path::new("/dev/null")).count();
        assert_eq!((sockets, nowhere, fds.len()), (2, 2, 4), "{fds:?}");
        assert_eq!(status_of(child, "Uid"), ["61210"; 4]);
        assert_eq!(status_of(child, "Gid"), ["61211"; 4]);
        assert_eq!(status_of(child, "Groups"), ["61211"]);
        assert_eq!(status_of(child, "CapBnd"), ["0000000000000000"]);
        assert_eq!(status_of(running.pid(), "Uid"), ["0"; 4]);
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_of(child, set), ["0000000000000000"], "{set}");
    }
    assert_eq!(status_of(child, "NoNewPrivs"), ["1"]);
    assert_eq!(status_of(child, "Seccomp"), ["2"]);
    assert_eq!(status_of(child, "Threads"), ["1"]);
    running.ends_well();
    until("the child's end", || (!Path::new(&format!("/proc/{child}")).exists()).then_some(()));
}

#[test]
fn system_users_get_their_mail_as_themselves() {
    if !is_root() {
        return eprintln!("skipped: only root can become other users");
    }
    let setup = Setup::new("mail/{user}");
    let text = fs::read_to_string(setup.path("ironpost.toml")).unwrap().replace("\"users\"", "\"system\"");
    fs::write(setup.path("ironpost.toml"), text).unwrap();
    // As /var/mail on Debian: its group may make files, and so dotlocks, in it.
    chown(setup.path("mail"), Some(0), Some(OWNER.1)).unwrap();
    fs::set_permissions(setup.path("mail"), fs::Permissions::from_mode(0o2775)).unwrap();
    let mut running = setup.start();
    running.expect(&["daemon", "root", "bin"], &["2.0.0"; 3]);
    let mut groups = Vec::new();
    for child in running.children() {
        assert_eq!(status_of(child, "CapEff"), ["0000000000000000"]);
        groups.push((status_of(child, "Uid")[0].clone(), status_of(child, "Groups")));
    }
    groups.sort();
    let expected = [("0", "0"), ("1", "1"), ("2", "2")];
    let expected = expected.map(|(uid, gid)| (uid.to_owned(), vec![gid.to_owned(), OWNER.1.to_string()]));
    assert_eq!(groups, expected);
    for (name, uid) in [("root", 0), ("daemon", 1), ("bin", 2)] {
        let meta = fs::metadata(running.path("mail").join(name)).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777), (uid, 0o600), "{name}");
    }
    running.ends_well();
}

#[test]
fn a_locked_mailbox_holds_up_no_other() {
    let mut running = Setup::new("mail/{user}").start();
    let lock = running.path("mail/alice.lock");
    fs::write(&lock, "").unwrap();
    let slow = running.job(&["alice"], later(60_000));
    let also = running.job(&["alice"], later(60_000));
    running.expect(&["bob", "carol"], &["2.0.0", "2.0.0"]);
    fs::remove_file(&lock).unwrap();
    for number in [slow, also] {
        assert_eq!(running.answer(number)[0].text, "delivered to mailbox");
    }
    running.ends_well();
}

#[test]
fn what_waits_for_a_locked_mailbox_is_deferred_together_and_told_apart() {
    let mut running = Setup::new("mail/{user}").start();
    let mailbox = running.path("mail/alice");
    let file = File::create(&mailbox).unwrap();
    fs::set_permissions(&mailbox, fs::Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        chown(&mailbox, Some(OWNER.0), Some(OWNER.1)).unwrap();
    }
    let whole = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&whole)).unwrap();
    // The first waits as long as its job's deadline lets it. The others would each wait for longer than this
    // test has patience for an answer, all in all.
    let mut locked = vec![running.job(&["alice+0"], later(5_000))];
    for number in 1..49 {
        locked.push(running.job(&[&format!("alice+{number}")], later(600_000)));
    }
    // Answered while all of alice's jobs wait: it is the first answer of all.
    running.expect(&["bob"], &["2.0.0"]);
    let mut answered = Vec::new();
    let mut texts = Vec::new();
    for _ in &locked {
        let (number, reached, results) = running.any_answer();
        assert!(!reached, "{number}: {results:?}");
        assert_eq!(results.len(), 1, "{number}");
        assert_eq!(results[0].1.code.to_string(), "4.2.0");
        texts.push(results[0].1.text.clone());
        answered.push(number);
    }
    answered.sort_unstable();
    assert_eq!(answered, locked);
    assert!(texts[0].contains("alice is locked by another program"), "{texts:?}");
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    drop(file);
    running.expect(&["alice"], &["2.0.0"]);
    running.ends_well();
}

#[test]
fn a_child_that_dies_defers_what_it_had() {
    let mut running = Setup::new("mail/{user}").start();
    let lock = running.path("mail/alice.lock");
    fs::write(&lock, "").unwrap();
    let number = running.job(&["alice"], later(60_000));
    // The mailbox is opened before its lock is waited for.
    until("the delivery", || running.path("mail/alice").exists().then_some(()));
    for child in running.children() {
        kill(child, Signal::SIGKILL).unwrap();
    }
    let status = running.answer(number).remove(0);
    assert_eq!(
        (status.code.to_string().as_str(), status.text.as_str()),
        ("4.3.0", "delivery process ended unexpectedly")
    );
    fs::remove_file(&lock).unwrap();
    running.expect(&["alice"], &["2.0.0"]);
    assert!(running.ends_well().contains("error: "));
}

#[test]
fn a_child_that_does_not_end_in_time_is_killed() {
    let mut running = Setup::new("mail/{user}/").start();
    running.expect(&["alice"], &["2.0.0"]);
    let child = running.children()[0];
    kill(child, Signal::SIGSTOP).unwrap();
    let number = running.job(&["alice"], later(300));
    let status = running.answer(number).remove(0);
    assert_eq!(
        (status.code.to_string().as_str(), status.text.as_str()),
        ("4.3.0", "delivery time limit exceeded")
    );
    until("its end", || (!running.children().contains(&child)).then_some(()));
    running.expect(&["alice"], &["2.0.0"]);
    assert_eq!(running.mails("alice").len(), 2);
    running.ends_well();
}

#[test]
fn cancelled_jobs_are_answered() {
    let mut running = Setup::new("mail/{user}").start();
    let lock = running.path("mail/alice.lock");
    fs::write(&lock, "").unwrap();
    let first = running.job(&["alice"], later(60_000));
    until("the delivery", || running.path("mail/alice").exists().then_some(()));
    let child = running.children()[0];
    let waiting = running.job(&["alice"], later(60_000));
    running.queue.send(&codec::encode(&ToWorker::Cancel(waiting)).unwrap(), &[]).unwrap();
    assert_eq!(running.answer(waiting)[0].text, "delivery cancelled");
    running.queue.send(&codec::encode(&ToWorker::Cancel(first)).unwrap(), &[]).unwrap();
    assert_eq!(running.answer(first)[0].text, "delivery cancelled");
    until("its end", || (!running.children().contains(&child)).then_some(()));
    running.ends_well();
}

#[test]
fn sigterm_finishes_what_is_in_hand() {
    let mut running = Setup::new("mail/{user}").start();
    let lock = running.path("mail/alice.lock");
    fs::write(&lock, "").unwrap();
    let number = running.job(&["alice", "bob"], later(60_000));
    for name in ["mail/alice", "mail/bob"] {
        until("the delivery", || running.path(name).exists().then_some(()));
    }
    kill(running.pid(), Signal::SIGTERM).unwrap();
    // Children do not end by signals that reach a whole unit or terminal.
    for child in running.children() {
        kill(child, Signal::SIGTERM).unwrap();
        kill(child, Signal::SIGINT).unwrap();
    }
    fs::remove_file(&lock).unwrap();
    let texts: Vec<String> = running.answer(number).into_iter().map(|status| status.text).collect();
    assert_eq!(texts, ["delivered to mailbox", "delivered to mailbox"]);
    let status = until("the end", || running.child.try_wait().unwrap());
    assert_eq!((status.code(), status.signal()), (Some(0), None), "{}", running.log());
}

#[test]
fn a_new_queued_is_connected_to() {
    let mut running = Setup::new("mail/{user}").start();
    running.expect(&["alice"], &["2.0.0"]);
    let lock = running.path("mail/bob.lock");
    fs::write(&lock, "").unwrap();
    running.job(&["bob"], later(60_000));
    running.job(&["bob"], later(60_000));
    until("the delivery", || running.path("mail/bob").exists().then_some(()));
    running.queue = accept_again(&running);
    // What ran goes on, what waited was given back; neither is answered on the new connection.
    fs::remove_file(&lock).unwrap();
    running.expect(&["alice"], &["2.0.0"]);
    let count = || fs::read_to_string(running.path("mail/bob")).unwrap().matches("Return-Path").count();
    until("bob's mail", || (count() == 1).then_some(()));
    running.ends_well();
}

fn accept_again(running: &Running) -> PacketSocket {
    nix::sys::socket::shutdown(
        std::os::fd::AsRawFd::as_raw_fd(&running.queue.as_fd()),
        nix::sys::socket::Shutdown::Both,
    )
    .unwrap();
    accept(&running.setup.listener)
}

#[test]
fn frames_that_are_none_end_the_connection_not_the_daemon() {
    let mut running = Setup::new("mail/{user}/").start();
    let good = |running: &mut Running| {
        running.expect(&["alice"], &["2.0.0"]);
    };
    running.queue.send(b"\xff\xff\xff\xff garbage", &[]).unwrap();
    running.queue = accept(&running.setup.listener);
    good(&mut running);
    running.job_with(&[], later(60_000), |_| {});
    running.queue = accept(&running.setup.listener);
    running.job_with(&["alice", "bob"], later(60_000), |job| job.recipients[1].index = 100);
    running.queue = accept(&running.setup.listener);
    let many: Vec<&str> = vec!["alice"; 51];
    running.job(&many, later(60_000));
    running.queue = accept(&running.setup.listener);
    good(&mut running);
    assert_eq!(running.mails("alice").len(), 2);
    running.ends_well();
}

#[test]
fn damaged_mail_is_deferred_and_reported() {
    let mut running = Setup::new("mail/{user}/").start();
    let number = running.job_with(&["alice"], later(60_000), |job| job.content.checksum ^= 1);
    let status = running.answer(number).remove(0);
    assert_eq!(status.code.to_string(), "4.3.0");
    assert!(running.mails("alice").is_empty());
    let log = running.ends_well();
    assert!(log.contains("error: ") && log.contains("message content damaged"), "{log}");
}

#[test]
fn fifty_recipients_are_delivered_side_by_side() {
    let setup = Setup::new("mail/{user}/");
    let names: Vec<String> = (0..50).map(|number| format!("u{number}")).collect();
    fs::write(setup.path("users"), names.join("\n")).unwrap();
    let mut running = setup.start();
    let recipients: Vec<&str> = names.iter().map(String::as_str).collect();
    for _ in 0..4 {
        running.expect(&recipients, &["2.0.0"; 50]);
    }
    assert!(names.iter().all(|name| running.mails(name).len() == 4));
    let children = running.children().len();
    assert!((1..=20).contains(&children), "{children}");
    running.ends_well();
}

#[test]
fn the_configuration_is_read_again() {
    let mut running = Setup::new("mail/{user}/").start();
    running.expect(&["alice"], &["2.0.0"]);
    let reload = |running: &Running, says: &str| {
        kill(running.pid(), Signal::SIGHUP).unwrap();
        until(says, || running.log().contains(says).then_some(()));
    };
    running.setup.configure("mail/{user}/{nonsense}/");
    reload(&running, "the old one stays in force");
    running.expect(&["alice"], &["2.0.0"]);
    running.setup.configure("mail/{domain}/{user}/");
    reload(&running, "configuration read anew");
    running.expect(&["alice"], &["2.0.0"]);
    assert_eq!((running.mails("alice").len(), running.mails("example.test/alice").len()), (2, 1));
    running.ends_well();
}

#[test]
fn a_configuration_that_cannot_be_worked_with_ends_with_78() {
    let setup = Setup::new("mail/{user}/");
    fs::write(setup.path("users"), "../x\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_deliverd"))
        .args(["local", "-c"])
        .arg(setup.path("ironpost.toml"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = until("the end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(78));
}
