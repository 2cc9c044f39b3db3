//! A running Ironpost: the real binaries under `ironpost run`, in a folder of their own.
//!
//! Dropping it stops it with SIGTERM and checks that it ended well; nothing it started outlives it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::DEADLINE;
use crate::client::Client;
use crate::lines::Lines;
use crate::mailbox::{Mail, maildir};
use crate::process::{Output, Process, children, run};
use crate::tools::binary;

/// An Ironpost, running or stopped.
#[derive(Debug)]
pub struct Ironpost {
    supervisor: Option<Process>,
    config: PathBuf,
    listeners: usize,
    ports: Vec<SocketAddr>,
    /// What all daemons logged, over all starts.
    pub log: Lines,
    // Last: the folder goes when the processes are gone.
    folder: TempDir,
}

impl Ironpost {
    /// One that is not started yet, with `listeners` listeners in its configuration.
    pub fn new(folder: TempDir, config: PathBuf, listeners: usize) -> Self {
        Self { supervisor: None, config, listeners, ports: Vec::new(), log: Lines::default(), folder }
    }

    /// Starts it and waits until it is ready and all its ports are known.
    pub fn start(&mut self) {
        assert!(self.supervisor.is_none(), "started twice");
        let mark = self.log.mark();
        let mut command = Command::new(binary("ironpost"));
        command.args(["run", "-c"]).arg(&self.config).env_remove("IRONPOST_CONFIG").current_dir("/");
        let process = Process::start_into(&mut command, Lines::default(), self.log.clone(), false);
        let out = process.out.clone();
        self.supervisor = Some(process);
        let log = self.log.clone();
        let end = Instant::now() + *DEADLINE;
        out.wait_for("ready", |lines| {
            if let Some(status) = self.supervisor.as_mut().and_then(Process::poll) {
                // Its last words may still be in the pipe.
                std::thread::park_timeout(Duration::from_millis(100));
                panic!("ironpost run ended with {status}:\n{}", log.all().join("\n"));
            }
            assert!(Instant::now() < end - Duration::from_secs(2), "not ready:\n{}", log.all().join("\n"));
            lines.iter().any(|line| line == "ready").then_some(())
        });
        let count = self.listeners;
        self.ports = self.log.wait_for("the ports of the listeners", |lines| {
            let found: Vec<_> = lines.iter().skip(mark).filter_map(|line| listening(line)).collect();
            (found.len() >= count).then_some(found)
        });
    }

    /// Stops it as an admin would, and checks that it ended with exit code 0 and left no process behind.
    pub fn stop(&mut self) {
        let Some(mut process) = self.supervisor.take() else { return };
        let family = children(process.pid());
        process.signal(Signal::SIGTERM);
        let status = process.wait();
        assert_eq!(status.code(), Some(0), "ironpost run ended with {status}:\n{}", self.tail());
        for (pid, line) in family {
            assert!(!alive(pid), "outlived its supervisor: {line:?}");
        }
    }

