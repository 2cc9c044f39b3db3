//! Moves octets between the client core and a connection, within the time limits of the phases and of the
//! attempt.
//!
//! Reads while it writes, so that a server which talks early is heard and none can make both sides wait for
//! each other. The core decides everything else.

use super::client::{Action, Cause, Client, Ended, Lost, Order, Peer, Phase, Refusal, Retry, Terms, Verdict};
use super::content::Content;
use super::deadline::Deadline;
use super::tls::handshake::Secure;
use super::wire::Wire;
use common::address::Domain;
use common::status::{EnhancedCode, Status};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// Octets read at once.
const READ: usize = 4096;
/// A session ends after so many transactions …
const MAX_TRANSACTIONS: u32 = 100;
/// … or after this time, even when there is more to send (Postfix's smtp_connection_reuse_time_limit).
const MAX_AGE: Duration = Duration::from_secs(300);
/// For the end of TLS, on which nothing hangs.
const FAREWELL: Duration = Duration::from_secs(1);

/// A session to be opened.
#[derive(Debug)]
pub struct Opening<S> {
    /// A connection just made.
    pub stream: S,
    /// To whom.
    pub peer: Peer,
    /// For EHLO.
    pub hello_name: Domain,
    /// What must be fulfilled.
    pub terms: Terms,
    /// For the TLS handshake, should it come to one.
    pub secure: Option<Secure>,
}

/// An open session with a server.
#[derive(Debug)]
pub struct Session<S> {
    stream: Wire<S>,
    secure: Option<Secure>,
    client: Client,
    opened: Instant,
    greeted: Instant,
    transactions: u32,
    progress: u64,
    phase_began: Instant,
    /// What is read goes here first. Not in the futures, which are made and moved for each job.
    input: Box<[u8]>,
}

/// What a turn of the loop ended with.
enum Turn {
    Ready,
    Ended(Ended),
    Refused(Refusal),
    Closed,
}

/// What became possible first.
enum Moved {
    Wrote(usize),
    Read(usize),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Everything up to the first transaction.
    /// In a box: it goes from hand to hand for each job.
    pub async fn open(opening: Opening<S>, deadline: &mut Deadline) -> Result<Box<Self>, Refusal> {
        let now = Instant::now();
        let client = Client::new(opening.peer, opening.hello_name, opening.terms);
        let mut session = Box::new(Self {
            stream: Wire::Plain(opening.stream),
            secure: opening.secure,
            client,
            opened: now,
            greeted: now,
            transactions: 0,
            progress: 0,
            phase_began: now,
            input: vec![0; READ].into(),
        });
        match session.turn(None, deadline).await {
            Turn::Ready => Ok(session),
            Turn::Refused(refusal) => {
                // The farewell hangs on nothing.
                session.client.quit();
                session.phase_began = Instant::now();
                while !matches!(session.turn(None, deadline).await, Turn::Closed) {}
                Err(refusal)
            }
            Turn::Closed | Turn::Ended(_) => {
                let text = format!("lost connection with {}", session.client.peer());
                let status = Status::local(EnhancedCode::new(4, 4, 2), text);
                Err(Refusal { status, cause: Cause::Server })
            }
        }
    }

    /// One transaction. Every recipient of `order` gets its verdict, whatever happens.
    pub async fn transact(&mut self, order: Order, content: &Content, deadline: &mut Deadline) -> Ended {
        self.transactions += 1;
        self.phase_began = Instant::now();
        let recipients = order.recipients.len();
        self.client.begin(order);
        match self.turn(Some(content), deadline).await {
            Turn::Ended(ended) => ended,
            // Cannot be: the core reports the end of each transaction that was begun before anything else.
            Turn::Ready | Turn::Refused(_) | Turn::Closed => {
                let status = Status::local(EnhancedCode::new(4, 3, 0), "bug: transaction without an end");
                Ended { verdicts: vec![Verdict { status, retry: Retry::No }; recipients], untouched: false }
            }
        }
    }

