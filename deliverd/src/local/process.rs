//! A child process: started from our own executable, spoken to over a socket pair, killed by its own
//! process ID.
//!
//! The parent never forks without exec and never changes its own identity; the child does that, alone in
//! its process ([`super::child`]).

use super::frames::{FromChild, MAX_FRAME, Owner, Task, ToChild};
use common::codec;
use common::packet::PacketSocket;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

/// The hidden subcommand that makes `deliverd` a child.
pub const SUBCOMMAND: &str = "local-child";

/// A child that runs. Dropping it leaves a zombie: see [`Leaving`].
#[derive(Debug)]
pub struct Process {
    child: Child,
    socket: PacketSocket,
}

/// What a child's socket has to say.
#[derive(Debug)]
pub enum Event {
    /// Nothing (any more) for now.
    Nothing,
    /// A frame.
    Frame(FromChild),
    /// It is gone, or says what cannot be understood and must go.
    Gone,
}

impl Process {
    /// Starts a child that becomes `owner` (`None`: stays who we are).
    pub fn start(owner: Option<&Owner>, hostname: &str) -> io::Result<Self> {
        let (ours, theirs) = PacketSocket::pair()?;
        // An answer is read when it is there; a child that does not read cannot make us wait.
        ours.set_nonblocking()?;
        let become_owner = ToChild::Become { owner: owner.cloned(), hostname: hostname.to_owned() };
        send(&ours, &become_owner, &[])?;
        // The time zone, for `From ` lines, is all that a child needs of our environment.
        let zone: Option<(&str, OsString)> = std::env::var_os("TZ").map(|zone| ("TZ", zone));
        let child = Command::new("/proc/self/exe")
            .arg0("deliverd")
            .arg(SUBCOMMAND)
            .env_clear()
            .envs(zone)
            .current_dir("/")
            // Out of reach of a terminal's Ctrl-C: it is we who let children finish.
            .process_group(0)
            .stdin(Stdio::from(theirs.into_fd()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, socket: ours })
    }

    /// Hands over a task and the message's file.
    pub fn give(&self, task: Task, file: BorrowedFd<'_>) -> io::Result<()> {
        send(&self.socket, &ToChild::Deliver(Box::new(task)), &[file])
    }

    /// What it says. Never waits.
    pub fn receive(&self) -> Event {
        match self.socket.receive() {
            Ok(Some(packet)) => {
                codec::decode::<_, MAX_FRAME>(&packet.bytes).map_or(Event::Gone, Event::Frame)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Event::Nothing,
            Ok(None) | Err(_) => Event::Gone,
        }
    }

    /// Ends it at once. It is gone when its socket says so.
    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Closes its socket, upon which it ends.
    pub fn leave(self) -> Leaving {
        Leaving(self.child)
    }
}

fn send(socket: &PacketSocket, frame: &ToChild, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = codec::encode(frame).map_err(io::Error::other)?;
    if bytes.len() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "task too large"));
    }
    socket.send(&bytes, files)
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A child on its way out, to be reaped.
#[derive(Debug)]
pub struct Leaving(Child);

impl Leaving {
    /// How it ended; `None`: not yet.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // An error: there is no such child any more.
        self.0.try_wait().unwrap_or_else(|_| Some(ExitStatus::default()))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}
