//! What a power cut took comes back, whatever is in the way.

use super::*;
use crate::queue_file::QueueFile;

const NEXT: &str = "the next boot";
const ROOM: Fault = ("write_at", "incoming", Errno::ENOSPC);

/// Four messages in the log of an earlier boot, and their files.
fn logged() -> (Lab, Vec<QueueId>) {
    let lab = Lab::new();
    let (_keeper, committer) = (lab.keeper(), lab.committer());
    let ids = (0..4).map(|_| lab.accept(&committer)).collect();
    lab.release();
    (lab, ids)
}

impl Lab {
    fn is_whole(&self, id: QueueId) -> bool {
        QueueFile::open(&self.path(id)).is_ok()
    }

    fn whole(&self, ids: &[QueueId]) -> Vec<bool> {
        ids.iter().map(|id| self.is_whole(*id)).collect()
    }

    /// For a boot after the first.
    fn is_open(&self) -> bool {
        fs::read_to_string(folder(&self.spool, "boot")).is_ok_and(|boot| boot != BOOT)
    }

    fn corrupt(&self) -> Vec<String> {
        let entries = fs::read_dir(self.spool.directory(Queue::Corrupt)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_full_disk_keeps_the_log_closed_until_there_is_room() {
    let (lab, ids) = logged();
    fs::remove_file(lab.path(ids[0])).unwrap();
    fs::write(lab.path(ids[1]), "torn").unwrap();
    lab.fails(&[ROOM, ("create_unnamed", "", Errno::ENOSPC)]);
    let keeper = lab.keeper_in(NEXT);
    assert!(!lab.is_open() && lab.is_whole(ids[2]) && lab.is_whole(ids[3]));
    // The queue is at work meanwhile. What leaves it does not come back, once that could be noted.
    fs::remove_file(lab.path(ids[2])).unwrap();
    keeper.completed(ids[2]);
    assert!(keeper.retry_restore().is_err(), "noted on a full disk");
    lab.fails(&[ROOM]);
    keeper.retry_restore().unwrap();
    assert!(!lab.is_open() && !lab.is_whole(ids[0]) && !lab.is_whole(ids[1]));
    assert_eq!(lab.names("done").len(), 1);
    // Nothing of it is lost by another boot.
    drop(keeper);
    let keeper = lab.keeper_in("the boot after that");
    assert!(!lab.is_open());
    lab.heals();
    keeper.tend().unwrap();
    assert!(!lab.is_open(), "tried at every look");
    keeper.retry_restore().unwrap();
    assert!(lab.is_open());
    assert_eq!(lab.whole(&ids), [true, true, false, true]);
    assert_eq!((lab.names("claims").len(), lab.names("done").len()), (0, 0));
    keeper.tend().unwrap();
    assert!(lab.corrupt().is_empty());
}

#[test]
fn what_is_no_file_goes_to_corrupt_and_the_message_comes_back() {
    let (lab, ids) = logged();
    for id in &ids[..2] {
        fs::remove_file(lab.path(*id)).unwrap();
    }
    std::os::unix::fs::symlink("/dev/zero", lab.path(ids[0])).unwrap();
    fs::create_dir(lab.path(ids[1])).unwrap();
    fs::write(lab.spool.directory(Queue::Corrupt).join(ids[1].as_str()), "an older one").unwrap();
    lab.keeper_in(NEXT);
    assert!(lab.is_open());
    assert_eq!(lab.whole(&ids), [true; 4]);
    assert_eq!(lab.corrupt(), [ids[0].to_string(), ids[1].to_string(), format!("{}.1", ids[1])]);
}

#[test]
fn names_in_maildrop_mean_nothing() {
    let (lab, ids) = logged();
    for id in &ids[..2] {
        fs::copy(lab.path(ids[2]), lab.spool.path(Queue::Maildrop, *id)).unwrap();
    }
    fs::remove_file(lab.path(ids[0])).unwrap();
    fs::rename(lab.path(ids[1]), lab.spool.path(Queue::Active, ids[1])).unwrap();
    fs::write(lab.spool.path(Queue::Maildrop, ids[3]), "torn").unwrap();
    lab.keeper_in(NEXT);
    assert_eq!(lab.whole(&ids), [true, false, true, true]);
    assert!(QueueFile::open(&lab.spool.path(Queue::Active, ids[1])).is_ok());
    assert_eq!(fs::read_dir(lab.spool.directory(Queue::Maildrop)).unwrap().count(), 3);
}

/// It stays in the log, and so does all the rest of it, until the next start.
#[test]
fn one_message_that_cannot_be_dealt_with_holds_up_no_other() {
    let (lab, ids) = logged();
    for id in &ids[..2] {
        fs::write(lab.path(*id), "torn").unwrap();
    }
    lab.fails(&[("remove", "incoming", Errno::EIO)]);
    fs::remove_file(lab.path(ids[2])).unwrap();
    let keeper = lab.keeper_in(NEXT);
    assert_eq!(lab.whole(&ids), [false, false, true, true]);
    keeper.retry_restore().unwrap();
    assert!(!lab.is_open());
    lab.heals();
    keeper.retry_restore().unwrap();
    assert!(!lab.is_open());
    lab.keeper_in(NEXT);
    assert!(lab.is_open());
    assert_eq!(lab.whole(&ids), [true; 4]);
}

#[test]
fn a_mark_that_cannot_be_made_changes_nothing() {
    let (lab, ids) = logged();
    fs::write(lab.path(ids[0]), "torn").unwrap();
    fs::remove_file(lab.path(ids[1])).unwrap();
    for fault in [
        ("rename", "commit/restoring", Errno::EROFS),
        ("write_at", "commit/restoring", Errno::EIO),
        ("sync_file", "commit/restoring", Errno::EIO),
        ("sync_folder", "commit", Errno::EIO),
    ] {
        lab.fails(&[fault]);
        let keeper = lab.keeper_in(NEXT);
        lab.heals();
        keeper.retry_restore().unwrap();
        assert_eq!((lab.is_open(), fs::read(lab.path(ids[0])).unwrap()), (false, b"torn".to_vec()));
        assert!(!lab.path(ids[1]).exists());
    }
    lab.keeper_in(NEXT);
    assert_eq!((lab.is_open(), lab.whole(&ids)), (true, vec![true; 4]));
}

#[test]
fn notes_that_cannot_be_read_are_passed_over() {
    let (lab, ids) = logged();
    fs::remove_file(lab.path(ids[0])).unwrap();
    fs::create_dir(folder(&lab.spool, "done").join("7")).unwrap();
    fs::write(folder(&lab.spool, "done").join("8"), ids[1].as_str()).unwrap();
    lab.keeper_in(NEXT);
    assert_eq!(lab.whole(&ids), [true, false, true, true]);
}
