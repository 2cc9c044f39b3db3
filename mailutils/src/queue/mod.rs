//! The queue in an admin's hands: `ironpost queue …`, `mailq`, `sendmail -q`.
//!
//! | file | what |
//! | --- | --- |
//! | [`filter`] | options to a [`Selection`] |
//! | [`source`] | where entries come from: the spool when it may be read, daemons or not; else queued |
//! | [`text`], [`json`] | an entry as `mailq` shows it, as `postqueue -j` does |
//! | [`show`] | one message: envelope and journal, or content |
//!
//! Reading never changes anything. Every change is made by queued, which owns the queue.

pub mod filter;
pub mod json;
pub mod show;
pub mod source;
pub mod text;

use crate::cli;
use crate::control::{self, Conversation};
use crate::exit;
use crate::failure::Failure;
use common::config::Config;
use common::time::Timestamp;
use spool::control::{Answer, MAX_IDS, Request, Selection, Verb};
use spool::id::QueueId;
use spool::layout::Spool;
use std::io::{self, BufWriter, Write};

/// `ironpost queue`
pub fn run(config: &Config, command: &cli::Queue) -> Result<(), Failure> {
    let spool = Spool::new(&config.spool_directory);
    match command {
        cli::Queue::List { json, filter } => list(&spool, filter::selection(&[], filter)?, *json),
        cli::Queue::Show { id } => {
            let mut out = BufWriter::new(io::stdout().lock());
            show::show(&spool, parse_id(id)?, &mut out)
        }
        cli::Queue::Cat { id } => show::cat(&spool, parse_id(id)?),
        cli::Queue::Retry(selected) => change_selected(&spool, Verb::Retry, selected),
        cli::Queue::Hold(selected) => change_selected(&spool, Verb::Hold, selected),
        cli::Queue::Release(selected) => change_selected(&spool, Verb::Release, selected),
        cli::Queue::Delete(selected) => change_selected(&spool, Verb::Delete, selected),
    }
}

/// `mailq`
pub fn mailq(config: &Config) -> Result<(), Failure> {
    list(&Spool::new(&config.spool_directory), Selection::default(), false)
}

/// `sendmail -q`: says nothing when all is well.
pub fn flush(config: &Config, selection: &Selection) -> Result<(), Failure> {
    change(&Spool::new(&config.spool_directory), Verb::Retry, selection)
        .and_then(|changed| changed.complain())
}

/// Reads a queue ID. Other text names no message.
pub fn parse_id(text: &str) -> Result<QueueId, Failure> {
    text.parse().map_err(|_| no_such_message(&text))
}

/// Exit code 66.
pub fn no_such_message(id: &dyn std::fmt::Display) -> Failure {
    Failure::new(exit::NO_INPUT, format!("{id}: no such message in the queue"))
}

fn list(spool: &Spool, selection: Selection, json: bool) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut report = text::Report::default();
    for entry in source::entries(spool, selection, Timestamp::now())? {
        match entry {
            Ok(listed) if json => writeln!(out, "{}", json::line(&listed)),
            Ok(listed) => report.entry(&listed, &mut out),
            Err(source::Trouble::Unreadable(id, why)) => {
                eprintln!("ironpost: {id}: {}", crate::terminal::line(&why));
                Ok(())
            }
            Err(source::Trouble::Over(failure)) => return Err(failure),
        }
        .map_err(|e| Failure::output(&e))?;
    }
    if !json {
        report.end(&mut out).map_err(|e| Failure::output(&e))?;
    }
    out.flush().map_err(|e| Failure::output(&e))
}

/// What a change came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changed {
    count: u64,
    missing: Vec<QueueId>,
    failed: u64,
}

impl Changed {
    fn complain(&self) -> Result<(), Failure> {
        let mut lines: Vec<String> = self.missing.iter().map(|id| no_such_message(id).text).collect();
        if self.failed > 0 {
            let what = "could not be changed: the file system did not let queued, its log says why";
            lines.push(format!("{} message{} {what}", self.failed, plural(self.failed)));
            return Err(Failure::new(exit::TRY_AGAIN, lines.join("\n")));
        }
        if lines.is_empty() { Ok(()) } else { Err(Failure::new(exit::NO_INPUT, lines.join("\n"))) }
    }
}

fn change_selected(spool: &Spool, verb: Verb, selected: &cli::Selected) -> Result<(), Failure> {
    if selected.ids.is_empty() && !selected.all && selected.filter.is_empty() {
        return Err(Failure::new(exit::USAGE, "which messages? Name queue IDs, or give a filter, or --all"));
    }
    let selection = filter::selection(&selected.ids, &selected.filter)?;
    let changed = change(spool, verb, &selection)?;
    let word = match verb {
        Verb::Retry => "to be tried now",
        Verb::Hold => "held",
        Verb::Release => "released",
        Verb::Delete => "deleted",
    };
    let mut out = io::stdout();
    writeln!(out, "{} message{} {word}", changed.count, plural(changed.count))
        .map_err(|e| Failure::output(&e))?;
    changed.complain()
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Asks queued, several times when there are many IDs.
fn change(spool: &Spool, verb: Verb, selection: &Selection) -> Result<Changed, Failure> {
    let mut changed = Changed::default();
    let mut batches: Vec<&[QueueId]> = selection.ids.chunks(MAX_IDS).collect();
    if batches.is_empty() {
        batches.push(&[]);
    }
    for ids in batches {
        let socket = control::connect(spool).map_err(|unreachable| unreachable.failure(spool))?;
        let selection = Selection { ids: ids.to_vec(), ..selection.clone() };
        for answer in Conversation::begin(socket, &Request::Change { verb, selection }, &[])? {
            if let Answer::Done { count, missing, failed } = answer? {
                changed.count += count;
                changed.missing.extend(missing);
                changed.failed += failed;
            }
        }
    }
    Ok(changed)
}
