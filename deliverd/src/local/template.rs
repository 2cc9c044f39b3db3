//! The `mailbox` key of `[local]`: from a template and a recipient to the path of a mailbox.
//!
//! Pure. What comes from an address can never be more than one component of the path, never `.` or `..` or
//! hidden, so that the path cannot leave the folder above the first placeholder, whatever the address says.
//! Whether symbolic links lie on the way is looked at when the path is walked (`folder`).

use common::status::{EnhancedCode, Status};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a mailbox holds its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One file each, in a folder.
    Maildir,
    /// All in one file.
    Mbox,
}

/// Longest component of a path (NAME_MAX). An mbox must leave room for `.lock`.
const MAX_COMPONENT: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    User,
    Domain,
    Extension,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

/// A template, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The folder above the first placeholder; `None`: the path begins with `{home}`.
    folder: Option<PathBuf>,
    /// The components below; the last one is the mailbox. Never empty.
    steps: Vec<Vec<Piece>>,
    kind: Kind,
}

/// A template that cannot be used. The text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key \"mailbox\" in section [local] is {template:?}: {problem}")]
pub struct TemplateError {
    template: String,
    problem: &'static str,
}

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The recipient's domain, in lower case.
    pub domain: &'a str,
    /// The user's home folder; `None` where users have none.
    pub home: Option<&'a Path>,
    /// What stands behind the recipient delimiter; `None` where there is none.
    pub extension: Option<&'a str>,
}

/// Where a mailbox is: a folder that the admin or the password database named, and the way from there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MailboxPath {
    /// Absolute. It must exist; symbolic links on the way to it are the admin's.
    pub folder: PathBuf,
    /// Components below it: folders, then the mailbox itself. None is empty, `.` or `..`, or has a `/`;
    /// there is at least one.
    pub steps: Vec<String>,
}

impl MailboxPath {
    /// The whole path, for messages.
    pub fn display(&self) -> PathBuf {
        self.steps.iter().fold(self.folder.clone(), |path, step| path.join(step))
    }
}

impl Template {
    /// Reads a template: absolute or beginning with `{home}`; a slash at the end means Maildir.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let wrong = |problem| TemplateError { template: text.to_owned(), problem };
        let kind = if text.ends_with('/') { Kind::Maildir } else { Kind::Mbox };
        let (mut folder, rest) = match text.strip_prefix("{home}") {
            Some(rest) => (None, rest),
            None => (Some(PathBuf::from("/")), text),
        };
        let rest =
            rest.strip_prefix('/').ok_or_else(|| wrong("it must begin with \"/\" or with \"{home}/\""))?;
        let mut components = rest.split('/').filter(|c| !c.is_empty()).peekable();
        let mut steps: Vec<Vec<Piece>> = Vec::new();
        while let Some(component) = components.next() {
            let pieces = parse_pieces(component).map_err(wrong)?;
            let fixed = !pieces.iter().any(|piece| matches!(piece, Piece::Value(_)));
            match &mut folder {
                Some(folder) if steps.is_empty() && fixed && components.peek().is_some() => {
                    folder.push(component);
                }
                _ if component == "." || component == ".." => {
                    return Err(wrong("\".\" and \"..\" cannot stand below a placeholder or at the end"));
                }
                _ => steps.push(pieces),
            }
        }
        if steps.is_empty() {
            return Err(wrong("it names no mailbox"));
        }
        Ok(Self { folder, steps, kind })
    }

    /// Maildir or mbox.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The folder above the first placeholder; `None` when the path begins with `{home}`.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Does an mbox lie directly in [`Self::folder`], where dotlocks are made?
    pub fn lies_in_folder(&self) -> bool {
        self.steps.len() == 1
    }

    /// The path for these values, or why there is none: a status for the recipient.
    pub fn expand(&self, values: &Values<'_>) -> Result<MailboxPath, Status> {
        let folder = match (&self.folder, values.home) {
            (Some(folder), _) => folder.clone(),
            (None, Some(home)) if home.is_absolute() => home.to_owned(),
            (None, _) => {
                return Err(Status::local(
                    EnhancedCode::new(4, 3, 5),
                    format!("mail system configuration error: user {:?} has no home folder", values.user),
                ));
            }
        };
        let mut steps = Vec::with_capacity(self.steps.len());
        for (number, pieces) in self.steps.iter().enumerate() {
            let last = number + 1 == self.steps.len();
            let limit = if last && self.kind == Kind::Mbox { MAX_COMPONENT - 5 } else { MAX_COMPONENT };
            let mut component = String::new();
            for piece in pieces {
                component.push_str(match piece {
                    Piece::Text(text) => text,
                    Piece::Value(placeholder) => value(*placeholder, values)?,
                });
            }
            if component.len() > limit {
                return Err(refused(5, 1, 3, "the name of its mailbox would be too long"));
            }
            if component == "." || component == ".." {
                return Err(refused(5, 1, 3, "its mailbox would have no name of its own"));
            }
            steps.push(component);
        }
        Ok(MailboxPath { folder, steps })
    }
}

fn parse_pieces(component: &str) -> Result<Vec<Piece>, &'static str> {
    let mut pieces = Vec::new();
    let mut rest = component;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, after) = tail.split_once('}').ok_or("a \"{\" has no \"}\"")?;
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Value(match name {
            "user" => Placeholder::User,
            "domain" => Placeholder::Domain,
            "extension" => Placeholder::Extension,
            "home" => return Err("{home} can only stand at the beginning"),
            _ => return Err("the placeholders are {user}, {domain}, {home} and {extension}"),
        }));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// A value that can be a component of a path, whole or in part.
fn value<'a>(placeholder: Placeholder, values: &Values<'a>) -> Result<&'a str, Status> {
    let (value, what) = match placeholder {
        Placeholder::User => (values.user, "user name"),
        Placeholder::Domain => (values.domain, "domain"),
        Placeholder::Extension => (values.extension.unwrap_or(""), "address extension"),
    };
    if value.is_empty() {
        return Err(refused(5, 1, 1, &format!("it has no {what}, and its mailbox is named by that")));
    }
    if value.starts_with('.') || value.contains(['/', '\0']) || value.len() > MAX_COMPONENT {
        return Err(refused(5, 1, 3, &format!("its {what} cannot name a mailbox")));
    }
    Ok(value)
}

fn refused(class: u8, subject: u16, detail: u16, why: &str) -> Status {
    Status::local(EnhancedCode::new(class, subject, detail), format!("recipient address rejected: {why}"))
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
