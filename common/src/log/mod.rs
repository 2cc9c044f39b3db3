//! The log: Postfix's wording and program names, so that tools made for its log read ours, to syslog, standard error or a file.
//!
//! Every line passes [`crate::text::printable`] as a whole: no octet from outside can end a line or reach a terminal as a control
//! sequence, whatever a caller forgets. Lines are formatted by their callers, without a lock; after [`write_from_thread`] a thread of its own writes
//! them in batches. A file or standard error makes callers wait when it is slow (no line is lost); syslog, which may be
//! hung, does not: lines beyond the queue are counted and the number is logged. [`reopen`] and [`flush`] then do not wait for it either
//! ([`flush`] no longer than two seconds).

mod line;
mod sink;

use crate::config::Config;
use crate::text::into_printable;
use crate::time::Timestamp;
pub use line::Severity;
use line::{Line, Style};
use sink::Sink;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Longest line, in octets, stamp and program name not counted.
const MAX_LINE: usize = 8000;
/// Lines that may wait to be written.
const QUEUE: usize = 16 * 1024;
/// A program that ends waits no longer than this for its log.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// Between two batches of a busy program's lines: waking the thread for each line costs more than writing it.
const BATCH_PAUSE: Duration = Duration::from_millis(5);
/// Between two looks at a queue that is full.
const FLUSH_PAUSE: Duration = Duration::from_millis(5);

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    program: &'static str,
    sink: Mutex<Sink>,
    thread: OnceLock<SyncSender<Message>>,
    may_drop: bool,
    dropped: AtomicU64,
    /// The thread is to open the file again before it writes the next time.
    reopen: AtomicBool,
}

enum Message {
    Line(Line),
    Flush(SyncSender<()>),
    /// To look at [`Logger::reopen`].
    Wake,
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
        reopen: AtomicBool::new(false),
    };
    if LOGGER.set(logger).is_ok() {
        log_panics();
    }
    Ok(Flush(()))
}

/// From now on a thread does the writing. For daemons with many callers, after privileges are dropped.
pub fn write_from_thread() -> io::Result<()> {
    LOGGER.get().map_or(Ok(()), start_thread)
}

fn start_thread(logger: &'static Logger) -> io::Result<()> {
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
                Message::Wake => {}
            }
        }
        let dropped = logger.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            sink.add(&new_line(
                logger.program,
                Severity::Warning,
                format!("{dropped} log lines lost: the log does not keep up"),
            ));
        }
        // After the batch was taken: lines logged after `reopen` go to the new file.
        if logger.reopen.swap(false, Ordering::Acquire) {
            sink.reopen();
        }
        sink.write();
        drop(sink);
        for answer in answers {
            let _ = answer.send(());
        }
        std::thread::sleep(BATCH_PAUSE);
    }
}

/// Waits until everything logged so far is written, two seconds at most.
pub fn flush() {
    if let Some(logger) = LOGGER.get() {
        logger.flush(FLUSH_LIMIT);
    }
}

/// Opens the log file again (it may have been rotated away); the old one stays when that fails. Once a thread does the writing this
/// only tells it so, and never waits.
pub fn reopen() {
    if let Some(logger) = LOGGER.get() {
        logger.reopen();
    }
}

impl Logger {
    /// Did everything get written within `limit`?
    fn flush(&self, limit: Duration) -> bool {
        let Some(sender) = self.thread.get() else { return true };
        let end = Instant::now() + limit;
        let (answer, wait) = sync_channel(1);
        let mut message = Message::Flush(answer);
        // The queue may be full, and its reader may hang for ever.
        while let Err(error) = sender.try_send(message) {
            let TrySendError::Full(back) = error else { return false };
            if Instant::now() >= end {
                return false;
            }
            message = back;
            std::thread::sleep(FLUSH_PAUSE);
        }
        wait.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
    }

