//! Faults injected into a running daemon by strace, and what it did after them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::process::Process;

/// A strace that is attached to a process and all its threads.
#[derive(Debug)]
pub struct Strace {
    process: Process,
    log: PathBuf,
    _folder: TempDir,
}

/// A system call, as strace wrote it down.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments: `12</path/of/it>`.
    pub args: String,
    /// What it gave: `0`, `-1 EIO (Input/output error) (INJECTED)`. Empty when it had not ended.
    pub result: String,
    /// The line of strace's log where it began.
    pub began: usize,
    /// The line where it ended; the same for most.
    pub ended: usize,
}

impl Call {
    /// Whether strace made it fail.
    pub fn injected(&self) -> bool {
        self.result.contains("(INJECTED)")
    }

    /// Its first argument as the descriptor that it works on.
    pub fn descriptor(&self) -> &str {
        self.args.split(['<', ',', ')']).next().unwrap_or_default()
    }
}

impl Strace {
    /// Attaches to a process and follows the calls `trace` of it (`fsync,close`), with these faults
    /// (`fsync:error=EIO:when=1+3`, counted for each thread by itself). None where that is not permitted.
    pub fn attach(pid: Pid, trace: &str, faults: &[&str]) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("ironpost-strace-").tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-p", &pid.to_string(), "-o"]).arg(&log);
        command.args(["-e", &format!("trace={trace}"), "-e", "signal=none"]);
        for fault in faults {
            command.args(["-e", &format!("inject={fault}")]);
        }
        let mut process = Process::start(&mut command);
        let err = process.err.clone();
        let attached = err.wait_for("strace to attach", |lines| {
            match lines.iter().find(|line| line.contains(" attached")) {
                Some(_) => Some(true),
                None => process.poll().map(|_| false),
            }
        });
        attached.then_some(Self { process, log, _folder: folder })
    }

    /// Takes strace away from the process, which goes on, and gives the calls it saw, in the order in which they ended.
    pub fn detach(mut self) -> Vec<Call> {
        self.process.signal(Signal::SIGINT);
        self.process.wait();
        calls(&std::fs::read_to_string(&self.log).unwrap())
    }
}

fn calls(log: &str) -> Vec<Call> {
    let mut found = Vec::new();
    let mut running: HashMap<&str, Call> = HashMap::new();
    for (number, line) in log.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        if let Some(rest) = text.strip_prefix("<... ") {
            if let Some(mut call) = running.remove(thread) {
                call.result = rest.split_once("= ").map(|(_, result)| result.to_owned()).unwrap_or_default();
                call.ended = number;
                found.push(call);
            }
            continue;
        }
        let Some((name, rest)) = text.split_once('(') else { continue };
        let call = |args: &str, result: &str| Call {
            name: name.to_owned(),
            args: args.trim_end().trim_end_matches(')').to_owned(),
            result: result.to_owned(),
            began: number,
            ended: number,
        };
        match (rest.strip_suffix("<unfinished ...>"), rest.rsplit_once(" = ")) {
            (Some(args), _) => drop(running.insert(thread, call(args, ""))),
            (None, Some((args, result))) => found.push(call(args, result)),
            (None, None) => {}
        }
    }
    found
}

/// Asserts that no descriptor whose sync failed was synced again before it was closed. Gives how many syncs failed.
///
/// Not for folders, where a later sync is one of later changes: `skip` says which paths these are.
#[track_caller]
pub fn assert_no_sync_retried(calls: &[Call], skip: impl Fn(&str) -> bool) -> usize {
    let is_sync = |call: &Call| call.name == "fsync" || call.name == "fdatasync";
    let mut failures = 0;
    for failed in calls.iter().filter(|call| is_sync(call) && call.injected() && !skip(&call.args)) {
        failures += 1;
        let next = calls.iter().find(|call| {
            call.began > failed.ended
                && (is_sync(call) || call.name == "close")
                && call.descriptor() == failed.descriptor()
        });
        assert!(next.is_none_or(|call| call.name == "close"), "after {failed:?}: {next:?}");
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "10    fdatasync(7</s/#1 (deleted)> <unfinished ...>
11    close(8</x>)                      = 0
10    <... fdatasync resumed>)          = -1 EIO (Input/output error) (INJECTED)
10    close(7</s/#1 (deleted)>)         = 0
10    fdatasync(7</s/#2 (deleted)>)     = 0
11    fsync(5</s>)                      = -1 EIO (Input/output error) (INJECTED)
11    +++ exited with 0 +++
";

    #[test]
    fn interleaved_calls_are_put_together() {
        let found = calls(LOG);
        let words: Vec<_> =
            found.iter().map(|call| (call.name.as_str(), call.descriptor(), call.injected())).collect();
        assert_eq!(
            words,
            [
                ("close", "8", false),
                ("fdatasync", "7", true),
                ("close", "7", false),
                ("fdatasync", "7", false),
                ("fsync", "5", true)
            ]
        );
        assert_eq!(assert_no_sync_retried(&found, |args| args.contains("</s>")), 1);
        assert_eq!(assert_no_sync_retried(&found, |_| false), 2);
    }

    #[test]
    #[should_panic(expected = "after")]
    fn a_retried_sync_is_seen() {
        let retried = LOG.replace("10    close(7</s/#1 (deleted)>)         = 0\n", "");
        assert_no_sync_retried(&calls(&retried), |_| false);
    }
}
