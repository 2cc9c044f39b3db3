//! An SMTP server that follows a script: it refuses, stalls, hangs up and remembers, as a table of rules
//! tells it.
//!
//! One thread a connection. What no rule is about gets a good reply. Every command and every message is kept,
//! byte for byte.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::DEADLINE;
use crate::random::Random;

/// What the server does where a rule applies.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these lines, without their line ends.
    Reply(&'static str),
    /// Sends these bytes as they are.
    Raw(&'static [u8]),
    /// Closes the connection.
    Close,
    /// Sends nothing more, ever, and keeps the connection open.
    Stall,
    /// Sends these lines, then closes the connection.
    ReplyAndClose(&'static str),
    /// Sends these lines, then nothing more, ever, whatever comes.
    ReplyAndStall(&'static str),
    /// At end of data: keeps the message, and closes the connection without a reply (RFC 1047).
    TakeAndClose,
    /// Gives the good reply, after this time.
    Late(Duration),
}

/// One rule: at the first `times` events that begin with `event`, and contain `contains`, do `act`.
#[derive(Debug)]
struct Rule {
    event: &'static str,
    contains: &'static str,
    left: AtomicUsize,
    /// How often it applies where it could, in percent.
    percent: usize,
    act: Act,
}

/// A script: rules in order; the first that fits counts.
#[derive(Debug)]
pub struct Script {
    rules: Vec<Rule>,
    dice: Random,
    extensions: Vec<&'static str>,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// No rules; EHLO offers PIPELINING, SIZE, 8BITMIME and ENHANCEDSTATUSCODES.
    pub fn new() -> Self {
        Self {
            rules: Vec::new(),
            dice: Random::new(1),
            extensions: vec!["PIPELINING", "SIZE 100000000", "8BITMIME", "ENHANCEDSTATUSCODES"],
        }
    }

    /// Always do `act` at `event`: `CONNECT`, `.` (end of data), or the beginning of a command line in upper
    /// case.
    pub fn on(self, event: &'static str, act: Act) -> Self {
        self.times(usize::MAX, event, "", act)
    }

    /// As [`on`](Self::on), where the command line contains a text.
    pub fn about(self, event: &'static str, contains: &'static str, act: Act) -> Self {
        self.times(usize::MAX, event, contains, act)
    }

    /// As [`about`](Self::about), but only so many times.
    pub fn times(mut self, times: usize, event: &'static str, contains: &'static str, act: Act) -> Self {
        self.rules.push(Rule { event, contains, left: AtomicUsize::new(times), percent: 100, act });
        self
    }

    /// As [`on`](Self::on), but only in so many of a hundred cases, by the dice.
    pub fn sometimes(mut self, percent: usize, event: &'static str, act: Act) -> Self {
        self.rules.push(Rule { event, contains: "", left: AtomicUsize::new(usize::MAX), percent, act });
        self
    }

    /// Throws dice with this seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.dice = Random::new(seed);
        self
    }

    /// Offers these extensions instead.
    pub fn extensions(mut self, extensions: &[&'static str]) -> Self {
        self.extensions = extensions.to_vec();
        self
    }

    fn act(&self, event: &str) -> Option<&Act> {
        let upper = event.to_ascii_uppercase();
        let rule = self.rules.iter().find(|rule| {
            upper.starts_with(rule.event)
                && event.contains(rule.contains)
                && (rule.percent >= 100 || self.dice.below(100) < rule.percent)
                && rule
                    .left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                    .is_ok()
        });
        rule.map(|rule| &rule.act)
    }
}

/// A message that a scripted server took.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The number of the connection, from 0.
    pub connection: usize,
    /// The argument of MAIL FROM, with angle brackets and parameters.
    pub mail: String,
    /// The accepted recipients, without angle brackets.
    pub recipients: Vec<String>,
    /// The content after transparency was undone, CRLF line ends.
    pub content: Vec<u8>,
    /// When end of data came.
    pub at: Instant,
    /// Whether the client was told.
    pub answered: bool,
}

#[derive(Debug, Default)]
struct Record {
    commands: Vec<(usize, String)>,
    taken: Vec<Taken>,
    connections: usize,
}

#[derive(Debug)]
struct Shared {
    script: Script,
    record: Mutex<Record>,
    changed: Condvar,
    down: AtomicBool,
    /// By the number of the connection.
    open: Mutex<HashMap<usize, TcpStream>>,
}

/// A running scripted server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start(script: Script) -> Self {
        Self::start_at(IpAddr::from([127, 0, 0, 1]), 0, script)
    }

    /// Starts one on this address and port.
    pub fn start_at(address: impl Into<IpAddr>, port: u16, script: Script) -> Self {
        let listener = TcpListener::bind((address.into(), port)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script,
            record: Mutex::default(),
            changed: Condvar::new(),
            down: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The messages taken so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.shared.record.lock().unwrap().taken.clone()
    }

    /// All command lines so far, in order, over all connections.
    pub fn commands(&self) -> Vec<String> {
        self.shared.record.lock().unwrap().commands.iter().map(|(_, line)| line.clone()).collect()
    }

    /// How many messages it has taken so far.
    pub fn count(&self) -> usize {
        self.shared.record.lock().unwrap().taken.len()
    }

    /// How many connections it took.
    pub fn connections(&self) -> usize {
        self.shared.record.lock().unwrap().connections
    }

    /// Waits until it has taken `count` messages, and gives them.
    pub fn wait(&self, count: usize) -> Vec<Taken> {
        self.wait_until(&format!("{count} messages"), |record| {
            (record.taken.len() >= count).then(|| record.taken.clone())
        })
    }

    /// Waits until `count` command lines that begin with `start` (upper case) came.
    pub fn wait_command(&self, start: &str, count: usize) {
        self.wait_until(&format!("{count} times {start}"), |record| {
            let found =
                record.commands.iter().filter(|(_, line)| line.to_ascii_uppercase().starts_with(start));
            (found.count() >= count).then_some(())
        });
    }

    /// Waits until it has had `count` connections.
    pub fn wait_connections(&self, count: usize) {
        self.wait_until(&format!("{count} connections"), |record| {
            (record.connections >= count).then_some(())
        });
    }

    fn wait_until<T>(&self, what: &str, found: impl Fn(&Record) -> Option<T>) -> T {
        let end = Instant::now() + *DEADLINE;
        let mut record = self.shared.record.lock().unwrap();
        loop {
            if let Some(found) = found(&record) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seen = record
                    .commands
                    .iter()
                    .rev()
                    .take(30)
                    .rev()
                    .map(|(_, line)| line.as_str())
                    .collect::<Vec<_>>();
                let seen = seen.join("\n");
                let taken = record.taken.len();
                drop(record);
                panic!(
                    "the server at {} waited in vain for {what}; it took {taken}; commands:\n{seen}",
                    self.address
                );
            }
            record = self.shared.changed.wait_timeout(record, left).unwrap().0;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.down.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then ends and frees the port.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        // Now that no more come.
        for (_, stream) in self.shared.open.lock().unwrap().drain() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.down.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let Ok(copy) = stream.try_clone() else { continue };
        let number = {
            let mut record = shared.record.lock().unwrap();
            record.connections += 1;
            record.connections - 1
        };
        shared.open.lock().unwrap().insert(number, copy);
        shared.changed.notify_all();
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let session = Session { stream: BufReader::new(stream), number, shared: &shared };
            // An end of the connection is an end of the session, whoever is to blame.
            let _ = session.run();
            shared.open.lock().unwrap().remove(&number);
        });
    }
}

