//! A plain SMTP client that sends exactly what it is told, also what is wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};

use crate::DEADLINE;

/// A connection to an SMTP server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    /// The greeting.
    pub greeting: String,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap_or_else(|error| panic!("connect {address}: {error}")))
    }

    /// The same from a loopback address of one's own choice.
    pub fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Self {
        Self::over(crate::net::connect_from(source, address))
    }

    /// The same through a proxy that says this about the client.
    pub fn connect_as(client: Ipv4Addr, address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("PROXY TCP4 {client} 192.0.2.250 4660 25\r\n").as_bytes()).unwrap();
        Self::over(stream)
    }

    /// Reads the greeting.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(*DEADLINE)).unwrap();
        stream.set_write_timeout(Some(*DEADLINE)).unwrap();
        let mut client = Self { stream: BufReader::new(stream), greeting: String::new() };
        client.greeting = client.reply();
        client
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends bytes as they are, as far as the server takes them.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one reply; its lines are joined by LF. Empty when the server closed the connection.
    pub fn reply(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            match self.stream.read_until(b'\n', &mut line) {
                Ok(0) => return lines.join("\n"),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return lines.join("\n"),
                Err(error) => panic!("no reply: {error}"),
            }
            assert!(line.ends_with(b"\r\n"), "a reply line without CRLF: {}", line.escape_ascii());
            let line = String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned();
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if last {
                return lines.join("\n");
            }
        }
    }

    /// Sends a command line and reads the reply.
    pub fn command(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends a command line and asserts how its reply begins.
    #[track_caller]
    pub fn expect(&mut self, line: &str, reply: &str) {
        let found = self.command(line);
        assert!(found.starts_with(reply), "{line}: expected {reply:?}, found {found:?}");
    }

    /// EHLO.
    #[track_caller]
    pub fn hello(&mut self) {
        self.expect("EHLO client.test", "250");
    }

    /// MAIL, RCPT for each and DATA, with the good replies to them.
    #[track_caller]
    pub fn begin(&mut self, from: &str, to: &[&str]) {
        self.expect(&format!("MAIL FROM:<{from}>"), "250 2.1.0 Ok");
        for recipient in to {
            self.expect(&format!("RCPT TO:<{recipient}>"), "250 2.1.5 Ok");
        }
        self.expect("DATA", "354 End data with <CR><LF>.<CR><LF>");
    }

    /// Sends content (CRLF line ends) with transparency and end of data, and reads the reply.
    pub fn content(&mut self, content: &[u8]) -> String {
        let _ = self.try_send(&stuffed(content));
        self.reply()
    }

    /// Sends one message, and gives its queue ID.
    #[track_caller]
    pub fn send_mail(&mut self, from: &str, to: &[&str], content: &[u8]) -> String {
        self.begin(from, to);
        queue_id(&self.content(content))
    }

    /// QUIT, and the end of the connection.
    #[track_caller]
    pub fn quit(mut self) {
        self.expect("QUIT", "221 2.0.0 Bye");
        self.expect_closed();
    }

    /// Asserts that the server closes the connection without another word.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest.escape_ascii().to_string(), ""),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }

    /// Ends the connection without QUIT.
    pub fn abort(self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }
}

/// The queue ID in the reply to an accepted message.
#[track_caller]
pub fn queue_id(reply: &str) -> String {
    let id =
        reply.strip_prefix("250 2.0.0 Ok: queued as ").unwrap_or_else(|| panic!("not accepted: {reply:?}"));
    assert!((10..=16).contains(&id.len()), "a queue ID has 10 to 16 characters: {id:?}");
    id.to_owned()
}

/// Content with transparency (RFC 5321 4.5.2) and end of data. Content that does not end with a line end gets
/// one.
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 16);
    let mut start = true;
    for byte in content {
        if start && *byte == b'.' {
            out.push(b'.');
        }
        out.push(*byte);
        start = *byte == b'\n';
    }
    if !start {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}
