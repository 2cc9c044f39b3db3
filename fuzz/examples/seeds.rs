//! Writes first inputs for every target into a folder: dialogues, golden queue files, frames of every kind, real addresses.
//!
//! `cargo run -p ironpost-fuzz --example seeds -- FOLDER` makes `FOLDER/TARGET/NAME`. What libFuzzer finds from there is
//! kept, minimised, in `corpus/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use common::codec::encode;
use common::dsn::{MessageDsn, RecipientDsn};
use common::status::{EnhancedCode, Status};
use common::time::Timestamp;
use deliverd::local::frames::{FromChild, Owner, ToChild};
use spool::control::{Answer, Request, Selection, Verb};
use spool::dispatch::{FromWorker, Job, JobRecipient, ToWorker, VERSION};
use spool::envelope::{Body, ContentFacts};
use spool::id::QueueId;
use spool::layout::Queue;
use spool::listing::{Listed, Outstanding};
use std::path::{Path, PathBuf};

struct Folder(PathBuf);

impl Folder {
    fn put(&self, target: &str, name: &str, octets: &[u8]) {
        let folder = self.0.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), octets).unwrap();
    }

    fn list(&self, target: &str, items: &[&str]) {
        for (i, item) in items.iter().enumerate() {
            self.put(target, &format!("list-{i}"), item.as_bytes());
        }
    }
}

fn main() {
    let folder = Folder(std::env::args_os().nth(1).expect("a folder").into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    sessions(&folder, &root);
    chunks(&folder);
    folder.list("address", ADDRESSES);
    folder.list("parameters", PARAMETERS);
    queue_files(&folder, &root);
    frames(&folder);
    replies(&folder);
    tables(&folder, &root);
}

/// The dialogues of smtpd's tests: what the client says, and what happens meanwhile.
fn sessions(folder: &Folder, root: &Path) {
    for entry in std::fs::read_dir(root.join("tests/dialogues")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut settings = 0;
        let mut sent = Vec::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let (key, value) = line.split_once(": ").unwrap_or((line, ""));
            match key {
                "C" => {
                    sent.extend(unescape(value));
                    sent.extend(b"\r\n");
                    if let Some((_, parameters)) = value.split_once(' ')
                        && value.len() < 200
                    {
                        folder.put("parameters", &format!("{name}-{}", sent.len()), value.as_bytes());
                        folder.put("address", &format!("{name}-{}", sent.len()), parameters.as_bytes());
                    }
                }
                "R" => sent.extend(unescape(value)),
                "T" => sent.extend([0xfe, 0]),
                "G:" => sent.extend([0xfe, 4]),
                // The client waits for the reply: the end of a packet.
                "S" => sent.extend([0xfe, 12]),
                _ if line.starts_with("! size") => settings |= 1,
                _ if line.starts_with("! normalize") => settings |= 2,
                _ if line.starts_with("! recipients") => settings |= 4,
                _ if line.starts_with("! trusted") => settings |= 8,
                _ if line.starts_with("! xclient") => settings |= 16,
                _ if line.starts_with("! starttls") => settings |= 32,
                _ if line.starts_with("! auth") => settings |= 64,
                _ if line.starts_with("! submission") => settings |= 128,
                _ if line.starts_with("! commit full") => sent.extend([0xfe, 6]),
                _ if line.starts_with("! commit") => sent.extend([0xfe, 7]),
                _ => {}
            }
        }
        for split in [0, 1, 5] {
            folder.put(
                "session",
                &format!("{name}-{split}"),
                &[&[settings, split], sent.as_slice()].concat(),
            );
        }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, byte == b'\\') {
            (_, true) => match bytes.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'x' => {
                    let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                }
                other => other,
            },
            (other, false) => other,
        });
    }
    out
}

/// A step is an octet: what, and how many octets follow it.
fn chunks(folder: &Folder) {
    let chunk = |what: u8, octets: &[u8]| {
        assert!(octets.len() < 32 && what & 1 == 0 || octets.len().is_multiple_of(37));
        let factor = if what & 1 == 0 { 1 } else { 37 };
        let mut step = vec![what | u8::try_from(octets.len() / factor).unwrap() << 3];
        step.extend(octets);
        step
    };
    let long = [b'x'; 37];
    for (name, steps) in [
        ("one", vec![chunk(0, b""), chunk(2, b"Subject: x\r\n\r\n"), chunk(3, &long)]),
        (
            "two",
            vec![chunk(0, b""), chunk(2, b"a"), chunk(2, b""), chunk(3, b""), chunk(0, b""), chunk(3, b"")],
        ),
        ("reset", vec![chunk(0, b""), chunk(2, b"a: b\r\n"), chunk(4, b""), chunk(3, &long)]),
        ("no-mail", vec![chunk(2, b"QUIT\r\n"), chunk(3, &long), chunk(5, b"")]),
        (
            "mixed",
            vec![chunk(0, b""), chunk(2, b"a\r\n"), chunk(5, b""), chunk(6, b"NOOP\r\n"), chunk(3, &long)],
        ),
        (
            "bare",
            vec![chunk(0, b""), chunk(2, b"a\n.\r\n\rb"), chunk(2, b"\r"), chunk(2, b"\n"), chunk(3, &long)],
        ),
        (
            "sizes",
            vec![
                chunk(0, b""),
                chunk(6, b"BDAT 99999999999999999999\r\n"),
                chunk(6, b"BDAT 5 LAST\r\nab\xfe\x04"),
            ],
        ),
    ] {
        for (settings, split) in [(0, 0), (1, 1), (2, 3)] {
            let input = [&[settings, split], steps.concat().as_slice()].concat();
            folder.put("bdat", &format!("{name}-{split}"), &input);
        }
    }
}

