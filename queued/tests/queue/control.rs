//! What users' commands get.

use crate::system::{System, answers, envelope, wait};
use common::codec;
use common::destination::Transport;
use common::packet::PacketSocket;
use common::time::Timestamp;
use spool::control::{Answer, Request, Selection, Verb};
use spool::dispatch::ToWorker;
use spool::envelope::Origin;
use spool::id::QueueId;
use spool::layout::Queue;
use spool::queue_file::QueueFile;
use spool::writer::Spooler;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

fn only(id: QueueId) -> Selection {
    Selection { ids: vec![id], ..Selection::default() }
}

fn change(system: &System, verb: Verb, selection: Selection) -> Vec<Answer> {
    system.ask(&Request::Change { verb, selection })
}

fn done(count: u64) -> Vec<Answer> {
    vec![Answer::Done { count, missing: vec![], failed: 0 }]
}

#[test]
fn messages_are_listed_with_what_keeps_them() {
    let system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["a@one.example", "b@two.example"]);
    let (one, two) = (agent.job(), agent.job());
    agent.answer(&one, "4.2.0", "mailbox busy");
    agent.answer(&two, "2.0.0", "ok");
    system.wait_in(id, Queue::Deferred);
    let unknown = QueueId::new(Timestamp(5), 5);
    let list = system.ask(&Request::List(Selection { ids: vec![id, unknown], ..Selection::default() }));
    let [Answer::Listed(listed), Answer::Done { count: 1, missing, failed: 0 }] = list.as_slice() else {
        panic!("{list:?}");
    };
    assert_eq!((listed.id, listed.queue, listed.attempts), (id, Queue::Deferred, 1));
    assert_eq!(missing, &[unknown]);
    assert_eq!(listed.recipients.len(), 1);
    assert_eq!(listed.recipients[0].reason.as_deref(), Some("mailbox busy"));
    let none = Selection { domain: Some("two.example".parse().unwrap()), ..Selection::default() };
    assert_eq!(system.ask(&Request::List(none)), done(0));
}

#[test]
fn retry_hold_release_and_delete() {
    let system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["a@one.example"]);
    let given = agent.job();
    agent.answer(&given, "4.2.0", "mailbox busy");
    system.wait_in(id, Queue::Deferred);
    assert_eq!(change(&system, Verb::Retry, only(id)), done(1));
    let given = agent.job();
    agent.answer(&given, "4.2.0", "mailbox busy");
    system.wait_in(id, Queue::Deferred);
    assert_eq!(change(&system, Verb::Hold, only(id)), done(1));
    system.wait_in(id, Queue::Hold);
    assert_eq!(change(&system, Verb::Retry, only(id)), done(0), "held stays held");
    assert_eq!(change(&system, Verb::Release, Selection::default()), done(1));
    let given = agent.job();
    assert_eq!(given.job.queue_id, id);
    // Deleted while it is out: the worker is told, and its answer is of no consequence.
    assert_eq!(change(&system, Verb::Delete, only(id)), done(1));
    assert!(matches!(agent.hear(), Some((ToWorker::Cancel(number), _)) if number == given.job.number));
    system.wait_gone(id);
    agent.answer(&given, "5.0.0", "cancelled");
    system.wait_log(&[&id.to_string(), "outcome of a delivery dropped: the message was deleted meanwhile"]);
    let next = system.accept("alice@here.example", &["a@one.example"]);
    assert_eq!(agent.job().job.queue_id, next);
    let unknown = QueueId::new(Timestamp(5), 5);
    assert_eq!(
        change(&system, Verb::Delete, only(unknown)),
        [Answer::Done { count: 0, missing: vec![unknown], failed: 0 }]
    );
}

/// It is held while a worker has it, and delivered all the same: when it is released, nobody gets it twice.
#[test]
fn an_outcome_that_comes_after_a_message_was_held_counts() {
    let system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["a@one.example", "b@two.example"]);
    let (one, two) = (agent.job(), agent.job());
    assert_eq!(change(&system, Verb::Hold, only(id)), done(1));
    agent.answer(&one, "2.0.0", "250 ok");
    let held = system.wait_in(id, Queue::Hold);
    wait(|| {
        let (_, journal) = QueueFile::open(&held).unwrap().journal().unwrap();
        format!("{journal:?}").contains("250 ok").then_some(())
    });
    assert_eq!(change(&system, Verb::Release, only(id)), done(1));
    for _ in 0..2 {
        assert!(matches!(agent.hear(), Some((ToWorker::Cancel(_), _))));
    }
    assert_eq!(agent.job().to(), two.to());
}

/// One message could not be changed.
fn failed() -> Vec<Answer> {
    vec![Answer::Done { count: 0, missing: vec![], failed: 1 }]
}

/// Makes `hold/` refuse or take files again.
fn set_hold(system: &System, mode: u32) {
    fs::set_permissions(system.spool.directory(Queue::Hold), fs::Permissions::from_mode(mode)).unwrap();
}

