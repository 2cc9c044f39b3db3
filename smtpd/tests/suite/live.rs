//! The server over real sockets, in this process: what the core cannot show.

use common::config::Config;
use smtpd::message::Store;
use smtpd::rules::Rules;
use smtpd::server::{self, Shared, Stop};
use spool::layout::Spool;
use spool::pressure::{self, Gauge};
use spool::queue_file::QueueFile;
use spool::writer::Spooler;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::watch;

/// Nothing here takes so long unless it is broken.
const LONG: Duration = Duration::from_secs(60);

struct Server {
    folder: tempfile::TempDir,
    address: SocketAddr,
    stop: watch::Sender<Stop>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(smtpd: &str) -> Self {
        Self::start_with("", smtpd)
    }

    fn start_with(top: &str, smtpd: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("spool/incoming")).unwrap();
        std::fs::write(folder.path().join("users"), "joe\njane\n").unwrap();
        let text = format!(
            "hostname = \"mail.example\"\nmail_name = \"example\"\nspool_directory = \"spool\"\n{top}\n\
             [smtpd]\n{smtpd}\n[local]\nusers = \"users\"\naliases = \"aliases\"\n"
        );
        let config = Config::parse(&text, &folder.path().join("ironpost.toml"), folder.path()).unwrap();
        let spooler = Spooler::open(&folder.path().join("spool/incoming"), 0o600).unwrap();
        let store = Store::new(spooler, &Spool::new(&folder.path().join("spool")), None);
        let shared = Arc::new(Shared::new(Rules::load(&config).unwrap(), store, u32::MAX));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, _) = watch::channel(Stop::No);
        let stopper = stop.clone();
        let how = config.smtpd.listen[0].clone();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                server::serve(vec![(listener, how)], shared, stopper).await;
            });
        };
        Self { folder, address, stop, thread: Some(thread::spawn(serve)) }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Client(BufReader::new(stream))
    }

    fn greeted(&self) -> Client {
        let mut client = self.connect();
        assert_eq!(client.reply(), "220 mail.example ESMTP Ironpost");
        assert_eq!(client.ask("HELO client.example"), "250 mail.example");
        client
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("spool/incoming")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn content(&self, id: &str) -> (QueueFile, Vec<u8>) {
        let file = QueueFile::open(&self.folder.path().join("spool/incoming").join(id)).unwrap();
        let mut content = Vec::new();
        file.content().unwrap().read_to_end(&mut content).unwrap();
        (file, content)
    }

    fn end(&mut self) {
        self.stop.send_if_modified(|stop| {
            let first = *stop == Stop::No;
            *stop = if first { Stop::Finish } else { *stop };
            first
        });
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.0.read_line(&mut line).unwrap();
        (length > 0).then(|| line.strip_suffix("\r\n").expect("whole lines").to_owned())
    }

    fn reply(&mut self) -> String {
        self.line().expect("a reply")
    }

    fn send(&mut self, text: &[u8]) {
        self.0.get_mut().write_all(text).unwrap();
    }

    fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.reply()
    }

    fn begin(&mut self, recipient: &str) {
        assert_eq!(self.ask("MAIL FROM:<a@b.example>"), "250 2.1.0 Ok");
        assert_eq!(self.ask(&format!("RCPT TO:<{recipient}>")), "250 2.1.5 Ok");
        assert_eq!(self.ask("DATA"), "354 End data with <CR><LF>.<CR><LF>");
    }

    fn finish(&mut self) -> String {
        let reply = self.ask("\r\n.");
        reply.strip_prefix("250 2.0.0 Ok: queued as ").unwrap_or_else(|| panic!("{reply}")).to_owned()
    }
}

#[test]
fn what_is_acknowledged_is_in_the_queue() {
    let server = Server::start("");
    let mut client = server.greeted();
    let big = "0123456789012345678901234567890123456789012345678901234567890123456789\r\n".repeat(30_000);
    for body in ["", "Subject: x\r\n\r\nbody", &big, &"x".repeat(1_000_000)] {
        client.begin("joe@example");
        client.send(body.as_bytes());
        let id = client.finish();
        let (file, content) = server.content(&id);
        assert_eq!(file.envelope().recipients[0].address.to_string(), "joe@example");
        let content = String::from_utf8(content).unwrap();
        let mut lines = content.splitn(4, "\r\n");
        assert_eq!(lines.next(), Some("Received: from client.example (localhost [127.0.0.1])"));
        assert_eq!(lines.next(), Some(&*format!("\tby mail.example (Ironpost) with SMTP id {id}")));
        assert!(lines.next().unwrap().starts_with("\tfor <joe@example>; "));
        assert_eq!(lines.next(), Some(&*format!("{body}\r\n")));
    }
    assert_eq!(client.ask("QUIT"), "221 2.0.0 Bye");
    assert_eq!(client.line(), None);
}