struct Session<'a> {
    stream: BufReader<TcpStream>,
    number: usize,
    shared: &'a Shared,
}

/// Whether the session goes on, and whether the last command was accepted.
enum Next {
    Accepted,
    Refused,
    End,
}

impl Session<'_> {
    fn run(mut self) -> std::io::Result<()> {
        if matches!(self.answer("CONNECT", "220 scripted.test ESMTP")?, Next::End) {
            return Ok(());
        }
        let mut mail = String::new();
        let mut recipients = Vec::new();
        loop {
            let Some(line) = self.line()? else { return Ok(()) };
            let text = String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned();
            self.shared.record.lock().unwrap().commands.push((self.number, text.clone()));
            self.shared.changed.notify_all();
            let upper = text.to_ascii_uppercase();
            let verb = upper.split([' ', ':']).next().unwrap_or_default().to_owned();
            let reply = match verb.as_str() {
                "EHLO" => self.offer(),
                "DATA" if recipients.is_empty() => "554 5.5.1 no valid recipients".to_owned(),
                "DATA" => "354 go ahead".to_owned(),
                "QUIT" => "221 2.0.0 bye".to_owned(),
                _ => "250 2.0.0 ok".to_owned(),
            };
            let accepted = match self.answer(&text, &reply)? {
                Next::End => return Ok(()),
                Next::Accepted => true,
                Next::Refused => false,
            };
            match (verb.as_str(), accepted) {
                ("QUIT", _) => return Ok(()),
                ("MAIL", true) => {
                    mail = text.split_once(':').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
                    recipients.clear();
                }
                ("RCPT", true) => {
                    let path = text.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                    recipients.push(path.map(|(path, _)| path.to_owned()).unwrap_or(text));
                }
                ("DATA", true) => {
                    let Some(content) = self.content()? else { return Ok(()) };
                    // What is accepted is kept before the reply goes out, so that who sees the reply can see
                    // the message.
                    let taken = Taken {
                        connection: self.number,
                        mail: std::mem::take(&mut mail),
                        recipients: std::mem::take(&mut recipients),
                        content,
                        at: Instant::now(),
                        answered: true,
                    };
                    match self.answer_message(taken)? {
                        Next::End => return Ok(()),
                        Next::Accepted | Next::Refused => {}
                    }
                }
                ("RSET" | "HELO" | "EHLO", true) => recipients.clear(),
                _ => {}
            }
        }
    }

    fn offer(&self) -> String {
        let mut lines = vec!["250-scripted.test".to_owned()];
        lines.extend(self.shared.script.extensions.iter().map(|extension| format!("250-{extension}")));
        let last = lines.pop().unwrap_or_default().replacen('-', " ", 1);
        lines.push(last);
        lines.join("\r\n")
    }

    fn answer(&mut self, event: &str, good: &str) -> std::io::Result<Next> {
        let act = self.shared.script.act(event).cloned();
        self.perform(act, good)
    }

    fn answer_message(&mut self, mut taken: Taken) -> std::io::Result<Next> {
        let act = self.shared.script.act(".").cloned();
        taken.answered = !matches!(act, Some(Act::TakeAndClose));
        let accepted = match &act {
            None | Some(Act::TakeAndClose | Act::Late(_)) => true,
            Some(Act::Reply(text) | Act::ReplyAndClose(text) | Act::ReplyAndStall(text)) => {
                text.starts_with('2')
            }
            Some(Act::Raw(bytes)) => bytes.starts_with(b"2"),
            Some(Act::Close | Act::Stall) => false,
        };
        if accepted {
            self.shared.record.lock().unwrap().taken.push(taken);
            self.shared.changed.notify_all();
        }
        self.perform(act, "250 2.0.0 ok: taken")
    }

    fn perform(&mut self, act: Option<Act>, good: &str) -> std::io::Result<Next> {
        let (text, close) = match act {
            None => (good, false),
            Some(Act::Reply(text)) => (text, false),
            Some(Act::ReplyAndClose(text)) => (text, true),
            Some(Act::Late(time)) => {
                // What the test is about: a server that takes its time.
                std::thread::sleep(time);
                (good, false)
            }
            Some(Act::Close | Act::TakeAndClose) => {
                self.stream.get_ref().shutdown(std::net::Shutdown::Both)?;
                return Ok(Next::End);
            }
            Some(Act::ReplyAndStall(text)) => {
                self.stream.get_mut().write_all(format!("{text}\r\n").as_bytes())?;
                return self.perform(Some(Act::Stall), good);
            }
            Some(Act::Stall) => {
                // Until the other side gives up; what it sends is read and forgotten.
                while self.line()?.is_some() {}
                return Ok(Next::End);
            }
            Some(Act::Raw(bytes)) => {
                self.stream.get_mut().write_all(bytes)?;
                return Ok(if bytes.starts_with(b"2") { Next::Accepted } else { Next::Refused });
            }
        };
        self.stream.get_mut().write_all(format!("{text}\r\n").as_bytes())?;
        if close {
            self.stream.get_ref().shutdown(std::net::Shutdown::Both)?;
            return Ok(Next::End);
        }
        Ok(if text.starts_with(['2', '3']) { Next::Accepted } else { Next::Refused })
    }

    fn line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        Ok((!line.is_empty()).then_some(line))
    }

    /// Content up to end of data, transparency undone; none when the other side went away.
    fn content(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        let mut after_crlf = true;
        loop {
            let Some(line) = self.line()? else { return Ok(None) };
            let crlf = line.ends_with(b"\r\n");
            if after_crlf && line == b".\r\n" {
                return Ok(Some(content));
            }
            let line = if after_crlf { line.strip_prefix(b".").unwrap_or(&line) } else { &line };
            content.extend_from_slice(line);
            after_crlf = crlf;
        }
    }
}