/// The message is still known: it is tried, and held when it can be.
#[test]
fn a_change_that_fails_is_reported_and_forgets_no_message() {
    let system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let waiting = system.accept("alice@here.example", &["a@one.example"]);
    let given = agent.job();
    agent.answer(&given, "4.2.0", "mailbox busy");
    system.wait_in(waiting, Queue::Deferred);
    let out = system.accept("alice@here.example", &["b@two.example"]);
    let given = agent.job();
    assert_eq!(given.job.queue_id, out);
    set_hold(&system, 0o500);
    for id in [waiting, out] {
        assert_eq!(change(&system, Verb::Hold, only(id)), failed());
        system.wait_log(&[&id.to_string(), "cannot be changed"]);
    }
    // The one that is out was not called back.
    agent.answer(&given, "2.0.0", "ok");
    system.wait_gone(out);
    assert_eq!(change(&system, Verb::Retry, only(waiting)), done(1));
    let given = agent.job();
    assert_eq!(given.job.queue_id, waiting);
    agent.answer(&given, "4.2.0", "mailbox busy");
    system.wait_in(waiting, Queue::Deferred);
    set_hold(&system, 0o700);
    assert_eq!(change(&system, Verb::Hold, only(waiting)), done(1));
    system.wait_in(waiting, Queue::Hold);
}

/// While an outcome cannot be written down, its message is not held: nobody gets it twice.
#[test]
fn what_is_not_written_down_is_not_lost_to_a_change() {
    let system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["a@one.example", "b@two.example"]);
    let (one, two) = (agent.job(), agent.job());
    let path = system.wait_in(id, Queue::Active);
    let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    set_mode(0o444);
    agent.answer(&one, "2.0.0", "250 ok");
    // Answers are taken in turn: when this one has been, so has the first.
    let other = system.accept("alice@here.example", &["c@three.example"]);
    let given = agent.job();
    agent.answer(&given, "2.0.0", "250 ok");
    system.wait_gone(other);
    assert_eq!(change(&system, Verb::Hold, only(id)), failed());
    system.wait_log(&[&id.to_string(), "its outcomes cannot be written down"]);
    set_mode(mode);
    assert_eq!(change(&system, Verb::Hold, only(id)), done(1));
    let (_, journal) = QueueFile::open(&system.wait_in(id, Queue::Hold)).unwrap().journal().unwrap();
    assert!(format!("{journal:?}").contains("250 ok"), "{journal:?}");
    assert_eq!(change(&system, Verb::Release, only(id)), done(1));
    assert!(matches!(agent.hear(), Some((ToWorker::Cancel(number), _)) if number == two.job.number));
    assert_eq!(agent.job().to(), two.to());
}

/// A destination that was down is tried at once when an admin says so.
#[test]
fn retry_ends_the_pause_of_a_throttled_destination() {
    let system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let ids: Vec<_> = (0..5).map(|_| system.accept("alice@here.example", &["a@one.example"])).collect();
    let jobs: Vec<_> = (0..5).map(|_| agent.job()).collect();
    for given in &jobs {
        agent.unreachable(given, "connect to one.example: Connection refused");
    }
    ids.iter().for_each(|id| drop(system.wait_in(*id, Queue::Deferred)));
    let late = system.accept("alice@here.example", &["b@one.example"]);
    system.wait_in(late, Queue::Deferred);
    let text = "dsn=4.4.1, status=deferred (delivery temporarily suspended: connect to one.example: Connection refused)";
    system.wait_log(&["/error[", "to=<b@one.example>, relay=none", text]);
    assert_eq!(change(&system, Verb::Retry, only(late)), done(1));
    assert_eq!(agent.job().job.queue_id, late);
}

#[test]
fn a_submission_can_be_handed_over_as_an_open_file() {
    let system = System::start("");
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Spooler::open(folder.path(), 0o600).unwrap().begin(Timestamp::now()).unwrap();
    writer.set_envelope(&envelope(Timestamp::now(), "alice@here.example", &["bob@far.example"])).unwrap();
    writer.write(b"Subject: x\n\nbody\n").unwrap();
    let file = writer.into_file().unwrap();
    let send = |request: &Request, files: &[std::os::fd::BorrowedFd<'_>]| {
        let socket = PacketSocket::connect(&system.spool.control_socket()).unwrap();
        socket.send(&codec::encode(request).unwrap(), files).unwrap();
        answers(&socket)
    };
    let said = send(&Request::Submit, &[file.as_fd()]);
    let [Answer::Submitted(id)] = said.as_slice() else { panic!("{said:?}") };
    let agent = system.worker(Transport::Smtp, 10);
    let given = agent.job();
    assert_eq!(given.job.queue_id, *id);
    let text = String::from_utf8(given.content).unwrap();
    assert!(
        text.ends_with("Subject: x\r\n\r\nbody\r\n") && text.contains("\r\nFrom: alice@here.example\r\n"),
        "{text}"
    );
    let stored = QueueFile::open(&system.wait_in(*id, Queue::Active)).unwrap();
    assert!(matches!(stored.envelope().origin, Origin::Local { .. }));
    // No file, and a file that is no queue file.
    assert!(matches!(send(&Request::Submit, &[]).as_slice(), [Answer::Refused { .. }]));
    let other = tempfile::tempfile().unwrap();
    assert!(matches!(send(&Request::Submit, &[other.as_fd()]).as_slice(), [Answer::Refused { .. }]));
}

#[test]
fn nonsense_is_refused() {
    let system = System::start("");
    let socket = PacketSocket::connect(&system.spool.control_socket()).unwrap();
    socket.send(b"nonsense", &[]).unwrap();
    assert!(matches!(answers(&socket).as_slice(), [Answer::Refused { exit: 65, .. }]));
    let many = Selection { ids: vec![QueueId::new(Timestamp(1), 1); 1001], ..Selection::default() };
    assert!(matches!(system.ask(&Request::List(many)).as_slice(), [Answer::Refused { exit: 65, .. }]));
}
