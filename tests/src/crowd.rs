//! Many clients that send numbered messages, whatever happens to the server, and remember which ones it took.
//!
//! Each number is tried once: a message whose `250` did not come is forgotten, so what arrives twice was not sent twice.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client sends.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Reverse-path, without angle brackets.
    pub from: String,
    /// Forward-paths, without angle brackets.
    pub to: Vec<String>,
    /// Header and body: CRLF line ends, no line that begins with a dot.
    pub content: String,
}

/// Messages in one session before its client begins another one.
const SESSION: usize = 20;

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    wanted: usize,
    write: fn(usize) -> Letter,
    stop: AtomicBool,
    /// They rest when so many are acknowledged.
    ceiling: AtomicUsize,
    next: AtomicUsize,
    acknowledged: Mutex<BTreeSet<usize>>,
}

/// Running clients.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Crowd {
    /// Starts this many clients. They go on until `wanted` messages are acknowledged in all.
    pub fn start(server: SocketAddr, clients: usize, wanted: usize, write: fn(usize) -> Letter) -> Self {
        let shared = Arc::new(Shared {
            server,
            wanted,
            write,
            stop: AtomicBool::new(false),
            ceiling: AtomicUsize::new(usize::MAX),
            next: AtomicUsize::new(0),
            acknowledged: Mutex::default(),
        });
        let threads = (0..clients)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    while !shared.done() {
                        // An error is an end of the connection: the message in hand was not acknowledged.
                        if shared.session().is_none() {
                            std::thread::park_timeout(Duration::from_millis(5));
                        }
                    }
                })
            })
            .collect();
        Self { shared, threads }
    }

    /// Lets the clients rest, in the middle of their sessions, when this many messages are acknowledged, until it is set higher: so that
    /// a quick machine has not done everything before a test gets to its second kill.
    pub fn rest_at(&self, count: usize) {
        self.shared.ceiling.store(count, Ordering::SeqCst);
    }

    /// How many messages were acknowledged so far.
    pub fn count(&self) -> usize {
        self.shared.acknowledged.lock().unwrap().len()
    }

    /// The numbers of the messages that were acknowledged so far.
    pub fn acknowledged(&self) -> BTreeSet<usize> {
        self.shared.acknowledged.lock().unwrap().clone()
    }

    /// Stops the clients, and gives the numbers of the acknowledged messages.
    pub fn finish(mut self) -> BTreeSet<usize> {
        self.stop();
        self.acknowledged()
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn rest(&self) {
        while self.acknowledged.lock().unwrap().len() >= self.ceiling.load(Ordering::SeqCst) && !self.done() {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    fn done(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || self.acknowledged.lock().unwrap().len() >= self.wanted
    }

    /// None when anything went wrong.
    fn session(&self) -> Option<()> {
        let stream = TcpStream::connect(self.server).ok()?;
        stream.set_read_timeout(Some(*crate::DEADLINE)).ok()?;
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
        for _ in 0..SESSION {
            self.rest();
            if self.done() {
                break;
            }
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let letter = (self.write)(number);
            exchange(&format!("MAIL FROM:<{}>\r\n", letter.from), "250")?;
            for recipient in &letter.to {
                exchange(&format!("RCPT TO:<{recipient}>\r\n"), "250")?;
            }
            exchange("DATA\r\n", "354")?;
            exchange(&format!("{}.\r\n", letter.content), "250")?;
            self.acknowledged.lock().unwrap().insert(number);
        }
        exchange("QUIT\r\n", "221")
    }
}
