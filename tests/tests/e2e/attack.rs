//! Under attack: clients that are slow, many, or endless, and what an honest one notices of it. Figures are printed (`--nocapture`).
//!
//! `IRONPOST_ATTACK=full` (as in `make bench`) makes them as large as an attacker would; without it they are as large as a test may be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ironpost_tests::client::Client;
use ironpost_tests::corpus::short;
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::net::{connect_from, own_address};
use ironpost_tests::setup::Setup;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

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

/// 2,000 clients from 40 addresses that send an octet a second, each.
struct Slow {
    stop: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Slow {
    fn start(ironpost: &Ironpost) -> Self {
        let count = sockets(2000);
        let (stop, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(count)));
        let mut streams = Vec::new();
        for _ in 0..40 {
            let source = own_address();
            for _ in 0..count / 40 {
                let stream = connect_from(source, ironpost.smtp());
                stream.set_nonblocking(true).unwrap();
                streams.push(stream);
            }
        }
        let thread = std::thread::spawn({
            let (stop, open) = (stop.clone(), open.clone());
            move || {
                while !stop.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    streams.retain_mut(|stream| stream.write_all(b"N").is_ok());
                    open.store(streams.len(), Ordering::SeqCst);
                    std::thread::park_timeout(Duration::from_secs(1).saturating_sub(begun.elapsed()));
                }
            }
        });
        Self { stop, open, thread: Some(thread) }
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
        "{} slow clients from 40 addresses: greeting {:?} (median), {:?} (slowest); mail in the mailbox {:?} (median), {:?} \
         (slowest); memory of smtpd {} KiB",
        slow.open(),
        greetings[half],
        greetings[count],
        mails[half],
        mails[count],
        memory(&ironpost, "VmRSS")
    );
    assert!(slow.open() >= 1500, "the attack has ended by itself");
    // The quickest, so that a busy machine does not count as a fault of ours.
    assert!(greetings[0] < Duration::from_secs(1), "{greetings:?}");
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

/// Sends until the server takes no more or `most` octets are gone; gives how many were.
fn stream(stream: &mut TcpStream, most: u64) -> u64 {
    let block = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < most {
        match stream.write(&block) {
            Ok(0) | Err(_) => break,
            Ok(length) => sent += length as u64,
        }
    }
    sent
}

#[test]
fn content_without_a_line_end_costs_no_memory_and_is_cut_off() {
    // Without a limit on size: much of it is read, and refused at its end.
    let ironpost = setup().text("smtpd", "message_size_limit", "0").start();
    let before = memory(&ironpost, "VmHWM");
    let most = 48 << 20;
    let mut link = connect_from(own_address(), ironpost.smtp());
    begin(&mut link);
    // The header has a limit of its own.
    link.write_all(b"Subject: x\r\n\r\n").unwrap();
    let begun = Instant::now();
    let sent = stream(&mut link, most);
    assert!(sent >= most, "cut off after {sent}");
    link.write_all(b"\r\n.\r\n").unwrap();
    read_until(&mut link, "554 5.6.0 ");
    let grown = memory(&ironpost, "VmHWM").saturating_sub(before);
    println!(
        "{} MiB without a line end in {:?}: memory of smtpd has grown by {grown} KiB",
        sent >> 20,
        begun.elapsed()
    );
    assert!(grown < 16 * 1024, "{grown} KiB");
    // It is not read for ever, as content or as a command.
    let limited = setup().text("smtpd", "message_size_limit", "1M").start();
    for (ironpost, limit) in [(&ironpost, "0"), (&limited, "1M")] {
        for in_content in [true, false] {
            let mut link = connect_from(own_address(), ironpost.smtp());
            if in_content {
                begin(&mut link)
            } else {
                read_until(&mut link, "220 ")
            }
            let sent = stream(&mut link, 1 << 30);
            println!(
                "message_size_limit {limit}, {}: cut off after {} MiB",
                if in_content { "content" } else { "a command" },
                sent >> 20
            );
            assert!(sent < 200 << 20, "{sent}");
        }
        assert!(memory(ironpost, "VmHWM") < before + 16 * 1024);
    }
}

/// Up to DATA.
fn begin(link: &mut TcpStream) {
    read_until(link, "220 ");
    link.write_all(b"EHLO x\r\n").unwrap();
    read_until(link, "250 ");
    link.write_all(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n").unwrap();
    read_until(link, "354 ");
}

/// Reads until a line begins so.
fn read_until(link: &mut TcpStream, begin: &str) {
    link.set_read_timeout(Some(*ironpost_tests::DEADLINE)).unwrap();
    let (mut text, mut before) = (String::new(), Vec::new());
    let mut octet = [0];
    while link.read(&mut octet).unwrap() == 1 {
        text.push(octet[0].into());
        if text.ends_with('\n') {
            if text.starts_with(begin) {
                return;
            }
            before.push(std::mem::take(&mut text));
        }
    }
    panic!("the connection ended before {begin:?}: {before:?}");
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
    assert!(now < 150 * 1024, "{now} KiB");
}
