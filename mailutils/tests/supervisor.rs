//! `ironpost run` with daemons that are scripts: each test has its own configuration, all share one folder of
//! programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);
const NAMES: [&str; 4] = ["queued", "smtpd", "deliverd smtp", "deliverd local"];

/// `ironpost` with fake daemons beside it. Made once, before anything is started: a program that is still
/// open for writing in a process that is just being forked cannot be executed.
fn programs() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("supervisor");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::hard_link(env!("CARGO_BIN_EXE_ironpost"), folder.join("ironpost")).unwrap();
        for name in ["smtpd", "queued", "deliverd"] {
            fs::write(folder.join(name), include_str!("fake/daemon.py")).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    };
    FOLDER.get_or_init(make).clone()
}

struct Run {
    process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    folder: TempDir,
}

impl Run {
    fn new(behaviours: &[(&str, &str)]) -> Self {
        let programs = programs();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("behave")).unwrap();
        for (name, behaviour) in behaviours {
            fs::write(folder.path().join("behave").join(name), behaviour).unwrap();
        }
        fs::write(folder.path().join("ironpost.toml"), GOOD).unwrap();
        let mut command = Command::new(programs.join("ironpost"));
        command.arg("run").arg("-c").arg(folder.path().join("ironpost.toml")).current_dir("/");
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        read_lines(process.stdout.take().unwrap(), "out: ", sender.clone());
        read_lines(process.stderr.take().unwrap(), "", sender);
        Self { process, lines, seen: Vec::new(), folder }
    }

    /// Waits for `count` lines, seen ones included, that contain `text`.
    fn wait(&mut self, text: &str, count: usize) -> Vec<String> {
        loop {
            let found: Vec<_> = self.seen.iter().filter(|line| line.contains(text)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("no {count} lines with {text:?} in {:#?}", self.seen),
            }
        }
    }

    /// Reads on until nobody holds standard error any more: the supervisor and all daemons are gone.
    fn drain(&mut self) {
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            self.seen.push(line);
        }
    }

    fn count(&self, text: &str) -> usize {
        self.seen.iter().filter(|line| line.contains(text)).count()
    }

    fn pid(&mut self, name: &str, start: usize) -> Pid {
        let line = self.wait_event(name, "start", start + 1).remove(start);
        Pid::from_raw(line.strip_prefix(name).unwrap().split_whitespace().next().unwrap().parse().unwrap())
    }

    fn wait_event(&mut self, name: &str, event: &str, count: usize) -> Vec<String> {
        loop {
            let is =
                |l: &&String| l.strip_prefix(name).is_some_and(|r| r.starts_with(' ') && r.ends_with(event));
            let found: Vec<_> = self.seen.iter().filter(is).cloned().collect();
            if found.len() >= count {
                return found;
            }
            let all = self.seen.len();
            self.wait("", all + 1);
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), signal).unwrap();
    }

    fn finish(mut self) -> (ExitStatus, Self) {
        self.drain();
        let status = self.process.wait().unwrap();
        (status, self)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Only when a test failed is it still there; its daemons end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const GOOD: &str = "hostname = \"mail.example\"\nspool_directory = \"spool\"\n[log]\nto = \"log\"\n";

fn read_lines(from: impl Read + Send + 'static, mark: &'static str, to: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let _ = to.send(format!("{mark}{}", line.unwrap()));
        }
    });
}

#[test]
fn it_starts_restarts_reloads_and_stops() {
    let mut run = Run::new(&[]);
    run.wait("out: ready", 1);
    for name in NAMES {
        run.wait_event(name, "start", 1);
    }

    let smtpd = run.pid("smtpd", 0);
    kill(smtpd, Signal::SIGKILL).unwrap();
    run.wait("smtpd was killed by signal 9; starting it again in 1 s", 1);
    assert_ne!(run.pid("smtpd", 1), smtpd);

    fs::write(run.folder.path().join("ironpost.toml"), "hostname = 5\n").unwrap();
    run.signal(Signal::SIGHUP);
    run.wait("not reloaded", 1);
    fs::write(run.folder.path().join("ironpost.toml"), GOOD).unwrap();
    run.signal(Signal::SIGHUP);
    for name in NAMES {
        run.wait_event(name, "hup", 1);
    }

    run.signal(Signal::SIGTERM);
    let (status, run) = run.finish();
    assert_eq!(status.code(), Some(0));
    assert_eq!(run.count("out: "), 1, "{:#?}", run.seen);
    assert_eq!(run.count(" hup"), 4, "a broken file must not be loaded");
    assert_eq!(run.count(" term"), 4);
    let log = fs::read_to_string(run.folder.path().join("log")).unwrap();
    assert!(log.contains("ironpost/master[") && log.contains("smtpd was killed by signal 9"), "{log}");
}

#[test]
fn a_lasting_error_at_the_first_start_ends_everything_with_its_code() {
    let run = Run::new(&[("smtpd", "exit 78")]);
    let (status, run) = run.finish();
    assert_eq!(status.code(), Some(78));
    assert_eq!(run.count("smtpd ended with exit code 78 before it was ready"), 1, "{:#?}", run.seen);
    assert_eq!(run.count("out: "), 0);
}

#[test]
fn a_passing_error_at_the_first_start_is_waited_out() {
    let mut run = Run::new(&[("queued", "once 75")]);
    run.wait("queued ended with exit code 75; starting it again in 1 s", 1);
    run.wait("out: ready", 1);
    run.signal(Signal::SIGINT);
    assert_eq!(run.finish().0.code(), Some(0));
}

#[test]
fn only_the_daemon_itself_can_say_that_it_is_ready() {
    let mut run = Run::new(&[("smtpd", "stranger")]);
    run.wait("stranger spoke", 1);
    let smtpd = run.pid("smtpd", 0);
    kill(smtpd, Signal::SIGUSR1).unwrap();
    run.wait("out: ready", 1);
    run.wait("speaks itself", 1);
    run.signal(Signal::SIGTERM);
    let (status, run) = run.finish();
    assert_eq!(status.code(), Some(0));
    let place = |text: &str| run.seen.iter().position(|line| line.contains(text)).unwrap();
    assert!(place("stranger spoke") < place("out: ready"), "{:#?}", run.seen);
}

#[test]
fn the_second_signal_does_not_wait_for_the_deaf() {
    let mut run = Run::new(&[("deliverd local", "deaf")]);
    run.wait("out: ready", 1);
    run.signal(Signal::SIGTERM);
    run.wait_event("deliverd local", "term", 1);
    run.signal(Signal::SIGTERM);
    let (status, run) = run.finish();
    assert_eq!(status.code(), Some(0));
    assert_eq!(run.count("deliverd local does not stop: killing it"), 1, "{:#?}", run.seen);
}

#[test]
fn daemons_end_when_the_supervisor_is_killed() {
    let mut run = Run::new(&[]);
    run.wait("out: ready", 1);
    run.signal(Signal::SIGKILL);
    let (_, run) = run.finish();
    assert_eq!(run.count("orphaned"), 4, "{:#?}", run.seen);
}

#[test]
fn a_wrong_configuration_starts_nothing_and_names_the_spot() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("ironpost.toml");
    fs::write(&config, "hostname = \"mail.example\"\nhostnam = 1\n").unwrap();
    let output =
        Command::new(programs().join("ironpost")).arg("-c").arg(&config).arg("run").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains(&format!("{}:2:1", config.display())) && text.contains('^'), "{text}");
    assert!(output.stdout.is_empty());
}
