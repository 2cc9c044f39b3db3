//! The file with the texts of notifications: what may stand in it, and what is wrong with a bad one.
//!
//! A section for each kind: a line `[failed]`, `[delayed]`, `[delivered]` or `[postmaster]`, then `Subject: …`, an empty line, and
//! the text with placeholders such as `{hostname}`. Before the first section there may be comments (`#`). Parsing is pure; the first
//! mistake is told as `file:line: what`. Nothing of a file with a mistake is used. The Subject takes no placeholder that somebody
//! else could fill, and nothing can hold a control character.

use crate::table::TableError;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Largest file, in octets.
pub const MAX_FILE: usize = 64 * 1024;
/// Longest line, in octets.
pub const MAX_LINE: usize = 900;

/// The sections of a file; each may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Templates(BTreeMap<Section, Template>);

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// To a sender: given up.
    Failed,
    /// To a sender: late.
    Delayed,
    /// To a sender: delivered, relayed or expanded.
    Delivered,
    /// To the postmaster: a message of the null sender was given up.
    Postmaster,
}

/// Subject and text of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// ASCII; the only placeholder is [`Placeholder::Hostname`].
    pub subject: Vec<Piece>,
    /// The text, never empty.
    pub lines: Vec<Line>,
}

/// A line of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// `{recipients}`: the list of recipients with what happened, of any number of lines.
    Recipients,
    /// Anything else; nothing for an empty line.
    Pieces(Vec<Piece>),
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is written.
    Text(String),
    /// Filled in for each notification.
    Value(Placeholder),
}

/// What is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// `{hostname}`: this machine.
    Hostname,
    /// `{sender}`: the sender of the message, `<>` for none.
    Sender,
    /// `{queue_id}`: the message's queue ID.
    QueueId,
    /// `{arrived}`: when the message was accepted.
    Arrived,
    /// `{attached}`: "It is attached" or "Its header is attached".
    Attached,
    /// `{will_retry_until}`: until when it is tried; in `[delayed]` only.
    WillRetryUntil,
}

impl Templates {
    /// Reads a file. Errors name the file, and the line where there is one.
    pub fn load(path: &Path) -> Result<Self, TableError> {
        let bytes = read(path).map_err(|error| TableError::file(path, &format!("cannot read: {error}")))?;
        Self::parse(path, &bytes)
    }

    /// Reads the content of a file; `path` is for messages.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, TableError> {
        if bytes.len() > MAX_FILE {
            return Err(TableError::file(path, "larger than 64 KiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.iter().take(error.valid_up_to());
            let line = before.filter(|b| **b == b'\n').count() + 1;
            TableError::at(path, line, "not UTF-8: save the file in this encoding")
        })?;
        let mut templates = Self::default();
        let mut current: Option<Draft> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let bad = |what: String| TableError::at(path, number, &what);
            check(line).map_err(bad)?;
            if let Some(name) = section_name(line) {
                templates.add(path, current.take())?;
                let section = Section::named(name).map_err(bad)?;
                if templates.0.contains_key(&section) {
                    return Err(bad(format!("[{name}] is there twice")));
                }
                current = Some(Draft::new(section, number));
            } else if let Some(draft) = &mut current {
                draft.take(line).map_err(bad)?;
            } else if !line.trim().is_empty() && !line.starts_with('#') {
                return Err(bad(format!("wanted a section first: {SECTIONS}")));
            }
        }
        templates.add(path, current)?;
        Ok(templates)
    }

    /// Takes a section out.
    pub fn remove(&mut self, section: Section) -> Option<Template> {
        self.0.remove(&section)
    }

    fn add(&mut self, path: &Path, draft: Option<Draft>) -> Result<(), TableError> {
        let Some(draft) = draft else { return Ok(()) };
        let (section, line) = (draft.section, draft.line);
        let template = draft.finish().map_err(|what| TableError::at(path, line, &what))?;
        self.0.insert(section, template);
        Ok(())
    }
}

const SECTIONS: &str = "[failed], [delayed], [delivered] or [postmaster]";

