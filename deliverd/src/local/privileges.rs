//! How a child that was started by root becomes the receiving user, for good, and makes sure of it.
//!
//! Called first of all, while the process has one thread and has read nothing but the parent's own frame.
//! Any doubt is an error, and then the child must end: it has no business with a message.

use super::frames::Owner;
use caps::CapSet;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};

/// Becomes `owner`, without capabilities even where that is uid 0. The error says what could not be done.
pub fn become_owner(owner: &Owner) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    let mut groups = vec![gid];
    groups.extend(owner.mail_group.filter(|group| *group != 0).map(Gid::from_raw));
    // Needs a capability that is about to go. Where it is not there (some containers), the empty sets below
    // have to do.
    let _ = caps::clear(None, CapSet::Bounding);
    setgroups(&groups).map_err(|error| format!("cannot set groups: {error}"))?;
    setresgid(gid, gid, gid).map_err(|error| format!("cannot become gid {gid}: {error}"))?;
    setresuid(uid, uid, uid).map_err(|error| format!("cannot become uid {uid}: {error}"))?;
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| format!("cannot drop capabilities: {error}"))?;
    }
    prctl::set_no_new_privs().map_err(|error| format!("cannot set no_new_privs: {error}"))?;
    // Other processes of that user may not look inside.
    prctl::set_dumpable(false).map_err(|error| format!("cannot hide from other processes: {error}"))?;
    verify(uid, gid, &groups)
}

fn verify(uid: Uid, gid: Gid, groups: &[Gid]) -> Result<(), String> {
    let failed = |error| format!("cannot check identity: {error}");
    let (uids, gids) = (getresuid().map_err(failed)?, getresgid().map_err(failed)?);
    if [uids.real, uids.effective, uids.saved] != [uid; 3]
        || [gids.real, gids.effective, gids.saved] != [gid; 3]
    {
        return Err(format!("still not uid {uid} gid {gid}"));
    }
    let mut have = getgroups().map_err(failed)?;
    let mut wanted = groups.to_vec();
    for list in [&mut have, &mut wanted] {
        list.sort_by_key(|group| group.as_raw());
        list.dedup();
    }
    if have != wanted {
        return Err("still in groups of root".into());
    }
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        if !caps::read(None, set).map_err(|error| format!("cannot check capabilities: {error}"))?.is_empty() {
            return Err("still has capabilities".into());
        }
    }
    // The proof: what only root may do must fail.
    let root = Uid::from_raw(0);
    if setgroups(&[gid]).is_ok() || (!uid.is_root() && setresuid(root, root, root).is_ok()) {
        return Err("can still become root".into());
    }
    match prctl::get_no_new_privs() {
        Ok(true) => Ok(()),
        _ => Err("could still gain privileges".into()),
    }
}
