//! The daemon's side of `ironpost reload` and `ironpost status`: a socket of its own below `private/`, on which root hands secret files over.
//!
//! Opened before privileges are dropped, so that the caller sees root at this end and nobody who can merely write to the folder can pose
//! as the daemon. Root and the daemon's own user are heard, by the kernel's word; everybody else is refused unheard. One caller at a
//! time, each packet within [`PACKET_TIME`]. Descriptors live as long as that call, but for those that somebody took meanwhile
//! ([`crate::secret::Secrets`]).

use super::{Report, State, Wish};
use crate::codec;
use crate::packet::{MAX_FILES, MAX_PACKET, PacketListener, PacketSocket};
use crate::secret::Secrets;
use crate::time::Timestamp;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Most files that are handed over in one call.
pub const MAX_SECRETS: usize = 1024;
/// So long a caller may take for a packet.
pub const PACKET_TIME: Duration = Duration::from_secs(10);
/// So long reading everything anew may take.
pub const RELOAD_TIME: Duration = Duration::from_secs(60);

/// What is asked; a call is any number of `Files`, then `Reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Files with these paths are attached, in this order.
    Files(Vec<Vec<u8>>),
    /// Read everything anew.
    Reload,
    /// How are you?
    Status,
}

/// The one answer to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// What came of it.
    Report(Report),
    /// Nothing was done.
    Refused(String),
    /// How it is.
    State(State),
}

/// What an admin should do something about, when somebody asks.
type Warnings = Box<dyn Fn() -> Vec<String> + Send>;

