//! Under attack: clients that are slow, many, or endless, and what an honest one notices of it. Figures are printed (`--nocapture`).
//!
//! `IRONPOST_ATTACK=full` (as in `make bench`) makes them as large as an attacker would; without it they are as large as a test may be.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ironpost_tests::client::{Client, queue_id};
use ironpost_tests::corpus::short;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::own_address;
use ironpost_tests::setup::Setup;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::statvfs;

fn full() -> bool {
    std::env::var("IRONPOST_ATTACK").is_ok_and(|value| value == "full")
}

/// Room for so many sockets in this process; gives how many there can be.
fn sockets(wanted: usize) -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(soft.max(wanted as u64 + 1000)), hard);
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    wanted.min(soft.saturating_sub(500) as usize)
}

/// A figure of smtpd's memory, in KiB: `VmRSS`, or `VmHWM`, its highest.
fn memory(ironpost: &Ironpost, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", ironpost.daemon(&["smtpd"]))).unwrap();
    let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Everybody but 127.0.0.1 is a stranger.
fn setup() -> Setup {
    Setup::new().set("", "trusted_networks", "[\"127.0.0.1\"]")
}

/// 2,000 clients from 40 addresses that send an octet a second, each: every other one within a command, the rest within content.
struct Slow {
    stop: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    /// How many have come as far as content.
    in_content: usize,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Slow {
    /// Without those for whom there is no place.
    fn start(ironpost: &Ironpost) -> Self {
        let (each, server) = (sockets(2000) / 40, ironpost.smtp());
        // Side by side: each of them waits for replies.
        let (mut clients, in_content) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..40).map(|_| scope.spawn(|| slow_clients(each, server))).collect();
            let parts: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            let in_content = parts.iter().map(|(_, in_content)| in_content).sum::<usize>();
            (parts.into_iter().flat_map(|(clients, _)| clients).collect::<Vec<_>>(), in_content)
        });
        let (stop, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(clients.len())));
        let thread = std::thread::spawn({
            let (stop, open) = (stop.clone(), open.clone());
            move || {
                while !stop.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    clients.retain_mut(|client| client.try_send(b"N").is_ok());
                    open.store(clients.len(), Ordering::SeqCst);
                    std::thread::park_timeout(Duration::from_secs(1).saturating_sub(begun.elapsed()));
                }
            }
        });
        Self { stop, open, in_content, thread: Some(thread) }
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// So many from one address, as far as there is a place for them, and how many of them are within content.
fn slow_clients(count: usize, server: SocketAddr) -> (Vec<Client>, usize) {
    let source = own_address();
    let (mut clients, mut in_content) = (Vec::new(), 0);
    for i in 0..count {
        let mut client = Client::connect_from(source, server);
        let mut says = |words: &str, reply: &str| {
            client.try_send(words.as_bytes()).is_ok() && client.reply().starts_with(reply)
        };
        let has_come = if i % 2 == 0 {
            client.greeting.starts_with("220 ")
        } else {
            says("EHLO x\r\n", "250")
                && says("MAIL FROM:<a@client.test>\r\n", "250 ")
                && says("RCPT TO:<alice@example.test>\r\n", "250 ")
                && says("DATA\r\n", "354 ")
        };
        if has_come {
            in_content += i % 2;
            clients.push(client);
        }
    }
    (clients, in_content)
}

