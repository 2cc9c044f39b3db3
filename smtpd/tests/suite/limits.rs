//! Limits that a dialogue cannot show: time-outs to the octet, sizes, the memory of an idle session.

use crate::player::{Host, Player, of_client};
use common::time::Timestamp;
use smtpd::session::{Answer, Session};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn in_content(host: Host) -> Player {
    let mut player = Player::new(host);
    player.lines("EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<joe@example>\r\nDATA\r\n");
    assert!(player.open.is_some());
    player.replies();
    player
}

/// RFC 5321 4.5.3.2.7 asks for five minutes; a client that sends an octet now and then gets no more than that
/// for its line.
#[test]
fn an_octet_now_and_then_does_not_prolong_a_command_line() {
    let mut player = Player::new(Host::default());
    for _ in 0..299 {
        player.pass(SECOND);
        player.send(b"N");
    }
    assert!(!player.closed);
    player.pass(SECOND);
    assert!(player.closed);
    assert_eq!(player.replies().last().unwrap(), "421 4.4.2 mail.example Error: timeout exceeded");
    assert_eq!(player.log[1], "timeout after CONNECT from unknown[192.0.2.1]");
}

#[test]
fn each_whole_line_prolongs_the_session() {
    let mut player = Player::new(Host::default());
    for _ in 0..50 {
        player.pass(299 * SECOND);
        player.send(b"NOOP\r\n");
    }
    assert!(!player.closed);
}

#[test]
fn each_kib_of_content_prolongs_the_session_and_less_does_not() {
    let mut player = in_content(Host::default());
    for _ in 0..5 {
        player.pass(299 * SECOND);
        player.send(&[b'x'; 1024]);
    }
    assert!(!player.closed);
    for _ in 0..299 {
        player.pass(SECOND);
        player.send(b"x\r\n");
    }
    player.pass(SECOND);
    assert!(player.closed && player.open.is_none() && player.messages.is_empty());
    assert_eq!(player.log[1], "timeout after DATA (6017 bytes) from unknown[192.0.2.1]");
}

#[test]
fn the_size_limit_is_exact() {
    for (size, reply) in [
        (10_000, "250 2.0.0 Ok: queued as 0000000000000001"),
        (10_001, "552 5.3.4 Message size exceeds fixed limit"),
    ] {
        let mut player = in_content(Host::default());
        player.send(&vec![b'x'; size - 2]);
        player.send(b"\r\n.\r\n");
        assert_eq!(player.replies(), [reply], "{size}");
        assert_eq!(player.messages.len(), usize::from(size == 10_000));
        player.send(b"NOOP\r\n");
        assert_eq!(player.replies(), ["250 2.0.0 Ok"]);
    }
}

#[test]
fn the_header_has_a_limit_and_the_body_has_none_of_its_own() {
    let mut host = Host::default();
    host.settings.message_size_limit = 0;
    for (content, taken) in [
        (["X: ".to_owned(), "y".repeat(1 << 20), "\r\n\r\nbody".into()].concat(), false),
        (["X: y\r\n\r\n".to_owned(), "y".repeat(2 << 20)].concat(), true),
        ("X: y\r\n".repeat(200_000), false),
    ] {
        let mut player = in_content(host.clone());
        player.send(content.as_bytes());
        player.send(b"\r\n.\r\n");
        let reply = player.replies().remove(0);
        assert_eq!(reply.starts_with("250"), taken, "{reply}");
        assert!(taken || reply == "552 5.3.4 Error: header too large", "{reply}");
    }
}

#[test]
fn without_a_size_limit_there_is_none() {
    let mut host = Host::default();
    host.settings.message_size_limit = 0;
    let mut player = Player::new(host.clone());
    player.send(b"EHLO a\r\n");
    assert!(player.replies().contains(&"250-SIZE".to_owned()));
    let mut player = in_content(host);
    player.send(b"\r\n");
    (0..100).for_each(|_| player.send(&[b'x'; 100_000]));
    player.send(b"\r\n.\r\n");
    assert_eq!(player.messages[0].1.len(), 10_000_004);
}