const ADDRESSES: &[&str] = &[
    "a@b",
    "Joe.Doe+x@Example.COM",
    "postmaster@[127.0.0.1]",
    "x@[IPv6:::1]",
    "\"a b\"@c.example",
    "\"a@b\"@c.example",
    "\"a\\\"b\"@c.example",
    "under_score@host_name.example",
    "!#$%&'*+-/=?^_`{|}~@x",
    "@a,@b:joe@c",
    "postmaster",
    "",
    "\"joe\"@x.example",
    "[192.0.2.1]:2525",
    "example.com:587",
    "[IPv6:2001:db8::1]:25",
    "[host]",
    "<a@b> SIZE=5",
    "<@[IPv6:::1]:\"a>b\"@c> BODY=8BITMIME",
    "@[IPv6:::1]:joe@c",
    "\"\\\\\"@x",
    "j\u{f6}rg@b\u{fc}cher.example",
    "user%host@relay",
    "host!user@relay",
    "a@xn--bcher-kva.example",
];

const PARAMETERS: &[&str] = &[
    "MAIL FROM:<a@b> SIZE=5 BODY=8BITMIME RET=HDRS ENVID=a+2Bb+20c",
    "RCPT TO:<a@b> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@z",
    "RCPT TO:<postmaster>",
    "MAIL FROM:<j\u{f6}rg@b\u{fc}cher.example> SMTPUTF8",
    "RCPT TO:<j\u{f6}rg@b> ORCPT=utf-8;j\u{f6}rg@b",
    "rfc822;bob@example.com",
    "utf-8;\\x{E9}@example.com",
    "QQ314159+3D",
    "NEVER",
    "SUCCESS,FAILURE,DELAY",
    "HDRS",
    "BDAT 5 LAST",
    "XCLIENT NAME=a ADDR=IPV6:::1 HELO=x+20y",
    "EHLO [IPv6:::1]",
    "MAIL FROM:<a@b> AUTH=<>",
    "VRFY <joe@x>",
    "EXPN list",
    "ETRN example.com",
    "HELO x",
];

fn queue_files(folder: &Folder, root: &Path) {
    for version in ["version-1", "version-2", "version-3"] {
        let golden = std::fs::read(root.join(format!("spool/tests/golden/{version}.queue"))).unwrap();
        for mend in [0, 7, 15] {
            folder.put("queue_file", &format!("{version}-{mend}"), &[&[mend], golden.as_slice()].concat());
        }
        let envelope = usize::try_from(u32::from_le_bytes(golden[12..16].try_into().unwrap())).unwrap();
        let content = usize::try_from(u64::from_le_bytes(golden[16..24].try_into().unwrap())).unwrap();
        let journal = &golden[64 + envelope + content..];
        for choice in [0, 1, 129, 254, 255] {
            folder.put("journal", &format!("{version}-{choice}"), &[&[choice, 9], journal].concat());
        }
    }
    folder.put("journal", "empty", &[1, 0]);
}