#[test]
fn two_thousand_slow_clients_hold_nobody_up() {
    let ironpost = setup().start();
    let slow = Slow::start(&ironpost);
    let honest = own_address();
    let (mut greetings, mut mails) = (Vec::new(), Vec::new());
    for round in 0..if full() { 30 } else { 10 } {
        let begun = Instant::now();
        let mut client = Client::connect_from(honest, ironpost.smtp());
        greetings.push(begun.elapsed());
        assert!(client.greeting.starts_with("220 "), "{}", client.greeting);
        client.hello();
        let id = client.send_mail("a@client.test", &["alice@example.test"], &short(&format!("{round}")));
        client.quit();
        ironpost.wait_removed(&id);
        mails.push(begun.elapsed());
        std::thread::park_timeout(Duration::from_millis(200));
    }
    greetings.sort();
    mails.sort();
    let (count, half) = (greetings.len() - 1, greetings.len() / 2);
    println!(
        "{} slow clients from 40 addresses, {} of them within content: greeting {:?} (median), {:?} (slowest); mail in the \
         mailbox {:?} (median), {:?} (slowest); memory of smtpd {} KiB",
        slow.open(),
        slow.in_content,
        greetings[half],
        greetings[count],
        mails[half],
        mails[count],
        memory(&ironpost, "VmRSS")
    );
    assert!(slow.in_content >= 700, "{} have come as far as content", slow.in_content);
    assert!(slow.open() >= 1500, "the attack has ended by itself");
    // The slowest, and mail at all, with patience in an ordinary run: its machine is busy with all the other tests.
    let (greeting, mail) = if full() { (1, 5) } else { (30, 30) };
    assert!(greetings[half] < Duration::from_secs(1), "{greetings:?}");
    assert!(greetings[count] < Duration::from_secs(greeting), "{greetings:?}");
    assert!(mails[count] < Duration::from_secs(mail), "{mails:?}");
}

/// Nearly full, the server gives idle strangers less time, and keeps places for those whom it trusts.
#[test]
fn a_full_server_makes_room() {
    let ironpost = setup().set("smtpd", "max_connections", "1000").start();
    let slow = Slow::start(&ironpost);
    // Those who found no place are gone after a while: 900 are left, the last tenth is not for strangers.
    ironpost.log.wait_until("the overload", || (slow.open() <= 900).then_some(()));
    assert!(ironpost.connect().greeting.starts_with("220 "), "a trusted client has a place");
    let begun = Instant::now();
    let honest = own_address();
    ironpost.log.wait_until("a place for a stranger", || {
        Client::connect_from(honest, ironpost.smtp()).greeting.starts_with("220 ").then_some(())
    });
    println!("1000 places, 2000 slow clients: a stranger got one after {:?}", begun.elapsed());
    // Five minutes are the usual time.
    ironpost.log.wait("the reason", |line| line.contains("timeout after CONNECT").then_some(()));
}

/// By so much smtpd may grow, in KiB, whatever the length of a line.
const MEMORY: u64 = 8 * 1024;

/// What an endless line is made of, in octets.
const BLOCK: usize = 1 << 20;

/// Sends blocks without a line end until `most` octets are gone or the server has closed the connection; gives how many it took.
fn stream(client: &mut Client, most: u64) -> u64 {
    let block = vec![b'x'; BLOCK];
    let mut sent = 0;
    while sent < most {
        match client.try_send(&block) {
            Ok(()) => sent += BLOCK as u64,
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(error) => panic!("stuck after {sent} octets: {error}"),
        }
    }
    sent
}

/// A stranger who has come as far as content, behind a header: that has a limit of its own.
fn in_content(ironpost: &Ironpost) -> Client {
    let mut client = Client::connect_from(own_address(), ironpost.smtp());
    client.hello();
    client.begin("a@client.test", &["alice@example.test"]);
    client.send(b"Subject: x\r\n\r\n");
    client
}

/// 10 GiB, or what a test may send.
fn endless(otherwise: u64) -> u64 {
    if full() { 10 << 30 } else { otherwise }
}

#[test]
fn content_without_a_line_end_costs_no_memory_and_is_refused_at_its_end() {
    // Of what is refused, eight times the limit on size is read.
    let ironpost = setup().text("smtpd", "message_size_limit", "2G").start();
    let before = memory(&ironpost, "VmHWM");
    let mut client = in_content(&ironpost);
    let (most, begun) = (endless(48 << 20), Instant::now());
    let sent = stream(&mut client, most);
    assert!(sent >= most, "cut off after {sent}");
    client.send(b"\r\n.\r\n");
    let reply = client.reply();
    assert!(reply.starts_with("554 5.6.0 "), "{reply}");
    let grown = memory(&ironpost, "VmHWM").saturating_sub(before);
    println!(
        "content, {} MiB without a line end: refused at its end, after {:?}; memory of smtpd has grown by {grown} KiB",
        sent >> 20,
        begun.elapsed()
    );
    assert!(grown < MEMORY, "{grown} KiB");
    ironpost.wait_empty();
    // The session goes on.
    client.quit();
}

