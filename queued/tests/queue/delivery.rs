//! From `incoming/` to a delivery agent and out of the queue, or into `deferred/`, or back to the sender.

use crate::system::{System, wait};
use common::destination::Transport;
use common::time::Timestamp;
use nix::sys::signal::Signal;
use spool::dispatch::{FromWorker, ToWorker, VERSION};
use spool::envelope::Body;
use spool::layout::Queue;
use spool::queue_file::QueueFile;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::time::Duration;

#[test]
fn a_delivered_message_is_removed_and_leaves_its_lines_in_the_log() {
    let mut system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["bob@far.example", "carol@far.example"]);
    let given = agent.job();
    assert_eq!(given.content, b"Subject: test\r\n\r\nhello\r\n");
    assert_eq!(given.to(), ["bob@far.example", "carol@far.example"]);
    assert_eq!(given.job.nexthop.to_string(), "far.example");
    assert!(given.job.deadline.since(Timestamp::now()) > Duration::from_secs(1000));
    agent.answer(&given, "2.0.0", "250 ok");
    system.wait_gone(id);
    let id = id.to_string();
    system.wait_log(&["/qmgr[", &id, "from=<alice@here.example>, size=24, nrcpt=2 (queue active)"]);
    system.wait_log(&["/qmgr[", &id, ": removed"]);
    assert_eq!(system.stop(), 0);
}

#[test]
fn aliases_are_expanded_once_and_each_destination_has_its_own_job() {
    let mut system = System::start("[queued]\nfirst_retry = \"1s\"");
    let (smtp, local) = (system.worker(Transport::Smtp, 10), system.worker(Transport::Local, 10));
    let id = system.accept("x@far.example", &["team@here.example", "alice@here.example"]);
    let here = local.job();
    assert_eq!(here.to(), ["alice@here.example"], "alice once, although the alias names her too");
    let far = smtp.job();
    assert_eq!(far.to(), ["bob@far.example"]);
    assert_eq!(far.job.recipients[0].original.as_ref().unwrap().to_string(), "team@here.example");
    smtp.answer(&far, "4.4.1", "try later");
    local.answer(&here, "2.0.0", "delivered to maildir");
    // The alias changes; what was expanded stays.
    fs::write(system.folder().join("aliases"), "team: nobody@else.example\n").unwrap();
    let again = smtp.job();
    assert_eq!((again.job.queue_id, again.to()), (id, vec!["bob@far.example".to_owned()]));
    smtp.answer(&again, "2.0.0", "250 ok");
    system.wait_gone(id);
    assert_eq!(system.stop(), 0);
}

#[test]
fn a_deferred_message_survives_a_restart_and_is_not_delivered_twice() {
    let mut system = System::start("[queued]\nfirst_retry = \"2s\"\nmax_retry = \"2s\"");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["a@one.example", "b@two.example", "c@three.example"]);
    for _ in 0..3 {
        let given = agent.job();
        let code = if given.to() == ["b@two.example"] { "4.4.1" } else { "2.0.0" };
        agent.answer(&given, code, "words of the other side");
    }
    let path = system.wait_in(id, Queue::Deferred);
    let (_, journal) = QueueFile::open(&path).unwrap().journal().unwrap();
    assert!(format!("{journal:?}").contains("words of the other side"));
    system.kill();
    system.run();
    let agent = system.worker(Transport::Smtp, 10);
    let given = agent.job();
    assert_eq!((given.job.queue_id, given.to()), (id, vec!["b@two.example".to_owned()]));
    agent.answer(&given, "2.0.0", "250 ok");
    system.wait_gone(id);
    assert_eq!(system.stop(), 0);
}

#[test]
fn outcomes_are_journalled_while_other_jobs_are_out() {
    let mut system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["a@one.example", "b@two.example"]);
    let (first, second) = (agent.job(), agent.job());
    agent.answer(&first, "2.0.0", "250 ok");
    let path = system.wait_in(id, Queue::Active);
    wait(|| {
        let (_, journal) = QueueFile::open(&path).ok()?.journal().ok()?;
        (!journal.is_empty()).then_some(())
    });
    system.kill();
    system.run();
    let agent = system.worker(Transport::Smtp, 10);
    let again = agent.job();
    assert_eq!(again.to(), second.to(), "only what was not delivered yet");
    agent.answer(&again, "2.0.0", "250 ok");
    system.wait_gone(id);
}

