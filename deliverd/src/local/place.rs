//! Where a recipient's mail is put, and as whom: the look-ups that a path template and an identity need.
//!
//! Runs in the parent, which may be root: it looks at users and at folders that the admin named, never at
//! mail and never into a user's own folders.

use super::frames::Owner;
use super::template::{Kind, MailboxPath, Template, Values};
use common::address::Address;
use common::identity::is_root;
use common::status::{EnhancedCode, Status};
use common::users::{Lookup, Users};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, SFlag, stat};
use nix::unistd::User;
use std::path::Path;

/// Deliveries into one Maildir that may run at once, as with Postfix: a file system that hangs does not take all children. An mbox takes one.
const MAILDIR_WIDTH: usize = 2;

/// Where, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `None`: as this process (which is not root).
    pub owner: Option<Owner>,
    /// The mailbox.
    pub mailbox: MailboxPath,
    /// What it is.
    pub kind: Kind,
    /// How many deliveries into it may run at once.
    pub width: usize,
}

/// The place for a recipient, or its status when there is none.
pub fn find(
    recipient: &Address,
    template: &Template,
    users: &Users,
    delimiter: Option<char>,
) -> Result<Place, Status> {
    let local = recipient.local_part().value();
    let (user, extension) = match users.find(&local, delimiter) {
        Lookup::Found { user, extension } => (user, extension),
        Lookup::NotFound => return Err(unknown(&local)),
        Lookup::Unavailable(why) => return Err(Status::local(EnhancedCode::new(4, 3, 0), why)),
    };
    let domain = recipient.domain().to_lowercase();
    let mut values = Values {
        user: &user,
        domain: &domain,
        home: None,
        extension: Some(extension.as_str()).filter(|extension| !extension.is_empty()),
    };
    let (owner, mailbox) = match users {
        Users::System => {
            let entry = system_user(&user)?;
            values.home = Some(&entry.dir);
            let owner = Owner { uid: entry.uid.as_raw(), gid: entry.gid.as_raw(), mail_group: None };
            let owner =
                if is_root() { Some(Owner { mail_group: mail_group(template), ..owner }) } else { None };
            (owner, template.expand(&values)?)
        }
        Users::Names { .. } => {
            let mailbox = template.expand(&values)?;
            (if is_root() { Some(owner_of(&mailbox.folder)?) } else { None }, mailbox)
        }
    };
    let kind = template.kind();
    let width = if kind == Kind::Mbox { 1 } else { MAILDIR_WIDTH };
    Ok(Place { owner, mailbox, kind, width })
}

fn unknown(user: &str) -> Status {
    Status::local(EnhancedCode::new(5, 1, 1), format!("unknown user: \"{user}\""))
}

fn system_user(name: &str) -> Result<User, Status> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user),
        // Removed since the look-up before.
        Ok(None) => Err(unknown(name)),
        Err(error) => Err(Status::local(
            EnhancedCode::new(4, 3, 0),
            format!("cannot look up user {name}: {}", error.desc()),
        )),
    }
}

/// Mailboxes that are no system users' belong to the owner of the folder above the first placeholder. Where
/// that is root, as in a trial run by root, the child is uid 0 without any capability: it can write what
/// belongs to root, and nothing else.
fn owner_of(folder: &Path) -> Result<Owner, Status> {
    let deferred = |text| Status::local(EnhancedCode::new(4, 2, 0), text);
    let path = folder.display();
    let found = stat(folder).map_err(|errno| match errno {
        Errno::ENOENT => deferred(format!("the folder {path} does not exist: create it")),
        _ => deferred(format!("cannot look at the folder {path}: {}", errno.desc())),
    })?;
    Ok(Owner { uid: found.st_uid, gid: found.st_gid, mail_group: None })
}

/// The group of a folder like /var/mail (root:mail, 2775): its members can make files, and therefore
/// dotlocks, in it.
fn mail_group(template: &Template) -> Option<u32> {
    let folder = template.folder().filter(|_| template.kind() == Kind::Mbox && template.lies_in_folder())?;
    group_that_writes(&stat(folder).ok()?)
}

fn group_that_writes(folder: &FileStat) -> Option<u32> {
    let mode = Mode::from_bits_truncate(folder.st_mode);
    let is_folder = folder.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
    let writes = mode.contains(Mode::S_IWGRP) && !mode.contains(Mode::S_IWOTH);
    (is_folder && writes && folder.st_gid != 0).then_some(folder.st_gid)
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
