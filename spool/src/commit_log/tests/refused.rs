//! What was logged and then refused, because its file got no name.

use super::*;

fn refuse(lab: &Lab, committer: &Committer, faults: &[Fault]) {
    lab.fails(faults);
    assert!(matches!(lab.commit(committer), Commit::Failed(_)));
    lab.heals();
}

/// How many messages come back after a power cut that takes all files.
fn come_back(lab: &Lab) -> usize {
    let incoming = || fs::read_dir(lab.spool.directory(Queue::Incoming)).unwrap();
    incoming().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
    lab.release();
    lab.keeper_in("the next boot");
    incoming().count()
}

#[test]
fn what_was_refused_does_not_come_back() {
    for fault in [("link", "incoming", Errno::ENOSPC), ("write_at", "incoming", Errno::EDQUOT)] {
        let lab = Lab::new();
        let (_keeper, committer) = (lab.keeper(), lab.committer());
        let before = lab.accept(&committer);
        refuse(&lab, &committer, &[fault]);
        let after = lab.accept(&committer);
        assert_eq!(come_back(&lab), 2, "{fault:?}");
        assert!(lab.path(before).exists() && lab.path(after).exists());
    }
}

/// The name is that of another message, whose record it may need.
#[test]
fn a_name_that_is_taken_takes_nothing_back() {
    let lab = Lab::new();
    let (_keeper, committer) = (lab.keeper(), lab.committer());
    lab.accept(&committer);
    refuse(&lab, &committer, &[("link", "incoming", Errno::EEXIST)]);
    assert_eq!(come_back(&lab), 2);
}
