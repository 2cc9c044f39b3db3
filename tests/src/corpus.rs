//! Messages: CPython's e-mail test corpus, and made ones for what it lacks. All with CRLF line ends, and a
//! CRLF at the end.

use crate::mailbox::lf;
use crate::tools::python_corpus;

/// A message with a name to speak of it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What it is.
    pub name: String,
    /// Header and body.
    pub content: Vec<u8>,
}

impl Sample {
    /// What of it reaches a mailbox: LF line ends, and no `Return-Path` (RFC 5321 4.4), which in the corpus is one line.
    pub fn in_mailbox(&self) -> Vec<u8> {
        let content = &self.content;
        let header = content.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap_or(content.len());
        let (header, body) = content.split_at(header);
        let lines = header.split_inclusive(|octet| *octet == b'\n');
        let kept = lines.filter(|line| !line.to_ascii_lowercase().starts_with(b"return-path:"));
        lf(&[kept.collect::<Vec<_>>().concat(), body.to_vec()].concat())
    }
}

/// Every message of Python's corpus.
pub fn python() -> Vec<Sample> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(python_corpus()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            found.push(Sample { name, content: crlf(&std::fs::read(&path).unwrap()) });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() > 40, "a corpus of {} messages", found.len());
    found
}

/// Messages made for the edges of SMTP.
pub fn made() -> Vec<Sample> {
    let head = b"From: a@client.test\r\nTo: b@remote.test\r\nSubject: made\r\n";
    let with = |body: &[u8]| [head.as_slice(), b"\r\n", body].concat();
    let long_line = [vec![b'x'; 998], b"\r\n".to_vec()].concat();
    let all_bytes: Vec<u8> = (1..=255).filter(|byte| !b"\r\n".contains(byte)).chain(*b"\r\n").collect();
    let list: [(&str, Vec<u8>); 17] = [
        ("leading dots", with(b".\r\n..\r\n...\r\n.x\r\n..x\r\nx.\r\n. \r\n")),
        ("only dots", with(b"..\r\n..\r\n..\r\n")),
        ("one dot", with(b".\r\n")),
        ("8-bit", with("Grüße aus Köln \u{1f4ee}\r\n".as_bytes())),
        ("8-bit header", [b"Subject: caf\xe9\r\n".as_slice(), head, b"\r\nx\r\n"].concat()),
        ("every byte but NUL, CR, LF", with(&all_bytes)),
        ("998-byte lines", with(&long_line.repeat(5))),
        ("998 dots", with(&[vec![b'.'; 998], b"\r\n".to_vec()].concat())),
        ("empty body", with(b"")),
        ("no body and no empty line", head.to_vec()),
        ("empty lines only", with(b"\r\n\r\n\r\n\r\n")),
        ("no header", b"\r\njust a body\r\n".to_vec()),
        ("From line in the body", with(b"From here on\r\n>From there\r\n")),
        ("tabs and trailing blanks", with(b"a \t\r\n \r\n\t\r\nb  \r\n")),
        ("folded header", [head.as_slice(), b"X-Folded: a\r\n b\r\n\tc\r\n\r\nx\r\n"].concat()),
        (
            "dot at a chunk border",
            with(&[vec![b'y'; 4094 - head.len() - 2], b"\r\n.dot\r\n".to_vec()].concat()),
        ),
        ("300 KB", with(&b"The quick brown fox jumps over the lazy dog, 0123456789.\r\n".repeat(5200))),
    ];
    list.into_iter().map(|(name, content)| Sample { name: name.to_owned(), content }).collect()
}

/// A plain message of about `size` octets with a subject.
pub fn plain(subject: &str, size: usize) -> Vec<u8> {
    let mut content =
        format!("From: a@client.test\r\nTo: b@remote.test\r\nSubject: {subject}\r\n\r\n").into_bytes();
    let mut line = 0_usize;
    while content.len() < size {
        content.extend_from_slice(format!("{line:08} {}\r\n", "abcdefghij".repeat(6)).as_bytes());
        line += 1;
    }
    content
}

/// A short message with a subject.
pub fn short(subject: &str) -> Vec<u8> {
    plain(subject, 0).into_iter().chain(*b"Hello.\r\n").collect()
}

/// Line ends of whatever kind made CRLF, with one at the end.
pub fn crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 30);
    let mut bytes = bytes.iter().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if(|next| **next == b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            byte => out.push(*byte),
        }
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}
