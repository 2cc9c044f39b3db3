//! A message in memory: what is known of it, what of that is not written down yet, and in whose hands it is.

use crate::disk::{Place, Ready, Settle};
use crate::dispatch::OpenFile;
use crate::message::{Message, State};
use common::delays::Delays;
use common::dsn::Occasion;
use common::status::{EnhancedCode, Outcome, Status};
use common::time::Timestamp;
use spool::dispatch::{JobRecipient, MAX_RECIPIENTS};
use spool::envelope::Recipient;
use spool::journal::{Entry, News};
use spool::layout::Queue;
use std::collections::HashMap;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Active {
    /// Empty while it is being settled.
    pub(super) message: Option<Message>,
    /// Where its file lies: true while no file thread has it.
    pub(super) place: Place,
    /// When it was accepted.
    pub(super) arrived: Timestamp,
    /// When this attempt began.
    pub(super) activated: Timestamp,
    /// Have all jobs of this attempt ended?
    pub(super) attempted: bool,
    /// Outcomes that are not in the journal.
    unsaved: Vec<(u32, Status)>,
    /// Other facts that are not in the journal, in their order (left over from a settlement that failed).
    leftover: Vec<Entry>,
    /// Is a file thread writing to its journal?
    saving: bool,
    /// Has a file thread been given outcomes that a crash must not make us repeat, and not said yet that they are written?
    owes: bool,
    /// How often settling it has failed.
    failures: u32,
    /// Could it be that its content is damaged?
    suspect: bool,
    /// For the first job.
    pub(super) file: Option<OpenFile>,
}

impl Active {
    pub(super) fn new(ready: Ready) -> Self {
        let Ready { message, place, decided, unsaved, activated, shares: _, file } = ready;
        let arrived = message.arrived;
        let mut active = Self {
            message: Some(message),
            place,
            arrived,
            activated,
            attempted: false,
            unsaved: Vec::new(),
            leftover: unsaved,
            saving: false,
            owes: false,
            failures: 0,
            suspect: false,
            file,
        };
        for (number, status) in decided {
            active.record(number, status);
        }
        active
    }

    /// For the frame that goes to a worker.
    pub(super) fn job_recipients(&self, numbers: &[u32]) -> Vec<JobRecipient> {
        let Some(message) = &self.message else { return Vec::new() };
        let recipients = numbers.iter().filter_map(|number| {
            let (recipient, _) = message.recipient(*number)?;
            let original = recipient.original.clone().filter(|original| *original != recipient.address);
            Some(JobRecipient {
                index: *number,
                address: recipient.address.clone(),
                original,
                dsn: recipient.dsn.clone(),
            })
        });
        recipients.collect()
    }

    /// A worker's answer for these recipients. Results for others are passed over; a recipient without result is deferred.
    pub(super) fn answered(
        &mut self,
        recipients: &[u32],
        results: Vec<(u32, Status)>,
        handed_over: Vec<u32>,
        now: Timestamp,
    ) {
        self.hand_over(handed_over_of(recipients, &results, handed_over), now);
        let mut by_number: HashMap<u32, Status> = results.into_iter().collect();
        let mut missing = Vec::new();
        for number in recipients {
            match by_number.remove(number) {
                Some(status) => {
                    self.suspect |= local_trouble(&status);
                    self.record(*number, status);
                }
                None => missing.push(*number),
            }
        }
        if !missing.is_empty() {
            let status = Status::local(EnhancedCode::new(4, 3, 0), "delivery agent gave no answer");
            self.suspend(&missing, &status, now);
        }
    }

    /// The next host tells the senders of these recipients that it has them. Noted before the outcome, so that a torn journal cannot have
    /// them told by us as well.
    fn hand_over(&mut self, mut recipients: Vec<u32>, at: Timestamp) {
        let Some(message) = &mut self.message else { return };
        recipients.retain(|number| {
            let asked = |(recipient, _): (&Recipient, &State)| recipient.dsn.notify.wants(Occasion::Success);
            message.recipient(*number).is_some_and(asked)
        });
        if !recipients.is_empty() {
            let told = Entry::Told { at, news: News::Succeeded, recipients, notification: None };
            message.apply(told.clone());
            self.leftover.push(told);
        }
    }

    /// Recipients that are deferred without a worker's word: nobody else writes their log lines.
    pub(super) fn suspend(&mut self, recipients: &[u32], reason: &Status, now: Timestamp) {
        for number in recipients {
            self.log_suspended(*number, reason, now);
            self.record(*number, reason.clone());
        }
    }

