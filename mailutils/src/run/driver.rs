//! Processes, signals and time for the [`Crew`]. One thread decides; one hands it signals, one hands it the
//! daemons' notices, one has daemons reload and waits for what they say.
//!
//! Each daemon gets, as standard input, a pipe whose other end only this process holds, so that it learns of
//! our end, however that comes; the notify socket's name; and a process group of its own, so that a key
//! pressed at the terminal reaches us alone. A process is signalled only while it is not reaped, so never a
//! stranger that took over its number.

use super::crew::{Action, Crew, End, PATIENCE};
use super::notify::{Notice, NotifySocket};
use super::programs::Program;
use super::{Reload, Voice};
use common::lifeline;
use common::reload::call::Unanswered;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, PipeReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

enum Event {
    Terminate,
    Reload,
    ChildEnded,
    Notice(Notice),
    /// Nobody answers where this daemon should.
    Deaf(usize),
}

/// Starts the programs and keeps them running until SIGTERM or SIGINT; the exit code. Errors: what is needed to supervise cannot be had; then nothing was
/// started.
pub fn supervise(programs: Vec<Program>, voice: Voice, reload: Reload) -> io::Result<u8> {
    let (events, inbox) = channel();
    listen_to_signals(events.clone())?;
    let socket = NotifySocket::new()?;
    let socket_name = socket.name().to_owned();
    listen_to_notices(socket, events.clone())?;
    let reload = Arc::new(reload);
    let reloads = tell_daemons(&programs, voice, reload.clone(), events)?;
    let (lifeline, held) = io::pipe()?;
    let now = Instant::now();
    let (crew, actions) = Crew::new(programs.len(), now);
    let children = programs.iter().map(|_| None).collect();
    let mut driver = Driver { programs, children, crew, socket_name, lifeline, voice, reload, reloads };
    let code = driver.work(actions, &inbox);
    // Held until here: the daemons are alive as long as this end of the pipe.
    drop(held);
    Ok(code)
}

