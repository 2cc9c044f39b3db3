//! Clients for `make bench`, part "tls": sessions with STARTTLS, full or resumed, with messages or without, as many at once as asked for.
//! Works against any SMTP server; prints a line of JSON.
//!
//! `tls_source ADDRESS full|resumed COUNT SESSIONS MESSAGES SIZE`: COUNT connections in all, SESSIONS at once, MESSAGES of SIZE octets in
//! each. With 0 messages a connection ends after the EHLO within TLS: what is measured then are handshakes. Says `ready`, and begins when it
//! is given a line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use deliverd::smtp::tls::handshake::AnyCertificate;
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[derive(Clone)]
struct Load {
    address: String,
    config: Arc<ClientConfig>,
    messages: u32,
    content: Arc<Vec<u8>>,
}

impl Load {
    /// One connection; was its session resumed?
    async fn connect(&self) -> bool {
        let mut plain = TcpStream::connect(&self.address).await.unwrap();
        plain.set_nodelay(true).unwrap();
        expect(&mut plain, "220").await;
        say(&mut plain, "EHLO client.example", "250").await;
        say(&mut plain, "STARTTLS", "220").await;
        let name = ServerName::try_from("bench.example").unwrap();
        let mut stream = TlsConnector::from(self.config.clone()).connect(name, plain).await.unwrap();
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        say(&mut stream, "EHLO client.example", "250").await;
        for _ in 0..self.messages {
            say(&mut stream, "MAIL FROM:<a@bench.example>", "250").await;
            say(&mut stream, "RCPT TO:<b@sink.example>", "250").await;
            say(&mut stream, "DATA", "354").await;
            stream.write_all(&self.content).await.unwrap();
            say(&mut stream, ".", "250").await;
        }
        say(&mut stream, "QUIT", "221").await;
        resumed
    }
}

/// Tickets, each for one connection (RFC 8446 C.4). As many as there are: servers with OpenSSL send none with a session that was resumed.
#[derive(Debug, Default)]
struct Tickets(Mutex<Vec<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.lock().unwrap().push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap().pop()
    }
}

/// The same, for those who only fill it.
#[derive(Debug)]
struct Collecting(Arc<Tickets>);

impl ClientSessionStore for Collecting {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(name, ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// So many connections, so many of them at once; how many were resumed.
async fn run(load: &Load, count: u32, sessions: u32) -> u32 {
    let (left, resumed) = (Arc::new(AtomicU32::new(count)), Arc::new(AtomicU32::new(0)));
    let tasks = (0..sessions).map(|_| {
        let (load, left, resumed) = (load.clone(), left.clone(), resumed.clone());
        tokio::spawn(async move {
            let take = |n: u32| n.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                resumed.fetch_add(u32::from(load.connect().await), Ordering::Relaxed);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    resumed.load(Ordering::Relaxed)
}

async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), command: &str, code: &str) {
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    expect(stream, code).await;
}

/// Reads one whole reply and insists on its code.
async fn expect(stream: &mut (impl AsyncRead + Unpin), code: &str) {
    let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut buffer).await.unwrap();
        assert_ne!(length, 0, "closed after {:?}", String::from_utf8_lossy(&reply));
        reply.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&reply);
        let last = text.lines().last().unwrap_or_default();
        if text.ends_with('\n') && last.as_bytes().get(3) == Some(&b' ') {
            assert!(last.starts_with(code), "{code} expected: {text}");
            return;
        }
    }
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, kind, count, sessions, messages, size] = words.try_into().expect("six arguments");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let mut config = AnyCertificate::config().unwrap();
    let tickets = Arc::new(Tickets::default());
    config.resumption = match kind.as_str() {
        "resumed" => Resumption::store(tickets.clone()),
        "full" => Resumption::disabled(),
        _ => panic!("full or resumed"),
    };
    let line = format!("{}\r\n", "x".repeat(70));
    let body = line.repeat(number(&size) as usize / line.len());
    let content = Arc::new(format!("Subject: bench\r\n\r\n{body}").into_bytes());
    let load = Load { address, config: Arc::new(config), messages: number(&messages), content };
    let (count, sessions) = (number(&count), number(&sessions));
    if kind == "resumed" {
        // Without tickets yet, so full handshakes: their tickets are for later.
        let mut config = (*load.config).clone();
        config.resumption = Resumption::store(Arc::new(Collecting(tickets)));
        let first = Load { messages: 0, config: Arc::new(config), ..load.clone() };
        run(&first, count, sessions).await;
    }
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let began = Instant::now();
    let resumed = run(&load, count, sessions).await;
    let seconds = began.elapsed().as_secs_f64();
    println!("{{\"seconds\": {seconds}, \"connections\": {count}, \"resumed\": {resumed}}}");
}
