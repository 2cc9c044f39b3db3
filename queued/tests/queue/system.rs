//! A running `queued` in a temporary folder, and the two sides of it that the tests play: who accepts messages, and who delivers them.

use common::codec;
use common::destination::Transport;
use common::packet::PacketSocket;
use common::status::{EnhancedCode, Status};
use common::time::Timestamp;
use nix::sys::signal::Signal;
use spool::content::ContentReader;
use spool::control::{Answer, Request};
use spool::dispatch::{FromWorker, Job, MAX_FRAME, ToWorker, VERSION};
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::layout::{Queue, Spool};
use spool::writer::Spooler;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Nothing here takes long; a test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon and its folder.
pub struct System {
    folder: tempfile::TempDir,
    child: Option<Child>,
    pub spool: Spool,
}

impl System {
    /// Starts it with these lines in its configuration.
    pub fn start(settings: &str) -> Self {
        let mut system = Self::prepared(settings);
        system.run();
        system
    }

    /// Everything is there, but the daemon does not run yet.
    pub fn prepared(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("users"), "alice\npostmaster\n").unwrap();
        fs::write(root.join("aliases"), "team: alice, bob@far.example\n").unwrap();
        fs::write(
            root.join("transport"),
            "gone.example error:5.1.6 moved away\nvoid.example discard:silently\n",
        )
        .unwrap();
        fs::write(
            root.join("ironpost.toml"),
            format!(
                "hostname = \"mail.here.example\"\nmail_name = \"here.example\"\nlocal_domains = [\"here.example\"]\n\
                 spool_directory = \"spool\"\n[deliverd]\ntransport = \"transport\"\n[local]\nusers = \"users\"\n\
                 aliases = \"aliases\"\nmailbox = \"mail/{{user}}/\"\n[log]\nto = \"log\"\n{settings}\n"
            ),
        )
        .unwrap();
        let spool = Spool::new(&root.join("spool"));
        Self { folder, child: None, spool }
    }

    /// Starts the daemon, and waits until it serves.
    pub fn run(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_queued"));
        command.arg("-c").arg(self.folder.path().join("ironpost.toml"));
        // Root would take other identities, which could not pass the temporary folder.
        if nix::unistd::geteuid().is_root() {
            use std::os::unix::fs::chown;
            use std::os::unix::process::CommandExt;
            chown_all(self.folder.path(), &|path| chown(path, Some(OTHER), Some(OTHER)).unwrap());
            command.uid(OTHER).gid(OTHER);
        }
        self.child = Some(command.spawn().unwrap());
        wait(|| PacketSocket::connect(&self.spool.control_socket()).ok());
    }

    /// Ends it and says with which exit code.
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.child.take().unwrap().wait().unwrap().code().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.as_ref().unwrap().id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Commits a message, as smtpd does.
    pub fn accept(&self, sender: &str, recipients: &[&str]) -> QueueId {
        self.accept_at(Timestamp::now(), sender, recipients, b"Subject: test\r\n\r\nhello\r\n")
    }

    /// The same with a time of arrival and a content.
    pub fn accept_at(
        &self,
        arrived: Timestamp,
        sender: &str,
        recipients: &[&str],
        content: &[u8],
    ) -> QueueId {
        self.commit(Queue::Incoming, &envelope(arrived, sender, recipients), content)
    }

    /// Commits a file to a queue.
    pub fn commit(&self, queue: Queue, envelope: &Envelope, content: &[u8]) -> QueueId {
        let spooler = Spooler::open(&self.spool.directory(queue), 0o666).unwrap();
        let mut writer = spooler.begin(Timestamp::now()).unwrap();
        writer.set_envelope(envelope).unwrap();
        writer.write(content).unwrap();
        writer.commit().unwrap()
    }

    /// Connects as a delivery agent.
    pub fn worker(&self, transport: Transport, capacity: u32) -> Agent {
        self.worker_saying(&FromWorker::Hello { version: VERSION, transport, capacity })
    }

    /// Connects as a delivery agent that says this first.
    pub fn worker_saying(&self, frame: &FromWorker) -> Agent {
        let agent = Agent { socket: PacketSocket::connect(&self.spool.dispatch_socket()).unwrap() };
        agent.say(frame);
        agent
    }

    /// Asks as a user's command.
    pub fn ask(&self, request: &Request) -> Vec<Answer> {
        let socket = PacketSocket::connect(&self.spool.control_socket()).unwrap();
        socket.send(&codec::encode(request).unwrap(), &[]).unwrap();
        answers(&socket)
    }

    /// Waits until nothing is left of a message.
    pub fn wait_gone(&self, id: QueueId) {
        wait(|| self.spool.find(id).is_none().then_some(()));
    }

    /// Waits until a message lies in this queue.
    pub fn wait_in(&self, id: QueueId, queue: Queue) -> PathBuf {
        wait(|| self.spool.find(id).filter(|found| found.0 == queue).map(|found| found.1))
    }

    /// Waits for a line of the log that contains all of these.
    pub fn wait_log(&self, parts: &[&str]) -> String {
        wait(|| {
            let log = self.log();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The folder with the configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command that starts a second daemon on the same spool.
    pub fn second(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_queued"));
        command.arg("-c").arg(self.folder.path().join("ironpost.toml"));
        if nix::unistd::geteuid().is_root() {
            use std::os::unix::process::CommandExt;
            command.uid(OTHER).gid(OTHER);
        }
        command
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log\n{}", self.log());
        }
    }
}

/// Any user without privileges and without files.
const OTHER: u32 = 61_299;

fn chown_all(path: &Path, chown: &dyn Fn(&Path)) {
    chown(path);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            chown_all(&entry.unwrap().path(), chown);
        }
    }
}

