//! The users of the operating system, through PAM: asked of a helper, `ironpost-pam`, which alone stays root.
//!
//! smtpd starts it before it gives root up, with one end of a socket as its standard input; whoever reads from the network never loads a PAM module. A few questions go on at
//! once, some more wait, each has its time. A helper that ends cannot be started again by a process that is not root any more: logins are a temporary failure until smtpd is.

pub mod frame;

use crate::exchange::Failure;
use crate::prepare::Password;
use common::packet::PacketSocket;
use common::text::printable;
use frame::{Question, Verdict};
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use zeroize::Zeroizing;

/// The helper's file.
pub const HELPER: &str = "ironpost-pam";
/// Where an installed Ironpost has it.
const SYSTEM_FOLDER: &str = "/usr/lib/ironpost";
/// Where services are described.
const SERVICES: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];
/// So many questions at once; the helper takes no more.
pub const AT_ONCE: usize = 8;
/// So long a question may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(30);
/// For an answer: a little more than the helper gives a module.
const ANSWER: Duration = Duration::from_secs(40);

/// The helper.
#[derive(Debug)]
pub struct Pam {
    service: String,
    socket: Arc<PacketSocket>,
    places: Semaphore,
    waiting: Arc<Mutex<Waiting>>,
    /// The helper's process.
    process: u32,
    /// Until the thread that reads answers takes it: threads must not exist before privileges are dropped.
    child: Mutex<Option<Child>>,
    reader: OnceLock<bool>,
}

#[derive(Debug, Default)]
struct Waiting {
    ended: bool,
    /// Nobody will ask again.
    unwanted: bool,
    last: u64,
    by_id: HashMap<u64, oneshot::Sender<Verdict>>,
}

/// Where the helper is, and whether the service exists. Errors: what is missing, and what to do.
pub fn find(service: &str) -> Result<PathBuf, String> {
    if !SERVICES.iter().any(|folder| Path::new(folder).join(service).is_file()) {
        return Err(format!(
            "there is no /etc/pam.d/{service}: copy Ironpost's etc/pam.d/ironpost there, or name another service with pam_service"
        ));
    }
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent);
    let mut folders = beside.into_iter().chain([Path::new(SYSTEM_FOLDER)]);
    let found = folders.find_map(|folder| Some(folder.join(HELPER)).filter(|path| path.is_file()));
    found.ok_or_else(|| {
        format!(
            "the helper {HELPER} is not there: install libpam0g-dev (or pam-devel), and build and install Ironpost again; it needs the feature \"pam\" of the crate pamd"
        )
    })
}

impl Pam {
    /// Starts the helper at `path`. Before privileges are dropped.
    pub fn start(path: &Path, service: &str) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", path.display());
        let (ours, its) = PacketSocket::pair().map_err(failed)?;
        let child = Command::new(path)
            .arg(service)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(its.into_fd()))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            service: service.to_owned(),
            socket: Arc::new(ours),
            places: Semaphore::new(AT_ONCE),
            waiting: Arc::default(),
            process: child.id(),
            child: Mutex::new(Some(child)),
            reader: OnceLock::new(),
        })
    }

    /// The helper's process number.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// The PAM service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Is this so? Gives the name as PAM has it.
    pub async fn check(&self, name: &str, password: &Password, client: IpAddr) -> Result<String, Failure> {
        // Only such names reach a process that is root.
        if let Err(what) = crate::name::check(name) {
            return Err(Failure::wrong(Some(name), what));
        }
        let unavailable = |why: &str| Failure::Unavailable(format!("PAM service {}: {why}", self.service));
        let place = tokio::time::timeout(PATIENCE, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(unavailable("too many logins at once")) };
        if !self.reads() {
            return Err(unavailable("no thread for the helper's answers can be started"));
        }
        let (sender, answer) = oneshot::channel();
        let Some(number) = enter(&self.waiting, sender) else {
            return Err(unavailable("the helper has ended: start smtpd again"));
        };
        let _gone = Gone(&self.waiting, number);
        let password = Zeroizing::new(password.octets().to_vec());
        let question = Question { id: number, client: client.to_string(), name: name.to_owned(), password };
        // A helper that is stopped reads nothing: nobody else is to wait for it.
        if let Err(error) = self.socket.try_send(&question.encode(), &[]) {
            return Err(unavailable(&format!("the helper cannot be asked: {error}")));
        }
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(Verdict::Yes(name))) => Ok(name),
            Ok(Ok(Verdict::No(why))) => Err(Failure::wrong(Some(name), printable(&why, 300))),
            Ok(Ok(Verdict::Unknown(why))) => Err(unavailable(&printable(&why, 300))),
            Ok(Err(_)) => Err(unavailable("the helper has ended: start smtpd again")),
            Err(_) => Err(unavailable("no answer in time")),
        }
    }

    /// Starts the thread that reads answers, at the first question.
    fn reads(&self) -> bool {
        *self.reader.get_or_init(|| {
            let (socket, waiting) = (self.socket.clone(), self.waiting.clone());
            let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
            let service = self.service.clone();
            let read = move || {
                read(&socket, &waiting);
                if !lock(&waiting).unwanted {
                    common::error!(
                        "the PAM helper for service {service} has ended: nobody can log in until smtpd is started again"
                    );
                }
                // Not a zombie.
                child.map(|mut child| child.wait())
            };
            std::thread::Builder::new().name("pam".into()).spawn(read).is_ok()
        })
    }
}

impl Drop for Pam {
    /// The helper ends when the other end of its socket does.
    fn drop(&mut self) {
        lock(&self.waiting).unwanted = true;
        let _ = shutdown(self.socket.as_fd().as_raw_fd(), Shutdown::Both);
        if let Some(child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = child.wait();
        }
    }
}

/// A question that nobody waits for any more is forgotten.
struct Gone<'a>(&'a Mutex<Waiting>, u64);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        lock(self.0).by_id.remove(&self.1);
    }
}

fn enter(waiting: &Mutex<Waiting>, sender: oneshot::Sender<Verdict>) -> Option<u64> {
    let mut waiting = lock(waiting);
    if waiting.ended {
        return None;
    }
    waiting.last += 1;
    let number = waiting.last;
    waiting.by_id.insert(number, sender);
    Some(number)
}

fn read(socket: &PacketSocket, waiting: &Mutex<Waiting>) {
    while let Ok(Some(packet)) = socket.receive() {
        // The helper is ours, but what it loads is not.
        let Some((number, verdict)) = Verdict::decode(&packet.bytes) else { break };
        if let Some(sender) = lock(waiting).by_id.remove(&number) {
            let _ = sender.send(verdict);
        }
    }
    let mut waiting = lock(waiting);
    waiting.ended = true;
    waiting.by_id.clear();
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
