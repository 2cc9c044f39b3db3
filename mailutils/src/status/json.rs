//! The status for programs: one object on one line. Keys are added, never changed. Pure.
//!
//! Times are whole seconds since 1970. What is not known is absent.

use super::{Health, Overview, Queue};
use common::text::printable;
use serde_json::{Map, Value, json};

/// The line, with its end.
pub fn line(overview: &Overview) -> String {
    let daemons: Map<String, Value> = overview
        .daemons
        .iter()
        .map(|(daemon, health)| (daemon.unit().to_owned(), daemon_of(health)))
        .collect();
    let mut object = Map::new();
    object.insert("up".into(), overview.is_up().into());
    object.insert("daemons".into(), daemons.into());
    match &overview.queue {
        Queue::Told(status) => {
            let lately = &status.lately;
            let paused: Vec<Value> = status
                .paused
                .iter()
                .map(|one| {
                    let next = one.until.map(common::time::Timestamp::seconds);
                    json!({"destination": shown(&one.destination), "next_try": next, "reason": shown(&one.reason)})
                })
                .collect();
            object.insert("queue".into(), counts(&status.counts));
            object.insert("under_way".into(), status.in_hand.into());
            object.insert(
                "lately".into(),
                json!({"minutes": lately.minutes, "received": lately.received, "delivered": lately.delivered,
                       "deferred": lately.deferred, "failed": lately.failed}),
            );
            object.insert("paused".into(), paused.into());
            object.insert("paused_total".into(), status.paused_total.into());
        }
        Queue::Counted(found) => drop(object.insert("queue".into(), counts(found))),
        Queue::Unknown(_) => {}
    }
    let warnings: Vec<String> = overview.warnings.iter().map(|text| shown(text)).collect();
    object.insert("warnings".into(), warnings.into());
    format!("{}\n", Value::Object(object))
}

fn shown(text: &str) -> String {
    printable(text, 2000)
}

fn daemon_of(health: &Health) -> Value {
    match health {
        Health::Up(state) => {
            json!({"state": "up", "since": state.since.seconds(), "version": shown(&state.version), "pid": state.pid})
        }
        Health::Seen => json!({"state": "up"}),
        Health::Down => json!({"state": "down"}),
        Health::Stuck(what) => json!({"state": "stuck", "reason": shown(what)}),
        Health::Hidden => json!({"state": "hidden"}),
    }
}

fn counts(counts: &spool::control::Counts) -> Value {
    counts
        .iter()
        .map(|(queue, count)| (queue.name().to_owned(), Value::from(count)))
        .collect::<Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::busy;
    use super::*;

    #[test]
    fn the_keys_stay_what_they_are() {
        let told: Value = serde_json::from_str(&line(&busy())).unwrap();
        let expected = json!({
            "up": false,
            "daemons": {
                "queued": {"state": "up", "since": 1_795_358_702, "version": "0.1.0", "pid": 11},
                "smtpd": {"state": "up", "since": 1_795_358_702, "version": "0.1.0", "pid": 12},
                "deliverd-smtp": {"state": "stuck", "reason": "it does not answer in time"},
                "deliverd-local": {"state": "down"},
            },
            "queue": {"maildrop": 0, "incoming": 1, "active": 2, "deferred": 30, "hold": 0, "corrupt": 1},
            "under_way": 2,
            "lately": {"minutes": 5, "received": 10, "delivered": 9, "deferred": 3, "failed": 1},
            "paused": [
                {"destination": "smtp:a.example", "next_try": null, "reason": "connect to a.example[192.0.2.1]:25: Connection refused"},
                {"destination": "smtp:[relay.example]:587", "next_try": 1_795_358_762, "reason": "SASL\\x1b[0m failed"},
            ],
            "paused_total": 7,
            "warnings": ["/etc/x.pem: the certificate ends on Sunday"],
        });
        assert_eq!(told, expected);
        assert_eq!(line(&busy()).lines().count(), 1);
    }
}