/// A delivery agent in the hands of a test.
pub struct Agent {
    socket: PacketSocket,
}

/// A job with the content that came with it.
pub struct Given {
    pub job: Job,
    pub content: Vec<u8>,
}

impl Given {
    /// The recipients, in order.
    pub fn to(&self) -> Vec<String> {
        self.job.recipients.iter().map(|recipient| recipient.address.to_string()).collect()
    }
}

impl Agent {
    /// Waits for a frame.
    pub fn hear(&self) -> Option<(ToWorker, Vec<std::os::fd::OwnedFd>)> {
        let packet = self.socket.receive().unwrap()?;
        Some((codec::decode::<ToWorker, MAX_FRAME>(&packet.bytes).unwrap(), packet.files))
    }

    /// Waits for a job.
    pub fn job(&self) -> Given {
        let (frame, files) = self.hear().expect("connection closed");
        let ToWorker::Job(job) = frame else { panic!("no job: {frame:?}") };
        let file = fs::File::from(files.into_iter().next().unwrap());
        let mut content = Vec::new();
        ContentReader::new(file, job.content_offset, &job.content).read_to_end(&mut content).unwrap();
        Given { job, content }
    }

    /// Answers a job with one status for all.
    pub fn answer(&self, given: &Given, code: &str, text: &str) {
        let status = Status::local(code.parse::<EnhancedCode>().unwrap(), text);
        let results = given.job.recipients.iter().map(|r| (r.index, status.clone())).collect();
        self.say(&FromWorker::Done { number: given.job.number, results, reached: true, handed_over: vec![] });
    }

    /// Answers a job whose destination could not be reached.
    pub fn unreachable(&self, given: &Given, text: &str) {
        let status = Status::local(EnhancedCode::new(4, 4, 1), text);
        let results = given.job.recipients.iter().map(|r| (r.index, status.clone())).collect();
        self.say(&FromWorker::Done {
            number: given.job.number,
            results,
            reached: false,
            handed_over: vec![],
        });
    }

    /// Says anything.
    pub fn say(&self, frame: &FromWorker) {
        self.socket.send(&codec::encode(frame).unwrap(), &[]).unwrap();
    }
}

/// An envelope as smtpd makes it.
pub fn envelope(arrived: Timestamp, sender: &str, recipients: &[&str]) -> Envelope {
    Envelope {
        sender: sender.parse().unwrap(),
        arrived,
        origin: Origin::Smtp {
            client: "unknown[127.0.0.1]".into(),
            helo: "test".into(),
            protocol: "ESMTP".into(),
        },
        body: Body::SevenBit,
        recipients: recipients.iter().map(|address| Recipient::new(address.parse().unwrap())).collect(),
        dsn: Default::default(),
    }
}

/// All answers on a control connection.
pub fn answers(socket: &PacketSocket) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(packet) = socket.receive().unwrap() {
        answers.push(codec::decode::<Answer, MAX_FRAME>(&packet.bytes).unwrap());
    }
    answers
}

/// Looks again and again until there is something to see.
pub fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(5));
    }
}
