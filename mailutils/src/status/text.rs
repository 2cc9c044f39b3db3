//! The status for people. Pure.

use super::{Health, Overview, Queue};
use common::time::Timestamp;
use spool::control::{Counts, Lately, Paused};
use std::fmt::Write;

/// The whole report, with line ends.
pub fn report(overview: &Overview) -> String {
    let mut out = String::new();
    for (daemon, health) in &overview.daemons {
        row(&mut out, daemon.name(), &words(health));
    }
    match &overview.queue {
        Queue::Told(status) => {
            row(&mut out, "queue", &format!("{}, {} under way", counts(&status.counts), status.in_hand));
            row(&mut out, &format!("last {} min", status.lately.minutes), &lately(&status.lately));
            for paused in &status.paused {
                row(&mut out, "paused", &destination(paused));
            }
            let more = status.paused_total.saturating_sub(status.paused.len() as u64);
            if more > 0 {
                row(&mut out, "paused", &format!("and {more} more"));
            }
        }
        Queue::Counted(found) => row(&mut out, "queue", &counts(found)),
        Queue::Unknown(why) => row(&mut out, "queue", &format!("cannot be seen: {why}")),
    }
    for warning in &overview.warnings {
        row(&mut out, "warning", warning);
    }
    out
}

fn row(out: &mut String, name: &str, what: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name:<15} {}", crate::terminal::line(what));
}

fn words(health: &Health) -> String {
    match health {
        Health::Up(state) => {
            format!("up since {}, version {}, process {}", state.since.asctime(), state.version, state.pid)
        }
        Health::Seen => "up".into(),
        Health::Down => "down".into(),
        Health::Stuck(what) => format!("does not answer: {what}"),
        Health::Hidden => "only root can see it".into(),
    }
}

fn counts(counts: &Counts) -> String {
    let total: u64 = counts.0.iter().sum();
    let parts: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(queue, count)| format!("{count} {}", queue.name()))
        .collect();
    let plural = if total == 1 { "" } else { "s" };
    match parts.is_empty() {
        true => "empty".into(),
        false => format!("{total} message{plural}: {}", parts.join(", ")),
    }
}

fn lately(lately: &Lately) -> String {
    let Lately { received, delivered, deferred, failed, .. } = lately;
    format!("{received} received; recipients: {delivered} delivered, {deferred} deferred, {failed} failed")
}

fn destination(paused: &Paused) -> String {
    let next = match paused.until {
        Some(until) => format!("next try {}", Timestamp::asctime(until)),
        None => "being tried".into(),
    };
    format!("{}, {next}: {}", paused.destination, paused.reason)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use common::destination::Transport;
    use common::reload::{Daemon, State};
    use spool::control::QueueStatus;

    pub fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_795_358_702 + seconds)
    }

    /// One with a bit of everything.
    pub fn busy() -> Overview {
        let state =
            |pid| Health::Up(State { version: "0.1.0".into(), pid, since: at(0), warnings: Vec::new() });
        let paused = |destination: &str, until, reason: &str| Paused {
            destination: destination.into(),
            until,
            reason: reason.into(),
        };
        let status = QueueStatus {
            version: "0.1.0".into(),
            since: at(0),
            counts: Counts([0, 1, 2, 30, 0, 1]),
            in_hand: 2,
            agents: vec![Transport::Smtp],
            lately: Lately { minutes: 5, received: 10, delivered: 9, deferred: 3, failed: 1 },
            paused: vec![
                paused("smtp:a.example", None, "connect to a.example[192.0.2.1]:25: Connection refused"),
                paused("smtp:[relay.example]:587", Some(at(60)), "SASL\u{1b}[0m failed"),
            ],
            paused_total: 7,
        };
        Overview {
            daemons: vec![
                (Daemon::Queued, state(11)),
                (Daemon::Smtpd, state(12)),
                (Daemon::DeliverdSmtp, Health::Stuck("it does not answer in time".into())),
                (Daemon::DeliverdLocal, Health::Down),
            ],
            queue: Queue::Told(Box::new(status)),
            warnings: vec!["/etc/x.pem: the certificate ends on Sunday".into()],
        }
    }

    #[test]
    fn a_busy_system() {
        let (since, next) = (at(0).asctime(), at(60).asctime());
        let expected = format!(
            "\
queued          up since {since}, version 0.1.0, process 11
smtpd           up since {since}, version 0.1.0, process 12
deliverd smtp   does not answer: it does not answer in time
deliverd local  down
queue           34 messages: 1 incoming, 2 active, 30 deferred, 1 corrupt, 2 under way
last 5 min      10 received; recipients: 9 delivered, 3 deferred, 1 failed
paused          smtp:a.example, being tried: connect to a.example[192.0.2.1]:25: Connection refused
paused          smtp:[relay.example]:587, next try {next}: SASL\\u{{1b}}[0m failed
paused          and 5 more
warning         /etc/x.pem: the certificate ends on Sunday
"
        );
        assert_eq!(report(&busy()), expected);
        assert!(!busy().is_up());
    }

    #[test]
    fn what_an_ordinary_user_or_a_stopped_system_shows() {
        let daemons = |health: [Health; 4]| Daemon::ALL.into_iter().zip(health).collect::<Vec<_>>();
        let seen = Overview {
            daemons: daemons([Health::Seen, Health::Hidden, Health::Seen, Health::Seen]),
            queue: Queue::Unknown("no".into()),
            warnings: Vec::new(),
        };
        assert_eq!(
            report(&seen),
            "queued          up\nsmtpd           only root can see it\ndeliverd smtp   up\ndeliverd local  up\n\
             queue           cannot be seen: no\n"
        );
        assert!(seen.is_up());
        let down = || Health::Down;
        let stopped = |counts| Overview {
            daemons: daemons([down(), down(), down(), down()]),
            queue: Queue::Counted(Counts(counts)),
            warnings: Vec::new(),
        };
        assert!(report(&stopped([0; 6])).ends_with("queue           empty\n"));
        assert!(report(&stopped([0, 0, 0, 1, 0, 0])).ends_with("queue           1 message: 1 deferred\n"));
    }
}
