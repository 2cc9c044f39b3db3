//! What the supervisor does when: a state machine without processes, signals or a clock. Events go in with
//! the time, [`Action`]s come out.
//!
//! During the first start a daemon that ends with a lasting error (usage, permission, configuration) ends
//! everything; one that ends otherwise is tried again until [`PATIENCE`] is over. Once all were ready,
//! whatever ends is started again after a pause ([`super::backoff`]). When told to stop, every daemon gets
//! SIGTERM, and SIGKILL after [`STOP_TIME`]; nothing is started any more.

use super::backoff::Backoff;
use std::time::{Duration, Instant};

/// So long the first start may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A daemon that ends with an error other than a lasting one is tried again for so long during the first
/// start.
pub const FIRST_TRIES: Duration = Duration::from_secs(15);
/// So long the daemons may take to stop.
pub const STOP_TIME: Duration = Duration::from_secs(30);

/// sysexits(3): not now.
const TRY_AGAIN: u8 = 75;

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With an exit code.
    Code(u8),
    /// By a signal.
    Signal(i32),
    /// It could not be started at all.
    NotStarted,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::NotStarted => f.write_str("could not be started"),
        }
    }
}

/// What the driver has to do. Daemons are named by their place in the crew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start it.
    Start(usize),
    /// Ask it to stop (SIGTERM).
    Stop(usize),
    /// Let it read its configuration anew.
    Reload(usize),
    /// End it at once (SIGKILL).
    Kill(usize),
    /// All serve: say so.
    Ready,
    /// A daemon ended and is started again after the pause.
    Again(usize, End, Duration),
    /// A daemon ended, and that is why everything ends.
    GiveUp(usize, End),
    /// This daemon has not become ready in time.
    Late(usize),
    /// All is over: leave with this code.
    Exit(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Started again when the time has come.
    Waiting(Instant),
    Running {
        since: Instant,
        ready: bool,
    },
    Gone,
}

#[derive(Debug)]
struct Member {
    state: State,
    backoff: Backoff,
    /// Was it ready at least once?
    served: bool,
    /// Was a reload wanted while it was starting? It may have read the old file, and may not listen to
    /// signals yet.
    reload: bool,
}

/// What the crew as a whole is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting { began: Instant },
    Serving,
    Stopping { kill_at: Option<Instant>, code: u8 },
}

/// All daemons of one run.
#[derive(Debug)]
pub struct Crew {
    members: Vec<Member>,
    phase: Phase,
}

impl Crew {
    /// `count` daemons; the actions start them all.
    pub fn new(count: usize, now: Instant) -> (Self, Vec<Action>) {
        let member = || Member {
            state: State::Running { since: now, ready: false },
            backoff: Backoff::default(),
            served: false,
            reload: false,
        };
        let members = (0..count).map(|_| member()).collect();
        (Self { members, phase: Phase::Starting { began: now } }, (0..count).map(Action::Start).collect())
    }

    /// A daemon says that it serves.
    pub fn ready(&mut self, index: usize) -> Vec<Action> {
        let Some(member) = self.members.get_mut(index) else { return Vec::new() };
        let mut actions = Vec::new();
        if let State::Running { ready, .. } = &mut member.state {
            *ready = true;
            member.served = true;
            if std::mem::take(&mut member.reload) {
                actions.push(Action::Reload(index));
            }
        }
        let all = self.members.iter().all(|m| matches!(m.state, State::Running { ready: true, .. }));
        if all && matches!(self.phase, Phase::Starting { .. }) {
            self.phase = Phase::Serving;
            actions.push(Action::Ready);
        }
        actions
    }

    /// A daemon has ended, or could not be started.
    pub fn ended(&mut self, index: usize, end: End, now: Instant) -> Vec<Action> {
        let Some(member) = self.members.get_mut(index) else { return Vec::new() };
        let State::Running { since, .. } = member.state else { return Vec::new() };
        match self.phase {
            Phase::Stopping { .. } => {
                member.state = State::Gone;
                self.exit_when_all_are_gone()
            }
            Phase::Starting { began }
                if !member.served && is_final(end, now.saturating_duration_since(began)) =>
            {
                member.state = State::Gone;
                let code = match end {
                    // A daemon that ends without an error and without serving has not done its work either.
                    End::Code(0) | End::Signal(_) => TRY_AGAIN,
                    End::Code(code) => code,
                    End::NotStarted => 72,
                };
                let mut actions = vec![Action::GiveUp(index, end)];
                actions.extend(self.stop(code, now));
                actions
            }
            Phase::Starting { .. } | Phase::Serving => {
                let pause = member.backoff.pause_after(now.saturating_duration_since(since));
                member.state = State::Waiting(now + pause);
                vec![Action::Again(index, end, pause)]
            }
        }
    }

