//! Every stage × every verb, as one table in `tests/states.txt`: a difference there is a change of behaviour.
//! Written anew by `UPDATE=1 cargo test -p smtpd --test suite`.

use crate::player::{Host, Player, of_client};
use smtpd::session::verbs::{STAGES, Stage, TABLE, Verb};
use std::fmt::Write;
use std::path::Path;

fn at(stage: Stage, submission: bool) -> Player {
    let mut host = Host { auth: "always", submission, ..Host::default() };
    host.settings.xclient_networks = of_client();
    let mut player = Player::new(host);
    let commands = ["EHLO client.example", "MAIL FROM:<a@b.example>", "RCPT TO:<joe@example>", "BDAT 2\r\n"];
    let depth = STAGES.iter().position(|s| *s == stage).unwrap();
    for command in &commands[..depth] {
        player.send(format!("{command}\r\n").as_bytes());
    }
    assert_eq!(player.session.stage(), Some(stage));
    player.replies();
    player
}

fn arguments(verb: Verb) -> (&'static str, &'static str) {
    match verb {
        Verb::Helo | Verb::Ehlo => (" client.example", ""),
        Verb::Mail => (" FROM:<c@d.example>", " FROM:c"),
        Verb::Rcpt => (" TO:<jane@example>", " TO:<jane"),
        Verb::Vrfy => (" joe", ""),
        Verb::Bdat => (" 5\r\nabc", " x"),
        Verb::Foreign => (" / HTTP/1.1", ""),
        Verb::Data | Verb::Rset => ("", " x"),
        Verb::Xclient => (" ADDR=198.51.100.7", " ADDR"),
        Verb::StartTls => ("", " x"),
        Verb::Auth => (" PLAIN AGpvZQBzZWNyZXQ=", " PLAIN =x"),
        Verb::Noop | Verb::Help | Verb::Quit | Verb::NotOffered => ("", " x"),
    }
}

#[test]
fn every_verb_in_every_stage() {
    let mut table = String::new();
    // Where clients have to log in, there is nothing behind the second stage for those who have not.
    for (stage, submission) in
        STAGES.map(|stage| (stage, false)).into_iter().chain([(STAGES[0], true), (STAGES[1], true)])
    {
        let name_of = |stage: Stage| format!("{}{stage:?}", if submission { "to log in: " } else { "" });
        for (name, verb) in TABLE
            .iter()
            .map(|r| (r.name, r.verb))
            .chain([("XYZZY", Verb::NotOffered), ("", Verb::NotOffered)])
        {
            for (kind, argument) in [("good", arguments(verb).0), ("bad", arguments(verb).1)] {
                let mut player = at(stage, submission);
                player.send(format!("{name}{argument}\r\n").as_bytes());
                let after = if player.closed {
                    "closed".to_owned()
                } else {
                    player.session.stage().map_or("Content".to_owned(), |stage| format!("{stage:?}"))
                };
                let replies = player.replies();
                let replies = match replies.as_slice() {
                    [one] => one.clone(),
                    many => format!("{} … ({} lines)", many[0], many.len()),
                };
                writeln!(table, "{:<10} {name:<8} {kind:<4} -> {after:<10} {replies}", name_of(stage))
                    .unwrap();
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/states.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (expected, got) in expected.lines().zip(table.lines()) {
        assert_eq!(got, expected);
    }
    assert_eq!(table.lines().count(), expected.lines().count());
}