#[test]
fn what_does_not_end_is_cut_off() {
    for limit in ["0", "1M"] {
        let ironpost = setup().text("smtpd", "message_size_limit", limit).start();
        let before = memory(&ironpost, "VmHWM");
        for (what, reason) in
            [("content", "too much content after DATA"), ("a command", "too long a line after")]
        {
            let mut client = match what {
                "content" => in_content(&ironpost),
                _ => Client::connect_from(own_address(), ironpost.smtp()),
            };
            let most = endless(1 << 30);
            let sent = stream(&mut client, most);
            ironpost.log.wait_text(reason);
            println!(
                "message_size_limit {limit}: {what} without a line end, {} MiB to come: cut off after {} MiB",
                most >> 20,
                sent >> 20
            );
            assert!(sent < 200 << 20, "{sent}");
        }
        let grown = memory(&ironpost, "VmHWM").saturating_sub(before);
        println!("message_size_limit {limit}: memory of smtpd has grown by {grown} KiB");
        assert!(grown < MEMORY, "{grown} KiB");
        ironpost.wait_empty();
    }
}

/// Where lines have no limit: a message like any other.
#[test]
fn one_long_line_that_is_accepted_is_not_held_in_memory() {
    let setup = setup().text("smtpd", "message_size_limit", "4G").text("smtpd", "line_length_limit", "0");
    // More than 31 bits can count, as far as the disk has room for it twice and as much again.
    let disk = statvfs(setup.path()).unwrap();
    let room = disk.blocks_available() * disk.fragment_size() / 4;
    let wanted = if full() { (2 << 30) + (64 << 20) } else { 24 << 20 };
    let ironpost = setup.start();
    let before = memory(&ironpost, "VmHWM");
    let begun = Instant::now();
    let mut client = in_content(&ironpost);
    let sent = stream(&mut client, room.min(wanted));
    client.send(b"\r\n.\r\n");
    let id = queue_id(&client.reply());
    let taken = begun.elapsed();
    let grown = memory(&ironpost, "VmHWM").saturating_sub(before);
    client.quit();
    ironpost.wait_removed(&id);
    println!(
        "content, a line of {} MiB: accepted after {taken:?}, in the mailbox after {:?}; memory of smtpd has grown by {grown} KiB",
        sent >> 20,
        begun.elapsed()
    );
    assert!(grown < MEMORY, "{grown} KiB");
    let folder = ironpost.path().join("mail/alice/new");
    let sizes: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    // With a header and nothing else: the line is not folded on its way.
    assert!(matches!(sizes[..], [size] if (sent..sent + 2000).contains(&size)), "{sizes:?}");
}

#[test]
fn idle_sessions_cost_kilobytes() {
    let count = sockets(if full() { 10_000 } else { 1000 });
    let ironpost = Setup::new().set("smtpd", "max_connections", "20000").start();
    let before = memory(&ironpost, "VmRSS");
    let mut idle = Vec::new();
    for _ in 0..count.div_ceil(50) {
        let source = own_address();
        idle.extend((0..50).map(|_| {
            let mut client = Client::connect_from(source, ironpost.smtp());
            client.hello();
            client
        }));
    }
    let now = memory(&ironpost, "VmRSS");
    println!("{} idle sessions: smtpd has {now} KiB, {before} KiB without them", idle.len());
    let most = before + idle.len() as u64 * 15 + 4 * 1024;
    assert!(now < most, "{now} KiB, {before} KiB without them; {most} KiB are allowed");
}