    /// An admin wants it to end. The second time nothing is waited for.
    pub fn terminate(&mut self, now: Instant) -> Vec<Action> {
        match &mut self.phase {
            Phase::Stopping { kill_at, .. } => {
                *kill_at = None;
                self.running().map(Action::Kill).collect()
            }
            _ => self.stop(0, now),
        }
    }

    /// The configuration has changed, and is known to be good.
    pub fn reload(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if matches!(self.phase, Phase::Stopping { .. }) {
            return actions;
        }
        for (index, member) in self.members.iter_mut().enumerate() {
            match member.state {
                State::Running { ready: true, .. } => actions.push(Action::Reload(index)),
                State::Running { ready: false, .. } => member.reload = true,
                State::Waiting(_) | State::Gone => {}
            }
        }
        actions
    }

    /// When [`Crew::expire`] has something to do; `None`: never.
    pub fn deadline(&self) -> Option<Instant> {
        let restart = self.members.iter().filter_map(|m| match m.state {
            State::Waiting(at) => Some(at),
            _ => None,
        });
        let phase = match self.phase {
            Phase::Starting { began } => Some(began + PATIENCE),
            Phase::Serving => None,
            Phase::Stopping { kill_at, .. } => kill_at,
        };
        restart.chain(phase).min()
    }

    /// What the time brings.
    pub fn expire(&mut self, now: Instant) -> Vec<Action> {
        match self.phase {
            Phase::Stopping { kill_at: Some(at), code } if at <= now => {
                self.phase = Phase::Stopping { kill_at: None, code };
                return self.running().map(Action::Kill).collect();
            }
            Phase::Stopping { .. } => return Vec::new(),
            Phase::Starting { began } if began + PATIENCE <= now => {
                let late = |m: &Member| !matches!(m.state, State::Running { ready: true, .. });
                let late = self.members.iter().enumerate().filter(|(_, m)| late(m));
                let mut actions: Vec<Action> = late.map(|(index, _)| Action::Late(index)).collect();
                actions.extend(self.stop(TRY_AGAIN, now));
                return actions;
            }
            Phase::Starting { .. } | Phase::Serving => {}
        }
        let mut actions = Vec::new();
        for (index, member) in self.members.iter_mut().enumerate() {
            if matches!(member.state, State::Waiting(at) if at <= now) {
                member.state = State::Running { since: now, ready: false };
                member.reload = false;
                actions.push(Action::Start(index));
            }
        }
        actions
    }

    fn stop(&mut self, code: u8, now: Instant) -> Vec<Action> {
        self.phase = Phase::Stopping { kill_at: Some(now + STOP_TIME), code };
        for member in &mut self.members {
            if matches!(member.state, State::Waiting(_)) {
                member.state = State::Gone;
            }
        }
        let mut actions: Vec<Action> = self.running().map(Action::Stop).collect();
        actions.extend(self.exit_when_all_are_gone());
        actions
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        let running = |m: &Member| matches!(m.state, State::Running { .. });
        self.members.iter().enumerate().filter(move |(_, m)| running(m)).map(|(index, _)| index)
    }

    fn exit_when_all_are_gone(&self) -> Vec<Action> {
        match self.phase {
            Phase::Stopping { code, .. } if self.running().next().is_none() => vec![Action::Exit(code)],
            _ => Vec::new(),
        }
    }
}

