//! Messages in Maildirs, and what a mailbox puts on top of them.

use std::fs;
use std::path::{Path, PathBuf};

/// One message in a Maildir.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Its file.
    pub path: PathBuf,
    /// All its bytes.
    pub bytes: Vec<u8>,
}

/// The messages in the `new` and `cur` folders of a Maildir, in the order of their names. None when there is
/// no such folder.
pub fn maildir(folder: &Path) -> Vec<Mail> {
    let mut found = Vec::new();
    for part in ["new", "cur"] {
        for entry in fs::read_dir(folder.join(part)).into_iter().flatten().flatten() {
            let path = entry.path();
            found.push(Mail { bytes: fs::read(&path).unwrap(), path });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Mail {
    /// The message as text, with anything that is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The first four header fields: what Ironpost adds on top, folded lines joined by LF, and the rest as it
    /// was sent.
    pub fn parts(&self) -> (Vec<String>, &[u8]) {
        split_header(&self.bytes, 4)
    }

    /// The value of the first header field of that name, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.bytes, name)
    }

    /// Asserts that the message is `content` (CRLF) under the four fields of a mailbox, with LF line ends,
    /// byte for byte.
    #[track_caller]
    pub fn assert_content(&self, content: &[u8]) {
        let (fields, rest) = self.parts();
        let names: Vec<_> = fields.iter().map(|field| field.split(':').next().unwrap_or_default()).collect();
        assert_eq!(
            names,
            ["Return-Path", "X-Original-To", "Delivered-To", "Received"],
            "{}",
            self.path.display()
        );
        assert_same(rest, &lf(content));
    }
}

/// Parts the first `count` header fields from the rest, whatever the line ends are.
pub fn split_header(bytes: &[u8], count: usize) -> (Vec<String>, &[u8]) {
    let mut fields: Vec<String> = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(&rest[..end]).trim_end_matches('\r').to_owned();
        let folded = line.starts_with([' ', '\t']);
        if (fields.len() == count && !folded) || line.is_empty() {
            break;
        }
        match fields.last_mut() {
            Some(last) if folded => *last = format!("{last}\n{line}"),
            _ => fields.push(line),
        }
        rest = &rest[end + 1..];
    }
    (fields, rest)
}

/// The value of the first header field of that name, unfolded.
pub fn header(bytes: &[u8], name: &str) -> Option<String> {
    let (fields, _) = split_header(bytes, usize::MAX);
    fields.iter().find_map(|field| {
        let (found, value) = field.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.replace('\n', "").trim().to_owned())
    })
}

/// CRLF line ends made LF.
pub fn lf(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    for (index, byte) in content.iter().enumerate() {
        if !(*byte == b'\r' && content.get(index + 1) == Some(&b'\n')) {
            out.push(*byte);
        }
    }
    out
}

/// Asserts that two contents are the same bytes, and shows where they part.
#[track_caller]
pub fn assert_same(found: &[u8], expected: &[u8]) {
    if found == expected {
        return;
    }
    let at = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let show = |bytes: &[u8]| {
        let part = &bytes[at.saturating_sub(20).min(bytes.len())..(at + 40).min(bytes.len())];
        part.escape_ascii().to_string()
    };
    panic!(
        "contents differ at byte {at} (found {} bytes, expected {}):\nfound    …{}…\nexpected …{}…",
        found.len(),
        expected.len(),
        show(found),
        show(expected)
    );
}
