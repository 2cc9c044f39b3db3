//! One connection: moves bytes between the socket and the session core, and finds the answers that the core
//! asks for.
//!
//! A task each. While a client is silent, the task holds the core and nothing else: buffers are borrowed when
//! there is something to read, and what is seldom done (handshake, login) is boxed. Whatever happens here ends this connection alone.

use crate::connections::Place;
use crate::judge::Judge;
use crate::login::{Desk, Visit};
use crate::message::{Incoming, Manner};
use crate::patience::Patience;
use crate::rules::{Entrance, Rules};
use crate::server::{Shared, Stop, too_busy};
use crate::session::reply::{self, Reply};
use crate::session::{Action, Answer, Client, Question, Session, Severity};
use crate::tls::Door;
use crate::wire::Wire;
use common::text::printable;
use nix::sys::socket::MsgFlags;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

/// Replies wait for company up to so many octets.
const OUTPUT: usize = 16 * 1024;
/// So many buffers full of content are taken in a row before anything else is looked at.
const READS: usize = 8;
/// An idle connection keeps no output buffer larger than this.
const OUTPUT_KEPT: usize = 256;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How long, and for how many octets, a client that we have left is listened to, so that it gets to read why.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_OCTETS: usize = 1 << 20;

/// One connection.
pub struct Connection {
    wire: Wire,
    door: Door,
    judge: Judge,
    desk: Desk,
    entrance: Entrance,
    /// Counts it, for whoever the client is.
    place: Place,
    session: Session,
    out: Vec<u8>,
    message: Option<Incoming>,
    rules: Arc<Rules>,
    shared: Arc<Shared>,
    stop: watch::Receiver<Stop>,
    crowded: watch::Receiver<bool>,
}

/// How a connection goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    Close { expected: bool },
}

impl Connection {
    /// A new connection of a client that has connected to `local`. `stop` tells when the server goes down.
    pub fn new(
        (stream, door, entrance): (TcpStream, Door, Entrance),
        (client, place): (Client, Place),
        local: IpAddr,
        rules: Arc<Rules>,
        shared: Arc<Shared>,
        stop: watch::Receiver<Stop>,
    ) -> Self {
        let mut session = Session::new(rules.settings.clone(), client.clone(), shared.clock.now());
        if let Door::StartTls(_) = door {
            session.offer_starttls();
        }
        let judge = Judge::new(client, (local, entrance), rules.clone(), shared.clone());
        let desk = Desk::new(entrance, local);
        let mut crowded = shared.pool(entrance).crowded();
        // So that the first look sees it.
        crowded.mark_changed();
        let wire = Wire::Plain(stream);
        let (out, message) = (Vec::new(), None);
        let mut connection = Self {
            wire,
            door,
            judge,
            desk,
            entrance,
            place,
            session,
            out,
            message,
            rules,
            shared,
            stop,
            crowded,
        };
        connection.offer_auth();
        connection
    }

    fn offer_auth(&mut self) {
        let offer = self.desk.offer(self.visit());
        self.session.offer_auth(offer, self.entrance.is_submission());
    }