#[test]
fn a_failure_comes_back_to_the_sender_and_a_failed_bounce_goes_to_the_postmaster_once() {
    let mut system = System::start("");
    let (smtp, local) = (system.worker(Transport::Smtp, 10), system.worker(Transport::Local, 10));
    let id = system.accept("who@back.example", &["bob@far.example", "x@void.example"]);
    let given = smtp.job();
    agent_fails(&smtp, &given);
    let bounce = smtp.job();
    system.wait_gone(id);
    assert_eq!(bounce.to(), ["who@back.example"]);
    assert!(bounce.job.sender.is_null());
    let text = String::from_utf8(bounce.content.clone()).unwrap();
    for part in [
        "Final-Recipient: rfc822; bob@far.example\r\n",
        "no such user",
        "Subject: test\r\n",
        "To: who@back.example\r\n",
        "Content-Type: multipart/report",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("void.example"), "that one was delivered");
    system.wait_log(&[
        "/bounce[",
        &id.to_string(),
        "sender non-delivery notification",
        &bounce.job.queue_id.to_string(),
    ]);
    system.wait_log(&["/discard[", "to=<x@void.example>, relay=none", "dsn=2.0.0, status=sent (silently)"]);
    agent_fails(&smtp, &bounce);
    let double = local.job();
    assert_eq!(double.to(), ["postmaster@here.example"]);
    let text = String::from_utf8(double.content.clone()).unwrap();
    assert!(
        text.contains("Final-Recipient: rfc822; bob@far.example\r\n"),
        "the notification is in it: {text}"
    );
    agent_fails(&local, &double);
    system.wait_gone(double.job.queue_id);
    // It goes away once its notification is safe, which may be later than that is dealt with.
    system.wait_gone(bounce.job.queue_id);
    system.wait_log(&[
        &double.job.queue_id.to_string(),
        "undeliverable notification to the postmaster dropped",
    ]);
    assert_eq!(fs::read_dir(system.spool.directory(Queue::Active)).unwrap().count(), 0);
    assert_eq!(system.stop(), 0);
}

fn agent_fails(agent: &crate::system::Agent, given: &crate::system::Given) {
    agent.answer(given, "5.1.1", "no such user");
}

#[test]
fn mail_that_is_too_old_fails_with_the_last_words() {
    let system = System::start("[queued]\nlifetime = \"1h\"");
    let agent = system.worker(Transport::Smtp, 10);
    let yesterday = Timestamp::from_seconds(Timestamp::now().seconds() - 86_400);
    let id = system.accept_at(yesterday, "who@back.example", &["bob@far.example"], b"Subject: old\r\n\r\n");
    let given = agent.job();
    agent.answer(&given, "4.4.1", "connect to far.example: Connection refused");
    let bounce = agent.job();
    assert!(String::from_utf8_lossy(&bounce.content).contains("connect to far.example: Connection refused"));
    assert!(String::from_utf8_lossy(&bounce.content).contains("Status: 5.4.7\r\n"));
    system.wait_gone(id);
    system.wait_log(&[&id.to_string(), "from=<who@back.example>, status=expired, returned to sender"]);
}

#[test]
fn routes_that_refuse_need_no_worker() {
    let system = System::start("");
    let id = system.accept("", &["x@gone.example", "y@void.example"]);
    system.wait_gone(id);
    system.wait_log(&[
        "/error[",
        "to=<x@gone.example>, relay=none",
        "dsn=5.1.6, status=bounced (moved away)",
    ]);
    let agent = system.worker(Transport::Local, 1);
    assert_eq!(agent.job().to(), ["postmaster@here.example"]);
}

