//! Name servers: a real dnsmasq, and small ones that fail on purpose.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::net::free_dns_port;
use crate::process::Process;

/// The records of a zone `test` and what fails in it.
#[derive(Debug, Default)]
pub struct Zone {
    text: String,
    failing: Vec<FailingDns>,
}

impl Zone {
    /// Nothing but NXDOMAIN for every name below `test` and every address in 192.0.2.0/24.
    pub fn new() -> Self {
        Self { text: "local=/test/\nlocal=/2.0.192.in-addr.arpa/\n".to_owned(), failing: Vec::new() }
    }

    /// `domain` has an MX record.
    pub fn mx(mut self, domain: &str, preference: u16, host: &str) -> Self {
        let _ = writeln!(self.text, "mx-host={domain},{host},{preference}");
        self
    }

    /// `domain` takes no mail (RFC 7505): an MX of preference 0 and the root as host.
    pub fn null_mx(mut self, domain: &str) -> Self {
        let _ = writeln!(self.text, "dns-rr={domain},15,000000");
        self
    }

    /// `host` has an address record, A or AAAA.
    pub fn host(mut self, host: &str, address: impl Into<std::net::IpAddr>) -> Self {
        let _ = writeln!(self.text, "host-record={host},{}", address.into());
        self
    }

    /// `alias` is another name of `name`, which must have a record here.
    pub fn cname(mut self, alias: &str, name: &str) -> Self {
        let _ = writeln!(self.text, "cname={alias},{name}");
        self
    }

    /// The address has this name, whether that leads back or not.
    pub fn pointer(mut self, address: Ipv4Addr, name: &str) -> Self {
        let [a, b, c, d] = address.octets();
        let _ = writeln!(self.text, "ptr-record={d}.{c}.{b}.{a}.in-addr.arpa,{name}");
        self
    }

    /// A DNS list has the address, with this answer and reason.
    pub fn listed(mut self, zone: &str, address: Ipv4Addr, answer: &str, reason: &str) -> Self {
        let [a, b, c, d] = address.octets();
        let name = format!("{d}.{c}.{b}.{a}.{zone}");
        let _ = writeln!(self.text, "address=/{name}/{answer}\ntxt-record={name},\"{reason}\"");
        self
    }

    /// Questions about `domain` get SERVFAIL.
    pub fn servfail(self, domain: &str) -> Self {
        self.failing(domain, FailingDns::servfail())
    }

    /// Questions about `domain` get no answer.
    pub fn silent(self, domain: &str) -> Self {
        self.failing(domain, FailingDns::silent())
    }

    fn failing(mut self, domain: &str, server: FailingDns) -> Self {
        let _ = writeln!(self.text, "server=/{domain}/{}#{}", server.address.ip(), server.address.port());
        self.failing.push(server);
        self
    }

    /// Starts a dnsmasq that serves it.
    pub fn serve(self) -> Dnsmasq {
        Dnsmasq::start(self)
    }
}

/// A running dnsmasq.
#[derive(Debug)]
pub struct Dnsmasq {
    process: Process,
    address: SocketAddr,
    _failing: Vec<FailingDns>,
    _folder: TempDir,
}

impl Dnsmasq {
    fn start(zone: Zone) -> Self {
        let folder = tempfile::Builder::new().prefix("ironpost-dns-").tempdir().unwrap();
        for _ in 0..20 {
            let port = free_dns_port(Ipv4Addr::LOCALHOST);
            let file = folder.path().join("dnsmasq.conf");
            let mut text =
                format!("port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n");
            text += "cache-size=0\npid-file=\nlog-queries\nlog-facility=-\nuser=\n";
            if crate::is_root() {
                text = text.replace("user=\n", "user=root\n");
            }
            std::fs::write(&file, text + &zone.text).unwrap();
            let mut command = Command::new(dnsmasq());
            command.arg("--no-daemon").arg(format!("--conf-file={}", file.display()));
            let mut process = Process::start(&mut command);
            let err = process.err.clone();
            let started = err.wait_for("dnsmasq", |lines| {
                if lines.iter().any(|line| line.contains("started, version")) {
                    return Some(true);
                }
                process.poll().map(|_| false)
            });
            if started {
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                return Self { process, address, _failing: zone.failing, _folder: folder };
            }
            assert!(!err.all().iter().any(|line| line.contains("bad ")), "{}", err.all().join("\n"));
        }
        panic!("dnsmasq does not start");
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many questions of this type (`MX`, `A`) it had about a name.
    pub fn questions(&self, kind: &str, name: &str) -> usize {
        let text = format!("query[{kind}] {name} ");
        self.process.err.count(|line| line.contains(&text))
    }
}

fn dnsmasq() -> PathBuf {
    let places = ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq"].map(PathBuf::from);
    places.into_iter().find(|path| path.exists()).expect("dnsmasq is not there: run tests/tools.sh")
}

/// A name server that fails every question, over UDP.
#[derive(Debug)]
pub struct FailingDns {
    address: SocketAddr,
    down: Arc<AtomicBool>,
    questions: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FailingDns {
    /// Answers SERVFAIL.
    pub fn servfail() -> Self {
        Self::start(true)
    }

    /// Answers nothing.
    pub fn silent() -> Self {
        Self::start(false)
    }

    /// Where it does.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many questions it had.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    fn start(answer: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let address = socket.local_addr().unwrap();
        let down = Arc::new(AtomicBool::new(false));
        let questions = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::spawn({
            let (down, questions) = (Arc::clone(&down), Arc::clone(&questions));
            move || {
                let mut packet = [0; 2048];
                while !down.load(Ordering::SeqCst) {
                    let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
                    if length < 12 {
                        continue;
                    }
                    questions.fetch_add(1, Ordering::SeqCst);
                    if answer {
                        // The question sent back, with QR and RCODE 2 (RFC 1035 4.1.1), and only the question
                        // in it.
                        packet[2] |= 0x80;
                        packet[3] = packet[3] & 0xf0 | 2;
                        packet[6..12].fill(0);
                        let _ = socket.send_to(&packet[..question_end(&packet[..length])], client);
                    }
                }
            }
        });
        Self { address, down, questions, thread: Some(thread) }
    }
}

impl Drop for FailingDns {
    fn drop(&mut self) {
        self.down.store(true, Ordering::SeqCst);
        // Wakes the thread.
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            let _ = socket.send_to(b"", self.address);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where the first question of a packet ends.
fn question_end(packet: &[u8]) -> usize {
    let mut at = 12;
    while let Some(length) = packet.get(at).filter(|length| **length > 0) {
        at += usize::from(*length) + 1;
    }
    (at + 5).min(packet.len())
}