    /// Ends the session with QUIT.
    pub async fn quit(mut self: Box<Self>) {
        self.client.quit();
        self.phase_began = Instant::now();
        let (_stopper, mut deadline) = super::deadline::deadline(Instant::now() + Phase::Quit.limit());
        while !matches!(self.turn(None, &mut deadline).await, Turn::Closed) {}
        if let Wire::Tls(stream) = &mut self.stream {
            // Some servers log a complaint about clients that just go.
            let _ = tokio::time::timeout(FAREWELL, stream.shutdown()).await;
        }
    }

    /// May another transaction follow?
    pub fn is_reusable(&self) -> bool {
        self.client.is_idle() && self.transactions < MAX_TRANSACTIONS && self.opened.elapsed() < MAX_AGE
    }

    /// Looks, without waiting, whether the server has closed the idle session or said farewell.
    pub async fn is_alive(&mut self) -> bool {
        let mut buffer = ReadBuf::new(&mut self.input);
        let quiet =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut buffer).is_pending()));
        quiet.await && self.client.is_idle()
    }

    /// The server.
    pub fn peer(&self) -> &Peer {
        self.client.peer()
    }

    /// Does the server take over what senders ask of notifications?
    pub fn offers_dsn(&self) -> bool {
        self.client.offered().dsn
    }

    /// Transactions so far, the one under way counted.
    pub fn transactions(&self) -> u32 {
        self.transactions
    }

    /// When the greeting came.
    pub fn greeted(&self) -> Instant {
        self.greeted
    }

    /// Does what the core wants until there is something to tell.
    async fn turn(&mut self, content: Option<&Content>, deadline: &mut Deadline) -> Turn {
        loop {
            match self.client.next_action() {
                Action::Send(octets) => self.send(&octets, deadline).await,
                Action::SendContent => self.send_content(content, deadline).await,
                Action::Wait(phase) => self.wait(phase, deadline).await,
                Action::Handshake => self.handshake(deadline).await,
                Action::Ready => return Turn::Ready,
                Action::Ended(ended) => return Turn::Ended(ended),
                Action::Refused(refusal) => return Turn::Refused(refusal),
                Action::Close => return Turn::Closed,
            }
        }
    }

    async fn wait(&mut self, phase: Phase, deadline: &mut Deadline) {
        if self.client.progress() != self.progress {
            self.progress = self.client.progress();
            self.phase_began = Instant::now();
        }
        self.exchange(&[], self.phase_began + phase.limit(), deadline).await;
    }

    /// The handshake, within the limit of its phase. The stream is gone when it fails.
    async fn handshake(&mut self, deadline: &mut Deadline) {
        let (Some(stream), Some(secure)) = (self.stream.take_plain(), self.secure.take()) else {
            return self.client.handshake_failed("bug: no means for it");
        };
        let relay = self.client.peer().relay();
        let until = Instant::now() + Phase::Handshake.limit();
        let done = tokio::select! {
            biased;
            done = secure.with(stream) => done,
            lost = deadline.passed() => return self.client.lost(lost),
            () = sleep_until(until) => {
                common::info!("TLS handshake with {relay}: timed out");
                return self.client.handshake_failed("timed out");
            }
        };
        match done {
            Ok((stream, established)) => {
                common::info!("{}", established.log_line(&relay, secure.expected().level));
                self.stream = Wire::Tls(Box::new(stream));
                match secure.expected().suffices(&established.trust) {
                    Ok(()) => self.client.secured(),
                    Err(what) => self.client.distrusted(&what),
                }
            }
            Err(error) => {
                common::info!("TLS handshake with {relay}: {error}");
                self.client.handshake_failed(&error.to_string());
            }
        }
    }

    async fn send(&mut self, octets: &[u8], deadline: &mut Deadline) {
        self.write(octets, deadline, |client| !client.is_closed()).await;
    }

    async fn send_content(&mut self, content: Option<&Content>, deadline: &mut Deadline) {
        let unread = |error: &io::Error| {
            common::error!("message content cannot be read: {error}");
            Status::local(
                EnhancedCode::new(4, 3, 0),
                format!("mail system: message content cannot be read: {error}"),
            )
        };
        let Some(mut chunks) = content.map(Content::chunks) else {
            return self.client.lost(Lost::Connection);
        };
        loop {
            let next = tokio::select! {
                biased;
                next = chunks.next() => next,
                // A disk that hangs keeps nobody waiting.
                lost = deadline.passed() => return self.client.lost(lost),
            };
            match next {
                Ok(Some(octets)) => {
                    if !self.write(&octets, deadline, Client::wants_content).await {
                        return;
                    }
                }
                Ok(None) => return self.client.content_sent(),
                Err(error) => return self.client.content_failed(unread(&error)),
            }
        }
    }

    /// Writes all octets as long as the core is `willing`; false when it is not any more.
    async fn write(
        &mut self,
        mut octets: &[u8],
        deadline: &mut Deadline,
        willing: impl Fn(&Client) -> bool,
    ) -> bool {
        while !octets.is_empty() && willing(&self.client) {
            let written = self.exchange(octets, Instant::now() + Phase::Content.limit(), deadline).await;
            octets = octets.get(written..).unwrap_or_default();
        }
        willing(&self.client)
    }

    /// Waits until some of `output` is written, or something is read, and hands that to the core. Gives the
    /// number of octets written.
    async fn exchange(&mut self, output: &[u8], until: Instant, deadline: &mut Deadline) -> usize {
        let moved = tokio::select! {
            biased;
            moved = move_octets(&mut self.stream, output, &mut self.input) => moved,
            lost = deadline.passed() => {
                self.client.lost(lost);
                return 0;
            }
            () = sleep_until(until) => {
                self.client.lost(Lost::Timeout);
                return 0;
            }
        };
        match moved {
            Ok(Moved::Wrote(n)) if n > 0 => return n,
            Ok(Moved::Read(n)) if n > 0 => self.receive(n),
            Ok(_) => self.client.lost(Lost::Connection),
            Err(_) => {
                self.read_last_words().await;
                self.client.lost(Lost::Connection);
            }
        }
        0
    }

    /// Hands over the octets that were read.
    fn receive(&mut self, count: usize) {
        let first = self.client.progress() == 0;
        self.client.receive(self.input.get(..count).unwrap_or_default());
        if first && self.client.progress() > 0 {
            self.greeted = Instant::now();
        }
    }

    /// After a failed write: a server that closes in the middle usually said why before.
    async fn read_last_words(&mut self) {
        let until = Instant::now() + Duration::from_secs(1);
        while !self.client.is_closed() {
            let read = tokio::select! {
                biased;
                read = move_octets(&mut self.stream, &[], &mut self.input) => read,
                () = sleep_until(until) => return,
            };
            match read {
                Ok(Moved::Read(n)) if n > 0 => self.receive(n),
                _ => return,
            }
        }
    }
}

/// Writes when possible and there is something to write, else reads. `Wrote(0)` and `Read(0)` mean that the
/// other side is gone.
async fn move_octets<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    output: &[u8],
    input: &mut [u8],
) -> io::Result<Moved> {
    let mut buffer = ReadBuf::new(input);
    poll_fn(|cx| {
        // An encrypted stream may hold back what it took at an earlier call.
        let flushed = match Pin::new(&mut *stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            other => other.is_ready(),
        };
        if flushed
            && !output.is_empty()
            && let Poll::Ready(written) = Pin::new(&mut *stream).poll_write(cx, output)
        {
            return Poll::Ready(written.map(Moved::Wrote));
        }
        match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Moved::Read(buffer.filled().len()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests;
