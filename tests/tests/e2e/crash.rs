//! Nothing acknowledged is lost: daemons killed with -9 under load, all of it killed at once, restarts with a
//! full queue.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::script::{Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::mailbox::header;
use ironpost_tests::net::{free_port, own_address};
use ironpost_tests::setup::Setup;

/// Clients that send numbered messages to alice and to a remote address until told to stop, whatever happens
/// to the server.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(server: SocketAddr, sessions: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let next = Arc::new(AtomicUsize::new(0));
        let threads = (0..sessions)
            .map(|_| {
                let (stop, acknowledged, next) =
                    (Arc::clone(&stop), Arc::clone(&acknowledged), Arc::clone(&next));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        // An error is an end of the connection: the message in hand was not acknowledged.
                        if session(server, &stop, &acknowledged, &next).is_none() {
                            std::thread::park_timeout(Duration::from_millis(5));
                        }
                    }
                })
            })
            .collect();
        Self { stop, acknowledged, threads }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until so many are acknowledged in all.
    fn wait(&self, count: usize, ironpost: &Ironpost) {
        ironpost
            .log
            .wait_until(&format!("{count} acknowledged messages"), || (self.count() >= count).then_some(()));
    }

    fn finish(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        Arc::try_unwrap(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

/// One session of up to twenty messages; none when anything went wrong.
fn session(
    server: SocketAddr,
    stop: &AtomicBool,
    acknowledged: &Mutex<BTreeSet<String>>,
    next: &AtomicUsize,
) -> Option<()> {
    let stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(*ironpost_tests::DEADLINE)).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut exchange = |text: &str, expected: &str| -> Option<()> {
        (&stream).write_all(text.as_bytes()).ok()?;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.starts_with(expected).then_some(());
            }
        }
    };
    exchange("", "220")?;
    exchange("EHLO client.test\r\n", "250")?;
    for _ in 0..20 {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("m{}", next.fetch_add(1, Ordering::SeqCst));
        exchange("MAIL FROM:<a@client.test>\r\n", "250")?;
        exchange("RCPT TO:<alice@example.test>\r\n", "250")?;
        exchange("RCPT TO:<box@remote.test>\r\n", "250")?;
        exchange("DATA\r\n", "354")?;
        exchange(&format!("Subject: {name}\r\n\r\n{}\r\n.\r\n", "some text ".repeat(80)), "250")?;
        acknowledged.lock().unwrap().insert(name);
    }
    exchange("QUIT\r\n", "221")
}

fn counted(subjects: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for subject in subjects {
        *found.entry(subject).or_default() += 1;
    }
    found
}

/// Waits until the queue is empty and checks that everything acknowledged arrived at both places.
fn all_arrived(test: &str, ironpost: &Ironpost, server: &Server, acknowledged: &BTreeSet<String>) {
    ironpost.wait_empty();
    let local = counted(ironpost.mail("alice").iter().filter_map(|mail| header(&mail.bytes, "Subject")));
    let remote = counted(server.taken().iter().filter_map(|taken| header(&taken.content, "Subject")));
    for (place, found) in [("Maildir", &local), ("next host", &remote)] {
        let missing: Vec<_> = acknowledged.iter().filter(|name| !found.contains_key(*name)).collect();
        assert!(missing.is_empty(), "{place}: lost {} of {}: {missing:?}", missing.len(), acknowledged.len());
        let more: usize = found.values().map(|count| count - 1).sum();
        let whole = found.values().sum::<usize>();
        println!(
            "{test}: {place}: {} acknowledged, {whole} delivered, {more} of them duplicates",
            acknowledged.len()
        );
    }
    let corrupt = ironpost.spool().join("corrupt");
    assert_eq!(std::fs::read_dir(corrupt).map(Iterator::count).unwrap_or_default(), 0, "corrupt queue files");
}

fn set_up(server: &Server) -> Ironpost {
    // A fixed port, so that clients find a restarted smtpd.
    let port = free_port(Ipv4Addr::LOCALHOST);
    Setup::new().listen(&[&format!("127.0.0.1:{port}")]).relay_to(server.address()).quick_retries().start()
}