#[test]
fn content_without_end_is_not_read_for_ever() {
    let mut player = in_content(Host::default());
    // The last one of them is the one too many: what comes before the refusal does not count.
    for _ in 0..66 {
        player.send(&vec![b'x'; 1 << 20]);
    }
    assert!(player.closed && player.open.is_none());
    assert_eq!(player.replies(), ["421 4.3.4 mail.example Error: message size exceeds fixed limit"]);
}

#[test]
fn refused_content_without_end_is_not_read_for_ever_without_a_size_limit_either() {
    let mut host = Host::default();
    host.settings.message_size_limit = 0;
    host.settings.limits.line_length = 1000;
    let long_line = [vec![b'x'; 1000], b"\r\n".to_vec()].concat();
    // What was taken before the refusal does not count.
    let taken = [b"\r\n".to_vec(), b"a line of the body\r\n".repeat(4 << 20)].concat();
    let refusal = "421 4.3.4 mail.example Error: message size exceeds fixed limit";

    let mut player = in_content(host.clone());
    player.send(&taken);
    player.send(&long_line);
    assert!(!player.closed && player.open.is_none());
    for _ in 0..64 {
        player.send(&vec![b'x'; 1 << 20]);
    }
    assert!(!player.closed);
    player.send(b"x");
    assert!(player.closed);
    assert_eq!(player.replies(), [refusal]);

    // The same in chunks: one that would be too much is not begun.
    let mut player = Player::new(host);
    player.lines("EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<joe@example>\r\n");
    for chunk in [&taken, &long_line] {
        player.send(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        player.send(chunk);
    }
    for _ in 0..8 {
        player.send(format!("BDAT {}\r\n", 8 << 20).as_bytes());
        player.send(&vec![b'x'; 8 << 20]);
    }
    assert!(!player.closed);
    player.replies();
    player.send(b"BDAT 1\r\n");
    assert!(player.closed);
    assert_eq!(player.replies(), [refusal]);
}

#[test]
fn going_down_lets_content_come_and_an_answer_be_given() {
    let mut player = Player::new(Host::default());
    assert!(player.session.shut_down(false));
    player.act();
    assert_eq!(player.replies()[1], "421 4.3.2 mail.example Service shutting down");
    assert!(player.closed);

    let mut player = in_content(Host::default());
    assert!(!player.session.shut_down(false));
    player.send(b"x\r\n.\r\n");
    assert_eq!(player.messages.len(), 1);
    assert!(player.session.shut_down(false));

    let mut player = in_content(Host::default());
    assert!(player.session.shut_down(true));
    player.act();
    assert!(player.closed && player.open.is_none(), "nothing remains of half a message");
}

#[test]
fn an_answer_to_nothing_is_ignored_and_a_commit_is_never_broken_off() {
    use smtpd::session::{Action, Question};
    let mut player = in_content(Host::default());
    for octet in [b".", b"\r", b"\n"] {
        assert_eq!(player.session.receive(octet, Timestamp(0)).used, 1);
    }
    let Some(Action::Ask(token, Question::Commit { .. })) = player.session.next_action() else { panic!() };
    assert!(!player.session.shut_down(true));
    player.session.expire(Timestamp(i64::MAX));
    assert!(!player.session.is_closed());
    let queued = Answer::Queued(crate::player::id(1));
    player.session.answer(token, queued.clone(), Timestamp(0));
    player.session.answer(token, queued, Timestamp(0));
    player.open = None;
    player.act();
    assert_eq!(player.replies(), ["250 2.0.0 Ok: queued as 0000000000000001"]);
}

#[test]
fn recipients_far_beyond_the_limit_become_errors() {
    let mut player = Player::new(Host::default());
    player.lines("EHLO a\r\nMAIL FROM:<a@b>\r\n");
    for i in 0..3 {
        player.send(format!("RCPT TO:<user{i}@example>\r\n").as_bytes());
    }
    for _ in 0..1000 {
        player.send(b"RCPT TO:<user@example>\r\n");
    }
    assert!(!player.closed);
    for _ in 0..20 {
        player.send(b"RCPT TO:<user@example>\r\n");
    }
    assert!(player.closed);
}

/// Thousands of idle sessions are to cost kilobytes each: the core takes its part of that and no more.
#[test]
fn an_idle_core_is_small() {
    assert!(size_of::<Session>() <= 512, "{}", size_of::<Session>());
}

#[test]
fn content_has_to_come_at_a_rate() {
    let mut host = Host::default();
    host.settings.message_size_limit = 0;
    host.settings.limits.min_data_rate = 100;
    let mut player = in_content(host);
    // 10 KiB in 100 seconds would do for the idle time-out for ever: 300 s + 1 s for each 100 octets are the limit.
    let mut seconds = 0;
    while !player.closed {
        player.send(&[b'x'; 1024]);
        player.pass(12 * SECOND);
        seconds += 12;
        assert!(seconds < 4000, "a slow client is never cut off");
    }
    assert!((1900..2300).contains(&seconds), "{seconds}");
    // At the rate it goes on.
    let mut host = Host::default();
    host.settings.message_size_limit = 0;
    host.settings.limits.min_data_rate = 100;
    let mut player = in_content(host);
    for _ in 0..1000 {
        player.send(&[b'x'; 1024]);
        player.pass(10 * SECOND);
    }
    assert!(!player.closed);
}

#[test]
fn nobody_rests_on_what_came_fast() {
    let mut host = Host::default();
    host.settings.message_size_limit = 0;
    host.settings.limits.min_data_rate = 100;
    for start in ["DATA\r\n", "BDAT 9000000\r\n", "RSET\r\nBDAT 9000000\r\n"] {
        let mut player = Player::new(host.clone());
        player.lines("EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<joe@example>\r\n");
        player.lines(start);
        player.replies();
        // Ten hours' worth.
        for _ in 0..3600 {
            player.send(&[b'x'; 1024]);
        }
        assert!(!player.closed, "{start}");
        let mut seconds = 0;
        while !player.closed {
            player.send(&[b'x'; 1024]);
            player.pass(200 * SECOND);
            seconds += 200;
            assert!(seconds < 4000, "{start}: a slow client is never cut off");
        }
        // 300 s, and ten for each KiB.
        assert_eq!(seconds, 400, "{start}");
        assert_eq!(player.replies(), ["421 4.4.2 mail.example Error: timeout exceeded"], "{start}");
    }
}

#[test]
fn what_is_thrown_away_is_bounded_for_the_whole_session() {
    let mut host = Host::default();
    host.settings.message_size_limit = 1000;
    // DISCARD_AT_LEAST, in parts of 16 MiB.
    let part = vec![b'x'; 1 << 20];
    for (start, end) in [("DATA\r\n", "\r\n.\r\n"), ("RSET\r\nBDAT 16777216\r\n", "")] {
        let mut player = Player::new(host.clone());
        player.lines("EHLO a\r\n");
        let mut parts = 0;
        while !player.closed {
            player.lines("MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@example>\r\n");
            player.lines(start);
            for _ in 0..16 {
                player.send(&part);
            }
            player.send(end.as_bytes());
            parts += 1;
            assert!(parts < 10, "{start}: it is read for ever");
        }
        assert!((4..=5).contains(&parts), "{start}: {parts}");
        let reply = player.replies().pop().unwrap();
        assert_eq!(reply, "421 4.3.4 mail.example Error: message size exceeds fixed limit", "{start}");
    }
}

#[test]
fn a_chunk_that_is_passed_over_has_to_come_at_a_rate_too() {
    let mut host = Host::default();
    host.settings.limits.min_data_rate = 100;
    for (pause, slow) in [(12, true), (10, false)] {
        let mut player = Player::new(host.clone());
        player.lines("EHLO a\r\nBDAT 1024000\r\n");
        player.replies();
        let mut seconds = 0;
        for _ in 0..1000 {
            if player.closed {
                break;
            }
            player.send(&[b'x'; 1024]);
            player.pass(pause * SECOND);
            seconds += pause;
        }
        assert_eq!(player.closed, slow);
        let reply = &player.replies()[0];
        if slow {
            assert!((1900..2300).contains(&seconds), "{seconds}");
            assert_eq!(reply, "421 4.4.2 mail.example Error: timeout exceeded");
        } else {
            assert_eq!(reply, "503 5.5.1 Error: need RCPT command");
        }
    }
}

#[test]
fn a_line_of_content_has_an_end() {
    for (line, refused) in [(99_998, false), (99_999, true), (500_000, true)] {
        let mut host = Host::default();
        host.settings.message_size_limit = 0;
        host.settings.limits.line_length = 100_000;
        let mut player = in_content(host);
        for part in vec![b'x'; line].chunks(30_000) {
            player.send(part);
        }
        player.send(b"\r\nshort\r\n.\r\n");
        let expected = if refused {
            "554 5.6.0 Error: line too long"
        } else {
            "250 2.0.0 Ok: queued as 0000000000000001"
        };
        assert_eq!(player.replies(), [expected], "{line}");
    }
}

#[test]
fn a_session_has_so_many_messages() {
    let mut host = Host::default();
    host.settings.limits.transactions = 2;
    let mut player = Player::new(host);
    player.send(b"EHLO a\r\n");
    let offer = player.replies().concat();
    assert!(offer.contains("LIMITS MAILMAX=2 RCPTMAX="), "{offer}");
    player.send(b"MAIL FROM:<a@b>\r\nRSET\r\nMAIL FROM:<a@b>\r\nRSET\r\n");
    player.replies();
    player.send(b"MAIL FROM:<a@b>\r\n");
    assert_eq!(player.replies(), ["421 4.7.0 mail.example Error: too many messages in one session"]);
    assert!(player.closed);
}

#[test]
fn what_all_sessions_hold_is_bounded_and_given_back() {
    let budget = std::sync::Arc::new(smtpd::session::limits::Budget::new(100_000));
    let mut host = Host::default();
    host.settings.recipient_limit = 10_000;
    host.settings.message_size_limit = 0;
    host.settings.limits.memory = Some(budget.clone());
    let mut players: Vec<Player> = (0..10).map(|_| Player::new(host.clone())).collect();
    let mut refused = 0;
    for player in &mut players {
        player.send(b"EHLO a\r\n");
        player.send(b"MAIL FROM:<a@b>\r\n");
        player.replies();
        for i in 0..100 {
            player.send(format!("RCPT TO:<user{i}@example>\r\n").as_bytes());
        }
        refused += player.replies().iter().filter(|reply| reply.starts_with("452 4.3.1 ")).count();
    }
    assert!((500..950).contains(&refused), "{refused}");
    assert!(budget.used() <= 100_000 && budget.used() > 90_000);
    // Content finds no room either, and says so at its end.
    players[0].send(b"DATA\r\n");
    players[0].send(&[b'x'; 50_000]);
    players[0].send(b"\r\n.\r\n");
    assert_eq!(players[0].replies()[1], "452 4.3.1 Insufficient system resources, try again later");
    for player in &mut players {
        player.send(b"RSET\r\n");
    }
    assert_eq!(budget.used(), 0);
    let mut player = in_content(host);
    player.send(&vec![b'x'; 1_000_000]);
    assert!(budget.used() > 0);
    player.session.lost();
    player.act();
    assert_eq!(budget.used(), 0);
}

/// What is put off costs a look-up each time: a thousand times, then it counts as an error, and twenty of these end the session.
#[test]
fn what_is_put_off_is_not_asked_for_for_ever() {
    let put_off = |host: Host, before: &str, command: &str| {
        let mut player = Player::new(host);
        player.lines(before);
        player.replies();
        let times = (1..2000).find(|_| {
            player.send(command.as_bytes());
            player.closed
        });
        let replies = player.replies();
        assert_eq!(replies.last().unwrap(), "421 4.7.0 mail.example Error: too many errors");
        assert!(replies.iter().rev().skip(1).all(|reply| reply.starts_with("45")), "{command}");
        times.unwrap()
    };
    let (greeted, sender) = ("EHLO a\r\n", "EHLO a\r\nMAIL FROM:<a@b>\r\n");
    let recipient = "EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<joe@example>\r\n";
    let full = Host { free: 0, ..Host::default() };
    let data = Host { refuses: "data later", ..Host::default() };
    let mut no_memory = Host::default();
    no_memory.settings.limits.memory = Some(std::sync::Arc::new(smtpd::session::limits::Budget::new(0)));
    assert_eq!(put_off(Host::default(), sender, "RCPT TO:<unsure@example>\r\n"), 1020);
    assert_eq!(put_off(no_memory, sender, "RCPT TO:<joe@example>\r\n"), 1020);
    assert_eq!(put_off(full, greeted, "MAIL FROM:<a@b>\r\n"), 1020);
    assert_eq!(put_off(data, recipient, "DATA\r\n"), 1020);
}

/// Each time it is looked up anew.
#[test]
fn a_recipient_named_again_and_again_reaches_the_limit() {
    let mut player = Player::new(Host::default());
    player.lines("EHLO a\r\nMAIL FROM:<a@b>\r\n");
    player.replies();
    for _ in 0..4 {
        player.send(b"RCPT TO:<joe@example>\r\n");
    }
    assert_eq!(player.replies()[2..], ["250 2.1.5 Ok", "452 4.5.3 Error: too many recipients"]);
    player.send(b"DATA\r\n");
    player.send(b".\r\n");
    assert_eq!(player.messages[0].0.recipients.len(), 1);
}

#[test]
fn less_patience_counts_from_the_last_command() {
    let mut player = Player::new(Host::default());
    player.pass(5 * SECOND);
    player.session.set_patience(10 * SECOND);
    player.pass(4 * SECOND);
    assert!(!player.closed);
    player.send(b"NOOP\r\n");
    player.pass(9 * SECOND);
    assert!(!player.closed);
    player.session.set_patience(300 * SECOND);
    player.pass(200 * SECOND);
    assert!(!player.closed);
    player.session.set_patience(10 * SECOND);
    player.session.expire(player.now);
    assert!(player.session.is_closed(), "time is up already");
}

#[test]
fn a_command_line_without_end_is_not_read_for_ever() {
    let mut player = Player::new(Host::default());
    player.replies();
    for _ in 0..65 {
        player.send(&vec![b'x'; 1 << 20]);
    }
    assert!(player.closed);
    assert_eq!(player.replies(), ["421 4.5.2 mail.example Error: line too long"]);
}

/// `BDAT\r5` is no BDAT to us; whoever wrote it may have meant one, and sends its octets next.
#[test]
fn what_is_nearly_bdat_ends_the_session() {
    for line in ["BDAT\r5", "BDAT\x0b5", " bdat\0", "BDAT\x0c6 LAST", "BDAT=6", "BDAT\u{a0}6"] {
        let mut player = Player::new(Host::default());
        player.lines("EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<joe@example>\r\n");
        player.replies();
        player.send(format!("{line}\r\nRSET\r\n").as_bytes());
        assert!(player.closed, "{line:?}");
        let replies = player.replies();
        assert!(replies.len() == 1 && replies[0].starts_with("500 5.5.2 "), "{replies:?}");
        assert_eq!(player.log[1], "bad BDAT command after UNKNOWN from unknown[192.0.2.1]");
    }
    let mut player = Player::new(Host::default());
    player.send(b"BDATA\r\n");
    assert!(!player.closed);
}

/// A proxy may be listed everywhere: when it does not say for whom it speaks, that is not for the client.
#[test]
fn a_client_that_nobody_names_has_no_rights_of_the_proxys_address() {
    let mut host = Host { auth: "always", ..Host::default() };
    host.settings.trusted_networks = of_client();
    host.settings.xclient_networks = of_client();
    host.settings.bare_newlines_networks = of_client();
    for distrusted in [false, true] {
        let mut player = Player::new(Host { distrusted, ..host.clone() });
        player.send(b"EHLO a\r\n");
        assert_eq!(player.replies().iter().any(|line| line.contains("XCLIENT")), !distrusted);
        player.send(b"MAIL FROM:<a@b> AUTH=c@d\r\n");
        player.lines("RCPT TO:<joe@example>\r\nDATA\r\n");
        assert_eq!(player.open.as_ref().unwrap().0.submitter.is_some(), !distrusted);
        player.send(b"a\nb\r\n.\r\n");
        assert_eq!(player.messages.len(), usize::from(!distrusted));
        player.replies();
        if distrusted {
            player.send(b"XCLIENT NAME=x.example ADDR=192.0.2.1\r\n");
            assert_eq!(player.replies(), ["550 5.7.0 Error: insufficient authorization"]);
        }
        player.send(b"NOOP\r\nNOOP\r\n");
        assert_eq!(player.closed, distrusted, "out of turn");
    }
}