fn frames(folder: &Folder) {
    let id = QueueId::new(Timestamp(5), 5);
    let address = || "joe@a.example".parse().unwrap();
    let mut status = Status::local(EnhancedCode::new(5, 1, 1), "host x[192.0.2.1] said: 550 no");
    status.remote = Some("x[192.0.2.1]:25".into());
    status.reply = Some("550 no".into());
    let job = Job {
        number: 1,
        queue_id: id,
        sender: "a@b.example".parse().unwrap(),
        recipients: vec![JobRecipient {
            index: 0,
            address: address(),
            original: Some(address()),
            dsn: RecipientDsn::default(),
        }],
        nexthop: "[192.0.2.1]:25".parse().unwrap(),
        body: Body::EightBitMime,
        dsn: MessageDsn::default(),
        content_offset: 100,
        content: ContentFacts::default(),
        arrived: Timestamp(1),
        activated: Timestamp(2),
        dispatched: Timestamp(3),
        deadline: Timestamp(4),
    };
    let hello =
        FromWorker::Hello { version: VERSION, transport: common::destination::Transport::Smtp, capacity: 5 };
    let done = FromWorker::Done {
        number: 1,
        results: vec![(0, status.clone())],
        reached: true,
        handed_over: vec![0],
    };
    let selection = Selection {
        ids: vec![id],
        sender: Some("a@b.example".parse().unwrap()),
        recipient: Some(address()),
        domain: Some("a.example".parse().unwrap()),
        older_than: Some(5),
        queue: Some(Queue::Deferred),
        reason: Some("no".into()),
    };
    let listed = Listed {
        queue: Queue::Deferred,
        id,
        arrived: Timestamp(1),
        size: 100,
        sender: "a@b.example".parse().unwrap(),
        recipients: vec![Outstanding { address: address(), reason: Some("no".into()) }],
        recipients_total: 1,
        next_attempt: Some(Timestamp(9)),
        attempts: 2,
    };
    let owner = Some(Owner { uid: 1000, gid: 1000, mail_group: Some(8) });
    for (name, kind, frame) in [
        ("job", 0, encode(&ToWorker::Job(job)).unwrap()),
        ("cancel", 0, encode(&ToWorker::Cancel(1)).unwrap()),
        ("hello", 1, encode(&hello).unwrap()),
        ("done", 1, encode(&done).unwrap()),
        ("list", 2, encode(&Request::List(Selection::default())).unwrap()),
        ("change", 2, encode(&Request::Change { verb: Verb::Hold, selection }).unwrap()),
        ("submit", 2, encode(&Request::Submit).unwrap()),
        ("listed", 3, encode(&Answer::Listed(Box::new(listed))).unwrap()),
        ("end", 3, encode(&Answer::Done { count: 3, missing: vec![id], failed: 0 }).unwrap()),
        ("submitted", 3, encode(&Answer::Submitted(id)).unwrap()),
        ("refused", 3, encode(&Answer::Refused { exit: 77, text: "no".into() }).unwrap()),
        ("become", 4, encode(&ToChild::Become { owner, hostname: "mail.example".into() }).unwrap()),
        ("unable", 5, encode(&FromChild::Unable("no".into())).unwrap()),
        (
            "child-done",
            5,
            encode(&FromChild::Done(deliverd::local::frames::Answer {
                number: 1,
                status,
                alert: false,
                locked: false,
            }))
            .unwrap(),
        ),
    ] {
        folder.put("frames", name, &[&[kind], frame.as_slice()].concat());
    }
}

fn replies(folder: &Folder) {
    let hello = "220 mx.example ESMTP\r\n250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 DSN\r\n";
    let plain = "220 mx.example\r\n250 mx.example\r\n";
    for (i, rest) in [
        "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n250 2.0.0 queued\r\n221 Bye\r\n",
        "250 Ok\r\n550 5.1.1 no\r\n554 no valid recipients\r\n221 Bye\r\n",
        "250 Ok\r\n452 4.5.3 too many\r\n354 go\r\n250 Ok\r\n",
        "421 4.3.2 bye\r\n",
        "550 no\r\n250 Ok\r\n354 go\r\n250 Ok\r\n",
        "250 Ok\r\n250 Ok\r\n354 go\r\n552 5.3.4 too large\r\n250 Ok\r\n",
        "250-a\r\n251 b\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
        "250 Ok\r\n250 Ok\r\n354 go\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go\r\n250 Ok\r\n221 Bye\r\n",
    ]
    .iter()
    .enumerate()
    {
        for (n, opening) in [hello, plain, "220 x\r\n502 no EHLO\r\n250 x\r\n", "554 5.3.2 no\r\n", ""].iter().enumerate() {
            for choice in [0, 2, 24] {
                folder.put(
                    "replies",
                    &format!("{i}-{n}-{choice}"),
                    &[&[choice, 7 * choice], opening.as_bytes(), rest.as_bytes()].concat(),
                );
            }
        }
    }
}

fn tables(folder: &Folder, root: &Path) {
    let read = |path: &str| std::fs::read(root.join(path)).unwrap();
    for (name, kind, octets) in [
        ("config", 0, read("etc/ironpost.toml")),
        ("config-small", 0, b"hostname = \"a.example\"\n[smtpd]\nmessage_size_limit = \"5M\"\nidle_timeout = \"5m\"\n".to_vec()),
        ("config-listen", 0, b"trusted_networks = [\"10.0.0.0/8\"]\n[[smtpd.listen]]\naddress = \"[::]:25\"\n".to_vec()),
        ("table", 1, b"# c\nExample.com  smtp:[a]:25\n\n.sub\n  error:no\n".to_vec()),
        ("aliases", 2, b"Root: joe, jane@x.example,\n  \"a, b\"@y.example\npostmaster:root\n\"odd name\": \\joe\na: |/x\n".to_vec()),
        ("aliases-sample", 2, read("etc/aliases")),
        ("users", 3, b"joe\njane:x\n# c\njoe joe+x JANE\n".to_vec()),
        ("templates", 4, b"# c\n[failed]\nSubject: no\n\n{hostname} {sender}\n{recipients}\n".to_vec()),
        ("list", 5, b"Joe <joe@a.example>, (c (d)) \"a b\"@c, group: x@y, z@w;, <@a,@b:c@d>".to_vec()),
        ("list-odd", 5, b"=?utf-8?q?J=C3=B6?= <j@x>, a . b @ c . d, [x] y@[127.0.0.1]\r\n ,, postmaster".to_vec()),
    ] {
        folder.put("tables", name, &[&[kind], octets.as_slice()].concat());
    }
}
