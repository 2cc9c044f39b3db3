//! Who each daemon is, and how it becomes that before it reads a byte from outside.
//!
//! Started by root, a daemon takes its own user; where that user does not exist, an unprivileged numeric identity of its own, said in one
//! line. Started by anyone else, everything runs as that user and nothing changes. [`drop_to`] checks that the change happened and
//! cannot be undone; when it cannot be made, the daemon must not go on.

use crate::config::Config;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getresgid, getresuid, setgroups, setresgid, setresuid,
};

/// The group that may add files to `maildrop/` (the `sendmail` program is setgid to it).
pub const MAILDROP_GROUP: &str = "ironpost-maildrop";

/// A user and a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// For messages: a user name, or a number.
    pub name: String,
    /// User.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
}

/// The identities of all daemons. They are all the caller's own when it is not root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identities {
    /// Reads from the network, adds to `incoming/`.
    pub smtpd: Identity,
    /// Owns the spool.
    pub queued: Identity,
    /// Talks to other hosts.
    pub deliverd: Identity,
    /// May add to `maildrop/`.
    pub maildrop: Gid,
}

/// An identity that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A user named in the configuration does not exist.
    #[error("user {0:?} does not exist: create it, or remove the key `user` from the section [{1}]")]
    NoSuchUser(String, &'static str),
    /// A daemon may not run as root.
    #[error("user {0:?} in section [{1}] is root: give the daemon a user of its own")]
    IsRoot(String, &'static str),
    /// A system call failed.
    #[error("cannot become {0}: {1}")]
    Change(String, nix::Error),
    /// The kernel says something else than what was asked for.
    #[error("still privileged after becoming {0}: refusing to go on")]
    NotDropped(String),
}

/// Is this process root (may it change its identity)?
pub fn is_root() -> bool {
    geteuid().is_root()
}

impl Identities {
    /// Finds the identities for this configuration.
    pub fn resolve(config: &Config) -> Result<Self, IdentityError> {
        if !is_root() {
            let me = Identity { name: format!("uid {}", geteuid()), uid: geteuid(), gid: getegid() };
            return Ok(Self { smtpd: me.clone(), queued: me.clone(), maildrop: me.gid, deliverd: me });
        }
        let queued = find(config.queued.user.as_deref(), "queued", "ironpost-queued", 61202)?;
        let maildrop = Group::from_name(MAILDROP_GROUP).ok().flatten().map_or(queued.gid, |group| group.gid);
        Ok(Self {
            smtpd: find(config.smtpd.user.as_deref(), "smtpd", "ironpost-smtpd", 61201)?,
            deliverd: find(config.deliverd.user.as_deref(), "deliverd", "ironpost-deliverd", 61203)?,
            queued,
            maildrop,
        })
    }
}

fn find(
    named: Option<&str>,
    section: &'static str,
    default: &str,
    number: u32,
) -> Result<Identity, IdentityError> {
    let user = User::from_name(named.unwrap_or(default)).ok().flatten();
    match (user, named) {
        (Some(user), _) if user.uid.is_root() => Err(IdentityError::IsRoot(user.name, section)),
        (Some(user), _) => Ok(Identity { name: user.name, uid: user.uid, gid: user.gid }),
        (None, Some(name)) => Err(IdentityError::NoSuchUser(name.to_owned(), section)),
        (None, None) => {
            Ok(Identity { name: format!("{number}"), uid: Uid::from_raw(number), gid: Gid::from_raw(number) })
        }
    }
}

/// Becomes `identity` with just these further groups, for good. Does nothing when this process is not root. To be called before any thread
/// is started and before any byte from outside is read.
pub fn drop_to(identity: &Identity, groups: &[Gid]) -> Result<(), IdentityError> {
    if !is_root() {
        return no_new_privileges(identity);
    }
    if identity.name.parse::<u32>().is_ok() {
        crate::info!("no user of its own exists: running as uid {} gid {}", identity.uid, identity.gid);
    }
    let change = |error| IdentityError::Change(identity.name.clone(), error);
    setgroups(groups).map_err(change)?;
    setresgid(identity.gid, identity.gid, identity.gid).map_err(change)?;
    setresuid(identity.uid, identity.uid, identity.uid).map_err(change)?;
    no_new_privileges(identity)?;
    let (uids, gids) = (getresuid().map_err(change)?, getresgid().map_err(change)?);
    let uids_right = [uids.real, uids.effective, uids.saved].iter().all(|uid| *uid == identity.uid);
    let gids_right = [gids.real, gids.effective, gids.saved].iter().all(|gid| *gid == identity.gid);
    let root = Uid::from_raw(0);
    let can_return = !identity.uid.is_root() && setresuid(root, root, root).is_ok();
    if uids_right && gids_right && !can_return {
        Ok(())
    } else {
        Err(IdentityError::NotDropped(identity.name.clone()))
    }
}

fn no_new_privileges(identity: &Identity) -> Result<(), IdentityError> {
    nix::sys::prctl::set_no_new_privs().map_err(|error| IdentityError::Change(identity.name.clone(), error))
}
