//! What cannot be read goes to `corrupt/`, under a name that is still free there: never deleted, never in the way of anything else.

use super::Disk;
use common::text::printable_bytes;
use spool::layout::Queue;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names tried for one file.
const TRIES: u32 = 1000;

/// Moves the file away and says why. A file that vanished meanwhile is nobody's worry.
pub(super) fn set_aside(disk: &Disk, path: &Path, why: &str) {
    let Some(name) = path.file_name() else { return };
    let shown = printable_bytes(name.as_bytes(), 255);
    for number in 0..TRIES {
        let mut target = OsString::from(name);
        if number > 0 {
            target.push(format!(".{number}"));
        }
        match disk.spool.storage().rename(path, &disk.spool.directory(Queue::Corrupt).join(&target)) {
            Ok(()) => {
                let target = printable_bytes(target.as_bytes(), 255);
                common::error!("{shown}: {why}: moved to corrupt/{target}");
                return;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                common::error!("{shown}: {why}: cannot be moved to corrupt/: {error}");
                return;
            }
        }
    }
    common::error!("{shown}: {why}: no free name in corrupt/");
}
