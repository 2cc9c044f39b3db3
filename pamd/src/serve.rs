//! The process that stays: packets in, a child for each, its answer out.

use crate::ASK;
use auth::pam::AT_ONCE;
use auth::pam::frame::{Question, Verdict};
use caps::{CapSet, Capability, CapsHashSet};
use common::packet::PacketSocket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// For one question: modules that ask a server, and the pause after a wrong password.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest answer of a child, in octets.
const MAX_ANSWER: u64 = 512;
/// What PAM's modules need: reading what is root's, writing their counters, becoming the user, and the audit log.
const KEPT: [Capability; 8] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// Serves until the other end is gone.
pub fn run(service: &str) -> ExitCode {
    if let Err(error) = confine() {
        eprintln!("ironpost-pam: cannot give up what it does not need: {error}");
        return ExitCode::from(71);
    }
    let socket = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) => Arc::new(PacketSocket::from_fd(fd)),
        Err(error) => {
            eprintln!("ironpost-pam: no socket as standard input: {error}");
            return ExitCode::from(64);
        }
    };
    let running = Arc::new(AtomicUsize::new(0));
    // An error is the other end's fault, or its end: there is nobody to tell.
    while let Ok(Some(packet)) = socket.receive() {
        let octets = zeroize::Zeroizing::new(packet.bytes);
        let Some(question) = Question::decode(&octets) else {
            eprintln!("ironpost-pam: a packet that is no question: ending");
            return ExitCode::from(65);
        };
        if running.fetch_add(1, Ordering::AcqRel) >= AT_ONCE {
            running.fetch_sub(1, Ordering::AcqRel);
            let _ =
                socket.send(&Verdict::Unknown("too many questions at once".into()).encode(question.id), &[]);
            continue;
        }
        let (answers, running, service) = (socket.clone(), running.clone(), service.to_owned());
        let work = move || {
            let verdict = answer(&service, &question);
            running.fetch_sub(1, Ordering::AcqRel);
            let _ = answers.send(&verdict.encode(question.id), &[]);
        };
        if std::thread::Builder::new().spawn(work).is_err() {
            // The question went with the thread: its asker is told when its time is over.
            eprintln!("ironpost-pam: no thread can be started");
        }
    }
    ExitCode::SUCCESS
}

/// Gives up what neither it nor PAM's modules need.
fn confine() -> Result<(), Box<dyn std::error::Error>> {
    set_pdeathsig(Signal::SIGKILL)?;
    // A core has passwords in it.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let kept: CapsHashSet = KEPT.into_iter().collect();
    for cap in caps::read(None, CapSet::Bounding)? {
        if !kept.contains(&cap) {
            caps::drop(None, CapSet::Bounding, cap)?;
        }
    }
    let permitted: CapsHashSet = caps::read(None, CapSet::Permitted)?.intersection(&kept).copied().collect();
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &permitted)?;
    caps::set(None, CapSet::Permitted, &permitted)?;
    Ok(())
}

fn answer(service: &str, question: &Question) -> Verdict {
    let child = Command::new("/proc/self/exe")
        .args([ASK, service])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    match child.and_then(|mut child| {
        let said = converse(&mut child, question);
        // Whatever it still does, it has had its time.
        let _ = child.kill();
        let _ = child.wait();
        said
    }) {
        Ok(said) => match Verdict::decode(&said) {
            Some((number, verdict)) if number == question.id => verdict,
            _ => Verdict::Unknown("a PAM module ended the process that asked it".into()),
        },
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Verdict::Unknown(format!("PAM has not answered within {} seconds", LIMIT.as_secs()))
        }
        Err(error) => Verdict::Unknown(format!("cannot ask PAM: {error}")),
    }
}

/// What the child says, up to its end.
fn converse(child: &mut Child, question: &Question) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + LIMIT;
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("no pipe"));
    };
    // Less than a pipe holds: this does not wait.
    input.write_all(&question.encode())?;
    drop(input);
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut one = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut one, timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut some = [0; 512];
        let read = output.read(&mut some)?;
        said.extend_from_slice(some.get(..read).unwrap_or_default());
        if read == 0 || said.len() as u64 > MAX_ANSWER {
            return Ok(said);
        }
    }
}
