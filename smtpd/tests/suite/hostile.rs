//! Input that nobody sends by mistake: whatever it is, and however it is split, the core neither panics nor
//! grows, and says the same.

use crate::player::{Host, Player, of_client};
use std::time::Duration;

/// A small generator of numbers: the same run every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

const WORDS: &[&str] = &[
    "EHLO a\r\n",
    "HELO b\r\n",
    "MAIL FROM:<a@b>\r\n",
    "MAIL FROM:<> SIZE=5\r\n",
    "RCPT TO:<joe@example>\r\n",
    "RCPT TO:<x@y>\r\n",
    "DATA\r\n",
    "RSET\r\n",
    "BDAT 5\r\n",
    "BDAT 0\r\n",
    "BDAT 30 LAST\r\n",
    "BDAT 0 LAST\r\n",
    ".\r\n",
    "\r\n.\r\n",
    "\r\n..\r\n",
    "Received: x\r\n",
    "Message-ID: <a\r\n b>\r\n",
    "\r\n",
    "\r",
    "\n",
    ".",
    "\0",
    "\u{ff}",
    "<",
    ">",
    "@",
    "\"",
    "\\",
    " ",
    "MAIL FROM:<\"",
    "NOOP ",
    "VRFY ",
    "AUTH PLAIN\r\n",
    "AUTH LOGIN\r\n",
    "AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n",
    "am9l\r\n",
    "*\r\n",
    "=",
    "BODY=",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

fn run(input: &[u8], mut split: impl FnMut() -> usize) -> (Vec<u8>, usize, Vec<Vec<u8>>) {
    // A trusted one: for others it matters what shares a packet.
    let mut host = Host::default();
    host.settings.trusted_networks = of_client();
    host.auth = "always";
    let mut player = Player::new(host);
    let mut rest = input;
    while !rest.is_empty() {
        let (part, tail) = rest.split_at(split().clamp(1, rest.len()));
        player.send(part);
        rest = tail;
        if let Some((_, content)) = &player.open {
            assert!(content.len() <= 10_000, "no more than the limit is handed out");
        }
    }
    player.pass(Duration::from_secs(301));
    assert!(player.closed, "in the end every session ends");
    (player.output, player.log.len(), player.messages.into_iter().map(|(_, content)| content).collect())
}

#[test]
fn any_mix_in_any_split_gives_the_same() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    for round in 0..3000 {
        let mut input = Vec::new();
        for _ in 0..numbers.next(60) {
            match numbers.next(40) {
                0 => input.extend((0..numbers.next(5000)).map(|i| (i % 251) as u8)),
                1 => input.extend(vec![b'y'; numbers.next(12_000)]),
                2 => input.push(numbers.next(256) as u8),
                _ => input.extend(WORDS[numbers.next(WORDS.len())].bytes()),
            }
        }
        // A DATA with company is refused by design, and so is what comes with a line of an authentication exchange: only
        // there does it matter what shares a packet.
        let exchange = input.windows(4).any(|word| word.eq_ignore_ascii_case(b"AUTH"));
        let early = |at: usize| {
            let data = at >= 6 && input[at - 6..at].eq_ignore_ascii_case(b"DATA\r\n");
            data || (exchange && input[at - 1] == b'\n')
        };
        let mut cuts: Vec<usize> = (1..=input.len()).filter(|at| early(*at)).collect();
        cuts.push(input.len());
        let (mut at, mut next) = (0, cuts.iter());
        let whole = run(&input, || {
            let length = next.next().copied().unwrap_or(input.len()).saturating_sub(at);
            at += length;
            length
        });
        assert_eq!(run(&input, || 1), whole, "round {round}: {:?}", input.escape_ascii().to_string());
        let output = String::from_utf8(whole.0).unwrap();
        assert!(output.split_terminator("\r\n").all(|line| line.len() <= 510), "{output}");
    }
}

#[test]
fn an_endless_line_is_held_in_bounded_memory_and_answered_once() {
    let mut player = Player::new(Host::default());
    player.replies();
    for _ in 0..1000 {
        player.send(&[b'x'; 10_000]);
        assert!(player.output.is_empty());
    }
    player.send(b"\nQUIT\n\r\nNOOP\r\n");
    assert_eq!(player.replies(), ["500 5.5.2 Line too long", "250 2.0.0 Ok"]);
}
