//! For tests: a scripted SMTP server on a loopback port, and jobs to send to it. Servers answer by table,
//! one task each, and end with their runtime; nothing is waited for but events.

use super::content::Content;
use super::deadline::{Deadline, deadline};
use super::resolve::{Dns, Missing, MxRecord};
use common::address::Domain;
use common::destination::Nexthop;
use common::time::Timestamp;
use spool::dispatch::{Job, JobRecipient};
use spool::envelope::Body;
use spool::facts::FactsBuilder;
use spool::id::QueueId;
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Prefix of a command (`greeting` and `.` too) and the reply; `-` closes, `!` never answers. Later entries
/// are for later occurrences when `#n ` stands before the prefix: `#2 MAIL` is the second MAIL that this
/// server sees.
pub(super) type Script = &'static [(&'static str, &'static str)];

/// What a server heard, over all its connections.
pub(super) type Log = Arc<Mutex<Vec<String>>>;

/// Speaks to one client until it goes.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, script: Script, log: Log) {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    let mut command = "greeting".to_owned();
    let mut in_content = false;
    loop {
        if !in_content || command == "." {
            let reply = reply(&command, script, &log);
            match reply {
                "-" => return,
                "!" => {
                    let mut rest = Vec::new();
                    let _ = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut rest).await;
                    log.lock().unwrap().push("(gone)".into());
                    return;
                }
                _ => {}
            }
            if write.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
                return;
            }
            in_content = command == "DATA" && reply.starts_with('3');
            if command == "QUIT" {
                return;
            }
        }
        let mut line = Vec::new();
        match read.read_until(b'\n', &mut line).await {
            Ok(n) if n > 0 => command = String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned(),
            _ => {
                log.lock().unwrap().push("(gone)".into());
                return;
            }
        }
        log.lock().unwrap().push(command.clone());
    }
}

fn reply(command: &str, script: Script, log: &Log) -> &'static str {
    let key = |entry: &str| match entry.strip_prefix('#').and_then(|rest| rest.split_once(' ')) {
        Some((n, prefix)) => (n.parse::<usize>().ok(), prefix.to_owned()),
        None => (None, entry.to_owned()),
    };
    let found = script.iter().find(|(entry, _)| {
        let (number, prefix) = key(entry);
        let heard = || log.lock().unwrap().iter().filter(|line| line.starts_with(&prefix)).count();
        command.starts_with(&prefix) && number.is_none_or(|number| number == heard())
    });
    match (found, command) {
        (Some((_, reply)), _) => reply,
        (None, "greeting") => "220 mx.example ESMTP",
        (None, "DATA") => "354 go",
        (None, ".") => "250 2.0.0 Ok: queued as 1",
        (None, "QUIT") => "221 2.0.0 Bye",
        (None, command) if command.starts_with("EHLO") => "250-mx.example\r\n250 PIPELINING",
        (None, _) => "250 2.0.0 Ok",
    }
}

/// A server on a port of its own at `ip`, or at a given port.
pub(super) async fn server(address: &str, script: Script) -> (SocketAddr, Log) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let log = Log::default();
    let heard = log.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            heard.lock().unwrap().push("(connected)".into());
            tokio::spawn(serve::<TcpStream>(stream, script, heard.clone()));
        }
    });
    (address, log)
}

/// How many logged lines begin like this?
pub(super) fn count(log: &Log, prefix: &str) -> usize {
    log.lock().unwrap().iter().filter(|line| line.starts_with(prefix)).count()
}

/// A DNS in which every domain has the exchanges of a list: `(preference, addresses)`, named `mx0.example`
/// and so on.
#[derive(Clone)]
pub(super) struct Exchanges(pub(super) Arc<Vec<(u16, Vec<IpAddr>)>>);

impl Dns for Exchanges {
    async fn mx(&self, _: &Domain) -> Result<Vec<MxRecord>, Missing> {
        let record = |(i, (preference, _)): (usize, &(u16, Vec<IpAddr>))| MxRecord {
            preference: *preference,
            exchange: format!("mx{i}.example"),
        };
        let list: Vec<_> = self.0.iter().enumerate().map(record).collect();
        if list.is_empty() { Err(Missing::Name) } else { Ok(list) }
    }

    async fn addresses(&self, name: &Domain) -> Result<Vec<IpAddr>, Missing> {
        let number = name.as_str().trim_start_matches("mx").trim_end_matches(".example");
        let number: usize = number.parse().map_err(|_| Missing::Name)?;
        self.0.get(number).map(|(_, addresses)| addresses.clone()).ok_or(Missing::Name)
    }
}

/// A job with this content for these recipients.
pub(super) fn job(nexthop: &str, recipients: &[&str], content: &[u8]) -> (Job, File) {
    let mut facts = FactsBuilder::new();
    facts.feed(content);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    let recipients = recipients.iter().zip(0..).map(|(address, index)| JobRecipient {
        index,
        address: address.parse().unwrap(),
        original: None,
        dsn: Default::default(),
    });
    let now = Timestamp::now();
    let job = Job {
        number: 1,
        queue_id: QueueId::new(now, 1),
        sender: "s@me.example".parse().unwrap(),
        recipients: recipients.collect(),
        nexthop: nexthop.parse::<Nexthop>().unwrap(),
        body: Body::SevenBit,
        dsn: Default::default(),
        content_offset: 0,
        content: facts.facts(),
        arrived: now,
        activated: now,
        dispatched: now,
        deadline: now.after(Duration::from_secs(60)),
    };
    (job, file)
}

/// The content of a job.
pub(super) fn content((job, file): &(Job, File)) -> Content {
    Content::new(file.try_clone().unwrap(), job.content_offset, job.content)
}

/// A minute.
pub(super) fn minute() -> Deadline {
    deadline(Instant::now() + Duration::from_secs(60)).1
}