impl Section {
    /// As in the file, without the brackets.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Postmaster => "postmaster",
        }
    }

    fn named(name: &str) -> Result<Self, String> {
        [Self::Failed, Self::Delayed, Self::Delivered, Self::Postmaster]
            .into_iter()
            .find(|section| section.name() == name)
            .ok_or_else(|| format!("[{name}] is no section: wanted {SECTIONS}"))
    }
}

impl Placeholder {
    /// The placeholder of this name, if it may stand here.
    fn named(name: &str, section: Section, in_subject: bool) -> Result<Self, String> {
        let found = match name {
            "hostname" => Self::Hostname,
            "sender" => Self::Sender,
            "queue_id" => Self::QueueId,
            "arrived" => Self::Arrived,
            "attached" => Self::Attached,
            "will_retry_until" => Self::WillRetryUntil,
            "recipients" if !in_subject => return Err("{recipients} must stand alone on its line".into()),
            "recipients" => return Err("Subject: no placeholder but {hostname} can stand in it".into()),
            _ => {
                return Err(format!(
                    "{{{name}}} is not known: wanted {{hostname}}, {{sender}}, {{recipients}}, {{queue_id}}, \
                     {{arrived}}, {{attached}} or, in [delayed], {{will_retry_until}}"
                ));
            }
        };
        if in_subject && found != Self::Hostname {
            return Err("Subject: no placeholder but {hostname} can stand in it".into());
        }
        if found == Self::WillRetryUntil && section != Section::Delayed {
            return Err("{will_retry_until} can stand in [delayed] only".into());
        }
        Ok(found)
    }
}

/// The text of a line, with the placeholders filled in.
pub fn fill(pieces: &[Piece], value: impl Fn(Placeholder) -> String) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Value(placeholder) => value(*placeholder),
    };
    pieces.iter().map(text).collect()
}

/// A section that is being read.
struct Draft {
    section: Section,
    /// Where it begins.
    line: usize,
    subject: Option<Vec<Piece>>,
    /// Was the empty line there?
    separated: bool,
    lines: Vec<Line>,
}

impl Draft {
    fn new(section: Section, line: usize) -> Self {
        Self { section, line, subject: None, separated: false, lines: Vec::new() }
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let name = self.section.name();
        if self.subject.is_none() {
            let subject = line.strip_prefix("Subject:").map(str::trim).filter(|text| !text.is_empty());
            let subject = subject.ok_or_else(|| format!("wanted \"Subject: TEXT\" right after [{name}]"))?;
            if !subject.is_ascii() {
                return Err("Subject: only ASCII can stand in it".into());
            }
            self.subject = Some(pieces(subject, self.section, true)?);
        } else if !self.separated {
            if !line.trim().is_empty() {
                return Err("wanted an empty line after the Subject".into());
            }
            self.separated = true;
        } else if line.trim() == "{recipients}" {
            self.lines.push(Line::Recipients);
        } else {
            self.lines.push(Line::Pieces(pieces(line.trim_end(), self.section, false)?));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Template, String> {
        let empty = |line: &Line| matches!(line, Line::Pieces(pieces) if pieces.is_empty());
        while self.lines.last().is_some_and(empty) {
            self.lines.pop();
        }
        let name = self.section.name();
        let subject = self.subject.ok_or_else(|| format!("[{name}] has no Subject"))?;
        if self.lines.is_empty() {
            return Err(format!("[{name}] has no text"));
        }
        Ok(Template { subject, lines: self.lines })
    }
}

fn pieces(text: &str, section: Section, in_subject: bool) -> Result<Vec<Piece>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let (before, after) =
            rest.split_once('{').map_or((rest, None), |(before, after)| (before, Some(after)));
        if before.contains('}') {
            return Err("\"}\" without \"{\": braces are for placeholders only".into());
        }
        if !before.is_empty() {
            found.push(Piece::Text(before.to_owned()));
        }
        let Some(after) = after else { return Ok(found) };
        let (name, after) =
            after.split_once('}').ok_or("\"{\" without \"}\": braces are for placeholders only")?;
        found.push(Piece::Value(Placeholder::named(name, section, in_subject)?));
        rest = after;
    }
}

fn section_name(line: &str) -> Option<&str> {
    let name = line.trim_end().strip_prefix('[')?.strip_suffix(']')?;
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-').then_some(name)
}

