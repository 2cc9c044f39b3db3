//! A process that a test started: its lines, its end. Killed by its pid when dropped.

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::DEADLINE;
use crate::lines::Lines;

/// A running process whose standard output and standard error are kept as lines.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    ended: Option<ExitStatus>,
    own_group: bool,
    /// Standard output.
    pub out: Lines,
    /// Standard error.
    pub err: Lines,
}

impl Process {
    /// Starts `command`, with nothing on its standard input.
    pub fn start(command: &mut Command) -> Self {
        Self::start_into(command, Lines::default(), Lines::default(), false)
    }

    /// As [`start`](Self::start), as leader of a process group that is killed with it: for servers that fork.
    pub fn start_group(command: &mut Command) -> Self {
        command.process_group(0);
        Self::start_into(command, Lines::default(), Lines::default(), true)
    }

    /// As [`start`](Self::start), with its lines added to the lists given.
    pub fn start_into(command: &mut Command, out: Lines, err: Lines, own_group: bool) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        out.follow(child.stdout.take().unwrap());
        err.follow(child.stderr.take().unwrap());
        Self { child, name, ended: None, own_group, out, err }
    }

    /// Its process ID.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Sends it a signal; nothing happens when it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.poll().is_none() {
            let _ = kill(self.pid(), signal);
        }
    }

    /// How it ended, when it has.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits for its end. Panics after the deadline.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + *DEADLINE;
        loop {
            if let Some(status) = self.poll() {
                return status;
            }
            assert!(Instant::now() < end, "does not end: {}", self.name);
            // The standard library cannot wait for a child with a time-out.
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.own_group {
            let _ = killpg(self.pid(), Signal::SIGKILL);
        }
        if self.poll().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a command that ran to its end gave.
#[derive(Debug)]
pub struct Output {
    /// The exit code; 128 and the number of the signal that ended it.
    pub code: i32,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error, as text.
    pub err: String,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Itself, when the exit code was 0; panics with what was printed otherwise.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.text(), self.err);
        self
    }
}

/// Runs `command` to its end with `input` on its standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A thread: the command may print before it has read everything, or never read.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
    Output { code, out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// The processes whose parent is `pid`, with their command lines.
pub fn children(pid: Pid) -> Vec<(Pid, Vec<String>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // It may end while we look.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // "pid (name) state ppid …", where the name may contain anything.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        if rest.split_whitespace().nth(1) != Some(&pid.to_string()) || rest.trim_start().starts_with('Z') {
            continue;
        }
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        found.push((Pid::from_raw(child), words));
    }
    found
}
