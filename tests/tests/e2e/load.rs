//! A thousand messages from fifty parallel sessions: every one is delivered, and once.

use std::collections::HashSet;

use ironpost_tests::counterpart::script::{Script, Server};
use ironpost_tests::counterpart::sink::{Sink, dumped, smtp_source};
use ironpost_tests::setup::Setup;

const LOAD: [&str; 8] = ["-s", "50", "-m", "1000", "-l", "2000", "-f", "a@client.test"];

/// The queue ID in our Received field of a message with LF or CRLF line ends.
fn id(message: &str) -> String {
    let received = message.split_once("by mail.example.test").expect("no Received of ours").1;
    let id = received.split_once(" id ").expect("no ID").1;
    id.chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[test]
fn thousand_messages_reach_a_maildir_once() {
    let ironpost = Setup::new().start();
    let options = [&LOAD[..], &["-t", "alice@example.test"]].concat();
    smtp_source(ironpost.smtp(), &options).ok();
    let mails = ironpost.wait_mail("alice", 1000);
    ironpost.wait_empty();
    assert_eq!(mails.len(), 1000);
    let ids: HashSet<_> = mails.iter().map(|mail| id(&mail.text())).collect();
    assert_eq!(ids.len(), 1000);
    assert_eq!(ironpost.mail("alice").len(), 1000);
}

#[test]
fn thousand_messages_reach_smtp_sink_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let dump = folder.path().join("dump");
    let sink = Sink::start(&["-D", dump.to_str().unwrap()]);
    let ironpost = Setup::new().relay_to(sink.address()).start();
    // -N: each message to a recipient of its own.
    let options = [&LOAD[..], &["-N", "-t", "box@remote.test"]].concat();
    smtp_source(ironpost.smtp(), &options).ok();
    ironpost.wait_empty();
    let messages = dumped(&dump);
    assert_eq!(messages.len(), 1000);
    let ids: HashSet<_> = messages.iter().map(|message| id(message)).collect();
    assert_eq!(ids.len(), 1000);
    let recipients: HashSet<_> =
        messages.iter().filter_map(|message| field(message, "X-Rcpt-Args")).collect();
    assert_eq!(recipients.len(), 1000);
}

#[test]
fn connections_to_one_destination_are_reused_and_limited() {
    let next_host = Server::start(Script::new());
    let ironpost =
        Setup::new().relay_to(next_host.address()).set("queued.destinations", "concurrency", "3").start();
    smtp_source(ironpost.smtp(), &["-s", "20", "-m", "200", "-N", "-t", "box@remote.test"]).ok();
    next_host.wait(200);
    ironpost.wait_empty();
    assert_eq!(next_host.taken().len(), 200);
    // Far fewer connections than messages.
    assert!(next_host.connections() <= 100, "{} connections for 200 messages", next_host.connections());
}

fn field(message: &str, name: &str) -> Option<String> {
    message
        .lines()
        .find_map(|line| line.strip_prefix(name).map(|rest| rest.trim_start_matches(": ").to_owned()))
}
