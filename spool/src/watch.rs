//! Hearing of new messages as they are linked: inotify. Only a hint: whoever watches also scans at the start and after an overflow.

use crate::id::QueueId;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::io;
use std::path::Path;

/// What happened in a watched folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A complete message appeared in the folder with this number.
    New {
        /// Index of the folder in the list given to [`Watch::new`].
        folder: usize,
        /// Its name.
        id: QueueId,
    },
    /// A name that is no queue ID appeared: worth a scan of that folder.
    Stray {
        /// Index of the folder.
        folder: usize,
    },
    /// Events were lost: scan everything.
    Overflow,
}

/// Watches some folders.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    folders: Vec<WatchDescriptor>,
}

impl Watch {
    /// Begins to watch. Events since then are kept by the kernel until read, so: watch first, then scan.
    pub fn new(folders: &[&Path]) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        let folders = folders.iter().map(|path| inotify.add_watch(*path, flags)).collect::<Result<_, _>>()?;
        Ok(Self { inotify, folders })
    }

    /// Waits for events.
    pub fn read(&self) -> io::Result<Vec<Event>> {
        let events = loop {
            match self.inotify.read_events() {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        let mut out = Vec::with_capacity(events.len());
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                out.push(Event::Overflow);
                continue;
            }
            let Some(folder) = self.folders.iter().position(|wd| *wd == event.wd) else { continue };
            if let Some(name) = event.name {
                out.push(match name.to_str().and_then(|name| name.parse().ok()) {
                    Some(id) => Event::New { folder, id },
                    None => Event::Stray { folder },
                });
            }
        }
        Ok(out)
    }
}
