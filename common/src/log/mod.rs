//! The log: Postfix's wording and program names, so that tools made for its log read ours, to syslog, standard error or a file.
//!
//! Every line passes [`crate::text::printable`] as a whole: no octet from outside can end a line or reach a terminal as a control
//! sequence, whatever a caller forgets. Lines are formatted by their callers, without a lock; after [`write_from_thread`] a thread of its own writes
//! them in batches. A file or standard error makes callers wait when it is slow (no line is lost); syslog, which may be
//! hung, does not: lines beyond the queue are counted and the number is logged.

mod line;
mod sink;

use crate::config::Config;
use crate::text::printable;
use crate::time::Timestamp;
pub use line::Severity;
use line::{Line, Style};
use sink::Sink;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Longest line, in octets, stamp and program name not counted.
const MAX_LINE: usize = 8000;
/// Lines that may wait to be written.
const QUEUE: usize = 16 * 1024;

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    program: &'static str,
    sink: Mutex<Sink>,
    thread: OnceLock<SyncSender<Message>>,
    may_drop: bool,
    dropped: AtomicU64,
}

enum Message {
    Line(Line),
    Flush(SyncSender<()>),
}

/// Writes out what is left when it goes; `main` keeps it.
#[derive(Debug)]
pub struct Flush(());

impl Drop for Flush {
    fn drop(&mut self) {
        flush();
    }
}

/// Opens the log for this process, named `program` behind the slash (`smtpd`, `qmgr`, …). Before privileges are dropped, so that a file
/// only root can write to is open by then. A second call changes nothing.
pub fn init(program: &'static str, config: &Config) -> io::Result<Flush> {
    let style = Style {
        name: config.log.name.clone(),
        hostname: config.hostname.to_string(),
        pid: std::process::id(),
        format: config.log.format,
    };
    let sink = Sink::open(&config.log.to, style)?;
    let may_drop = sink.may_hang();
    let logger = Logger {
        program,
        sink: Mutex::new(sink),
        thread: OnceLock::new(),
        may_drop,
        dropped: AtomicU64::new(0),
    };
    if LOGGER.set(logger).is_ok() {
        log_panics();
    }
    Ok(Flush(()))
}

/// From now on a thread does the writing. For daemons with many callers, after privileges are dropped.
pub fn write_from_thread() -> io::Result<()> {
    let Some(logger) = LOGGER.get() else { return Ok(()) };
    let (sender, receiver) = sync_channel(QUEUE);
    std::thread::Builder::new().name("log".into()).spawn(move || write_lines(logger, &receiver))?;
    let _ = logger.thread.set(sender);
    Ok(())
}

fn write_lines(logger: &Logger, receiver: &Receiver<Message>) {
    while let Ok(first) = receiver.recv() {
        let mut sink = logger.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answers = Vec::new();
        // One batch: everything that has come in meanwhile.
        for message in std::iter::once(first).chain(receiver.try_iter().take(1024)) {
            match message {
                Message::Line(line) => sink.add(&line),
                Message::Flush(answer) => answers.push(answer),
            }
        }
        let dropped = logger.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            sink.add(&new_line(
                logger.program,
                Severity::Warning,
                &format!("{dropped} log lines lost: the log does not keep up"),
            ));
        }
        sink.write();
        for answer in answers {
            let _ = answer.send(());
        }
    }
}

/// Waits until everything logged so far is written.
pub fn flush() {
    let Some(sender) = LOGGER.get().and_then(|logger| logger.thread.get()) else { return };
    let (answer, wait) = sync_channel(1);
    if sender.send(Message::Flush(answer)).is_ok() {
        let _ = wait.recv_timeout(std::time::Duration::from_secs(2));
    }
}

/// Opens the log file again (it may have been rotated away); the old one stays when that fails.
pub fn reopen() {
    if let Some(logger) = LOGGER.get() {
        logger.sink.lock().unwrap_or_else(PoisonError::into_inner).reopen();
    }
}

/// Logs one line; use the macros. Without [`init`] it goes to standard error.
pub fn submit(program: Option<&'static str>, severity: Severity, message: &str) {
    let Some(logger) = LOGGER.get() else {
        eprintln!("{}{}", severity.prefix(), printable(message, MAX_LINE));
        return;
    };
    let line = new_line(program.unwrap_or(logger.program), severity, message);
    match logger.thread.get() {
        None => {
            let mut sink = logger.sink.lock().unwrap_or_else(PoisonError::into_inner);
            sink.add(&line);
            sink.write();
        }
        Some(sender) if logger.may_drop => {
            if let Err(TrySendError::Full(_)) = sender.try_send(Message::Line(line)) {
                logger.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Some(sender) => {
            let _ = sender.send(Message::Line(line));
        }
    }
}

fn new_line(program: &'static str, severity: Severity, message: &str) -> Line {
    Line { time: Timestamp::now(), program, severity, message: printable(message, MAX_LINE) }
}

/// A panic is a bug: it is logged as one, with its place, before the thread unwinds.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        submit(None, Severity::Error, &format!("bug: {info}; please report this"));
    }));
}

/// Logs how things go.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::submit(None, $crate::log::Severity::Info, &format!($($arg)*)) };
}

/// Logs that something was wrong and we coped.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => { $crate::log::submit(None, $crate::log::Severity::Warning, &format!($($arg)*)) };
}

/// Logs that an operator should act.
#[macro_export]
macro_rules! error {
    ($($arg:tt)*) => { $crate::log::submit(None, $crate::log::Severity::Error, &format!($($arg)*)) };
}

/// Logs why the program ends now. Does not end it.
#[macro_export]
macro_rules! fatal {
    ($($arg:tt)*) => { $crate::log::submit(None, $crate::log::Severity::Fatal, &format!($($arg)*)) };
}

/// Logs how things go, under another program name: `info_as!("bounce", "…")`.
#[macro_export]
macro_rules! info_as {
    ($program:expr, $($arg:tt)*) => { $crate::log::submit(Some($program), $crate::log::Severity::Info, &format!($($arg)*)) };
}