fn check(line: &str) -> Result<(), String> {
    if line.len() > MAX_LINE {
        return Err(format!("longer than {MAX_LINE} octets"));
    }
    match line.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(c) => Err(format!("control character U+{:04X}: write spaces and text only", u32::from(c))),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a FIFO would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Templates, TableError> {
        Templates::parse(Path::new("t"), text.as_bytes())
    }

    #[test]
    fn a_file_is_read() {
        let mut found = parse(
            "# for us\n\n[failed]\r\nSubject: From {hostname}\n\nDear {sender},\n\n  {recipients}\n[no section] x\n\n\
             [delayed]\nSubject:late\n\n{will_retry_until}é\n",
        )
        .unwrap();
        let failed = found.remove(Section::Failed).unwrap();
        let value = |placeholder| format!("<{placeholder:?}>");
        assert_eq!(fill(&failed.subject, value), "From <Hostname>");
        let lines: Vec<String> = failed
            .lines
            .iter()
            .map(|line| match line {
                Line::Recipients => "LIST".into(),
                Line::Pieces(pieces) => fill(pieces, value),
            })
            .collect();
        assert_eq!(lines, ["Dear <Sender>,", "", "LIST", "[no section] x"]);
        let delayed = found.remove(Section::Delayed).unwrap();
        assert!(
            matches!(delayed.lines.as_slice(), [Line::Pieces(p)] if fill(p, value) == "<WillRetryUntil>é")
        );
        assert_eq!(found, Templates::default());
    }

    #[test]
    fn mistakes_are_told_with_their_lines() {
        let long = format!("[failed]\nSubject: x\n\n{}\n", "y".repeat(901));
        let subject = |text: &str| format!("[failed]\nSubject: {text}\n\nx\n");
        let body = |text: &str| format!("[failed]\nSubject: x\n\nx\n{text}\n");
        for (text, says) in [
            ("hello\n".to_owned(), "t:1: wanted a section first"),
            ("\n[faild]\n".into(), "t:2: [faild] is no section"),
            ("[Failed]\n".into(), "t:1: [Failed] is no section"),
            ("[failed]\n".into(), "t:1: [failed] has no Subject"),
            ("[failed]\n\nx\n".into(), "t:2: wanted \"Subject: TEXT\" right after [failed]"),
            (subject(""), "t:2: wanted \"Subject: TEXT\""),
            ("\n[failed]\nSubject: x\n\n\n".into(), "t:2: [failed] has no text"),
            ("[failed]\nSubject: x\nText\n".into(), "t:3: wanted an empty line"),
            (body("") + &body(""), "t:6: [failed] is there twice"),
            (subject("ü"), "t:2: Subject: only ASCII"),
            (subject("{sender}"), "t:2: Subject: no placeholder but {hostname}"),
            (subject("{recipients}"), "t:2: Subject: no placeholder but {hostname}"),
            (body("{sendr}"), "t:5: {sendr} is not known"),
            (body("to {recipients}"), "t:5: {recipients} must stand alone"),
            (body("{will_retry_until}"), "t:5: {will_retry_until} can stand in [delayed] only"),
            (body("{hostname"), "t:5: \"{\" without \"}\""),
            (body("hostname}"), "t:5: \"}\" without \"{\""),
            (body("a\tb"), "t:5: control character U+0009"),
            (body("a\rSubject: b"), "t:5: control character U+000D"),
            (body("a\u{85}b"), "t:5: control character U+0085"),
            (long, "t:4: longer than 900 octets"),
            ("#\n".repeat(MAX_FILE), "t: larger than 64 KiB"),
        ] {
            let error = parse(&text).expect_err(&text).to_string();
            assert!(error.starts_with(says), "{error:?} is not {says:?}");
        }
        let error = Templates::parse(Path::new("t"), b"#\n# \xff\n").unwrap_err().to_string();
        assert_eq!(error, "t:2: not UTF-8: save the file in this encoding");
        let error = Templates::load(Path::new("/nonexistent/t")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/t: cannot read: "), "{error}");
        let error = Templates::load(Path::new("/dev/null")).unwrap_err().to_string();
        assert_eq!(error, "/dev/null: cannot read: not a regular file");
    }
}
