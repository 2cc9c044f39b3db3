//! How many commands may be served at once, and how many of each user: whatever users do, an admin gets in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most at once.
const MAX: usize = 50;
/// Of these for everybody but root and the spool's owner.
const MAX_OF_USERS: usize = 40;
/// Of these for one user: a command may hang on a file that its user hands over, for as long as that user likes.
const MAX_PER_USER: usize = 20;

/// Who is being served.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    owner: u32,
    by_user: Arc<Mutex<HashMap<u32, usize>>>,
}

/// The place of one command, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    uid: u32,
    by_user: Arc<Mutex<HashMap<u32, usize>>>,
}

impl Clients {
    /// Nobody yet. `owner`: the spool's.
    pub(super) fn new(owner: u32) -> Self {
        Self { owner, by_user: Arc::default() }
    }

    /// A place for a command of this user, if there is one.
    pub(super) fn enter(&self, uid: u32) -> Option<Place> {
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let is_admin = |uid: u32| uid == 0 || uid == self.owner;
        let all: usize = by_user.values().sum();
        let of_users: usize = by_user.iter().filter(|(uid, _)| !is_admin(**uid)).map(|(_, n)| n).sum();
        let own = by_user.get(&uid).copied().unwrap_or(0);
        let room = all < MAX && (is_admin(uid) || (of_users < MAX_OF_USERS && own < MAX_PER_USER));
        room.then(|| {
            by_user.insert(uid, own + 1);
            Place { uid, by_user: self.by_user.clone() }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_user.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                by_user.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_cannot_keep_an_admin_out() {
        let clients = Clients::new(7);
        let take = |uid, want: usize| -> Vec<Place> { (0..want).map_while(|_| clients.enter(uid)).collect() };
        let (one, two, three) = (take(1001, 100), take(1002, 100), take(1003, 100));
        assert_eq!((one.len(), two.len(), three.len()), (MAX_PER_USER, MAX_OF_USERS - MAX_PER_USER, 0));
        let (root, owner) = (take(0, 5), take(7, 100));
        assert_eq!((root.len(), owner.len()), (5, MAX - MAX_OF_USERS - 5));
        drop(one);
        assert_eq!(take(1003, 100).len(), MAX_PER_USER);
        drop((two, root, owner));
        assert!(clients.by_user.lock().unwrap().is_empty());
    }
}