/// Whether trying again is of no use: an error that lasts (sysexits(3): usage, permission, configuration), or
/// enough was tried.
fn is_final(end: End, since_start: Duration) -> bool {
    matches!(end, End::Code(64 | 77 | 78) | End::NotStarted) || since_start >= FIRST_TRIES
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn serving(now: Instant) -> Crew {
        let (mut crew, actions) = Crew::new(2, now);
        assert_eq!(actions, [Start(0), Start(1)]);
        assert_eq!(crew.ready(1), []);
        assert_eq!(crew.ready(0), [Ready]);
        assert_eq!(crew.deadline(), None);
        crew
    }

    #[test]
    fn ready_is_said_once_when_all_serve() {
        let now = Instant::now();
        let mut crew = serving(now);
        assert_eq!(crew.ready(0), []);
        assert_eq!(crew.ended(0, End::Signal(9), now), [Again(0, End::Signal(9), SECOND)]);
        assert_eq!(crew.expire(now), []);
        assert_eq!(crew.deadline(), Some(now + SECOND));
        assert_eq!(crew.expire(now + SECOND), [Start(0)]);
        assert_eq!(crew.ready(0), []);
    }

    #[test]
    fn what_dies_again_and_again_waits_longer_each_time() {
        let mut now = Instant::now();
        let mut crew = serving(now);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
            // Even a broken configuration: it may be mended meanwhile.
            assert_eq!(crew.ended(1, End::Code(78), now), [Again(1, End::Code(78), pause)]);
            now += pause;
            assert_eq!(crew.expire(now), [Start(1)]);
        }
    }

    #[test]
    fn the_first_start_gives_up_on_lasting_errors_and_on_long_failure() {
        let began = Instant::now();
        for (end, after, code) in [
            (End::Code(78), Duration::ZERO, Some(78)),
            (End::Code(64), Duration::ZERO, Some(64)),
            (End::Code(77), Duration::ZERO, Some(77)),
            (End::NotStarted, Duration::ZERO, Some(72)),
            (End::Code(75), Duration::ZERO, None),
            (End::Code(1), SECOND, None),
            (End::Code(0), SECOND, None),
            (End::Signal(11), SECOND, None),
            (End::Code(75), FIRST_TRIES, Some(75)),
            (End::Code(0), FIRST_TRIES, Some(75)),
            (End::Signal(11), FIRST_TRIES, Some(75)),
            (End::Code(71), FIRST_TRIES, Some(71)),
        ] {
            let (mut crew, _) = Crew::new(2, began);
            let now = began + after;
            let actions = crew.ended(0, end, now);
            match code {
                Some(code) => {
                    assert_eq!(actions, [GiveUp(0, end), Stop(1)], "{end:?}");
                    assert_eq!(crew.ended(1, End::Code(0), now), [Exit(code)], "{end:?}");
                }
                None => assert_eq!(actions, [Again(0, end, SECOND)], "{end:?}"),
            }
        }
    }

    #[test]
    fn one_that_never_gets_ready_ends_the_first_start() {
        let began = Instant::now();
        let (mut crew, _) = Crew::new(2, began);
        crew.ready(0);
        assert_eq!(crew.deadline(), Some(began + PATIENCE));
        let now = began + PATIENCE;
        assert_eq!(crew.expire(now), [Late(1), Stop(0), Stop(1)]);
        assert_eq!(crew.ended(0, End::Code(0), now), []);
        assert_eq!(crew.deadline(), Some(now + STOP_TIME));
        assert_eq!(crew.expire(now + STOP_TIME), [Kill(1)]);
        assert_eq!(crew.ended(1, End::Signal(9), now), [Exit(75)]);
    }

    #[test]
    fn stopping_starts_nothing_and_ends_with_0() {
        let now = Instant::now();
        let mut crew = serving(now);
        crew.ended(0, End::Code(1), now);
        assert_eq!(crew.terminate(now), [Stop(1)]);
        assert_eq!(crew.reload(), []);
        assert_eq!(crew.expire(now + 2 * SECOND), []);
        assert_eq!(crew.terminate(now), [Kill(1)], "the second time at once");
        assert_eq!(crew.deadline(), None);
        assert_eq!(crew.ended(1, End::Signal(9), now), [Exit(0)]);
        let mut idle = serving(now);
        idle.ended(0, End::Code(1), now);
        idle.ended(1, End::Code(1), now);
        assert_eq!(idle.terminate(now), [Exit(0)]);
    }

    #[test]
    fn only_those_that_serve_are_told_to_reload() {
        let now = Instant::now();
        let mut crew = serving(now);
        assert_eq!(crew.reload(), [Reload(0), Reload(1)]);
        crew.ended(1, End::Code(1), now);
        assert_eq!(crew.reload(), [Reload(0)]);
        crew.expire(now + SECOND);
        assert_eq!(crew.reload(), [Reload(0)]);
        assert_eq!(crew.ready(1), [Reload(1)], "it may have read the old file");
        assert_eq!(crew.ready(1), []);
    }
}
