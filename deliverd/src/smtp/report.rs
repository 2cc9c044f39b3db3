//! What a job came to: for queued, and as log lines in Postfix's wording.

use super::client::Peer;
use common::delays::Delays;
use common::status::Status;
use common::time::Timestamp;
use spool::dispatch::{FromWorker, Job, JobRecipient};

/// The result for one recipient.
#[derive(Debug, Clone)]
pub struct Line {
    /// What happened.
    pub status: Status,
    /// The host that it happened with; `None`: no connection.
    pub relay: Option<Relay>,
    /// When the session was ready for the transaction; `None`: no session.
    pub connected: Option<Timestamp>,
    /// When this was decided.
    pub decided: Timestamp,
    /// Delivered to a host that takes over what the sender asks of notifications?
    pub handed_over: bool,
}

/// The host of a line.
#[derive(Debug, Clone)]
pub struct Relay {
    /// `name[ip]:port`
    pub host: String,
    /// Which transaction of its session this was, from 1; 0 when it did not come to one.
    pub transaction: u32,
}

impl Relay {
    /// Before any transaction.
    pub fn new(peer: &Peer) -> Self {
        Self { host: peer.relay(), transaction: 0 }
    }
}

/// The results for all recipients of a job, in its order.
#[derive(Debug, Clone)]
pub struct Report {
    /// One for each recipient.
    pub lines: Vec<Line>,
    /// Was there a session with a host of the destination, or is the destination beyond help?
    pub reached: bool,
}

impl Report {
    /// The same for all recipients, without any connection.
    pub fn of_all(job: &Job, status: &Status, reached: bool) -> Self {
        let (status, decided) = (status.clone(), Timestamp::now());
        let line = Line { status, relay: None, connected: None, decided, handed_over: false };
        Self { lines: vec![line; job.recipients.len()], reached }
    }

    /// Logs one line for each recipient.
    pub fn log(&self, job: &Job) {
        for (recipient, line) in job.recipients.iter().zip(&self.lines) {
            common::info!("{}", text(job, recipient, line));
        }
    }

    /// The answer for queued.
    pub fn answer(self, job: &Job) -> FromWorker {
        let indices = job.recipients.iter().map(|recipient| recipient.index);
        let handed_over =
            indices.zip(&self.lines).filter(|(_, line)| line.handed_over).map(|(index, _)| index).collect();
        let statuses = self.lines.into_iter().map(|line| line.status);
        let results = job.recipients.iter().map(|recipient| recipient.index).zip(statuses).collect();
        FromWorker::Done { number: job.number, results, reached: self.reached, handed_over }
    }
}

fn text(job: &Job, recipient: &JobRecipient, line: &Line) -> String {
    let original = recipient.original.as_ref().filter(|original| **original != recipient.address);
    let original = original.map(|original| format!("orig_to=<{original}>, ")).unwrap_or_default();
    let relay = match &line.relay {
        None => "none".to_owned(),
        Some(Relay { host, transaction: 0 | 1 }) => host.clone(),
        Some(Relay { host, transaction }) => format!("{host}, conn_use={transaction}"),
    };
    // Without a session, all the time went into looking for one.
    let connected = Some(line.connected.unwrap_or(line.decided));
    let delays = Delays::new(job.arrived, job.activated, job.dispatched, connected, line.decided);
    format!(
        "{}: to=<{}>, {original}relay={relay}, {delays}, dsn={}, status={} ({})",
        job.queue_id,
        recipient.address,
        line.status.code,
        line.status.outcome.log_word(),
        line.status.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::status::EnhancedCode;
    use spool::envelope::{Body, ContentFacts};
    use spool::id::QueueId;

    #[test]
    fn lines_read_as_postfix_s() {
        let at = |ms: i64| Timestamp(1_795_358_702_000_000 + ms * 1000);
        let recipient = |address: &str, original: Option<&str>| JobRecipient {
            index: 0,
            address: address.parse().unwrap(),
            original: original.map(|o| o.parse().unwrap()),
            dsn: Default::default(),
        };
        let job = Job {
            number: 1,
            queue_id: QueueId::new(at(0), 7),
            sender: "s@a.example".parse().unwrap(),
            recipients: Vec::new(),
            nexthop: "b.example".parse().unwrap(),
            body: Body::SevenBit,
            dsn: Default::default(),
            content_offset: 0,
            content: ContentFacts::default(),
            arrived: at(0),
            activated: at(100),
            dispatched: at(120),
            deadline: at(1_000_000),
        };
        let id = job.queue_id;
        let sent = Status::local(EnhancedCode::new(2, 0, 0), "250 2.0.0 Ok: queued as 123");
        let deferred =
            Status::local(EnhancedCode::new(4, 4, 1), "connect to h[192.0.2.1]:25: Connection refused");
        let relay = |transaction| Some(Relay { host: "h[192.0.2.1]:25".into(), transaction });
        for (to, status, relay, connected, expected) in [
            (
                recipient("x@b.example", None),
                &sent,
                relay(1),
                Some(at(170)),
                "to=<x@b.example>, relay=h[192.0.2.1]:25, delay=0.38, delays=0.1/0.02/0.05/0.21, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 123)",
            ),
            (
                recipient("x@b.example", Some("y@b.example")),
                &sent,
                relay(3),
                Some(at(120)),
                "to=<x@b.example>, orig_to=<y@b.example>, relay=h[192.0.2.1]:25, conn_use=3, delay=0.38, delays=0.1/0.02/0/0.26, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 123)",
            ),
            (
                recipient("x@b.example", Some("x@b.example")),
                &deferred,
                None,
                None,
                "to=<x@b.example>, relay=none, delay=0.38, delays=0.1/0.02/0.26/0, dsn=4.4.1, status=deferred (connect to h[192.0.2.1]:25: Connection refused)",
            ),
        ] {
            let line =
                Line { status: status.clone(), relay, connected, decided: at(380), handed_over: false };
            assert_eq!(text(&job, &to, &line), format!("{id}: {expected}"));
        }
    }
}
