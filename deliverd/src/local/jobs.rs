//! The jobs in hand: each is one message for some recipients, whose deliveries end one by one; then it is
//! answered, once.
//!
//! Pure bookkeeping, and the wording of the log line of a recipient.

use common::address::Address;
use common::delays::Delays;
use common::status::Status;
use common::time::Timestamp;
use spool::dispatch::{FromWorker, Job, JobRecipient};
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// Names a job: the connection to queued that it came over, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// Counts connections.
    pub connection: u64,
    /// queued's number.
    pub number: u64,
}

/// A job in hand.
#[derive(Debug)]
pub struct InHand {
    /// As it came.
    pub job: Job,
    /// The message.
    pub file: OwnedFd,
    results: Vec<(u32, Status)>,
    /// Recipients without an outcome.
    outstanding: usize,
    /// No mailbox was locked against us.
    reached: bool,
}

/// All jobs in hand.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: HashMap<JobId, InHand>,
}

impl Jobs {
    /// Takes a job in; false when there is one of that name (a mistake of the other side).
    pub fn add(&mut self, id: JobId, job: Job, file: OwnedFd) -> bool {
        if self.jobs.contains_key(&id) {
            return false;
        }
        let outstanding = job.recipients.len();
        self.jobs.insert(id, InHand { job, file, results: Vec::new(), outstanding, reached: true });
        true
    }