    fn reopen(&self) {
        match self.thread.get() {
            // The thread holds the lock while it writes, which may take for ever.
            Some(sender) => {
                self.reopen.store(true, Ordering::Release);
                // A full queue wakes it as well.
                let _ = sender.try_send(Message::Wake);
            }
            None => self.sink.lock().unwrap_or_else(PoisonError::into_inner).reopen(),
        }
    }
}

/// Logs one line; use the macros. Without [`init`] it goes to standard error.
pub fn submit(program: Option<&'static str>, severity: Severity, message: String) {
    let Some(logger) = LOGGER.get() else {
        eprintln!("{}{}", severity.prefix(), into_printable(message, MAX_LINE));
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

fn new_line(program: &'static str, severity: Severity, message: String) -> Line {
    Line { time: Timestamp::now(), program, severity, message: into_printable(message, MAX_LINE) }
}

/// A panic is a bug: it is logged as one, with its place, before the thread unwinds.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        submit(None, Severity::Error, format!("bug: {info}; please report this"));
    }));
}

/// Logs how things go.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::log::submit(None, $crate::log::Severity::Info, format!($($arg)*)) };
}

/// Logs that something was wrong and we coped.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)*) => { $crate::log::submit(None, $crate::log::Severity::Warning, format!($($arg)*)) };
}

/// Logs that an operator should act.
#[macro_export]
macro_rules! error {
    ($($arg:tt)*) => { $crate::log::submit(None, $crate::log::Severity::Error, format!($($arg)*)) };
}

/// Logs why the program ends now. Does not end it.
#[macro_export]
macro_rules! fatal {
    ($($arg:tt)*) => { $crate::log::submit(None, $crate::log::Severity::Fatal, format!($($arg)*)) };
}

/// Logs how things go, under another program name: `info_as!("bounce", "…")`.
#[macro_export]
macro_rules! info_as {
    ($program:expr, $($arg:tt)*) => { $crate::log::submit(Some($program), $crate::log::Severity::Info, format!($($arg)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, LogTo};
    use std::fs::{read_to_string, rename};

    #[test]
    fn a_writer_that_hangs_stops_neither_reopen_nor_flush() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (folder.path().join("log"), folder.path().join("log.1"));
        let style = Style { name: "ironpost".into(), hostname: "mx".into(), pid: 7, format: LogFormat::Text };
        let logger: &'static Logger = Box::leak(Box::new(Logger {
            program: "test",
            sink: Mutex::new(Sink::open(&LogTo::File(path.clone()), style).unwrap()),
            thread: OnceLock::new(),
            may_drop: true,
            dropped: AtomicU64::new(0),
            reopen: AtomicBool::new(false),
        }));
        start_thread(logger).unwrap();
        let sender = logger.thread.get().unwrap();
        let log =
            |text: &str| sender.try_send(Message::Line(new_line("test", Severity::Info, text.to_owned())));
        log("before").unwrap();
        assert!(logger.flush(Duration::from_secs(60)));
        rename(&path, &rotated).unwrap();

        // What the thread would hold inside a send(2) that does not return.
        let held = logger.sink.lock().unwrap();
        let (done, wait) = sync_channel(1);
        std::thread::spawn(move || {
            logger.reopen();
            let in_time = logger.flush(Duration::from_millis(1));
            while sender.try_send(Message::Wake).is_ok() {}
            logger.reopen();
            done.send(in_time || logger.flush(Duration::from_millis(1))).unwrap();
        });
        assert_eq!(wait.recv_timeout(Duration::from_secs(60)), Ok(false), "nothing waited for the lock");
        assert!(!path.exists());
        drop(held);

        assert!(logger.flush(Duration::from_secs(60)));
        log("after").unwrap();
        assert!(logger.flush(Duration::from_secs(60)));
        let (old, new) = (read_to_string(&rotated).unwrap(), read_to_string(&path).unwrap());
        assert!(old.contains("before") && !old.contains("after") && new.contains("after"), "{old} {new}");
    }
}
