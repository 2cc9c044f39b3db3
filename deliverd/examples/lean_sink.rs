//! A next host for `make bench` that does what Postfix's `smtp-sink` does, takes all mail and keeps none, with as few system calls as that takes. Unlike it, it
//! answers what came in one packet in one packet (RFC 2920), as servers do, and runs under `SCHED_BATCH`. Listens on a free port of 127.0.0.1, which it
//! prints; ends by a signal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};

const LISTENER: Token = Token(0);
const END: &[u8] = b"\r\n.\r\n";
/// A longer line than this ends its connection.
const LINE: usize = 4096;

struct Connection {
    stream: TcpStream,
    in_content: bool,
    quit: bool,
    /// The beginning of a command line or of the end of data, until the rest comes.
    rest: Vec<u8>,
    replies: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let replies = b"220 sink.example ESMTP\r\n".to_vec();
        Self { stream, in_content: false, quit: false, rest: Vec::new(), replies }
    }

    /// Reads what there is and answers it; `false`: it is over. `closed`: nothing more will come.
    fn serve(&mut self, buffer: &mut [u8], closed: bool) -> io::Result<bool> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            self.take(&buffer[..length]);
            if self.rest.len() > LINE {
                return Ok(false);
            }
            // What did not fill the buffer was all: for more there will be another event, unless the end came with it.
            if length < buffer.len() && !closed {
                break;
            }
        }
        self.answer()?;
        Ok(!self.quit)
    }

    /// Replies are short and waited for: there is room for them, or something is wrong.
    fn answer(&mut self) -> io::Result<()> {
        if !self.replies.is_empty() {
            self.stream.write_all(&self.replies)?;
            self.replies.clear();
        }
        Ok(())
    }

    fn take(&mut self, octets: &[u8]) {
        let mut joined = std::mem::take(&mut self.rest);
        let mut input = octets;
        if !joined.is_empty() {
            joined.extend_from_slice(octets);
            input = &joined;
        }
        while !self.quit {
            if self.in_content {
                let Some(end) = memmem::find(input, END) else {
                    input = &input[input.len().saturating_sub(END.len() - 1)..];
                    break;
                };
                self.in_content = false;
                self.replies.extend_from_slice(b"250 2.0.0 Ok\r\n");
                input = &input[end + END.len()..];
            } else {
                let Some(end) = memchr::memchr(b'\n', input) else { break };
                self.command(&input[..end]);
                // The line end of DATA is the first of the content: a dot behind it ends that.
                input = &input[if self.in_content { end.saturating_sub(1) } else { end + 1 }..];
            }
        }
        self.rest = input.to_vec();
    }

    fn command(&mut self, line: &[u8]) {
        let verb = line.get(..4).unwrap_or(line).to_ascii_uppercase();
        let reply: &[u8] = match &verb[..] {
            b"EHLO" => b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 DSN\r\n",
            b"DATA" => b"354 End data with <CR><LF>.<CR><LF>\r\n",
            b"QUIT" => b"221 2.0.0 Bye\r\n",
            _ => b"250 2.1.0 Ok\r\n",
        };
        self.in_content = verb == b"DATA";
        self.quit = verb == b"QUIT";
        self.replies.extend_from_slice(reply);
    }
}

fn main() {
    common::scheduling::take_batch_policy();
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let mut connections: HashMap<Token, Connection> = HashMap::new();
    let mut last = LISTENER.0;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.unwrap(),
        }
        for event in &events {
            if event.token() == LISTENER {
                loop {
                    let mut stream = match listener.accept() {
                        Ok((stream, _)) => stream,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("accept: {error}"),
                    };
                    last += 1;
                    stream.set_nodelay(true).unwrap();
                    poll.registry().register(&mut stream, Token(last), Interest::READABLE).unwrap();
                    let mut connection = Connection::new(stream);
                    if connection.answer().is_ok() {
                        connections.insert(Token(last), connection);
                    }
                }
            } else if let Some(connection) = connections.get_mut(&event.token())
                && !connection.serve(&mut buffer, event.is_read_closed()).unwrap_or(false)
            {
                connections.remove(&event.token());
            }
        }
    }
}
