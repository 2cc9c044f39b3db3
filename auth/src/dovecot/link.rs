//! One connection to Dovecot: handshake, requests by number, answers to whoever waits for them.
//!
//! Two tasks move the octets. When either ends the connection is closed, and whoever waits is told; the next login makes another one.

use super::line::{self, Answer, Line};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// Longest line from Dovecot, in octets.
const MAX_LINE: u64 = 64 << 10;
/// Most lines of a handshake.
const MAX_HANDSHAKE: usize = 200;
/// Requests that may wait to be written.
const QUEUE: usize = 64;

/// Until there is room for one more: Dovecot takes lines at once, or hangs.
const SEND: Duration = Duration::from_secs(10);

/// The connection.
pub struct Link {
    out: mpsc::Sender<Zeroizing<Vec<u8>>>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    closed: bool,
    last: u32,
    by_id: HashMap<u32, mpsc::Sender<Answer>>,
}

/// Why a message could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// It is too long for Dovecot.
    TooLong,
    /// The connection is closed.
    Closed,
}

impl Link {
    /// Connects, and gives the mechanisms that are for us.
    pub async fn connect(path: &Path) -> Result<(Arc<Self>, Vec<String>), String> {
        let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
        let (input, mut output) = stream.into_split();
        let mut input = BufReader::new(input);
        // The process of several connections, or those of several containers, may have the same number.
        let number = crate::hash::random().map(u32::from_le_bytes).map_err(str::to_owned)? >> 1;
        output.write_all(&line::hello(number)).await.map_err(|error| error.to_string())?;
        let mechanisms = handshake(&mut input).await?;
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (out, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(output, queue, waiting.clone()));
        tokio::spawn(read(input, waiting.clone()));
        Ok((Arc::new(Self { out, waiting }), mechanisms))
    }

    /// Can it be used?
    pub fn is_open(&self) -> bool {
        !lock(&self.waiting).closed
    }

    /// Sends what `write` makes of the request's number. `Ok(None)`: the connection is closed.
    pub async fn request(
        self: &Arc<Self>,
        write: impl FnOnce(u32) -> Option<Vec<u8>>,
    ) -> Result<Option<Request>, SendError> {
        let (sender, answers) = mpsc::channel(4);
        let id = {
            let mut waiting = lock(&self.waiting);
            if waiting.closed {
                return Ok(None);
            }
            // Numbers of requests that are going on are not used again.
            let id = loop {
                waiting.last = waiting.last.wrapping_add(1).max(1);
                if !waiting.by_id.contains_key(&waiting.last) {
                    break waiting.last;
                }
            };
            waiting.by_id.insert(id, sender);
            id
        };
        let request = Request { link: self.clone(), id, answers };
        let message = write(id).ok_or(SendError::TooLong)?;
        Ok(self.send(message).await.is_ok().then_some(request))
    }

    async fn send(&self, message: Vec<u8>) -> Result<(), SendError> {
        let sent = tokio::time::timeout(SEND, self.out.send(Zeroizing::new(message))).await;
        sent.ok().and_then(Result::ok).ok_or(SendError::Closed)
    }
}

/// A request that is going on. Dropped before its end, it is cancelled.
pub struct Request {
    link: Arc<Link>,
    id: u32,
    answers: mpsc::Receiver<Answer>,
}

impl Request {
    /// The next answer; `None`: the connection is closed.
    pub async fn answer(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// The client's response to a challenge.
    pub async fn respond(&mut self, response: &[u8]) -> Result<(), SendError> {
        let message = line::cont(self.id, response).ok_or(SendError::TooLong)?;
        self.link.send(message).await
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if lock(&self.link.waiting).by_id.remove(&self.id).is_some() {
            // Where it cannot be said now, Dovecot forgets the request by itself after some minutes.
            let _ = self.link.out.try_send(Zeroizing::new(line::cancel(self.id)));
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("id", &self.id).finish_non_exhaustive()
    }
}

async fn handshake(input: &mut BufReader<OwnedReadHalf>) -> Result<Vec<String>, String> {
    let mut mechanisms = Vec::new();
    let mut version = false;
    for _ in 0..MAX_HANDSHAKE {
        let line = read_line(input).await.map_err(|error| error.to_string())?;
        let line = line.ok_or("it hung up during the handshake")?;
        match Line::parse(&line)? {
            Line::Version(1) => version = true,
            Line::Version(other) => {
                return Err(format!("it speaks version {other} of the protocol, and we speak version 1"));
            }
            Line::Mechanism(name, true) if !mechanisms.contains(&name) => mechanisms.push(name),
            Line::Done if version => return Ok(mechanisms),
            Line::Done => return Err("no version: this is not Dovecot's authentication service".into()),
            Line::Mechanism(..) | Line::Answer(..) | Line::Other => {}
        }
    }
    Err("a handshake without end: this is not Dovecot's authentication service".into())
}

/// The next line without its end; `None`: it hung up.
async fn read_line(input: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = input.take(MAX_LINE).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    match line.pop() {
        Some(b'\n') => Ok(Some(line)),
        _ => Err(io::Error::other("a line without end")),
    }
}

async fn read(mut input: BufReader<OwnedReadHalf>, waiting: Arc<Mutex<Waiting>>) {
    let why = loop {
        let line = match read_line(&mut input).await {
            Ok(Some(line)) => line,
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        };
        match Line::parse(&line) {
            Ok(Line::Answer(id, answer)) => answered(&waiting, id, answer),
            // A handshake that is repeated, and news of its processes.
            Ok(_) => {}
            Err(what) => break Some(what.to_owned()),
        }
    };
    if let Some(why) = why {
        common::error!("Dovecot's authentication service: {why}: connection closed");
    }
    close(&waiting);
}

fn answered(waiting: &Mutex<Waiting>, id: u32, answer: Answer) {
    let mut waiting = lock(waiting);
    // The last answer ends the request; answers that nobody waits for any more are of no use.
    let sender = match answer {
        Answer::Continue(_) => waiting.by_id.get(&id).cloned(),
        Answer::Ok(..) | Answer::Fail(_) => waiting.by_id.remove(&id),
    };
    if let Some(sender) = sender {
        let _ = sender.try_send(answer);
    }
}

async fn write(
    mut output: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Zeroizing<Vec<u8>>>,
    waiting: Arc<Mutex<Waiting>>,
) {
    while let Some(message) = queue.recv().await {
        if output.write_all(&message).await.is_err() {
            break;
        }
    }
    close(&waiting);
}

/// Whoever waits gets no answer.
fn close(waiting: &Mutex<Waiting>) {
    let mut waiting = lock(waiting);
    waiting.closed = true;
    waiting.by_id.clear();
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
