//! What has left the queue is noted, whatever fails in between.

use super::*;

/// All that is noted.
fn noted(lab: &Lab) -> Vec<QueueId> {
    let files = lab.names("done").into_iter().map(|name| folder(&lab.spool, "done").join(name));
    let text: String = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    text.as_bytes().chunks(16).map(|id| std::str::from_utf8(id).unwrap().parse().unwrap()).collect()
}

fn leaves(lab: &Lab, keeper: &Keeper, id: QueueId) {
    fs::remove_file(lab.path(id)).unwrap();
    keeper.completed(id);
}

#[test]
fn what_cannot_be_noted_is_noted_later() {
    for fault in [
        ("create_unnamed", "commit/done", Errno::ENOSPC),
        ("write_at", "commit/done", Errno::ENOSPC),
        ("sync_file", "commit/done", Errno::EIO),
        ("link", "commit/done", Errno::ENOSPC),
        // The name is there already then.
        ("sync_folder", "commit/done", Errno::EIO),
    ] {
        let lab = Lab::new();
        let (keeper, committer) = (lab.keeper(), lab.committer());
        let ids = [lab.accept(&committer), lab.accept(&committer), lab.accept(&committer)];
        leaves(&lab, &keeper, ids[0]);
        lab.fails(&[fault]);
        for _ in 0..3 {
            assert!(keeper.tend().is_err(), "{fault:?}");
        }
        assert_eq!(lab.names("done").len(), 0, "{fault:?}: something is left behind");
        leaves(&lab, &keeper, ids[1]);
        lab.heals();
        keeper.tend().unwrap();
        assert_eq!(noted(&lab), ids[..2], "{fault:?}");
        leaves(&lab, &keeper, ids[2]);
        keeper.tend().unwrap();
        assert_eq!(noted(&lab), ids, "{fault:?}");
    }
}

#[test]
fn a_file_that_could_not_be_synced_is_left_for_another() {
    for fault in [("write_at", "commit/done", Errno::ENOSPC), ("sync_file", "commit/done", Errno::EIO)] {
        let lab = Lab::new();
        let (keeper, committer) = (lab.keeper(), lab.committer());
        let ids = [lab.accept(&committer), lab.accept(&committer)];
        leaves(&lab, &keeper, ids[0]);
        keeper.tend().unwrap();
        leaves(&lab, &keeper, ids[1]);
        lab.fails(&[fault]);
        assert!(keeper.tend().is_err());
        lab.heals();
        keeper.tend().unwrap();
        assert_eq!(lab.names("done"), ["0", "1"]);
        assert_eq!(noted(&lab).iter().filter(|id| ids.contains(id)).count(), noted(&lab).len());
        assert!(ids.iter().all(|id| noted(&lab).contains(id)));
        // Both go with the segment.
        drop(committer);
        lab.release();
        keeper.tend().unwrap();
        assert_eq!((lab.names("done").len(), lab.names("claims").len()), (0, 0));
    }
}

#[test]
fn a_name_that_is_taken_is_passed_over() {
    let lab = Lab::new();
    let (keeper, committer) = (lab.keeper(), lab.committer());
    let id = lab.accept(&committer);
    fs::write(folder(&lab.spool, "done").join("0"), "").unwrap();
    leaves(&lab, &keeper, id);
    assert!(keeper.tend().is_err());
    keeper.tend().unwrap();
    assert_eq!(noted(&lab), [id]);
}

#[test]
fn claims_that_cannot_be_looked_at_lose_nothing() {
    let lab = Lab::new();
    let (keeper, committer) = (lab.keeper(), lab.committer());
    let id = lab.accept(&committer);
    leaves(&lab, &keeper, id);
    let claim = folder(&lab.spool, "claims").join("3");
    std::os::unix::fs::symlink("3", &claim).unwrap();
    assert!(keeper.tend().is_err());
    fs::remove_file(claim).unwrap();
    keeper.tend().unwrap();
    assert_eq!(noted(&lab), [id]);
}

#[test]
fn segments_are_given_back_although_nothing_can_be_noted() {
    let lab = Lab::new();
    let (keeper, committer) = (lab.keeper(), lab.committer());
    let id = lab.accept(&committer);
    leaves(&lab, &keeper, id);
    lab.release();
    lab.fails(&[("write_at", "commit/done", Errno::ENOSPC)]);
    assert!(keeper.tend().is_err());
    assert_eq!(lab.names("claims").len(), 0);
    keeper.tend().unwrap();
}

/// The notes of a segment that has its records still are kept.
#[test]
fn a_segment_that_cannot_be_erased_holds_up_no_other_and_keeps_its_notes() {
    let lab = Lab::new();
    let (keeper, committer, other) = (lab.keeper(), lab.committer(), lab.committer());
    let ids = [lab.accept(&committer), lab.accept(&other)];
    ids.iter().for_each(|id| leaves(&lab, &keeper, *id));
    lab.release();
    lab.fails(&[("write_at", "segments/0", Errno::EIO)]);
    assert!(keeper.tend().is_err());
    assert_eq!(lab.names("claims"), ["0"]);
    assert_eq!(noted(&lab).len(), 2);
    lab.heals();
    keeper.tend().unwrap();
    assert_eq!((lab.names("done").len(), lab.names("claims").len()), (0, 0));
}

#[test]
fn what_waits_to_be_noted_is_bounded() {
    let lab = Lab::new();
    let keeper = lab.keeper();
    std::os::unix::fs::symlink("3", folder(&lab.spool, "claims").join("3")).unwrap();
    let id = |n| QueueId::new(Timestamp(1_795_358_702_123_456), n);
    for n in 0..600_000 {
        keeper.completed(id(n));
    }
    assert!(keeper.tend().is_err());
    assert_eq!((keeper.waiting().len(), keeper.waiting().last()), (500_000, Some(&id(599_999))));
}
