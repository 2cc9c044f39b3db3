//! No file descriptors left in one daemon or another: nothing is lost, nothing is taken for damaged, and all goes on when there are.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use ironpost_tests::corpus::short;
use ironpost_tests::counterpart::script::{Script, Server};
use ironpost_tests::ironpost::Ironpost;
use ironpost_tests::is_root;
use ironpost_tests::process::run;
use ironpost_tests::setup::Setup;
use nix::unistd::Pid;

/// Lets a running process have this many descriptors. Done as the process's own user: root in a container may not.
fn limit(pid: Pid, soft: usize) {
    let facts = std::fs::metadata(format!("/proc/{pid}/task")).unwrap();
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &facts.uid().to_string(), "--regid", &facts.gid().to_string()]);
        command.args(["--clear-groups", "prlimit"]);
        command
    } else {
        Command::new("prlimit")
    };
    command.args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")]);
    run(&mut command, b"").ok();
}

/// The limit under which a process gets no further descriptor: the lowest number that is free. Higher ones stay open.
fn used(pid: Pid) -> usize {
    let names = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let open: HashSet<usize> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    (0..).find(|number| !open.contains(number)).unwrap()
}

fn set_up(server: &Server) -> Ironpost {
    let ironpost = Setup::new().relay_to(server.address()).quick_retries().start();
    // Every part has worked once, and has open what it keeps open.
    let id = ironpost.send("dave@example.test", &["alice@example.test", "u@remote.test"], &short("first"));
    ironpost.wait_removed(&id);
    ironpost
}

#[test]
fn smtpd_without_descriptors_takes_mail_again_when_it_has_some() {
    let server = Server::start(Script::new());
    let ironpost = set_up(&server);
    let smtpd = ironpost.daemon(&["smtpd"]);
    limit(smtpd, used(smtpd) + 3);
    // Some get a session, some have to wait; none of them ends the daemon.
    let streams: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(ironpost.smtp()).unwrap()).collect();
    drop(streams);
    limit(smtpd, 1024);
    let id = ironpost.send("dave@example.test", &["bob@example.test"], &short("after"));
    ironpost.wait_removed(&id);
    assert_eq!(ironpost.daemon(&["smtpd"]), smtpd, "it was started anew");
}

#[test]
fn message_that_finds_no_descriptor_is_refused_for_now() {
    let server = Server::start(Script::new());
    let ironpost = set_up(&server);
    let smtpd = ironpost.daemon(&["smtpd"]);
    let mut client = ironpost.connect();
    client.hello();
    client.expect("MAIL FROM:<dave@example.test>", "250");
    client.expect("RCPT TO:<bob@example.test>", "250");
    limit(smtpd, used(smtpd));
    let reply = client.command("DATA");
    let reply = if reply.starts_with("354 ") { client.content(&short("x")) } else { reply };
    assert!(reply.starts_with("45") || reply.starts_with("421 "), "{reply}");
    limit(smtpd, 1024);
    let id = ironpost.send("dave@example.test", &["bob@example.test"], &short("after"));
    ironpost.wait_removed(&id);
    assert_eq!(ironpost.mail("bob").len(), 1);
}

#[test]
fn other_daemons_without_descriptors_lose_nothing() {
    for (words, recipient) in [
        (&["queued"][..], "bob@example.test"),
        (&["deliverd", "smtp"], "u@remote.test"),
        (&["deliverd", "local"], "bob@example.test"),
    ] {
        let server = Server::start(Script::new());
        let ironpost = set_up(&server);
        let daemon = ironpost.daemon(words);
        limit(daemon, used(daemon));
        let ids: Vec<_> = (0..5)
            .map(|number| ironpost.send("dave@example.test", &[recipient], &short(&format!("m{number}"))))
            .collect();
        // Nothing is in the queue for good while it cannot work, and nothing needs a restart afterwards.
        limit(daemon, 1024);
        for id in &ids {
            ironpost.wait_removed(id);
        }
        let arrived = ironpost.mail("bob").len() + server.taken().len() - 1;
        assert!(arrived >= 5, "{words:?}: {arrived} of 5");
        assert!(ironpost.mail("dave").is_empty(), "{words:?}: a bounce");
        let corrupt =
            std::fs::read_dir(ironpost.spool().join("corrupt")).map(Iterator::count).unwrap_or_default();
        assert_eq!(corrupt, 0, "{words:?}: taken for damaged");
    }
}