    fn log_suspended(&self, number: u32, reason: &Status, now: Timestamp) {
        let Some(message) = &self.message else { return };
        let Some((recipient, _)) = message.recipient(number) else { return };
        let delays = Delays::new(self.arrived, self.activated, now, None, now);
        common::info_as!(
            "error",
            "{}: to=<{}>, relay=none, {delays}, dsn={}, status=deferred ({})",
            message.id,
            recipient.address,
            reason.code,
            reason.text
        );
    }

    fn record(&mut self, number: u32, status: Status) {
        let Some(message) = &mut self.message else { return };
        // A reason that is in the journal already need not go there again.
        let known =
            matches!(message.recipient(number), Some((_, State::Pending(Some(last)))) if *last == status);
        if message.record(number, status.clone()) && !known {
            self.unsaved.push((number, status));
        }
        // Only the last of what came to a recipient that was deferred again and again counts: at most twice as many as there are.
        if self.unsaved.len() > 2 * message.len() {
            let last: HashMap<u32, Status> = std::mem::take(&mut self.unsaved).into_iter().collect();
            self.unsaved = last.into_iter().collect();
            self.unsaved.sort_unstable_by_key(|(number, _)| *number);
        }
    }

    /// Those of these recipients that have not come to their end.
    pub(super) fn still_pending(&self, recipients: &[u32]) -> Vec<u32> {
        let Some(message) = &self.message else { return Vec::new() };
        let is_pending = |number: &u32| matches!(message.recipient(*number), Some((_, State::Pending(_))));
        recipients.iter().copied().filter(is_pending).collect()
    }

    /// Is the message in our hands, so that a file thread may be given it?
    pub(super) fn is_here(&self) -> bool {
        self.message.is_some() && !self.saving
    }

    /// Is there a delivery that a crash must not make us repeat, while other jobs are still out?
    pub(super) fn worth_saving(&self) -> bool {
        self.unsaved.iter().any(|(_, status)| status.outcome != Outcome::Deferred)
    }

    /// A file thread is about to be given what is known: `true` when that has such outcomes.
    pub(super) fn begins_to_owe(&mut self) -> bool {
        self.owes = self.worth_saving();
        self.owes
    }

    /// The file thread has done its work: `true` when something was owed.
    pub(super) fn owes_no_more(&mut self) -> bool {
        std::mem::take(&mut self.owes)
    }

    /// Has it stayed in `incoming/` so far?
    pub(super) fn is_new(&self) -> bool {
        self.place.queue == Queue::Incoming
    }

    /// Where it lies, and the outcomes to be journalled now.
    pub(super) fn save(&mut self) -> (Place, Vec<Entry>) {
        self.saving = true;
        (self.place, self.take_unsaved())
    }

    /// The journal was written, but for these, and the message lies there now.
    pub(super) fn saved(&mut self, place: Place, left: Vec<Entry>) {
        self.place = place;
        self.saved_none(left);
    }

    /// As it was: nothing was written.
    pub(super) fn saved_none(&mut self, left: Vec<Entry>) {
        self.saving = false;
        // Behind what could not be written comes what was added meanwhile.
        self.leftover.splice(0..0, left);
    }

    /// Hands the message over for settlement.
    pub(super) fn settle(&mut self, due: Timestamp) -> Option<Settle> {
        let message = self.message.take()?;
        // While the file has its name closing it costs nothing; later it might be what frees its blocks.
        self.file = None;
        Some(Settle {
            message,
            place: self.place,
            unsaved: self.take_unsaved(),
            due,
            failures: self.failures,
            suspect: self.suspect,
        })
    }

    /// It could not be settled; all that is known stays here.
    pub(super) fn unfinished(&mut self, work: Settle) {
        self.message = Some(work.message);
        self.place = work.place;
        self.leftover = work.unsaved;
        self.failures = work.failures;
    }

    fn take_unsaved(&mut self) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.leftover);
        let results = std::mem::take(&mut self.unsaved);
        if !results.is_empty() {
            entries.push(Entry::Attempted { at: Timestamp::now(), results });
        }
        entries
    }
}

/// Those of a job's recipients that were delivered to a host which takes over what NOTIFY asks for.
pub(super) fn handed_over_of(job: &[u32], results: &[(u32, Status)], handed_over: Vec<u32>) -> Vec<u32> {
    let delivered = |number: &u32| {
        let is_it = |(other, status): &(u32, Status)| other == number && status.outcome == Outcome::Delivered;
        job.contains(number) && results.iter().any(is_it)
    };
    handed_over.into_iter().take(MAX_RECIPIENTS).filter(delivered).collect()
}

/// 4.3.0 of our own making is what an agent says when it cannot read the message (among other things): worth a look.
fn local_trouble(status: &Status) -> bool {
    status.outcome == Outcome::Deferred
        && status.remote.is_none()
        && status.code == EnhancedCode::new(4, 3, 0)
}
