//! Properties that hold for every dialogue and every message, tried with many.

use crate::player::{Host, Player};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Commands good and bad, each a line.
const COMMANDS: &[&str] = &[
    "EHLO b",
    "HELO",
    "HELO \x07",
    "MAIL FROM:<a@b>",
    "MAIL FROM:<> RET=HDRS ENVID=x",
    "MAIL FROM:<c@d> SIZE=99999",
    "MAIL FROM:x",
    "MAIL FROM:<e@f> SIZE=1 SIZE=1",
    "MAIL FROM:<ö@b> SMTPUTF8",
    "MAIL FROM:<ö@b>",
    "RCPT TO:<joe@example>",
    "RCPT TO:<jane@example> NOTIFY=NEVER",
    "RCPT TO:<user1@example> ORCPT=rfc822;x",
    "RCPT TO:<nobody@example>",
    "RCPT TO:<unsure@example>",
    "RCPT TO:<x@far.example>",
    "RCPT TO:<userö@example>",
    "RCPT TO:<joe@example> ORCPT=x",
    "RCPT",
    "DATA",
    "DATA x",
    "BDAT 5",
    "BDAT 5 LAST",
    "RSET",
    "RSET x",
    "NOOP",
    "NOOP \0",
    "VRFY",
    "XYZZY",
    "",
    "EXPN list",
    "XCLIENT ADDR=192.0.2.9",
    "MAIL\nRCPT",
];

/// Sends a command, with content where it wants some; the first line of the last reply.
fn say(player: &mut Player, command: &str) -> String {
    player.send(format!("{command}\r\n").as_bytes());
    if command.starts_with("BDAT") {
        player.send(b"abc\r\n");
    }
    let mut replies = player.replies();
    if replies.last().is_some_and(|reply| reply.starts_with("354")) {
        player.send(b"text\r\n.\r\n");
        replies = player.replies();
    }
    replies.into_iter().next().unwrap_or_default()
}

fn greeted() -> Player {
    let mut player = Player::new(Host::default());
    say(&mut player, "EHLO a");
    player
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// State after any refusal is exactly the state before: a dialogue without the commands that were refused in it
    /// gives the same replies to the others, and the same messages.
    #[test]
    fn a_refused_command_leaves_no_trace(commands in vec(select(COMMANDS), 1..19)) {
        let mut whole = greeted();
        let mut accepted = Vec::new();
        for command in commands {
            let reply = say(&mut whole, command);
            prop_assert!(!whole.closed, "{command:?} ends the session: {reply}");
            prop_assert!(reply.len() > 3, "{command:?} has no reply");
            if reply.as_bytes()[0] < b'4' {
                accepted.push((command, reply));
            }
        }
        let mut without = greeted();
        for (command, reply) in accepted {
            prop_assert_eq!(say(&mut without, command), reply, "{}", command);
        }
        prop_assert_eq!(without.messages, whole.messages);
        prop_assert_eq!(without.session.stage(), whole.session.stage());
    }

    /// DATA in any split and BDAT in any chunks in any split bring the same message: the one that was sent.
    #[test]
    fn content_is_what_was_sent_however_it_comes(
        lines in vec("[\\x00-\\x09\\x0b\\x0c\\x0e-\\x7f.ü]{0,40}", 0..12),
        cuts in vec(any::<Index>(), 0..6),
        step in 1usize..200,
    ) {
        let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let content = content.as_bytes();
        let mut by_data = greeted();
        by_data.lines("MAIL FROM:<a@b>\r\nRCPT TO:<joe@example>\r\nDATA\r\n");
        let mut wire: Vec<u8> = Vec::new();
        for line in content.split_inclusive(|b| *b == b'\n') {
            if line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b".\r\n");
        wire.chunks(step).for_each(|part| by_data.send(part));
        let mut by_chunks = greeted();
        let mut wire = b"MAIL FROM:<a@b>\r\nRCPT TO:<joe@example>\r\n".to_vec();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len() + 1)).collect();
        at.sort_unstable();
        let mut begin = 0;
        for end in at {
            wire.extend_from_slice(format!("BDAT {}\r\n", end - begin).as_bytes());
            wire.extend_from_slice(&content[begin..end]);
            begin = end;
        }
        wire.extend_from_slice(format!("BDAT {} LAST\r\n", content.len() - begin).as_bytes());
        wire.extend_from_slice(&content[begin..]);
        wire.chunks(step).for_each(|part| by_chunks.send(part));
        prop_assert_eq!(&by_data.messages[0].1, content);
        prop_assert_eq!(&by_chunks.messages, &by_data.messages);
    }

    /// What has a bare CR or LF in it is refused whichever way it comes, and never makes a message or a command.
    #[test]
    fn bare_line_ends_make_no_message(
        before in "[a-z.\r\n]{0,20}",
        bare in select(vec!["\n", "\r", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\r\n"]),
        after in "[a-z.]{1,20}",
        step in 1usize..60,
    ) {
        let content = format!("{before}x{bare}{after}\r\n");
        for chunks in [false, true] {
            let mut player = greeted();
            player.lines("MAIL FROM:<a@b>\r\nRCPT TO:<joe@example>\r\n");
            player.replies();
            let wire = if chunks {
                format!("BDAT {} LAST\r\n{content}", content.len())
            } else {
                player.lines("DATA\r\n");
                player.replies();
                let stuffed = content.replace("\r\n.", "\r\n..");
                format!("{}{stuffed}.\r\n", if stuffed.starts_with('.') { "." } else { "" })
            };
            wire.as_bytes().chunks(step).for_each(|part| player.send(part));
            let replies = player.replies();
            prop_assert_eq!(replies.len(), 1, "{:?}: {:?}", wire, replies);
            prop_assert!(replies[0].starts_with("550 5.5.2 "), "{:?}: {:?}", wire, replies);
            prop_assert!(player.messages.is_empty());
        }
    }
}
