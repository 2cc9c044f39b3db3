//! One recipient of a message: its state, and what its sender is owed for it (RFC 3461).
//!
//! Pure. A final state stays final; whoever was told is not told again.

use common::dsn::Occasion;
use common::status::{EnhancedCode, Status};
use spool::envelope::Recipient;
use spool::journal::News;

/// What has become of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not delivered yet; why not, when it was tried.
    Pending(Option<Status>),
    /// Replaced by others.
    Expanded,
    /// Done.
    Delivered,
    /// Failed; the sender has to be told.
    Failed(Status),
    /// Failed, and whoever had to be told was told (or nobody wants to know).
    Notified,
    /// Delivered or expanded; the sender wants to be told.
    Succeeded(Success, Status),
}

/// How the mail for a recipient went on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// It is in the mailbox.
    Delivered,
    /// Another system took it that sends no notifications.
    Relayed,
    /// It goes to other addresses instead.
    Expanded,
}

/// See the head of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) recipient: Recipient,
    pub(super) state: State,
    /// The sender knows that it is late.
    pub(super) warned: bool,
    /// The sender knows of the success, or hears of it from the next host.
    pub(super) success_told: bool,
}

impl Member {
    pub(super) fn new(recipient: Recipient) -> Self {
        Self { recipient, state: State::Pending(None), warned: false, success_told: false }
    }

    /// `tells`: is there a sender who could be told? A status of another host means that it went there.
    pub(super) fn delivered(&mut self, status: Status, tells: bool) {
        let how = if status.remote.is_some() { Success::Relayed } else { Success::Delivered };
        let wanted = tells && !self.success_told && self.recipient.dsn.notify.wants(Occasion::Success);
        self.state = if wanted { State::Succeeded(how, status) } else { State::Delivered };
    }

    /// One address for another passes NOTIFY on, so there is nothing to tell yet (RFC 3461 5.2.7).
    pub(super) fn expanded(&mut self, into: usize, tells: bool) {
        let wanted = tells && !self.success_told && self.recipient.dsn.notify.wants(Occasion::Success);
        self.state = if wanted && into != 1 {
            let text = match into {
                0 => "goes to recipients that were named besides".to_owned(),
                n => format!("goes to {n} other addresses"),
            };
            State::Succeeded(Success::Expanded, Status::local(EnhancedCode::new(2, 0, 0), text))
        } else {
            State::Expanded
        };
    }

    pub(super) fn failed(&mut self, status: Status) {
        let wanted = self.recipient.dsn.notify.wants(Occasion::Failure);
        self.state = if wanted { State::Failed(status) } else { State::Notified };
    }

    pub(super) fn told(&mut self, news: News) {
        match news {
            News::Delayed => self.warned = true,
            News::Succeeded => self.success_told = true,
        }
        if let (News::Succeeded, State::Succeeded(how, _)) = (news, &self.state) {
            self.state = if *how == Success::Expanded { State::Expanded } else { State::Delivered };
        }
    }
}
