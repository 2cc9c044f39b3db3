//! The side of whoever asks a daemon to read everything anew, and hands it the files that it could not open itself.
//!
//! Descriptors are handed only to a daemon that root has started or that runs as the expected user: the socket's folder belongs to one
//! of the daemons, and what is in another's files is none of its business. To anyone else just the request goes.

use super::door::{Answer, FILES, PACKET_TIME, RELOAD_TIME, Request};
use super::{Report, State};
use crate::codec;
use crate::packet::{MAX_PACKET, PacketSocket};
use nix::unistd::Uid;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why a daemon did not report.
#[derive(Debug)]
pub enum Unanswered {
    /// It does not run.
    Down,
    /// The way to its socket is barred for this user.
    Barred(io::Error),
    /// It said no, or nothing that can be understood.
    Lost(String),
}

/// Opens files for handing over; with the text about those that cannot be. A path that is there twice is opened once.
pub fn open<'a>(paths: impl IntoIterator<Item = &'a Path>) -> (Vec<(PathBuf, File)>, Vec<String>) {
    let (mut files, mut problems) = (Vec::<(PathBuf, File)>::new(), Vec::new());
    for path in paths {
        if files.iter().any(|(known, _)| known == path) {
            continue;
        }
        // Never waits for the other end of a pipe.
        let opened =
            File::options().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY).open(path);
        match opened.and_then(|file| Ok((file.metadata()?.is_file(), file))) {
            Ok((true, file)) => files.push((path.to_owned(), file)),
            Ok((false, _)) => problems.push(format!("{}: it is no regular file", path.display())),
            Err(error) => problems.push(format!("{}: cannot read: {error}", path.display())),
        }
    }
    (files, problems)
}

/// Asks the daemon at this socket, which should be `user`'s.
pub fn ask(socket: &Path, user: Uid, files: &[(PathBuf, File)]) -> Result<Report, Unanswered> {
    let lost = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => Unanswered::Lost("it does not answer in time".into()),
        _ => Unanswered::Lost(error.to_string()),
    };
    let socket = connect(socket)?;
    let owner = socket.peer().map_err(lost)?.uid();
    let trusted = owner == 0 || owner == user.as_raw();
    socket.set_timeout(PACKET_TIME).map_err(lost)?;
    let send = |request: &Request, files: &[(PathBuf, File)]| {
        let bytes = codec::encode(request).map_err(io::Error::other)?;
        let files: Vec<_> = files.iter().map(|(_, file)| file.as_fd()).collect();
        socket.send(&bytes, &files)
    };
    let sent = || {
        for part in files.chunks(FILES).filter(|_| trusted) {
            let paths = part.iter().map(|(path, _)| path.as_os_str().as_bytes().to_vec()).collect();
            send(&Request::Files(paths), part)?;
        }
        send(&Request::Reload, &[])
    };
    // One that is refused is told so before it has sent everything: its answer counts, not the broken pipe.
    let sent = sent();
    socket.set_timeout(RELOAD_TIME + PACKET_TIME).map_err(lost)?;
    // What it has not read makes the first attempt fail; its words come with the second.
    let received = match socket.receive() {
        Ok(None) => socket.receive(),
        other => other,
    };
    let answer = match (received, sent) {
        (Ok(Some(packet)), _) => packet,
        (_, Err(error)) | (Err(error), _) => return Err(lost(error)),
        (Ok(None), Ok(())) => return Err(Unanswered::Lost("it hung up".into())),
    };
    match codec::decode::<Answer, MAX_PACKET>(&answer.bytes) {
        Ok(Answer::Report(report)) => Ok(report),
        Ok(Answer::Refused(text)) => Err(Unanswered::Lost(text)),
        Ok(Answer::State(_)) => Err(Unanswered::Lost("it answers another question".into())),
        Err(error) => Err(Unanswered::Lost(error.to_string())),
    }
}

/// Asks the daemon at this socket how it is.
pub fn state(socket: &Path) -> Result<State, Unanswered> {
    let lost = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => Unanswered::Lost("it does not answer in time".into()),
        _ => Unanswered::Lost(error.to_string()),
    };
    let socket = connect(socket)?;
    socket.set_timeout(PACKET_TIME).map_err(lost)?;
    let question = codec::encode(&Request::Status).map_err(|error| Unanswered::Lost(error.to_string()))?;
    let sent = socket.send(&question, &[]);
    // One that refuses us hangs up before it has read anything: its words come all the same.
    let received = match socket.receive() {
        Ok(None) => socket.receive(),
        other => other,
    };
    let packet = match (received, sent) {
        (Ok(Some(packet)), _) => packet,
        (_, Err(error)) | (Err(error), _) => return Err(lost(error)),
        (Ok(None), Ok(())) => return Err(Unanswered::Lost("it hung up".into())),
    };
    match codec::decode::<Answer, MAX_PACKET>(&packet.bytes) {
        Ok(Answer::State(state)) => Ok(state),
        Ok(Answer::Refused(text)) => Err(Unanswered::Lost(text)),
        Ok(Answer::Report(_)) => Err(Unanswered::Lost("it answers another question".into())),
        Err(error) => Err(Unanswered::Lost(error.to_string())),
    }
}

fn connect(socket: &Path) -> Result<PacketSocket, Unanswered> {
    PacketSocket::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Unanswered::Down,
        io::ErrorKind::PermissionDenied => Unanswered::Barred(error),
        _ => Unanswered::Lost(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::door::Door;
    use super::*;
    use crate::identity::Identity;
    use crate::secret::Secrets;
    use std::fs;

    #[test]
    fn files_are_opened_once_and_what_is_no_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "x").unwrap();
        let missing = folder.path().join("b");
        let (files, problems) =
            open([path.as_path(), &missing, &path, folder.path(), Path::new("/dev/null")]);
        assert_eq!(files.len(), 1);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("b: cannot read") && problems[2].contains("no regular file"));
    }

    #[test]
    fn many_files_reach_the_daemon_and_its_report_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let nobody = Uid::from_raw(61_999);
        let me = nix::unistd::geteuid();
        assert!(matches!(ask(&socket, me, &[]), Err(Unanswered::Down)));
        assert!(matches!(state(&socket), Err(Unanswered::Down)));
        let identity = Identity { name: "me".into(), uid: me, gid: nix::unistd::getegid() };
        let secrets = Secrets::new(&identity);
        let seen = secrets.clone();
        let path = |n: usize| folder.path().join(format!("{n}"));
        let paths: Vec<_> = (0..20).map(path).collect();
        for path in &paths {
            fs::write(path, "handed over").unwrap();
        }
        let (files, _) = open(paths.iter().map(PathBuf::as_path));
        for path in &paths {
            fs::remove_file(path).unwrap();
        }
        Door::open(&socket)
            .unwrap()
            .telling(|| vec!["take\ncare".to_owned()])
            .serve(secrets.clone(), move |wish| {
                let readable = paths.iter().filter(|path| seen.read(path, 100).is_ok()).count();
                let mut report = Report::default();
                report.done(&format!("{readable} files"));
                wish.answer(report);
            })
            .unwrap();
        let said = |user, files: &[_]| ask(&socket, user, files).unwrap().lines()[0].text().to_owned();
        assert_eq!(said(me, &files), "20 files");
        assert_eq!(said(me, &[]), "0 files", "they live as long as a call");
        let state = state(&socket).unwrap();
        assert_eq!((state.pid, state.warnings), (std::process::id(), vec!["take\\x0acare".to_owned()]));
        if !me.is_root() {
            assert_eq!(said(nobody, &files), "0 files", "not for somebody else's eyes");
        }
    }
}
