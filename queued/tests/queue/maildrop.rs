//! Submissions of local programs, friendly and hostile.

use crate::system::{System, envelope, wait};
use common::destination::Transport;
use common::time::Timestamp;
use spool::id::QueueId;
use spool::layout::Queue;
use spool::queue_file::QueueFile;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

#[test]
fn a_submission_is_copied_under_its_name_and_completed() {
    let system = System::start("");
    let mut hostile = envelope(Timestamp(0), "alice@here.example", &["bob@far.example"]);
    hostile.recipients[0].original = Some("forged@far.example".parse().unwrap());
    let id = system.commit(Queue::Maildrop, &hostile, b"To: bob@far.example\n.\n\rend");
    let agent = system.worker(Transport::Smtp, 10);
    let given = agent.job();
    assert_eq!(given.job.queue_id, id);
    assert_eq!(given.job.recipients[0].original, None);
    assert!(given.job.arrived > Timestamp(0));
    let text = String::from_utf8(given.content.clone()).unwrap();
    assert!(text.starts_with("Received: by mail.here.example (Ironpost, from userid "), "{text}");
    assert!(text.ends_with("\r\nTo: bob@far.example\r\n.\r\n\r\nend"), "{text}");
    for name in ["Date: ", "From: alice@here.example", "Message-ID: <"] {
        assert!(text.contains(&format!("\r\n{name}")), "{name}");
    }
    system.wait_log(&["/pickup[", &id.to_string(), "uid=", " from=<alice@here.example>"]);
    system.wait_log(&["/cleanup[", &id.to_string(), &format!("message-id=<{id}@mail.here.example>")]);
    assert_eq!(fs::read_dir(system.spool.directory(Queue::Maildrop)).unwrap().count(), 0);
    agent.answer(&given, "2.0.0", "250 ok");
    system.wait_gone(id);
}

#[test]
fn a_submission_waits_while_the_daemon_is_down() {
    let mut system = System::start("");
    system.stop();
    let id = system.commit(
        Queue::Maildrop,
        &envelope(Timestamp::now(), "alice@here.example", &["bob@far.example"]),
        b"Subject: x\r\n\r\n",
    );
    system.run();
    assert_eq!(system.worker(Transport::Smtp, 10).job().job.queue_id, id);
}

/// A crash came between the copy's commit and the removal of the original.
#[test]
fn a_copied_submission_is_not_taken_twice() {
    let mut system = System::start("");
    system.stop();
    let id = system.commit(
        Queue::Maildrop,
        &envelope(Timestamp::now(), "alice@here.example", &["bob@far.example"]),
        b"Subject: x\r\n\r\n",
    );
    let original = system.spool.path(Queue::Maildrop, id);
    fs::copy(&original, system.spool.path(Queue::Incoming, id)).unwrap();
    own(&system.spool.path(Queue::Incoming, id), &original);
    system.run();
    let agent = system.worker(Transport::Smtp, 10);
    let given = agent.job();
    assert_eq!(given.job.queue_id, id);
    agent.answer(&given, "2.0.0", "250 ok");
    system.wait_gone(id);
    // Whatever comes next is another message.
    let next = system.accept("alice@here.example", &["carol@far.example"]);
    assert_eq!(agent.job().job.queue_id, next);
}

#[test]
fn hostile_submissions_are_set_aside() {
    let mut system = System::start("");
    system.stop();
    let maildrop = system.spool.directory(Queue::Maildrop);
    let secret = system.folder().join("secret");
    fs::write(&secret, "secret").unwrap();
    let name = |n: u64| QueueId::new(Timestamp(n.cast_signed()), n).to_string();
    symlink(&secret, maildrop.join(name(1))).unwrap();
    nix::unistd::mkfifo(&maildrop.join(name(2)), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(maildrop.join(name(3)), "no queue file").unwrap();
    fs::hard_link(maildrop.join(name(3)), maildrop.join(name(4))).unwrap();
    fs::write(maildrop.join("..name"), "not a queue ID").unwrap();
    let good = envelope(Timestamp::now(), "alice@here.example", &["bob@far.example"]);
    let id = system.commit(Queue::Maildrop, &good, b"Subject: x\r\n\r\nbody\r\n");
    let path = maildrop.join(id.as_str());
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    // A name that belongs to another inode: taken, but not under that name.
    let other = system.commit(Queue::Maildrop, &good, b"Subject: y\r\n\r\nbody\r\n");
    fs::rename(maildrop.join(other.as_str()), maildrop.join(name(5))).unwrap();
    system.run();
    let given = system.worker(Transport::Smtp, 10).job();
    assert_ne!(given.job.queue_id.to_string(), name(5));
    assert!(String::from_utf8_lossy(&given.content).contains("Subject: y"));
    wait(|| (fs::read_dir(&maildrop).unwrap().count() == 0).then_some(()));
    let corrupt = system.spool.directory(Queue::Corrupt);
    let mut names: Vec<_> =
        fs::read_dir(&corrupt).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<_> = (1..=4).map(name).chain(["..name".to_owned(), id.to_string()]).collect();
    expected.sort();
    // One of two names of a file is set aside first; the other one is a plain file then, and no queue file.
    assert_eq!(names, expected);
    system.wait_log(&[id.as_str(), "content damaged", "moved to corrupt/"]);
    system.wait_log(&[&name(1), "a symbolic link"]);
}

#[test]
fn a_submission_that_is_too_large_is_set_aside() {
    let system = System::start("[smtpd]\nmessage_size_limit = \"1K\"");
    let good = envelope(Timestamp::now(), "alice@here.example", &["bob@far.example"]);
    let id = system.commit(Queue::Maildrop, &good, &vec![b'x'; 2000]);
    system.wait_in(id, Queue::Corrupt);
    assert!(QueueFile::open(&system.spool.path(Queue::Corrupt, id)).is_ok());
    system.wait_log(&[id.as_str(), "larger than 1024 octets"]);
}

fn own(path: &std::path::Path, like: &std::path::Path) {
    let meta = fs::metadata(like).unwrap();
    std::os::unix::fs::chown(path, Some(meta.uid()), Some(meta.gid())).unwrap();
}
