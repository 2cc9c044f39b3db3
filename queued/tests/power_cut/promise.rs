//! What was promised before the cut, and whether it is kept by what comes out after it.

use crate::states::Op;
use std::collections::{BTreeMap, BTreeSet};

/// What a scenario says. A message is known by its tag, which its subject and its body carry.
#[derive(Debug, Clone)]
pub enum Said {
    /// `250` was sent: these recipients will hear of it.
    Acknowledged { tag: String, recipients: Vec<String> },
    /// The next host or mailbox has it.
    Delivered { tag: String, recipient: String },
    /// Somebody has read a notification about this recipient.
    Notified { tag: String, recipient: String },
    /// An admin deleted it.
    Deleted { tag: String },
    /// An admin holds it.
    Held { tag: String },
    /// An admin let it go on.
    Released { tag: String },
}

/// All that was said up to a cut.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Happened {
    acknowledged: BTreeMap<String, Vec<String>>,
    settled: BTreeSet<(String, String)>,
    deleted: BTreeSet<String>,
    held: BTreeSet<String>,
}

/// What recovery led to.
#[derive(Debug, Default)]
pub struct CameOut {
    /// Deliveries and notifications read, `(tag, recipient)`. That the content was whole is checked on the way.
    pub settled: BTreeSet<(String, String)>,
    /// Tags of whole messages in `hold/`.
    pub held: BTreeSet<String>,
    /// Names in `corrupt/`.
    pub corrupt: Vec<String>,
}

impl Happened {
    pub fn before(ops: &[Op]) -> Self {
        let mut happened = Self::default();
        happened.add(ops);
        happened
    }

    pub fn add(&mut self, ops: &[Op]) {
        for op in ops {
            let Op::Said(said) = op else { continue };
            match said.clone() {
                Said::Acknowledged { tag, recipients } => {
                    self.acknowledged.insert(tag, recipients);
                }
                Said::Delivered { tag, recipient } | Said::Notified { tag, recipient } => {
                    self.settled.insert((tag, recipient));
                }
                Said::Deleted { tag } => {
                    self.deleted.insert(tag);
                }
                Said::Held { tag } => {
                    self.held.insert(tag);
                }
                Said::Released { tag } => {
                    self.held.remove(&tag);
                }
            }
        }
    }

    /// Every acknowledged message has come to every recipient, or its failure to its sender, or an admin deleted it, or it is held because an admin held
    /// it; and nothing half was ever there.
    pub fn hold_against(&self, came_out: &CameOut) -> Result<(), String> {
        if !came_out.corrupt.is_empty() {
            return Err(format!("half a message: corrupt/ has {:?}", came_out.corrupt));
        }
        for (tag, recipients) in &self.acknowledged {
            if self.deleted.contains(tag) || came_out.held.contains(tag) {
                continue;
            }
            for recipient in recipients {
                let key = (tag.clone(), recipient.clone());
                if !self.settled.contains(&key) && !came_out.settled.contains(&key) {
                    return Err(format!("{tag} for {recipient} is lost"));
                }
            }
        }
        Ok(())
    }
}