#[test]
fn acceptance_slows_down_while_the_queue_is_too_long() {
    let server = Server::start("");
    std::fs::create_dir(server.folder.path().join("spool/public")).unwrap();
    let spool = Spool::new(&server.folder.path().join("spool"));
    Gauge::new(&spool).show(pressure::HIGH + 1).unwrap();
    let mut client = server.greeted();
    client.begin("joe@example");
    client.send(b"x");
    let begin = std::time::Instant::now();
    client.finish();
    assert!(begin.elapsed() >= pressure::DELAY, "as quick as ever");
}

#[test]
fn other_recipients_are_not_named_in_the_header() {
    let server = Server::start("");
    let mut client = server.greeted();
    client.ask("MAIL FROM:<>");
    client.ask("RCPT TO:<joe@example>");
    client.ask("RCPT TO:<jane@example>");
    client.ask("DATA");
    let (file, content) = server.content(&client.finish());
    assert_eq!(file.envelope().recipients.len(), 2);
    assert!(!String::from_utf8(content).unwrap().contains("for <"));
}

#[test]
fn a_client_that_goes_away_in_the_middle_leaves_nothing() {
    let server = Server::start("");
    for size in [10, 1_000_000] {
        let mut client = server.greeted();
        client.begin("joe@example");
        client.send(&vec![b'x'; size]);
        drop(client);
    }
    // A session that comes later is served while those end; the server's own end waits for all of them.
    let mut server = server;
    server.end();
    assert_eq!(server.files(), Vec::<PathBuf>::new());
}

#[test]
fn clients_have_limits_that_trusted_ones_do_not() {
    let server =
        Server::start_with("trusted_networks = [\"192.0.2.0/24\"]", "max_connections_per_client = 2");
    let (first, _second) = (server.greeted(), server.greeted());
    let mut third = server.connect();
    assert_eq!(third.reply(), "421 4.7.0 mail.example Error: too many connections from 127.0.0.1");
    assert_eq!(third.line(), None);
    drop(first);
    // The place is free again as soon as the server has seen the end.
    while server.connect().reply().starts_with("421") {}

    let server = Server::start("max_connections_per_client = 1\nmax_connections = 3");
    let _connected = [server.greeted(), server.greeted(), server.greeted()];
    assert_eq!(server.connect().reply(), "421 4.7.0 mail.example Error: too many connections");
}

#[test]
fn relay_rules_hold_over_the_wire() {
    let server = Server::start_with("trusted_networks = [\"192.0.2.0/24\"]", "");
    let mut client = server.greeted();
    client.ask("MAIL FROM:<a@example>");
    assert_eq!(client.ask("RCPT TO:<x@far.example>"), "554 5.7.1 <x@far.example>: Relay access denied");
    assert_eq!(
        client.ask("RCPT TO:<nobody@example>"),
        "550 5.1.1 <nobody@example>: Recipient address rejected: User unknown in local recipient table"
    );
    assert_eq!(client.ask("RCPT TO:<joe@[127.0.0.1]>"), "250 2.1.5 Ok");
    assert_eq!(client.ask("RCPT TO:<joe@[127.0.0.2]>"), "554 5.7.1 <joe@[127.0.0.2]>: Relay access denied");
    assert_eq!(client.ask("RCPT TO:<postmaster>"), "250 2.1.5 Ok");
    client.ask("DATA");
    let (file, _) = server.content(&client.finish());
    let recipients: Vec<_> = file.envelope().recipients.iter().map(|r| r.original().to_string()).collect();
    assert_eq!(recipients, ["joe@[127.0.0.1]", "postmaster@example"]);
}

#[test]
fn idle_clients_are_told_when_time_is_up() {
    let server = Server::start("idle_timeout = \"300ms\"");
    let mut client = server.connect();
    assert_eq!(client.reply(), "220 mail.example ESMTP Ironpost");
    assert_eq!(client.reply(), "421 4.4.2 mail.example Error: timeout exceeded");
    assert_eq!(client.line(), None);
}

