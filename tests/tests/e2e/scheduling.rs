//! How the kernel schedules the threads of each daemon, as it says itself.

use ironpost_tests::setup::Setup;
use nix::unistd::Pid;
use std::collections::BTreeSet;

/// The policies of all threads of a process: 0 is `SCHED_OTHER`, 3 `SCHED_BATCH` (proc(5), /proc/PID/stat, field 41).
fn policies(pid: Pid) -> BTreeSet<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let policy = |stat: String| {
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        after_name.split_whitespace().nth(38).unwrap().to_owned()
    };
    // A thread may end meanwhile.
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()).map(policy).collect()
}

#[test]
fn daemons_are_batch_but_not_what_starts_commands_of_users() {
    let ironpost = Setup::new().start();
    for (words, policy) in [
        (&["smtpd"][..], "3"),
        (&["queued"], "3"),
        (&["deliverd", "smtp"], "3"),
        (&["deliverd", "local"], "0"),
    ] {
        assert_eq!(policies(ironpost.daemon(words)), BTreeSet::from([policy.to_owned()]), "{words:?}");
    }
}