#[test]
fn jobs_of_a_worker_that_dies_go_to_the_next_one() {
    let system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["bob@far.example"]);
    assert_eq!(agent.job().job.queue_id, id);
    drop(agent);
    let agent = system.worker(Transport::Smtp, 10);
    let given = agent.job();
    agent.answer(&given, "2.0.0", "250 ok");
    system.wait_gone(id);
}

#[test]
fn a_worker_gets_no_more_than_it_can_hold_and_strangers_get_nothing() {
    let system = System::start("");
    for hello in [
        FromWorker::Hello { version: VERSION + 1, transport: Transport::Smtp, capacity: 1 },
        FromWorker::Hello { version: VERSION, transport: Transport::Discard, capacity: 1 },
        FromWorker::Done { number: 1, results: vec![], reached: true, handed_over: vec![] },
    ] {
        let stranger = system.worker_saying(&hello);
        assert!(stranger.hear().is_none(), "{hello:?}");
    }
    let agent = system.worker(Transport::Smtp, 1);
    let ids = [system.accept("", &["a@one.example"]), system.accept("", &["b@two.example"])];
    let first = agent.job();
    // Answering somebody else's job changes nothing.
    agent.say(&FromWorker::Done { number: 999, results: vec![], reached: true, handed_over: vec![] });
    agent.answer(&first, "2.0.0", "250 ok");
    let second = agent.job();
    assert_ne!(first.job.queue_id, second.job.queue_id);
    agent.answer(&second, "2.0.0", "250 ok");
    ids.into_iter().for_each(|id| system.wait_gone(id));
}

#[test]
fn damaged_files_and_strange_names_go_to_corrupt_and_stop_nothing() {
    let mut system = System::start("");
    let good = system.accept("alice@here.example", &["bob@far.example"]);
    system.stop();
    let incoming = system.spool.directory(Queue::Incoming);
    let active = system.spool.path(Queue::Active, good);
    let mut bytes = fs::read(&active).unwrap_or_else(|_| fs::read(incoming.join(good.as_str())).unwrap());
    bytes[60] ^= 1;
    let damaged = "0dZKSksYTX00000D";
    fs::write(incoming.join(damaged), &bytes).unwrap();
    fs::write(incoming.join("README"), "not a message").unwrap();
    fs::write(system.spool.directory(Queue::Corrupt).join("README"), "an older one").unwrap();
    system.run();
    let agent = system.worker(Transport::Smtp, 10);
    let given = agent.job();
    assert_eq!(given.job.queue_id, good);
    agent.answer(&given, "2.0.0", "250 ok");
    system.wait_gone(good);
    for name in [damaged, "README", "README.1"] {
        wait(|| system.spool.directory(Queue::Corrupt).join(name).exists().then_some(()));
    }
    system.wait_log(&[damaged, "queue file damaged", "moved to corrupt/"]);
}

/// The content was damaged on the disk: a delivery agent notices, and the message goes where an admin finds it.
#[test]
fn a_message_whose_content_is_damaged_goes_to_corrupt() {
    let mut system = System::start("");
    let id = system.accept("alice@here.example", &["bob@far.example"]);
    let agent = system.worker(Transport::Smtp, 10);
    let given = agent.job();
    // An undamaged message that is deferred in the same words stays.
    agent.answer(&given, "4.3.0", "message content damaged");
    let path = system.wait_in(id, Queue::Deferred);
    system.stop();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|window| window == b"hello").unwrap();
    bytes[at] = b'j';
    fs::write(&path, bytes).unwrap();
    fs::rename(&path, system.spool.path(Queue::Active, id)).unwrap();
    system.run();
    let agent = system.worker(Transport::Smtp, 10);
    let (ToWorker::Job(job), _) = agent.hear().unwrap() else { panic!("no job") };
    agent.answer(&crate::system::Given { job, content: vec![] }, "4.3.0", "message content damaged");
    system.wait_in(id, Queue::Corrupt);
    system.wait_log(&[&id.to_string(), "content damaged", "moved to corrupt/"]);
}

#[test]
fn a_second_queue_manager_is_refused() {
    let system = System::start("");
    let output = system.second().output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another queue manager runs on"));
}