/// The socket.
pub struct Door {
    listener: PacketListener,
    since: Timestamp,
    warnings: Warnings,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Door {
    /// Binds it at `path`, for its owner alone.
    pub fn open(path: &Path) -> io::Result<Self> {
        let named =
            |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {}: {e}", path.display()));
        let listener = PacketListener::bind(path, 0o600).map_err(named)?;
        Ok(Self { listener, since: Timestamp::now(), warnings: Box::new(Vec::new) })
    }

    /// From now on `ironpost status` is told these warnings.
    #[must_use]
    pub fn telling(self, warnings: impl Fn() -> Vec<String> + Send + 'static) -> Self {
        Self { warnings: Box::new(warnings), ..self }
    }

    /// Serves callers until the process ends, on a thread of its own.
    pub fn serve(
        self,
        secrets: Arc<Secrets>,
        mut reload: impl FnMut(Wish) + Send + 'static,
    ) -> io::Result<()> {
        let serve = move || {
            let state = || State::of(self.since, (self.warnings)());
            loop {
                let done = self.listener.accept().map(|socket| {
                    if let Err(error) = converse(&socket, geteuid().as_raw(), &secrets, &state, &mut reload) {
                        crate::warn!("ironpost reload: not answered: {error}");
                    }
                    secrets.forget();
                });
                if let Err(error) = done {
                    crate::error!("cannot accept ironpost reload: {error}");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        };
        std::thread::Builder::new().name("reload".into()).spawn(serve).map(drop)
    }
}

/// Hears one caller, when it is root or `me`.
fn converse(
    socket: &PacketSocket,
    me: u32,
    secrets: &Secrets,
    state: &impl Fn() -> State,
    reload: &mut impl FnMut(Wish),
) -> io::Result<()> {
    socket.set_timeout(PACKET_TIME)?;
    let uid = socket.peer()?.uid();
    if uid != 0 && uid != me {
        crate::warn!("ironpost reload: uid {uid} is refused: neither root nor the user of this daemon");
        return answer(socket, &Answer::Refused("only root and the daemon's own user may do this".into()));
    }
    let mut count = 0;
    loop {
        let Some(packet) = socket.receive()? else { return Ok(()) };
        let request = codec::decode::<Request, MAX_PACKET>(&packet.bytes);
        match request {
            Ok(Request::Files(paths)) if paths.len() == packet.files.len() => {
                count += paths.len();
                if count > MAX_SECRETS {
                    return answer(socket, &Answer::Refused(format!("more than {MAX_SECRETS} files")));
                }
                for (path, file) in paths.into_iter().zip(packet.files) {
                    let path = PathBuf::from(OsString::from_vec(path));
                    if let Err(what) = secrets.hand_over(&path, File::from(file)) {
                        return answer(socket, &Answer::Refused(format!("{}: {what}", path.display())));
                    }
                }
            }
            Ok(Request::Reload) if packet.files.is_empty() => break,
            Ok(Request::Status) if packet.files.is_empty() => return answer(socket, &Answer::State(state())),
            Ok(_) => return answer(socket, &Answer::Refused("files without paths".into())),
            Err(error) => {
                return answer(socket, &Answer::Refused(format!("request not understood: {error}")));
            }
        }
    }
    let (waiting, report) = sync_channel(1);
    reload(Wish::of(waiting));
    match report.recv_timeout(RELOAD_TIME) {
        Ok(report) => answer(socket, &Answer::Report(report)),
        Err(_) => answer(socket, &Answer::Refused("the daemon is stopping or stuck".into())),
    }
}

fn answer(socket: &PacketSocket, answer: &Answer) -> io::Result<()> {
    socket.send(&codec::encode(answer).map_err(io::Error::other)?, &[])
}

/// Files of one packet.
pub(super) const FILES: usize = MAX_FILES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use std::fs;
    use std::os::fd::AsFd;

    fn secrets() -> Arc<Secrets> {
        let me = Identity { name: "me".into(), uid: geteuid(), gid: nix::unistd::getegid() };
        Secrets::new(&me)
    }

    /// What is answered to these packets, each with so many descriptors of `file`.
    fn said(me: u32, file: &Path, packets: &[(Vec<u8>, usize)]) -> (Option<Answer>, usize) {
        let (ours, theirs) = PacketSocket::pair().unwrap();
        let file = File::open(file).unwrap();
        for (bytes, files) in packets {
            ours.send(bytes, &vec![file.as_fd(); *files]).unwrap();
        }
        let mut wishes = 0;
        let mut reload = |wish: Wish| {
            wishes += 1;
            let mut report = Report::default();
            report.taken();
            wish.answer(report);
        };
        converse(&theirs, me, &secrets(), &|| State::of(Timestamp(1), vec!["x\ny".into()]), &mut reload)
            .unwrap();
        drop(theirs);
        // What was not read makes the first attempt fail.
        let answer = ours.receive().unwrap().or_else(|| ours.receive().unwrap());
        (answer.map(|packet| codec::decode::<Answer, MAX_PACKET>(&packet.bytes).unwrap()), wishes)
    }

    #[test]
    fn only_whole_calls_of_the_right_users_are_heard() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "x").unwrap();
        let me = geteuid().as_raw();
        let frame = |request: &Request| codec::encode(request).unwrap();
        let path = file.as_os_str().as_encoded_bytes().to_vec();
        let (one, reload) = (frame(&Request::Files(vec![path.clone()])), frame(&Request::Reload));
        let refused = |answer: Option<Answer>, says: &str| match answer {
            Some(Answer::Refused(text)) => assert!(text.contains(says), "{text}"),
            other => panic!("{says}: {other:?}"),
        };
        let (answer, wishes) = said(me, &file, &[(one.clone(), 1), (one.clone(), 1), (reload.clone(), 0)]);
        assert!(matches!(answer, Some(Answer::Report(report)) if report.is_whole()) && wishes == 1);
        // Another user than root or the daemon's own. As root nobody is.
        if me != 0 {
            let (answer, wishes) = said(me + 1, &file, &[(one.clone(), 1), (reload.clone(), 0)]);
            refused(answer, "only root");
            assert_eq!(wishes, 0);
        }
        for (packets, says) in [
            (vec![(one.clone(), 2)], "files without paths"),
            (vec![(one.clone(), 0)], "files without paths"),
            (vec![(reload.clone(), 1)], "files without paths"),
            (vec![(frame(&Request::Files(vec![b"secret".to_vec()])), 1)], "not absolute"),
            (vec![(b"nonsense".to_vec(), 0)], "not understood"),
            (vec![(one[..one.len() - 1].to_vec(), 1)], "not understood"),
        ] {
            let (answer, wishes) = said(me, &file, &packets);
            refused(answer, says);
            assert_eq!(wishes, 0);
        }
        let many = (frame(&Request::Files(vec![path; FILES])), FILES);
        let (answer, _) = said(me, &file, &vec![many; MAX_SECRETS / FILES + 1]);
        refused(answer, "more than");
        let folder_itself = frame(&Request::Files(vec![b"/x".to_vec()]));
        let (answer, _) = said(me, folder.path(), &[(folder_itself, 1)]);
        refused(answer, "no regular file");
    }
}