/// RFC 5321 3.1; the client's octets are there before the server gets to say a word, or come while it waits.
#[test]
fn who_talks_before_the_greeting_is_refused() {
    let server = Server::start_with("trusted_networks = [\"192.0.2.0/24\"]", "greeting_delay = \"60s\"");
    let mut client = server.connect();
    client.send(b"EHLO early.example\r\n");
    assert_eq!(client.reply(), "554 5.5.0 Error: SMTP protocol synchronization");
    assert_eq!(client.line(), None);

    let server = Server::start_with("trusted_networks = [\"192.0.2.0/24\"]", "greeting_delay = \"300ms\"");
    server.greeted();
    // Who is trusted neither waits nor has to.
    let server = Server::start("greeting_delay = \"60s\"");
    let mut client = server.connect();
    client.send(b"NOOP\r\n");
    assert_eq!(client.reply(), "220 mail.example ESMTP Ironpost");
    assert_eq!(client.reply(), "250 2.0.0 Ok");
}

#[test]
fn bare_line_ends_of_listed_clients_become_crlf() {
    for (networks, taken) in [("[\"127.0.0.0/8\"]", true), ("[\"192.0.2.0/24\"]", false)] {
        let server = Server::start(&format!("bare_newlines_networks = {networks}"));
        let mut client = server.greeted();
        client.begin("joe@example");
        client.send(b"a\nb");
        let reply = client.ask("\r\n.");
        assert_eq!(reply.starts_with("250 "), taken, "{reply}");
        if let Some(id) = reply.strip_prefix("250 2.0.0 Ok: queued as ") {
            assert!(server.content(id).1.ends_with(b"\r\na\r\nb\r\n"));
        }
    }
}

/// What a client in front of us says counts for trust, limits of relaying, the log and the header.
#[test]
fn a_listed_client_speaks_for_others() {
    let server = Server::start_with(
        "trusted_networks = [\"127.0.0.0/8\", \"198.51.100.0/24\"]",
        "xclient_networks = [\"127.0.0.1\"]",
    );
    let mut client = server.greeted();
    client.ask("MAIL FROM:<a@b.example>");
    assert_eq!(client.ask("RCPT TO:<x@far.example>"), "250 2.1.5 Ok");
    client.ask("RSET");
    assert_eq!(
        client.ask("XCLIENT NAME=c.example ADDR=192.0.2.7 DESTADDR=192.0.2.25 HELO=h.example PROTO=ESMTP"),
        "220 mail.example ESMTP Ironpost"
    );
    client.ask("MAIL FROM:<a@b.example>");
    assert_eq!(client.ask("RCPT TO:<x@far.example>"), "554 5.7.1 <x@far.example>: Relay access denied");
    assert_eq!(client.ask("RCPT TO:<joe@[192.0.2.25]>"), "250 2.1.5 Ok");
    client.ask("DATA");
    let id = client.finish();
    let content = String::from_utf8(server.content(&id).1).unwrap();
    assert!(content.starts_with("Received: from h.example (c.example [192.0.2.7])\r\n"), "{content}");
    assert_eq!(client.ask("XCLIENT ADDR=198.51.100.1"), "220 mail.example ESMTP Ironpost");
    assert_eq!(client.ask("HELO i.example"), "250 mail.example");
    client.ask("MAIL FROM:<a@b.example>");
    assert_eq!(client.ask("RCPT TO:<x@far.example>"), "250 2.1.5 Ok");
}

#[test]
fn the_last_reply_arrives_although_more_was_sent() {
    let server = Server::start("");
    let mut client = server.greeted();
    client.send("XYZZY\r\n".repeat(20_000).as_bytes());
    for _ in 0..20 {
        assert_eq!(client.reply(), "500 5.5.2 Error: command not recognized");
    }
    assert_eq!(client.reply(), "421 4.7.0 mail.example Error: too many errors");
    assert_eq!(client.line(), None);
}

#[test]
fn the_end_waits_for_content_and_tells_the_idle() {
    let mut server = Server::start("");
    let mut idle = server.greeted();
    let mut busy = server.greeted();
    busy.begin("joe@example");
    busy.send(b"Subject: half\r\n");
    server.stop.send_replace(Stop::Finish);
    assert_eq!(idle.reply(), "421 4.3.2 mail.example Service shutting down");
    assert_eq!(idle.line(), None);
    let id = busy.finish();
    assert_eq!(busy.reply(), "421 4.3.2 mail.example Service shutting down");
    server.end();
    server.content(&id);
    assert!(TcpStream::connect(server.address).is_err(), "nobody listens any more");
}

#[test]
fn many_clients_at_once_lose_nothing() {
    let server = Server::start("");
    let ids: Vec<String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..40)
            .map(|n| {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.greeted();
                    (0..10)
                        .map(|m| {
                            client.begin("joe@example");
                            client.send(format!("Subject: {n} {m}\r\n").as_bytes());
                            client.finish()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let mut names: Vec<String> =
        server.files().iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let mut ids = ids;
    ids.sort();
    names.sort();
    assert_eq!(ids.len(), 400);
    assert_eq!(ids, names);
}
