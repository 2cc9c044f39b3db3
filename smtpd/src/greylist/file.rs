//! The greylist on disk: a text file, a line an entry, written whole beside the old one and then put in its place.
//!
//! Written now and then and at the end; what a crash loses is only that somebody has to come again once more. A line that cannot be read is
//! passed over. Holds addresses of senders and recipients: only smtpd can read it.

use super::{Greylist, State};
use common::time::Timestamp;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const HEAD: &str = "# Ironpost's greylist, version 1: kind, time, entry";
/// Largest file that is read, in octets.
const MAX_FILE: u64 = 256 << 20;
/// Longest entry, in octets: two addresses and a network.
const MAX_KEY: usize = 700;

impl Greylist {
    /// Takes the file's entries over; gives how many, and how many lines could not be read. No file: none.
    pub fn load(&self, path: &Path) -> io::Result<(usize, usize)> {
        let text = match fs::metadata(path) {
            Ok(meta) if meta.len() > MAX_FILE => return Err(io::Error::other("larger than 256 MiB")),
            Ok(_) => fs::read_to_string(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
            Err(error) => return Err(error),
        };
        let mut state = State::default();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let bad = lines.filter(|line| state.read(line).is_none()).count();
        let count = state.len();
        *self.lock() = state;
        Ok((count, bad))
    }

    /// Writes the file, if anything has changed since.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = {
            let mut state = self.lock();
            if !std::mem::take(&mut state.changed) {
                return Ok(());
            }
            state.write()
        };
        let written = replace(path, &text);
        if written.is_err() {
            self.lock().changed = true;
        }
        written
    }
}

impl State {
    fn read(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once('\t')?;
        let (time, rest) = rest.split_once('\t')?;
        let time = Timestamp::from_seconds(time.parse().ok()?);
        match kind {
            "new" | "known" if rest.len() <= MAX_KEY && rest.split('\t').count() == 3 => {
                let map = if kind == "new" { &mut self.new } else { &mut self.known };
                map.insert(rest.into(), time);
            }
            "client" => {
                let (count, network) = rest.split_once('\t')?;
                self.clients.insert(network.parse().ok()?, (count.parse().ok()?, time));
            }
            _ => return None,
        }
        Some(())
    }

    fn write(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for (kind, map) in [("new", &self.new), ("known", &self.known)] {
            for (key, time) in map {
                let _ = writeln!(text, "{kind}\t{}\t{key}", time.seconds());
            }
        }
        for (network, (count, last)) in &self.clients {
            let _ = writeln!(text, "client\t{}\t{count}\t{network}", last.seconds());
        }
        text
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::Greylist as Settings;

    #[test]
    fn what_is_known_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("greylist");
        let list = Greylist::default();
        assert_eq!(list.load(&path).unwrap(), (0, 0));
        let settings = Settings::default();
        let meet = |list: &Greylist, seconds| {
            let sender = "\"a b\"@b.example".parse().map(common::address::ReversePath::Address).unwrap();
            let network = "2001:db8::/64".parse().unwrap();
            let now = Timestamp::from_seconds(seconds);
            list.meet(network, &sender, &"joe@here.example".parse().unwrap(), &settings, now)
        };
        assert!(meet(&list, 1000).is_some());
        assert!(meet(&list, 1300).is_none());
        list.save(&path).unwrap();
        let again = Greylist::default();
        assert_eq!(again.load(&path).unwrap(), (2, 0));
        again.lock().changed = list.lock().changed;
        assert_eq!(*again.lock(), *list.lock());
        assert!(meet(&again, 1400).is_none());
        // Damage costs the damaged lines.
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}nonsense\nnew\tx\ty\nclient\t1\t2\tz\n\tknown\t\n")).unwrap();
        assert_eq!(again.load(&path).unwrap(), (2, 4));
    }
}
