//! Postfix's `smtp-sink` and `smtp-source`.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::net::free_port;
use crate::process::{Output, Process, run};
use crate::tools::postfix_program;
use crate::{DEADLINE, is_root};

/// A running smtp-sink.
#[derive(Debug)]
pub struct Sink {
    process: Process,
    address: SocketAddr,
}

impl Sink {
    /// Starts one on 127.0.0.1 with these options, such as `-D FILE` or `-f rcpt`.
    pub fn start(options: &[&str]) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, None, options)
    }

    /// Starts one at this address and port (none: a free one).
    pub fn start_at(address: Ipv4Addr, port: Option<u16>, options: &[&str]) -> Self {
        for _ in 0..20 {
            let port = port.unwrap_or_else(|| free_port(address));
            let mut command = postfix_program("smtp-sink");
            if is_root() {
                command.args(["-u", "nobody"]);
            }
            command.args(options).arg(format!("{address}:{port}")).arg("128");
            let mut process = Process::start(&mut command);
            let address = SocketAddr::from((address, port));
            if wait_listening(address, &mut process) {
                return Self { process, address };
            }
        }
        panic!("smtp-sink does not start");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.poll().is_none()
    }
}

/// Waits until something listens at `address`; false when the process ended instead.
pub fn wait_listening(address: SocketAddr, process: &mut Process) -> bool {
    let end = Instant::now() + *DEADLINE;
    while Instant::now() < end {
        if process.poll().is_some() {
            return false;
        }
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("nothing listens at {address}");
}

/// Runs smtp-source against `server` with these options, to its end.
pub fn smtp_source(server: SocketAddr, options: &[&str]) -> Output {
    run(&mut source_command(server, options), b"")
}

/// Starts smtp-source against `server`.
pub fn start_smtp_source(server: SocketAddr, options: &[&str]) -> Process {
    Process::start(&mut source_command(server, options))
}

fn source_command(server: SocketAddr, options: &[&str]) -> std::process::Command {
    let mut command = postfix_program("smtp-source");
    command.args(options).arg(format!("{}:{}", server.ip(), server.port()));
    command
}

/// The messages in a file that smtp-sink wrote with `-D`: their text, with LF line ends.
pub fn dumped(file: &Path) -> Vec<String> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split("X-Client-Addr: ").skip(1).map(str::to_owned).collect()
}
