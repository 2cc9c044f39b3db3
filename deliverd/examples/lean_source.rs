//! A client for `make bench` that does what Postfix's `smtp-source` does, the same commands one by one and in the same pieces, with as few system calls as
//! that takes: 19 for a connection with one message instead of 53. On a machine that has load and mail system side by side it leaves more of the processors to
//! what is measured. Works against any SMTP server; ends with an error at the first reply that is not the expected one.
//!
//! Like smtp-source it resets a connection after the last reply. Unlike it, it runs under `SCHED_BATCH`, and does not wait for one connection to be there
//! before it asks for the next.
//!
//! `lean_source ADDRESS SESSIONS MESSAGES SIZE one|many RECIPIENT`: MESSAGES in all, SESSIONS at once, each with SIZE octets of content behind its header,
//! one or many a connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

/// What a session waits for a reply to.
#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    Hello,
    Sender,
    Recipient,
    Data,
    Content,
    Quit,
}

struct Load {
    address: SocketAddr,
    /// Messages that no session has taken on yet.
    left: usize,
    many: bool,
    sender: Vec<u8>,
    recipient: Vec<u8>,
    content: Vec<u8>,
}

impl Load {
    fn words(&self, step: Step) -> &[u8] {
        match step {
            Step::Connect => b"",
            Step::Hello => b"HELO client.example\r\n",
            Step::Sender => &self.sender,
            Step::Recipient => &self.recipient,
            Step::Data => b"DATA\r\n",
            Step::Content => &self.content,
            Step::Quit => b"QUIT\r\n",
        }
    }

    /// Is there a message to send? It is taken on then.
    fn take(&mut self) -> bool {
        let some = self.left > 0;
        self.left -= usize::from(some);
        some
    }

    /// What comes after this; `None`: nothing.
    fn after(&mut self, step: Step) -> Option<Step> {
        Some(match step {
            Step::Connect => Step::Hello,
            Step::Hello => Step::Sender,
            Step::Sender => Step::Recipient,
            Step::Recipient => Step::Data,
            Step::Data => Step::Content,
            Step::Content if self.many && self.take() => Step::Sender,
            Step::Content => Step::Quit,
            Step::Quit => return None,
        })
    }
}

struct Session {
    stream: TcpStream,
    token: Token,
    step: Step,
    /// Of what is said at this step.
    sent: usize,
    /// Does it want to know when there is room for more?
    waits_for_room: bool,
    reply: Vec<u8>,
}

impl Session {
    fn open(load: &Load, poll: &Poll, token: Token) -> Self {
        let mut stream = TcpStream::connect(load.address).unwrap();
        stream.set_nodelay(true).unwrap();
        setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).unwrap();
        poll.registry().register(&mut stream, token, Interest::READABLE).unwrap();
        Self { stream, token, step: Step::Connect, sent: 0, waits_for_room: false, reply: Vec::new() }
    }

    /// Says what is left to say at this step, as far as there is room.
    fn say(&mut self, load: &Load, poll: &Poll) {
        let words = load.words(self.step);
        while self.sent < words.len() {
            match self.stream.write(&words[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.waits_for_room {
                        self.waits_for_room = true;
                        let both = Interest::READABLE | Interest::WRITABLE;
                        poll.registry().reregister(&mut self.stream, self.token, both).unwrap();
                    }
                    return;
                }
                Err(error) => panic!("{:?}: {error}", self.step),
            }
        }
    }

    /// Reads what there is and goes on; `false`: this session is over. `closed`: nothing more will come.
    fn hear(&mut self, load: &mut Load, poll: &Poll, closed: bool) -> bool {
        let mut buffer = [0; 4096];
        loop {
            let length = match self.stream.read(&mut buffer) {
                Ok(0) => panic!("{:?}: connection closed", self.step),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) => panic!("{:?}: {error}", self.step),
            };
            self.reply.extend_from_slice(&buffer[..length]);
            if self.has_whole_reply() {
                self.reply.clear();
                let Some(step) = load.after(self.step) else { return false };
                self.step = step;
                self.sent = 0;
                self.say(load, poll);
            }
            // What did not fill the buffer was all: for more there will be another event, unless the end came with it.
            if length < buffer.len() && !closed {
                return true;
            }
        }
    }

    /// Has it come to its end (RFC 5321 4.2.1)? Insists on the right code.
    fn has_whole_reply(&self) -> bool {
        let Some(lines) = self.reply.strip_suffix(b"\r\n") else { return false };
        let last = memchr::memrchr(b'\n', lines).map_or(lines, |end| &lines[end + 1..]);
        if last.get(3) == Some(&b'-') {
            return false;
        }
        let code = match self.step {
            Step::Connect => "220",
            Step::Data => "354",
            Step::Quit => "221",
            _ => "250",
        };
        assert!(last.starts_with(code.as_bytes()), "{:?}: {}", self.step, String::from_utf8_lossy(last));
        true
    }
}

fn content(size: usize) -> Vec<u8> {
    let mut content =
        b"From: <a@bench.example>\r\nTo: <b@sink.example>\r\nDate: Sun, 29 Nov 2026 10:00:00 +0000\r\n\
        Message-Id: <1@client.example>\r\nSubject: bench\r\n\r\n"
            .to_vec();
    let end = content.len() + size.max(2) - 2;
    while content.len() < end {
        if end - content.len() > 2 {
            content.extend_from_slice(b"\r\n");
        }
        content.resize((content.len() + 78).min(end), b'X');
    }
    content.extend_from_slice(b"\r\n.\r\n");
    content
}

fn main() {
    common::scheduling::take_batch_policy();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, sessions, messages, size, form, recipient] = words.try_into().expect("six arguments");
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let mut load = Load {
        address: address.parse().expect("an address and a port"),
        left: number(&messages),
        many: form == "many",
        sender: b"MAIL FROM:<a@bench.example>\r\n".to_vec(),
        recipient: format!("RCPT TO:<{recipient}>\r\n").into_bytes(),
        content: content(number(&size)),
    };
    let mut poll = Poll::new().unwrap();
    let mut sessions: Vec<Option<Session>> = (0..number(&sessions))
        .map_while(|index| load.take().then(|| Some(Session::open(&load, &poll, Token(index)))))
        .collect();
    let mut open = sessions.len();
    let mut events = Events::with_capacity(1024);
    while open > 0 {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other.unwrap(),
        }
        for event in &events {
            let Some(place) = sessions.get_mut(event.token().0) else { continue };
            let Some(session) = place else { continue };
            if session.waits_for_room && event.is_writable() {
                session.say(&load, &poll);
            }
            if event.is_readable() && !session.hear(&mut load, &poll, event.is_read_closed()) {
                // Closed before the next is opened.
                *place = None;
                if load.take() {
                    *place = Some(Session::open(&load, &poll, event.token()));
                } else {
                    open -= 1;
                }
            }
        }
    }
}