    /// Kills the supervisor and every daemon at once, as a power cut would.
    pub fn kill_all(&mut self) {
        let Some(mut process) = self.supervisor.take() else { return };
        let family = children(process.pid());
        // The supervisor first, so that it restarts nothing.
        process.signal(Signal::SIGKILL);
        process.wait();
        for (pid, _) in &family {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        for (pid, line) in family {
            let end = Instant::now() + *DEADLINE;
            while alive(pid) {
                assert!(Instant::now() < end, "does not die: {line:?}");
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
    }

    /// Stops it and starts it anew; its ports may change.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// The process ID of the supervisor.
    pub fn supervisor(&self) -> Pid {
        self.supervisor.as_ref().expect("not running").pid()
    }

    /// The daemon whose command line has all of `words`: `["smtpd"]`, `["deliverd", "local"]`. Waits until
    /// there is one.
    pub fn daemon(&self, words: &[&str]) -> Pid {
        let supervisor = self.supervisor();
        self.log.wait_until(&format!("a process {words:?}"), || {
            let family = children(supervisor);
            family.iter().find(|(_, line)| is_daemon(line, words)).map(|(pid, _)| *pid)
        })
    }

    /// Kills a daemon and waits until the supervisor has started another one.
    pub fn kill_daemon(&self, words: &[&str]) {
        let old = self.daemon(words);
        kill(old, Signal::SIGKILL).unwrap();
        let supervisor = self.supervisor();
        self.log.wait_until(&format!("a new process {words:?}"), || {
            let family = children(supervisor);
            family.iter().find(|(pid, line)| *pid != old && is_daemon(line, words)).map(|_| ())
        });
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&mut self, signal: Signal) {
        self.supervisor.as_mut().expect("not running").signal(signal);
    }

    /// The address of the first listener. After a daemon was killed, that of the newest one.
    pub fn smtp(&self) -> SocketAddr {
        let count = self.listeners;
        let found: Vec<_> = self.log.all().iter().filter_map(|line| listening(line)).collect();
        found[found.len() - count]
    }

    /// The addresses of all listeners at the last start, in the order of the configuration.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.ports
    }

    /// A client that has read the greeting.
    pub fn connect(&self) -> Client {
        Client::connect(self.smtp())
    }

    /// Sends one message, and gives its queue ID.
    pub fn send(&self, from: &str, to: &[&str], content: &[u8]) -> String {
        let mut client = self.connect();
        client.hello();
        let id = client.send_mail(from, to, content);
        client.quit();
        id
    }

    /// Waits until the message has left the queue.
    pub fn wait_removed(&self, id: &str) {
        self.log.wait_text(&format!("{id}: removed"));
    }

    /// The folder of the configuration.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The spool folder.
    pub fn spool(&self) -> PathBuf {
        self.path().join("spool")
    }

    /// What lies in a user's Maildir.
    pub fn mail(&self, user: &str) -> Vec<Mail> {
        maildir(&self.path().join("mail").join(user))
    }

    /// Waits until a user's Maildir holds `count` messages, and gives them.
    pub fn wait_mail(&self, user: &str, count: usize) -> Vec<Mail> {
        let folder = self.path().join("mail").join(user).join("new");
        self.log.wait_until(&format!("{count} messages for {user}"), || {
            let found = fs::read_dir(&folder).map(Iterator::count).unwrap_or_default();
            (found >= count).then_some(())
        });
        self.mail(user)
    }

    /// Runs one of the commands with this configuration: `command("ironpost", &["queue", "list"])`.
    ///
    /// `mailq` and `newaliases` are `sendmail` under another name.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = match program {
            "mailq" | "newaliases" => {
                let mut command = Command::new(binary("sendmail"));
                command.arg0(program);
                command
            }
            _ => Command::new(binary(program)),
        };
        if program == "ironpost" {
            command.arg("-c").arg(&self.config);
        }
        command.args(args).env("IRONPOST_CONFIG", &self.config).current_dir("/");
        command
    }

    /// Runs `ironpost` with this configuration.
    pub fn ironpost(&self, args: &[&str]) -> Output {
        run(&mut self.command("ironpost", args), b"")
    }

    /// Runs `sendmail` with this configuration and `input`.
    pub fn sendmail(&self, args: &[&str], input: &[u8]) -> Output {
        run(&mut self.command("sendmail", args), input)
    }

    /// The queue, as `ironpost queue list --json` gives it.
    pub fn queue(&self) -> Vec<Value> {
        let output = self.ironpost(&["queue", "list", "--json"]).ok();
        output.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the queue is empty. Looked at twice: one listing may miss a file that moves from `deferred/` to `active/` meanwhile.
    pub fn wait_empty(&self) {
        self.log.wait_until("an empty queue", || {
            (self.files_in_spool().is_empty() && self.files_in_spool().is_empty()).then_some(())
        });
    }

    /// Waits until messages can commit through the log: until then they commit as files.
    pub fn wait_commit_log(&self) {
        let segments = self.spool().join("commit/segments");
        self.log.wait_until("a segment of the commit log", || {
            let mut names = std::fs::read_dir(&segments).ok()?.flatten().map(|entry| entry.file_name());
            names.any(|name| !name.to_string_lossy().contains('.')).then_some(())
        });
    }

    /// Waits until a message was tried and waits for its next attempt, and gives its file: the log line comes before the file
    /// has moved to `deferred/`.
    pub fn wait_deferred(&self, id: &str) -> PathBuf {
        self.log
            .wait("a deferral", |line| (line.contains(id) && line.contains("status=deferred")).then_some(()));
        let waits = |file: &PathBuf| {
            let path = file.to_string_lossy();
            path.contains("/deferred/") && path.contains(id)
        };
        self.log.wait_until("the file in deferred/", || self.files_in_spool().into_iter().find(waits))
    }

    /// All queue files, in whatever queue.
    pub fn files_in_spool(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for queue in ["maildrop", "incoming", "active", "deferred", "hold", "corrupt"] {
            files_below(&self.spool().join(queue), &mut found);
        }
        found
    }

    fn tail(&self) -> String {
        let lines = self.log.all();
        lines.iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Ironpost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if self.supervisor.is_some() {
                eprintln!("the log of this Ironpost ends with:\n{}", self.tail());
            }
            self.kill_all();
        } else {
            self.stop();
        }
    }
}

/// Whether a process is there and not only waiting to be reaped.
pub fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn is_daemon(line: &[String], words: &[&str]) -> bool {
    words.iter().all(|word| line.iter().any(|part| part.rsplit('/').next() == Some(*word)))
}

fn listening(line: &str) -> Option<SocketAddr> {
    line.split_once("listening on ")?.1.split_whitespace().next()?.parse().ok()
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path(), found),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
}