#[test]
fn answers_that_come_after_sigterm_still_count() {
    let mut system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["bob@far.example"]);
    let given = agent.job();
    system.signal(Signal::SIGTERM);
    agent.answer(&given, "2.0.0", "250 ok");
    assert_eq!(system.stop(), 0);
    assert!(system.spool.find(id).is_none());
}

#[test]
fn sighup_reads_the_configuration_anew_and_a_broken_one_changes_nothing() {
    let mut system = System::start("[queued]\nfirst_retry = \"1h\"");
    let agent = system.worker(Transport::Smtp, 10);
    let path = system.folder().join("ironpost.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("1h", "1 fortnight")).unwrap();
    system.signal(Signal::SIGHUP);
    system.wait_log(&["configuration not read anew, the old one stays in force", "fortnight"]);
    fs::write(&path, text.replace("1h", "1s").replace("mail.here.example", "new.here.example")).unwrap();
    system.signal(Signal::SIGHUP);
    system.wait_log(&["configuration read anew"]);
    let id = system.accept("alice@here.example", &["bob@far.example"]);
    let given = agent.job();
    agent.answer(&given, "4.2.0", "later");
    let given = agent.job();
    assert_eq!(given.job.queue_id, id, "tried again after a second");
    agent.answer(&given, "5.0.0", "no");
    system.wait_log(&["/cleanup[", "@new.here.example>"]);
    assert_eq!(system.stop(), 0);
}

#[test]
fn texts_of_notifications_can_be_replaced_and_a_broken_file_replaces_nothing() {
    let mut system = System::prepared("[queued]\nnotification_templates = \"texts\"");
    let path = system.folder().join("texts");
    let text = "[failed]\nSubject: Pech\n\nFür {sender}:\n{recipients}\n";
    fs::write(&path, text).unwrap();
    system.run();
    let agent = system.worker(Transport::Smtp, 10);
    fs::write(&path, text.replace("{sender}", "{sendr}")).unwrap();
    system.signal(Signal::SIGHUP);
    let place = format!("{}:4: {{sendr}} is not known", path.display());
    system.wait_log(&["configuration not read anew, the old one stays in force", &place]);
    let bounced = || {
        system.accept("who@back.example", &["bob@far.example"]);
        agent_fails(&agent, &agent.job());
        let bounce = agent.job();
        agent.answer(&bounce, "2.0.0", "ok");
        (bounce.job.body, String::from_utf8(bounce.content).unwrap())
    };
    let (body, content) = bounced();
    assert_eq!(body, Body::EightBitMime);
    assert!(content.contains("\r\nSubject: Pech\r\n"), "{content}");
    assert!(content.contains("\r\nFür who@back.example:\r\n<bob@far.example>\r\n"), "{content}");
    fs::write(&path, text.replace("Pech", "Schade")).unwrap();
    system.signal(Signal::SIGHUP);
    system.wait_log(&["configuration read anew"]);
    assert!(bounced().1.contains("\r\nSubject: Schade\r\n"));
    assert_eq!(system.stop(), 0);
    fs::write(&path, text.replace("Subject: Pech", "")).unwrap();
    assert_eq!(system.second().output().unwrap().status.code(), Some(78));
    system.wait_log(&["/qmgr[", &format!("{}:2: wanted \"Subject: TEXT\"", path.display())]);
}

/// The file is gone while its message is out: nothing can be done for it, and nothing else suffers.
#[test]
fn a_file_that_vanishes_is_given_up() {
    let system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["bob@far.example"]);
    let given = agent.job();
    fs::remove_file(system.wait_in(id, Queue::Active)).unwrap();
    agent.answer(&given, "4.2.0", "later");
    system.wait_log(&[&id.to_string(), "its file vanished from active/"]);
    let next = system.accept("alice@here.example", &["bob@far.example"]);
    assert_eq!(agent.job().job.queue_id, next);
}

