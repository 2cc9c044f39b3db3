//! One message: what is known of it, or its content. Read from the spool itself, so also while the daemons
//! are down.

use crate::exit;
use crate::failure::Failure;
use common::dsn::RecipientDsn;
use common::text::printable;
use spool::envelope::{Body, ContentFacts, Origin};
use spool::id::QueueId;
use spool::journal::{Entry, News};
use spool::layout::{Queue, Spool, parse_deferred_name};
use spool::queue_file::{QueueFile, QueueFileError};
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;

/// A message may be moved between looking for it and opening it: so often that is tried again.
const TRIES: usize = 5;

/// Finds and opens a message.
fn open(spool: &Spool, id: QueueId) -> Result<(Queue, PathBuf, QueueFile), Failure> {
    if !super::source::may_read(spool)? {
        let text = format!(
            "{} may not be read by this user: run this as root or as its owner",
            spool.root().display()
        );
        return Err(Failure::new(exit::NO_PERMISSION, text));
    }
    for _ in 0..TRIES {
        let Some((queue, path)) = spool.find(id) else { continue };
        match QueueFile::open(&path) {
            Ok(file) => return Ok((queue, path, file)),
            Err(QueueFileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let code = if error.is_corrupt() { exit::DATA } else { exit::NO_PERMISSION };
                return Err(Failure::new(code, format!("{}: {error}", path.display())));
            }
        }
    }
    Err(super::no_such_message(&id))
}

/// Envelope and journal.
pub fn show(spool: &Spool, id: QueueId, out: &mut dyn Write) -> Result<(), Failure> {
    let (queue, path, file) = open(spool, id)?;
    let journal =
        file.entries().map_err(|e| Failure::new(exit::IO_ERROR, format!("{}: {e}", path.display())))?;
    let due = path.file_name().and_then(|n| n.to_str()).and_then(parse_deferred_name).map(|(_, due)| due);
    describe(out, queue, due.map(|due| due.rfc5322()), id, &file, &journal)
        .and_then(|()| out.flush())
        .map_err(|e| Failure::output(&e))
}

/// Envelope and journal of a file that is open; `due` is the time of the next attempt, as text.
pub fn describe(
    out: &mut dyn Write,
    queue: Queue,
    due: Option<String>,
    id: QueueId,
    file: &QueueFile,
    journal: &[Entry],
) -> io::Result<()> {
    let envelope = file.envelope();
    writeln!(out, "Queue ID:    {id}")?;
    match due {
        Some(due) => writeln!(out, "Queue:       {}, next attempt {due}", queue.name())?,
        None => writeln!(out, "Queue:       {}", queue.name())?,
    }
    writeln!(out, "Arrived:     {}", envelope.arrived.rfc5322())?;
    writeln!(out, "Origin:      {}", origin(&envelope.origin))?;
    writeln!(out, "Sender:      <{}>", envelope.sender)?;
    let body = match envelope.body {
        Body::SevenBit => "7BIT",
        Body::EightBitMime => "8BITMIME",
        Body::Utf8 => "8BITMIME, SMTPUTF8",
    };
    writeln!(out, "Content:     {}, BODY={body}", facts(&file.facts()))?;
    if let Some(id) = &envelope.dsn.envelope_id {
        writeln!(out, "Envelope ID: {}", id.as_str())?;
    }
    if let Some(ret) = envelope.dsn.ret {
        writeln!(out, "Return:      RET={ret}")?;
    }
    writeln!(out, "Recipients:")?;
    for (number, recipient) in envelope.recipients.iter().enumerate() {
        let original = recipient.original.as_ref().map(|o| format!(" (was <{o}>)")).unwrap_or_default();
        let asked = asked(&recipient.dsn);
        writeln!(out, "  {number}  <{}>{original}{asked}", recipient.address)?;
    }
    if !journal.is_empty() {
        writeln!(out, "Journal:")?;
    }
    let mut next = envelope.recipients.len();
    for entry in journal {
        tell(out, entry, &mut next)?;
    }
    Ok(())
}

