//! A sync of the file system that fails closes the log until the next boot.

use super::*;

/// A log in use, whose next sync of the file system fails.
fn frozen(faults: &[Fault]) -> (Lab, Keeper) {
    let lab = Lab::new();
    let keeper = lab.keeper();
    lab.accept(&lab.committer());
    lab.release();
    let mut all = vec![("sync_all", "", Errno::EIO)];
    all.extend_from_slice(faults);
    lab.fails(&all);
    let _ = keeper.tend();
    (lab, keeper)
}

/// Nothing is given back, and nothing is begun.
fn is_closed(lab: &Lab, keeper: &Keeper) {
    keeper.tend().unwrap();
    assert_eq!(lab.names("claims"), ["0"]);
    assert!(matches!(lab.commit(&lab.committer()), Commit::AsFile(_)));
}

#[test]
fn what_could_not_be_synced_is_not_given_back_before_the_next_boot() {
    // However full the disk.
    let full = [("create_unnamed", "", Errno::ENOSPC), ("write_at", "", Errno::ENOSPC)];
    let (lab, keeper) = frozen(&full);
    lab.heals();
    is_closed(&lab, &keeper);
    is_closed(&lab, &lab.keeper_in(BOOT));
    let keeper = lab.keeper_in("the next boot");
    keeper.tend().unwrap();
    assert_eq!(lab.names("claims").len(), 0);
    assert_eq!(lab.names("."), ["boot", "claims", "done", "segments"]);
}

#[test]
fn a_freeze_that_cannot_be_written_down_is_tried_again() {
    let (lab, keeper) = frozen(&[("rename", "frozen", Errno::EIO)]);
    lab.fails(&[("rename", "frozen", Errno::EIO)]);
    assert!(keeper.tend().is_err());
    assert_eq!(lab.names("claims"), ["0"], "given back by a sync that saw nothing");
    lab.heals();
    is_closed(&lab, &keeper);
    is_closed(&lab, &lab.keeper_in(BOOT));
}