/// The outcome cannot be written down: it is kept and written when that is possible again.
#[test]
fn an_outcome_is_not_forgotten_when_it_cannot_be_written_down() {
    let system = System::start("[queued]\nfirst_retry = \"1s\"");
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["a@one.example", "b@two.example"]);
    let (one, two) = (agent.job(), agent.job());
    // Where the message would have to wait there is a file instead of a folder.
    let folder = system.spool.directory(Queue::Deferred).join(id.folder());
    fs::write(&folder, "").unwrap();
    agent.answer(&one, "2.0.0", "250 ok");
    agent.answer(&two, "4.2.0", "later");
    system.wait_log(&[&id.to_string(), "outcome cannot be written down"]);
    fs::remove_file(&folder).unwrap();
    let again = agent.job();
    assert_eq!((again.job.queue_id, again.to()), (id, two.to()));
}

#[test]
fn the_file_that_a_worker_gets_can_only_be_read() {
    let system = System::start("");
    let agent = system.worker(Transport::Smtp, 10);
    system.accept("alice@here.example", &["bob@far.example"]);
    let (frame, mut files) = agent.hear().unwrap();
    assert!(matches!(frame, ToWorker::Job(_)));
    assert_eq!(files.len(), 1);
    let mut file = fs::File::from(files.remove(0));
    assert!(std::io::Write::write_all(&mut file, b"x").is_err());
    assert_eq!(file.read(&mut [0]).unwrap(), 1);
}

#[test]
fn every_one_of_a_thousand_messages_is_delivered_once_although_the_daemon_is_killed() {
    let mut system = System::start("");
    let accept = |system: &System, from: usize, to: usize| -> Vec<_> {
        (from..to)
            .map(|n| system.accept("alice@here.example", &[&format!("user{n}@d{}.example", n % 7)]))
            .collect()
    };
    let mut ids = accept(&system, 0, 300);
    let agent = system.worker(Transport::Smtp, 50);
    let mut times: HashMap<_, u32> = HashMap::new();
    for round in 0..3 {
        for _ in 0..100 {
            let given = agent.job();
            *times.entry(given.job.queue_id).or_default() += 1;
            agent.answer(&given, "2.0.0", "250 ok");
        }
        ids.extend(accept(&system, 300 + 200 * round, 500 + 200 * round));
    }
    // What the agent answered and what became of it is a race with the kill; nothing may be lost, and next to nothing done twice.
    system.kill();
    ids.extend(accept(&system, 900, 1000));
    system.run();
    let agent = system.worker(Transport::Smtp, 50);
    while times.len() < ids.len() {
        let given = agent.job();
        *times.entry(given.job.queue_id).or_default() += 1;
        agent.answer(&given, "2.0.0", "250 ok");
    }
    assert!(ids.iter().all(|id| times.contains_key(id)));
    let twice = times.values().filter(|n| **n > 1).count();
    println!("{twice} of {} delivered twice", ids.len());
    assert!(twice <= 60, "{twice} delivered twice");
    ids.iter().for_each(|id| system.wait_gone(*id));
    assert_eq!(system.stop(), 0);
}

#[test]
fn a_destination_can_have_limits_of_its_own() {
    let mut system = System::start(
        "[queued.destinations.\"Far.example\"]\nrecipients = 1\nconcurrency = 1\nrate = \"1000/s\"",
    );
    let agent = system.worker(Transport::Smtp, 10);
    let id = system.accept("alice@here.example", &["a@far.example", "b@far.example"]);
    let first = agent.job();
    assert_eq!(first.to(), ["a@far.example"]);
    // Others are not limited, and the second recipient waits for the first one's answer.
    let other = system.accept("alice@here.example", &["a@else.example", "b@else.example"]);
    let given = agent.job();
    assert_eq!(given.to(), ["a@else.example", "b@else.example"]);
    agent.answer(&given, "2.0.0", "250 ok");
    system.wait_gone(other);
    agent.answer(&first, "2.0.0", "250 ok");
    let second = agent.job();
    assert_eq!((second.job.queue_id, second.to()), (id, vec!["b@far.example".to_owned()]));
    agent.answer(&second, "2.0.0", "250 ok");
    system.wait_gone(id);
    assert_eq!(system.stop(), 0);
}