    /// A job that is in hand.
    pub fn get(&self, id: JobId) -> Option<&InHand> {
        self.jobs.get(&id)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The outcome for one recipient. When it was the last one, the answer to the job, which is in hand no
    /// longer.
    pub fn outcome(&mut self, id: JobId, index: u32, status: Status) -> Option<FromWorker> {
        let job = self.jobs.get_mut(&id)?;
        job.results.push((index, status));
        self.one_less(id)
    }

    /// The same for a recipient whose mailbox was locked: queued is told, so that it sends nothing more to
    /// that mailbox (a job's recipients share one) for a while. It takes the first status of such an answer
    /// for what waits for the mailbox, so this one must never stand behind that of one who got the message.
    pub fn locked(&mut self, id: JobId, index: u32, status: Status) -> Option<FromWorker> {
        let job = self.jobs.get_mut(&id)?;
        job.results.insert(0, (index, status));
        job.reached = false;
        self.one_less(id)
    }

    /// One recipient less: it will have no outcome here.
    pub fn forget_one(&mut self, id: JobId) -> Option<FromWorker> {
        self.one_less(id)
    }

    fn one_less(&mut self, id: JobId) -> Option<FromWorker> {
        let job = self.jobs.get_mut(&id)?;
        job.outstanding = job.outstanding.saturating_sub(1);
        if job.outstanding == 0 { self.finish(id) } else { None }
    }

    /// Gives a job up as it is: recipients without an outcome count as deferred.
    pub fn finish(&mut self, id: JobId) -> Option<FromWorker> {
        let InHand { results, reached, .. } = self.jobs.remove(&id)?;
        Some(FromWorker::Done { number: id.number, results, reached, handed_over: Vec::new() })
    }

    /// The names of all jobs.
    pub fn ids(&self) -> Vec<JobId> {
        self.jobs.keys().copied().collect()
    }
}

/// The log line of a recipient, in Postfix's wording.
pub fn log_line(job: &Job, recipient: &JobRecipient, status: &Status, now: Timestamp) -> String {
    let differs = |original: &&Address| !same_text(original, &recipient.address);
    let original = recipient.original.as_ref().filter(differs);
    let original = original.map(|original| format!(", orig_to=<{original}>")).unwrap_or_default();
    format!(
        "{}: to=<{}>{original}, relay=local, {}, dsn={}, status={} ({})",
        job.queue_id,
        recipient.address,
        Delays::new(job.arrived, job.activated, job.dispatched, None, now),
        status.code,
        status.outcome.log_word(),
        status.text
    )
}

fn same_text(a: &Address, b: &Address) -> bool {
    a.to_string().eq_ignore_ascii_case(&b.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::address::ReversePath;
    use common::destination::Nexthop;
    use common::status::EnhancedCode;
    use spool::envelope::{Body, ContentFacts};
    use spool::id::QueueId;

    fn job(number: u64, recipients: &[(&str, Option<&str>)]) -> Job {
        let recipient = |(index, (address, original)): (usize, &(&str, Option<&str>))| JobRecipient {
            index: u32::try_from(index).unwrap() + 10,
            address: address.parse().unwrap(),
            original: original.map(|original| original.parse().unwrap()),
            dsn: Default::default(),
        };
        Job {
            number,
            queue_id: QueueId::new(Timestamp(1), 1),
            sender: ReversePath::Null,
            recipients: recipients.iter().enumerate().map(recipient).collect(),
            nexthop: Nexthop::Here,
            body: Body::SevenBit,
            dsn: Default::default(),
            content_offset: 0,
            content: ContentFacts::default(),
            arrived: Timestamp(0),
            activated: Timestamp(40_000),
            dispatched: Timestamp(40_000),
            deadline: Timestamp(i64::MAX),
        }
    }

    fn status(code: (u8, u16, u16), text: &str) -> Status {
        Status::local(EnhancedCode::new(code.0, code.1, code.2), text)
    }

    fn file() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_job_is_answered_once_when_its_last_recipient_is_done() {
        let mut jobs = Jobs::default();
        let id = JobId { connection: 0, number: 7 };
        assert!(jobs.add(id, job(7, &[("a@x.example", None), ("b@x.example", None)]), file()));
        assert!(!jobs.add(id, job(7, &[("a@x.example", None)]), file()));
        let (sent, deferred) = (status((2, 0, 0), "x"), status((4, 2, 0), "y"));
        assert_eq!(jobs.outcome(id, 11, deferred.clone()), None);
        let answer = jobs.outcome(id, 10, sent.clone());
        let results = vec![(11, deferred), (10, sent.clone())];
        assert_eq!(answer, Some(FromWorker::Done { number: 7, results, reached: true, handed_over: vec![] }));
        assert_eq!(jobs.outcome(id, 10, sent), None);
        assert!(jobs.is_empty());
    }

    #[test]
    fn a_job_given_up_answers_with_what_there_is() {
        let mut jobs = Jobs::default();
        let id = JobId { connection: 3, number: 1 };
        jobs.add(id, job(1, &[("a@x.example", None), ("b@x.example", None)]), file());
        jobs.outcome(id, 10, status((2, 0, 0), "x"));
        assert_eq!((jobs.len(), jobs.ids()), (1, vec![id]));
        let Some(FromWorker::Done { results, .. }) = jobs.finish(id) else { panic!("no answer") };
        assert_eq!(results.len(), 1);
        assert_eq!(jobs.finish(id), None);
    }

    #[test]
    fn a_job_whose_mailbox_was_locked_did_not_reach_it() {
        let mut jobs = Jobs::default();
        let id = |number| JobId { connection: 0, number };
        for (number, locked) in [(1, false), (2, true)] {
            jobs.add(id(number), job(number, &[("a@x.example", None), ("a+b@x.example", None)]), file());
            jobs.outcome(id(number), 10, status((2, 0, 0), "x"));
            let last = if locked { Jobs::locked } else { Jobs::outcome };
            let answer = last(&mut jobs, id(number), 11, status((4, 2, 0), "y"));
            let Some(FromWorker::Done { reached, results, .. }) = answer else { panic!("no answer") };
            let order: Vec<u32> = results.iter().map(|(index, _)| *index).collect();
            assert_eq!((reached, order), if locked { (false, vec![11, 10]) } else { (true, vec![10, 11]) });
        }
    }

    #[test]
    fn a_job_ends_though_a_recipient_is_forgotten() {
        let mut jobs = Jobs::default();
        let id = JobId { connection: 0, number: 1 };
        jobs.add(id, job(1, &[("a@x.example", None), ("b@x.example", None)]), file());
        assert_eq!(jobs.forget_one(id), None);
        assert!(jobs.outcome(id, 10, status((2, 0, 0), "x")).is_some());
        assert!(jobs.is_empty());
    }

    #[test]
    fn log_lines_are_postfixs() {
        let job = job(
            1,
            &[
                ("a@x.example", None),
                ("a@x.example", Some("Team@x.example")),
                ("a@x.example", Some("A@X.example")),
            ],
        );
        let now = Timestamp(50_000);
        let delays = "relay=local, delay=0.05, delays=0.04/0/0/0.01";
        for (at, status, before, after) in [
            (
                0,
                status((2, 0, 0), "delivered to maildir"),
                "",
                "dsn=2.0.0, status=sent (delivered to maildir)",
            ),
            (1, status((4, 2, 2), "full"), "orig_to=<Team@x.example>, ", "dsn=4.2.2, status=deferred (full)"),
            (2, status((5, 1, 1), "unknown user"), "", "dsn=5.1.1, status=bounced (unknown user)"),
        ] {
            let line = log_line(&job, &job.recipients[at], &status, now);
            let expected = format!("{}: to=<a@x.example>, {before}{delays}, {after}", job.queue_id);
            assert_eq!(line, expected);
        }
    }
}