    fn visit(&self) -> Visit<'_> {
        visit(&self.session, &self.judge, &self.rules, &self.shared)
    }

    /// This client is nobody to trust, whatever its address.
    pub fn distrust(&mut self) {
        self.session.distrust();
        self.judge.distrust();
    }

    /// Serves it to its end. Boxed, since a future holds what it is given twice.
    pub async fn serve(mut self: Box<Self>) {
        let conversed = self.converse().await;
        self.discard();
        let next = match conversed {
            Ok(next) => next,
            Err(error) => {
                // Whatever else the socket says, to us it means that the client is gone.
                if error.kind() == io::ErrorKind::TimedOut {
                    self.session.stalled();
                } else {
                    self.session.lost();
                }
                while let Some(action) = self.session.next_action() {
                    log(action);
                }
                return;
            }
        };
        if next == (Next::Close { expected: false }) {
            self.linger().await;
        }
    }

    fn discard(&mut self) {
        if let Some(message) = self.message.take() {
            message.let_go();
        }
    }

    async fn converse(&mut self) -> io::Result<Next> {
        if let Door::Implicit(_) = self.door {
            Box::pin(self.handshake()).await?;
        }
        let mut next = self.act().await?;
        while next == Next::Continue {
            self.flush().await?;
            let stop = *self.stop.borrow();
            if stop != Stop::No && self.session.shut_down(stop == Stop::AtOnce) {
                next = self.act().await?;
                continue;
            }
            next = self.wait().await?;
        }
        Ok(next)
    }

    /// Waits for the client, the deadline or the end of the server, and goes on accordingly.
    async fn wait(&mut self) -> io::Result<Next> {
        let deadline = self.shared.clock.instant(self.session.deadline());
        tokio::select! {
            readable = self.wire.readable() => {
                readable?;
                self.read().await
            }
            () = sleep_until(deadline) => {
                self.session.expire(self.shared.clock.now());
                self.act().await
            }
            Ok(()) = self.crowded.changed() => {
                self.adapt();
                Ok(Next::Continue)
            }
            stop = self.stop.changed() => match stop {
                Ok(()) => Ok(Next::Continue),
                // The server itself is gone: so is everything.
                Err(_) => Err(io::ErrorKind::Interrupted.into()),
            }
        }
    }

    fn adapt(&mut self) {
        let crowded = *self.crowded.borrow_and_update();
        self.session.set_patience(self.patience(Duration::MAX).when(crowded));
    }

    /// With this client, and for so long at most.
    fn patience(&self, most: Duration) -> Patience {
        // Those who have logged in are no strangers.
        let known = self.judge.trusts() || self.session.login().is_some();
        Patience { usual: self.rules.settings.idle_timeout.min(most), known }
    }

    async fn read(&mut self) -> io::Result<Next> {
        let mut buffer = self.shared.buffers.take();
        let mut next = Ok(Next::Continue);
        for _ in 0..READS {
            let (length, read) = match self.wire.try_read(&mut buffer) {
                Ok(0) => (0, Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => (length, self.consume(buffer.get(..length).unwrap_or(&[])).await),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, Ok(Next::Continue)),
                Err(error) => (0, Err(error)),
            };
            next = read;
            // Of content there is more; whoever waits for a reply gets it first.
            let goes_on = length == buffer.len() && self.out.is_empty() && matches!(next, Ok(Next::Continue));
            if !goes_on {
                break;
            }
        }
        self.shared.buffers.give(buffer);
        next
    }

    async fn consume(&mut self, mut input: &[u8]) -> io::Result<Next> {
        while !input.is_empty() {
            let taken = self.session.receive(input, self.shared.clock.now());
            input = input.get(taken.used..).unwrap_or(&[]);
            if let (false, Some(message)) = (taken.content.is_empty(), &mut self.message) {
                message.add(taken.content).await;
            }
            let next = self.act().await?;
            if next != Next::Continue {
                return Ok(next);
            }
        }
        Ok(Next::Continue)
    }

    /// Does what the core says until it has nothing more to say.
    async fn act(&mut self) -> io::Result<Next> {
        while let Some(action) = self.session.next_action() {
            match action {
                Action::Reply(reply) => {
                    reply.write_to(&mut self.out);
                    if self.out.len() >= OUTPUT {
                        self.flush().await?;
                    }
                }
                Action::Flush => self.flush().await?,
                Action::Ask(token, question) => {
                    let who = matches!(
                        question,
                        Question::Connect { .. } | Question::Login { .. } | Question::Response(_)
                    );
                    let answer = self.find(question).await?;
                    self.session.answer(token, answer, self.shared.clock.now());
                    if who {
                        // Another client, or one that is no stranger any more, has another patience.
                        self.adapt();
                    }
                }
                Action::Begin(start) => {
                    let client = self.session.client().clone();
                    let hostname = self.rules.settings.hostname.clone();
                    let manner = Manner {
                        mend: self.entrance.is_submission(),
                        hide_client: self.entrance.hide_client,
                        show_login: self.rules.authenticated_header,
                    };
                    let store = self.shared.store.clone();
                    self.message = Some(Incoming::new(*start, client, hostname, (manner, store)));
                }
                Action::Append(content) => {
                    if let Some(message) = &mut self.message {
                        message.add(content).await;
                    }
                }
                Action::Discard => self.discard(),
                Action::EndLogin => self.desk.end(),
                Action::Log(..) => log(action),
                Action::Close { expected } => {
                    self.flush().await?;
                    return Ok(Next::Close { expected });
                }
            }
        }
        Ok(Next::Continue)
    }

    /// A host that speaks for others has named a client: from now on the connection counts for that one, if there is room.
    fn takes_place_of(&mut self, client: &Client) -> Result<(), Reply> {
        if self.judge.serves(client) {
            return Ok(());
        }
        let who = (client.ip, true);
        self.shared
            .admits(&mut self.place, who, (self.entrance, &self.rules))
            .map_err(|busy| too_busy(client.ip, busy, &self.rules))
    }

    async fn find(&mut self, question: Question) -> io::Result<Answer> {
        self.judge.is_for(self.session.login());
        Ok(match question {
            Question::Handshake => {
                self.flush().await?;
                Box::pin(self.handshake()).await?;
                // The core knows already.
                Answer::Yes
            }
            Question::Quiet if self.is_quiet().await => Answer::Yes,
            Question::Quiet => Answer::Refused(reply::SYNCHRONIZATION),
            Question::Connect { client } => {
                if let Err(refusal) = self.takes_place_of(&client) {
                    return Ok(Answer::Refused(refusal));
                }
                let destination = self.session.destination();
                self.judge.connect(&client, destination, self.session.name_said()).await
            }
            Question::Hello { name } => self.judge.hello(&name).await,
            Question::Login { mechanism, initial } => {
                let visit = visit(&self.session, &self.judge, &self.rules, &self.shared);
                Box::pin(self.desk.begin(visit, (mechanism, initial), &self.stop)).await
            }
            Question::Response(response) => {
                let visit = visit(&self.session, &self.judge, &self.rules, &self.shared);
                Box::pin(self.desk.respond(visit, response, &self.stop)).await
            }
            Question::Sender { sender, size } => {
                self.judge.sender(sender, size, self.shared.store.free()).await
            }
            Question::Recipient { recipient, bare_postmaster } => {
                self.judge.recipient(recipient, bare_postmaster).await
            }
            Question::Data { recipients } => self.judge.data(recipients).await,
            Question::Commit { message_id } => {
                self.flush().await?;
                match self.message.take() {
                    Some(message) => Box::pin(message.commit(message_id))
                        .await
                        .map_or_else(Answer::Refused, Answer::Queued),
                    None => Answer::Refused(reply::WRITE_ERROR),
                }
            }
        })
    }

    /// Everything from here on is encrypted, or the connection is gone.
    async fn handshake(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::ConnectionAborted);
        let secure = self.door.secure().ok_or_else(gone)?;
        let patience = self.patience(HANDSHAKE);
        let failure = match patience.last(&mut self.crowded, self.wire.secure(&secure)).await {
            Some(Ok(Some(parameters))) => {
                self.judge.secured(&parameters.client);
                self.session.secured(parameters, self.shared.clock.now());
                self.desk.secured(self.wire.channel_binding());
                self.offer_auth();
                return Ok(());
            }
            Some(Ok(None)) => "handshake not finished".to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "timed out".to_owned(),
        };
        let client = self.session.client();
        common::info!("SSL_accept error from {client}: {}", printable(&failure, 300));
        Err(gone())
    }

    /// Has the client kept silent so far, and for the time that `greeting_delay` says?
    async fn is_quiet(&self) -> bool {
        // Within TLS nothing is put in front of a client's words by others, and the handshake was a turn of its own.
        let Some(stream) = self.wire.plain() else { return true };
        let mut octet = [0];
        let said = nix::sys::socket::recv(
            stream.as_raw_fd(),
            &mut octet,
            MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT,
        );
        if said.is_ok_and(|octets| octets > 0) {
            return false;
        }
        let delay = self.rules.greeting_delay;
        // A client that goes away is no talker: its end is seen where others' is.
        delay.is_zero() || !matches!(timeout(delay, stream.peek(&mut octet)).await, Ok(Ok(1..)))
    }

    /// Sends what is waiting; a client that does not take it in time is given up.
    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let patience = self.patience(Duration::MAX);
        let write = async {
            self.wire.write_all(&self.out).await?;
            self.wire.flush().await
        };
        let written = patience.last(&mut self.crowded, write).await;
        written.ok_or(io::ErrorKind::TimedOut)??;
        self.out.clear();
        self.out.shrink_to(OUTPUT_KEPT);
        Ok(())
    }

    /// Closing a socket with unread input makes the kernel reset the connection, and the last reply may be
    /// lost on the way. So the client is told that nothing follows, and listened to for a moment.
    async fn linger(&mut self) {
        if self.wire.shutdown().await.is_err() {
            return;
        }
        let mut buffer = self.shared.buffers.take();
        let drain = async {
            let mut total = 0;
            while let Ok(length @ 1..) = self.wire.read(&mut buffer).await {
                total += length;
                if total > LINGER_OCTETS {
                    break;
                }
            }
        };
        let _ = timeout(LINGER, drain).await;
        self.shared.buffers.give(buffer);
    }
}

fn visit<'a>(session: &'a Session, judge: &Judge, rules: &'a Rules, shared: &'a Shared) -> Visit<'a> {
    Visit { client: session.client(), trusted: judge.trusts(), rules, shared }
}

fn log(action: Action) {
    match action {
        Action::Log(Severity::Info, line) => common::info!("{line}"),
        Action::Log(Severity::Warning, line) => common::warn!("{line}"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, F: Future>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of sessions wait at the same time, and each holds this.
    #[test]
    fn a_silent_session_takes_little_room() {
        let size = size_of_future(Connection::serve);
        println!("{size} octets, and the connection itself {}", size_of::<Connection>());
        assert!(size + size_of::<Connection>() <= 3072, "{size}");
    }
}