fn daemon_killed_again_and_again(test: &str, daemon: &[&str]) {
    let server = Server::start(Script::new());
    let ironpost = set_up(&server);
    let load = Load::start(ironpost.smtp(), 4);
    // The supervisor's pauses double from a second: three kills cost seven.
    for round in 1..=3 {
        load.wait(round * 100, &ironpost);
        ironpost.kill_daemon(daemon);
    }
    load.wait(load.count() + 50, &ironpost);
    let acknowledged = load.finish();
    all_arrived(test, &ironpost, &server, &acknowledged);
}

#[test]
fn smtpd_killed_again_and_again() {
    daemon_killed_again_and_again("smtpd", &["smtpd"]);
}

#[test]
fn queued_killed_again_and_again() {
    daemon_killed_again_and_again("queued", &["queued"]);
}

#[test]
fn deliverd_smtp_killed_again_and_again() {
    daemon_killed_again_and_again("deliverd smtp", &["deliverd", "smtp"]);
}

#[test]
fn deliverd_local_killed_again_and_again() {
    daemon_killed_again_and_again("deliverd local", &["deliverd", "local"]);
}

#[test]
fn everything_killed_at_once_again_and_again() {
    let server = Server::start(Script::new());
    let mut ironpost = set_up(&server);
    let load = Load::start(ironpost.smtp(), 4);
    for round in 1..=4 {
        load.wait(round * 80, &ironpost);
        ironpost.kill_all();
        ironpost.start();
    }
    load.wait(load.count() + 30, &ironpost);
    let acknowledged = load.finish();
    all_arrived("everything", &ironpost, &server, &acknowledged);
}

#[test]
fn stopped_in_the_middle_of_a_load_loses_and_repeats_nothing() {
    let server = Server::start(Script::new());
    let mut ironpost = set_up(&server);
    let load = Load::start(ironpost.smtp(), 4);
    for round in 1..=3 {
        load.wait(round * 100, &ironpost);
        ironpost.restart();
    }
    let acknowledged = load.finish();
    all_arrived("restart", &ironpost, &server, &acknowledged);
    let local = counted(ironpost.mail("alice").iter().filter_map(|mail| header(&mail.bytes, "Subject")));
    assert!(local.values().all(|count| *count == 1), "a clean stop repeated a delivery");
}

#[test]
fn full_queue_is_delivered_after_a_restart() {
    let address = own_address();
    let port = free_port(address);
    let mut ironpost = Setup::new().relay_to((address, port).into()).quick_retries().start();
    let mut client = ironpost.connect();
    client.hello();
    for number in 0..300 {
        let subject = format!("m{number}");
        client.send_mail("a@client.test", &["box@remote.test"], &short(&subject));
    }
    client.quit();
    ironpost.stop();
    assert_eq!(ironpost.files_in_spool().len(), 300);
    let server = Server::start_at(address, port, Script::new());
    ironpost.start();
    ironpost.wait_empty();
    let found = counted(server.taken().iter().filter_map(|taken| header(&taken.content, "Subject")));
    assert_eq!(found.len(), 300);
    assert!(found.values().all(|count| *count == 1));
}

