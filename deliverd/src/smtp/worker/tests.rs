//! The worker against a queued made of a socket.

use super::super::memory::Memory;
use super::super::pool::Pool;
use super::super::resolve::Ourselves;
use super::super::testing::{Exchanges, Script, count, job, server};
use super::*;
use common::packet::PacketListener;
use common::status::Outcome;

struct Queued {
    listener: Arc<PacketListener>,
    _folder: tempfile::TempDir,
    stop: watch::Sender<bool>,
    _contexts: watch::Sender<Arc<Context<Exchanges>>>,
    worker: tokio::task::JoinHandle<()>,
}

/// One connection of the worker, seen from queued.
struct Connection(Arc<PacketSocket>);

impl Queued {
    fn start(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("dispatch");
        let listener = Arc::new(PacketListener::bind(&socket, 0o600).unwrap());
        let context = Context {
            hello_name: "me.example".parse().unwrap(),
            port,
            relay_host: None,
            ourselves: Ourselves::new("me.example".parse().unwrap(), Vec::new(), Vec::new()),
            dns: Exchanges(Arc::new(vec![(10, vec![[127, 0, 0, 1].into()])])),
            tls: Arc::new(super::super::tls::Outbound::of(common::tls::Level::May)),
            memory: Arc::new(Memory::new()),
            pool: Pool::new(),
        };
        let (contexts, context) = watch::channel(Arc::new(context));
        let (stop, stopped) = watch::channel(false);
        let inputs = Inputs { socket, queued: geteuid(), context, stop: stopped };
        let worker = tokio::spawn(run(inputs));
        Self { listener, _folder: folder, stop, _contexts: contexts, worker }
    }

    async fn accept(&self) -> Connection {
        let listener = self.listener.clone();
        let socket = tokio::task::spawn_blocking(move || listener.accept()).await.unwrap().unwrap();
        let connection = Connection(Arc::new(socket));
        let hello = connection.receive().await.unwrap();
        let wanted = FromWorker::Hello { version: VERSION, transport: Transport::Smtp, capacity: CAPACITY };
        assert_eq!(hello, wanted);
        connection
    }
}

impl Connection {
    fn give(&self, number: u64, recipients: &[&str]) {
        let (mut job, file) = job("d.example", recipients, b"Subject: x\r\n\r\nbody\r\n");
        job.number = number;
        self.0.send(&encode(&ToWorker::Job(job)).unwrap(), &[file.as_fd()]).unwrap();
    }

    async fn receive(&self) -> Option<FromWorker> {
        let socket = self.0.clone();
        let packet = tokio::task::spawn_blocking(move || socket.receive()).await.unwrap().unwrap()?;
        Some(decode::<FromWorker, MAX_FRAME>(&packet.bytes).unwrap())
    }

    async fn done(&self) -> (u64, Vec<(u32, Outcome)>, bool) {
        match self.receive().await {
            Some(FromWorker::Done { number, results, reached, .. }) => {
                let results = results.into_iter().map(|(index, status)| (index, status.outcome)).collect();
                (number, results, reached)
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn until(condition: impl Fn() -> bool) {
    timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_is_answered_once() {
    let (address, log) = server("127.0.0.1:0", &[("RCPT TO:<no@", "550 5.1.1 no")]).await;
    let queued = Queued::start(address.port());
    let connection = queued.accept().await;
    for number in 1..=50 {
        connection.give(number, &["a@d.example", "no@d.example"]);
    }
    let mut numbers = Vec::new();
    for _ in 1..=50 {
        let (number, results, reached) = connection.done().await;
        assert_eq!((results, reached), (vec![(0, Outcome::Delivered), (1, Outcome::Failed)], true));
        numbers.push(number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=50).collect::<Vec<u64>>());
    assert_eq!(count(&log, "."), 50);
    queued.stop.send_replace(true);
    queued.worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_its_message_is_deferred() {
    let queued = Queued::start(1);
    let connection = queued.accept().await;
    let (job, _file) = job("d.example", &["a@d.example"], b"x");
    connection.0.send(&encode(&ToWorker::Job(job)).unwrap(), &[]).unwrap();
    assert_eq!(connection.done().await, (1, vec![(0, Outcome::Deferred)], true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_called_off_is_answered_at_once() {
    let script: Script = &[("MAIL", "!")];
    let (address, log) = server("127.0.0.1:0", script).await;
    let queued = Queued::start(address.port());
    let connection = queued.accept().await;
    connection.give(7, &["a@d.example"]);
    until(|| count(&log, "MAIL") == 1).await;
    connection.0.send(&encode(&ToWorker::Cancel(7)).unwrap(), &[]).unwrap();
    assert_eq!(connection.done().await, (7, vec![(0, Outcome::Deferred)], true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_what_is_in_hand() {
    let (address, log) = server("127.0.0.1:0", &[]).await;
    let queued = Queued::start(address.port());
    let connection = queued.accept().await;
    for number in 0..20 {
        connection.give(number, &["a@d.example"]);
    }
    // The first answer shows that the worker is in the middle of it.
    connection.done().await;
    queued.stop.send_replace(true);
    queued.worker.await.unwrap();
    let mut answered = 1;
    while let Some(FromWorker::Done { results, .. }) = connection.receive().await {
        assert_eq!(results[0].1.outcome, Outcome::Delivered);
        answered += 1;
    }
    assert_eq!(answered, count(&log, "."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_queued_goes_work_stops_and_a_new_one_is_found() {
    let (address, log) = server("127.0.0.1:0", &[("#1 MAIL", "!")]).await;
    let queued = Queued::start(address.port());
    let connection = queued.accept().await;
    connection.give(1, &["a@d.example"]);
    until(|| count(&log, "MAIL") == 1).await;
    drop(connection);
    let connection = queued.accept().await;
    until(|| count(&log, "(gone)") == 1).await;
    connection.give(1, &["a@d.example"]);
    assert_eq!(connection.done().await, (1, vec![(0, Outcome::Delivered)], true));
    assert_eq!(count(&log, "."), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_ends_the_connection() {
    let queued = Queued::start(1);
    let connection = queued.accept().await;
    connection.0.send(b"junk", &[]).unwrap();
    assert_eq!(connection.receive().await, None);
    queued.accept().await;
}
