use super::*;

fn format(kind: Kind, pieces: &[&[u8]]) -> String {
    let (mut formatter, mut out) = (Formatter::new(kind), Vec::new());
    for piece in pieces {
        formatter.push(piece, &mut out);
    }
    formatter.finish(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn line_ends_quoting_and_the_last_line_however_the_content_is_split() {
    for (content, maildir, mbox) in [
        ("", "", "\n"),
        ("a\r\n", "a\n", "a\n\n"),
        ("a\r\n\r\nb\r\n", "a\n\nb\n", "a\n\nb\n\n"),
        ("a", "a\n", "a\n\n"),
        ("a\r", "a\r\n", "a\r\n\n"),
        ("a\rb\r\r\nc\r\n", "a\rb\r\nc\n", "a\rb\r\nc\n\n"),
        ("\r", "\r\n", "\r\n\n"),
        ("\n\r\n", "\n\n", "\n\n\n"),
        ("From x\r\n", "From x\n", ">From x\n\n"),
        ("a\r\nFrom \r\nFrom", "a\nFrom \nFrom\n", "a\n>From \nFrom\n\n"),
        ("From\r\nFrom\tx\r\n", "From\nFrom\tx\n", "From\nFrom\tx\n\n"),
        (">From x\r\n From x\r\n", ">From x\n From x\n", ">From x\n From x\n\n"),
        ("FFrom x\r\nFroFrom x\r\n", "FFrom x\nFroFrom x\n", "FFrom x\nFroFrom x\n\n"),
        ("From\rx\r\nFrom \rx\r\n", "From\rx\nFrom \rx\n", "From\rx\n>From \rx\n\n"),
        ("\rFrom x\r\n", "\rFrom x\n", "\rFrom x\n\n"),
        ("F\r\nFr\r\n", "F\nFr\n", "F\nFr\n\n"),
        ("from x\r\nFROM x\r\n", "from x\nFROM x\n", "from x\nFROM x\n\n"),
    ] {
        for (kind, expected) in [(Kind::Maildir, maildir), (Kind::Mbox, mbox)] {
            let bytes = content.as_bytes();
            for a in 0..=bytes.len() {
                for b in a..=bytes.len() {
                    let got = format(kind, &[&bytes[..a], &bytes[a..b], &bytes[b..]]);
                    assert_eq!(got, expected, "{content:?} as {kind:?} split at {a} and {b}");
                }
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(format(kind, &single), expected, "{content:?} as {kind:?} octet by octet");
        }
    }
}

#[test]
fn eight_bit_octets_pass_unchanged() {
    let (mut formatter, mut out) = (Formatter::new(Kind::Mbox), Vec::new());
    let all: Vec<u8> = (0..=255).filter(|b| ![b'\r', b'\n'].contains(b)).collect();
    formatter.push(&all, &mut out);
    formatter.finish(&mut out);
    assert_eq!(out, [&all[..], b"\n\n"].concat());
}

#[test]
fn the_top_names_sender_and_both_recipients() {
    let address = |text: &str| text.parse::<Address>().unwrap();
    let (original, recipient) = (address("info@a.example"), address("\"o b\"@b.example"));
    let common = "X-Original-To: info@a.example\nDelivered-To: \"o b\"@b.example\n";
    let when = Timestamp::from_seconds(1_800_000_000);
    for (sender, path, from) in [("s@x.example", "<s@x.example>", "s@x.example"), ("", "<>", "MAILER-DAEMON")]
    {
        let sender = sender.parse::<ReversePath>().unwrap();
        let top = Top { sender: &sender, original: &original, recipient: &recipient };
        let fields = format!("Return-Path: {path}\n{common}");
        assert_eq!(top.lines(Kind::Maildir, when), fields);
        assert_eq!(top.lines(Kind::Mbox, when), format!("From {from}  {}\n{fields}", when.asctime()));
    }
}

#[test]
fn a_loop_is_found_in_the_header_only_however_the_content_is_split() {
    use Search::{Clear, Loop};
    let folded = format!("Delivered-To:{}\r\n bob@x.example\r\n\r\n", " \r\n ".repeat(600));
    for (content, expected) in [
        ("Delivered-To: bob@x.example\r\n\r\n", Loop),
        ("Received: x\r\n\ty\r\ndelivered-TO:BOB@X.example \r\nA: b\r\n\r\n", Loop),
        ("Delivered-To:\r\n bob@x.example\r\n\r\n", Loop),
        ("A: b\r\nDelivered-To: bob@x.example", Loop),
        ("A: b\r\nDelivered-To: bob@x.example\r\n", Loop),
        ("A: b\nDelivered-To: bob@x.example\n\n", Loop),
        ("Delivered-To: bob@x.example.org\r\n\r\n", Clear),
        ("Delivered-To: xbob@x.example\r\n\r\n", Clear),
        ("X-Delivered-To: bob@x.example\r\n\r\n", Clear),
        ("A: b\r\n Delivered-To: bob@x.example\r\n\r\n", Clear),
        ("A: b\r\n\r\nDelivered-To: bob@x.example\r\n\r\n", Clear),
        ("\r\nDelivered-To: bob@x.example\r\n\r\n", Clear),
        ("", Clear),
        ("Delivered-To:", Clear),
        ("Delivered-To\r\n\r\n", Clear),
        // Beyond the bound a field is not kept, so it cannot match; it must not grow either.
        (folded.as_str(), Clear),
    ] {
        let bytes = content.as_bytes();
        for cut in 0..=bytes.len().min(80) {
            let mut search = LoopSearch::new(&"bob@x.example".parse().unwrap());
            let mut result = search.push(&bytes[..cut]);
            if result == Search::More {
                result = search.push(&bytes[cut..]);
            }
            if result == Search::More {
                result = search.finish();
            }
            assert_eq!(result, expected, "{content:?} split at {cut}");
        }
    }
}