#[test]
fn queue_file_that_cannot_be_read_stops_nothing_else() {
    let address = own_address();
    let port = free_port(address);
    let mut ironpost = Setup::new().relay_to((address, port).into()).quick_retries().start();
    let ids: Vec<_> =
        (0..6).map(|_| ironpost.send("alice@example.test", &["box@remote.test"], &short("x"))).collect();
    for id in &ids {
        ironpost.wait_deferred(id);
    }
    ironpost.stop();
    let files = ironpost.files_in_spool();
    assert_eq!(files.len(), 6);
    // Magic, envelope, cut short, empty: and two that are whole.
    let damage: [&dyn Fn(Vec<u8>) -> Vec<u8>; 4] = [
        &|mut bytes| {
            bytes[0] ^= 0xff;
            bytes
        },
        &|mut bytes| {
            let at = find(&bytes, b"remote.test");
            bytes[at] ^= 0x20;
            bytes
        },
        &|bytes| bytes[..bytes.len() / 2].to_vec(),
        &|_| Vec::new(),
    ];
    for (file, damage) in files.iter().zip(damage) {
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(file, damage(bytes)).unwrap();
    }
    // Things that are no queue files at all.
    std::fs::write(ironpost.spool().join("incoming/not-a-queue-file"), b"x").unwrap();
    std::fs::write(ironpost.spool().join("deferred/.hidden"), b"x").unwrap();
    let server = Server::start_at(address, port, Script::new());
    ironpost.start();
    server.wait(2);
    let corrupt = ironpost.spool().join("corrupt");
    ironpost.log.wait_until("four files in corrupt/", || {
        let count = std::fs::read_dir(&corrupt).map(Iterator::count).unwrap_or_default();
        (count >= 4).then_some(())
    });
    assert_eq!(server.taken().len(), 2);
    ironpost.log.wait_text("corrupt");
    let id = ironpost.send("a@client.test", &["alice@example.test"], &short("on it goes"));
    ironpost.wait_removed(&id);
}

#[test]
fn damaged_content_is_not_delivered() {
    let address = own_address();
    let port = free_port(address);
    let mut ironpost = Setup::new().relay_to((address, port).into()).quick_retries().start();
    let id =
        ironpost.send("alice@example.test", &["box@remote.test"], b"Subject: x\r\n\r\nPay 100 to Bob.\r\n");
    ironpost.wait_deferred(&id);
    ironpost.stop();
    let file = &ironpost.files_in_spool()[0];
    let mut bytes = std::fs::read(file).unwrap();
    let at = find(&bytes, b"100");
    bytes[at] = b'9';
    std::fs::write(file, bytes).unwrap();
    let server = Server::start_at(address, port, Script::new());
    ironpost.start();
    let corrupt = ironpost.spool().join("corrupt");
    ironpost.log.wait_until("the file in corrupt/", || {
        let count = std::fs::read_dir(&corrupt).map(Iterator::count).unwrap_or_default();
        (count == 1).then_some(())
    });
    assert!(server.taken().is_empty(), "damaged content was delivered");
}

fn find(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).position(|window| window == text).unwrap()
}

/// What a power cut does to files that nobody synced, with all that real processes left in the commit log: it brings them back.
#[test]
fn commit_log_restores_what_a_power_cut_took() {
    let mut ironpost = Setup::new().start();
    ironpost.wait_commit_log();
    // Nothing may leave incoming/ before the cut.
    let queued = ironpost.daemon(&["queued"]);
    nix::sys::signal::kill(queued, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let mut client = ironpost.connect();
    client.hello();
    for number in 0..6 {
        client.send_mail("dave@example.test", &["alice@example.test"], &short(&format!("m{number}")));
    }
    ironpost.kill_all();
    let files = ironpost.files_in_spool();
    assert_eq!(files.len(), 6);
    std::fs::remove_file(&files[0]).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    for (file, keep) in [(&files[2], 0), (&files[3], 100)] {
        std::fs::File::options().write(true).open(file).unwrap().set_len(keep).unwrap();
    }
    let length = std::fs::metadata(&files[4]).unwrap().len();
    std::fs::write(&files[4], vec![0; usize::try_from(length).unwrap()]).unwrap();
    std::fs::write(ironpost.spool().join("commit/boot"), "another boot").unwrap();
    ironpost.start();
    ironpost.wait_mail("alice", 6);
    ironpost.wait_empty();
    assert_eq!(ironpost.mail("alice").len(), 6, "one came twice");
    ironpost.log.wait_text("commit log: 6 messages of an earlier boot, 5 of them restored");
    assert_eq!(std::fs::read_dir(ironpost.spool().join("corrupt")).unwrap().count(), 0);
    // The log is open for this boot, and empty.
    ironpost.wait_commit_log();
    let id = ironpost.send("dave@example.test", &["bob@example.test"], &short("on it goes"));
    ironpost.wait_removed(&id);
}