/// What the sender said about notifications, as parameters of RCPT.
fn asked(dsn: &RecipientDsn) -> String {
    let notify = if dsn.notify.is_absent() { String::new() } else { format!(", NOTIFY={}", dsn.notify) };
    let original = dsn.original.as_ref().map(|o| format!(", ORCPT={}", o.to_xtext())).unwrap_or_default();
    notify + &original
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Smtp { client, helo, protocol } => {
            let text = format!("{protocol} from {client}, HELO {helo}");
            printable(&text, 1000)
        }
        Origin::Local { uid } => format!("a program of user ID {uid}"),
        Origin::Bounce => "a notification made here".into(),
        Origin::DoubleBounce => "a notification about an undeliverable notification".into(),
    }
}

fn facts(facts: &ContentFacts) -> String {
    let eight = if facts.eight_bit { "octets above 127" } else { "ASCII only" };
    format!("{} octets, {eight}, longest line {}", facts.length, facts.longest_line)
}

/// One entry; `next` is the number that the next recipient from an expansion gets.
fn tell(out: &mut dyn Write, entry: &Entry, next: &mut usize) -> io::Result<()> {
    match entry {
        Entry::Expanded(replacements) => {
            for (replaced, by) in replacements {
                writeln!(out, "  recipient {replaced} expanded:")?;
                for recipient in by {
                    writeln!(out, "    {next}  <{}>", recipient.address)?;
                    *next += 1;
                }
            }
        }
        Entry::Attempted { at, results } => {
            for (number, status) in results {
                let outcome = match status.outcome {
                    common::status::Outcome::Delivered => "delivered",
                    common::status::Outcome::Deferred => "deferred",
                    common::status::Outcome::Failed => "failed",
                };
                let text = printable(&status.text, 2000);
                writeln!(out, "  {}  recipient {number} {outcome}: {} {text}", at.rfc5322(), status.code)?;
            }
        }
        Entry::Notified { at, recipients, notification } => {
            let by = notification.map(|id| format!(" by {id}")).unwrap_or_default();
            let numbers = recipients.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            writeln!(out, "  {}  sender notified{by} of recipients {numbers}", at.rfc5322())?;
        }
        Entry::Told { at, news, recipients, notification } => {
            let what = match news {
                News::Delayed => "delay",
                News::Succeeded => "success",
            };
            let by = match notification {
                Some(id) => format!("sender notified of {what} by {id}"),
                None => format!("next host notifies of {what}"),
            };
            let numbers = recipients.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            writeln!(out, "  {}  {by}: recipients {numbers}", at.rfc5322())?;
        }
        // Comes out of a journal as Expanded.
        Entry::ExpandedV1(_) => {}
        Entry::Held { at } => writeln!(out, "  {}  held", at.rfc5322())?,
        Entry::Released { at } => writeln!(out, "  {}  released", at.rfc5322())?,
        Entry::Retry { attempts, due } => {
            writeln!(out, "  attempts so far: {attempts}; the next one is due {}", due.rfc5322())?;
        }
    }
    Ok(())
}

/// The content: octet for octet, except that control characters do not reach a terminal.
pub fn cat(spool: &Spool, id: QueueId) -> Result<(), Failure> {
    let (_, path, file) = open(spool, id)?;
    let unreadable = |e: io::Error| Failure::new(exit::IO_ERROR, format!("{}: {e}", path.display()));
    let mut content = file.content().map_err(unreadable)?;
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut out = stdout.lock();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let got = content.read(&mut chunk).map_err(unreadable)?;
        let part = chunk.get(..got).unwrap_or_default();
        if part.is_empty() {
            return out.flush().map_err(|e| Failure::output(&e));
        }
        let written =
            if terminal { out.write_all(for_terminal(part).as_bytes()) } else { out.write_all(part) };
        written.map_err(|e| Failure::output(&e))?;
    }
}

fn for_terminal(part: &[u8]) -> String {
    // A character that is cut by the end of the chunk shows as a replacement mark: this is for people.
    let text = String::from_utf8_lossy(part).replace('\r', "");
    let lines: Vec<String> =
        text.split('\n').map(|line| crate::terminal::line(line).replace("\\t", "\t")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