fn listen_to_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let event = match signal {
                SIGHUP => Event::Reload,
                SIGCHLD => Event::ChildEnded,
                _ => Event::Terminate,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn listen_to_notices(socket: NotifySocket, events: Sender<Event>) -> io::Result<()> {
    let receive = move || {
        // An error of a bound datagram socket does not go away: without notices the crew runs out of patience
        // and says so.
        while let Ok(notice) = socket.receive() {
            if events.send(Event::Notice(notice)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("notices".into()).spawn(receive)?;
    Ok(())
}

/// A thread that has the daemons reload whose places in the crew it is given, one after the other.
fn tell_daemons(
    programs: &[Program],
    voice: Voice,
    reload: Arc<Reload>,
    events: Sender<Event>,
) -> io::Result<Sender<usize>> {
    let (sender, wanted) = channel();
    let daemons: Vec<_> = programs.iter().map(|program| program.daemon).collect();
    let tell = move |index: usize| {
        let Some(daemon) = daemons.get(index) else { return };
        let told = match reload.tell(*daemon) {
            Ok(told) => told,
            Err(text) => return voice.error(&format!("{} not reloaded: {text}", daemon.name())),
        };
        if matches!(told.answer, Err(Unanswered::Down)) {
            let _ = events.send(Event::Deaf(index));
            return;
        }
        for (good, line) in told.lines(reload.spool()) {
            // What a daemon says it logs itself.
            match (good, &told.answer) {
                (true, _) => voice.person(&line),
                (false, Ok(_)) if !told.problems.iter().any(|problem| line.ends_with(problem)) => {
                    voice.person(&line);
                }
                (false, _) => voice.error(&line),
            }
        }
    };
    let serve = move || wanted.iter().for_each(tell);
    thread::Builder::new().name("reload".into()).spawn(serve)?;
    Ok(sender)
}

struct Driver {
    programs: Vec<Program>,
    children: Vec<Option<Child>>,
    crew: Crew,
    socket_name: String,
    lifeline: PipeReader,
    voice: Voice,
    reload: Arc<Reload>,
    reloads: Sender<usize>,
}

impl Driver {
    fn work(&mut self, mut actions: Vec<Action>, inbox: &Receiver<Event>) -> u8 {
        loop {
            // Carrying an action out may cause others (a daemon that cannot be started).
            let mut index = 0;
            while let Some(action) = actions.get(index).cloned() {
                index += 1;
                match action {
                    Action::Exit(code) => return code,
                    other => actions.extend(self.carry_out(&other)),
                }
            }
            actions = match self.next_event(inbox) {
                Some(event) => self.take(event),
                None => self.crew.expire(Instant::now()),
            };
        }
    }

    /// `None`: the crew's time has come.
    fn next_event(&self, inbox: &Receiver<Event>) -> Option<Event> {
        match self.crew.deadline() {
            None => inbox.recv().ok(),
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())).ok(),
        }
    }

    fn take(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Terminate => {
                self.voice.info("stopping");
                common::notify::stopping();
                self.crew.terminate(Instant::now())
            }
            Event::Reload => match self.reload.check() {
                Ok(()) => {
                    common::log::reopen();
                    self.voice.info("reloading");
                    self.crew.reload()
                }
                Err(text) => {
                    self.voice.error(&format!("not reloaded, the old configuration stays in force: {text}"));
                    Vec::new()
                }
            },
            Event::ChildEnded => self.reap(),
            Event::Deaf(index) => {
                self.signal(index, Signal::SIGHUP);
                Vec::new()
            }
            Event::Notice(notice) if notice.ready => match self.index_of(notice.pid) {
                Some(index) => self.crew.ready(index),
                None => Vec::new(),
            },
            Event::Notice(_) => Vec::new(),
        }
    }

    fn index_of(&self, pid: i32) -> Option<usize> {
        let pid = u32::try_from(pid).ok()?;
        self.children.iter().position(|child| child.as_ref().is_some_and(|c| c.id() == pid))
    }

    /// Looks at every child: one signal may stand for several ends.
    fn reap(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (index, slot) in self.children.iter_mut().enumerate() {
            let status = match slot.as_mut().map(Child::try_wait) {
                Some(Ok(Some(status))) => status,
                _ => continue,
            };
            *slot = None;
            actions.extend(self.crew.ended(index, end_of(status), Instant::now()));
        }
        actions
    }

    fn name(&self, index: usize) -> &'static str {
        self.programs.get(index).map_or("", |program| program.name)
    }

    fn carry_out(&mut self, action: &Action) -> Vec<Action> {
        match action {
            Action::Start(index) => return self.start(*index),
            Action::Stop(index) => self.signal(*index, Signal::SIGTERM),
            Action::Reload(index) => {
                // The thread lives as long as this end of its channel.
                let _ = self.reloads.send(*index);
            }
            Action::Kill(index) => {
                self.voice.warn(&format!("{} does not stop: killing it", self.name(*index)));
                self.signal(*index, Signal::SIGKILL);
            }
            Action::Ready => {
                common::info!("all daemons are ready");
                common::notify::ready();
                // Whoever waits for the word may be gone; the mail system goes on.
                let mut out = io::stdout();
                let _ = out.write_all(b"ready\n").and_then(|()| out.flush());
            }
            Action::Again(index, end, pause) => {
                let (name, seconds) = (self.name(*index), pause.as_secs());
                self.voice.warn(&format!("{name} {end}; starting it again in {seconds} s"));
            }
            Action::GiveUp(index, end) => {
                let name = self.name(*index);
                self.voice.error(&format!("{name} {end} before it was ready: stopping"));
            }
            Action::Late(index) => {
                let (name, seconds) = (self.name(*index), PATIENCE.as_secs());
                self.voice.error(&format!("{name} was not ready within {seconds} s: stopping"));
            }
            Action::Exit(_) => {}
        }
        Vec::new()
    }

    fn start(&mut self, index: usize) -> Vec<Action> {
        let Some(program) = self.programs.get(index) else { return Vec::new() };
        let child = self.lifeline.try_clone().and_then(|stdin| {
            Command::new(&program.path)
                .args(&program.args)
                .env("NOTIFY_SOCKET", &self.socket_name)
                .env(lifeline::VARIABLE, "1")
                .stdin(Stdio::from(stdin))
                // Standard output is for the word `ready`; a daemon that prints there must not fake it.
                .stdout(Stdio::from(io::stderr()))
                .process_group(0)
                .spawn()
        });
        match child {
            Ok(child) => {
                common::info!("started {} as process {}", program.name, child.id());
                if let Some(slot) = self.children.get_mut(index) {
                    *slot = Some(child);
                }
                Vec::new()
            }
            Err(error) => {
                self.voice.error(&format!("cannot start {}: {error}", program.path.display()));
                self.crew.ended(index, End::NotStarted, Instant::now())
            }
        }
    }

    fn signal(&self, index: usize, signal: Signal) {
        let child = self.children.get(index).and_then(Option::as_ref);
        let pid = child.and_then(|child| i32::try_from(child.id()).ok());
        if let Some(Err(error)) = pid.map(|pid| kill(Pid::from_raw(pid), signal)) {
            common::warn!("cannot send {signal} to {}: {error}", self.name(index));
        }
    }
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Code(u8::try_from(code).unwrap_or(1)),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    }
}
