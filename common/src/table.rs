//! Text tables: `KEY VALUE` a line, `#` comments, a line that begins with white space continues the one before. Pure.

use crate::address::{Address, Domain};
use crate::text::printable;
use std::collections::HashMap;
use std::path::Path;

/// Largest table, users file or aliases file that is read, in octets.
pub const MAX_FILE: u64 = 256 << 20;

/// A table that cannot be used; the text says `file:line: what`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TableError(String);

impl TableError {
    /// Something is wrong in this line (from 1).
    pub fn at(path: &Path, line: usize, message: &str) -> Self {
        Self(format!("{}:{line}: {}", path.display(), printable(message, 500)))
    }

    /// The file as a whole is at fault.
    pub fn file(path: &Path, message: &str) -> Self {
        Self(format!("{}: {}", path.display(), printable(message, 500)))
    }
}

/// Keys in lower case, values as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(HashMap<String, String>);

impl Table {
    /// Reads a table. A key without value, or given twice, is an error.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let mut map = HashMap::new();
        for (number, line) in logical_lines(text) {
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
            if value.trim().is_empty() {
                return Err(TableError::at(path, number, &format!("{key:?} has no value: wanted KEY VALUE")));
            }
            if map.insert(key.to_lowercase(), value.trim().to_owned()).is_some() {
                return Err(TableError::at(path, number, &format!("{key:?} is there twice")));
            }
        }
        Ok(Self(map))
    }

    /// The value of a key, which must be in lower case.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The key of an address or an `@domain`, in lower case; `None`: it is neither. A quoted local-part stands for what it quotes.
pub fn address_key(text: &str) -> Option<String> {
    match text.strip_prefix('@') {
        Some(domain) => domain.parse::<Domain>().ok().map(|domain| format!("@{}", domain.to_lowercase())),
        None => {
            let address = text.parse::<Address>().ok()?;
            Some(format!("{}@{}", address.local_part().value(), address.domain()).to_lowercase())
        }
    }
}

/// The mailbox that an address names and, without an extension, the one behind it: in lower case, as keys have them before the `@`.
pub fn mailboxes(address: &Address, delimiter: Option<char>) -> Vec<String> {
    let mailbox = address.local_part().value().to_lowercase();
    let user = delimiter.and_then(|delimiter| mailbox.split_once(delimiter)).map(|(user, _)| user);
    let user = user.filter(|user| !user.is_empty()).map(str::to_owned);
    std::iter::once(mailbox).chain(user).collect()
}

/// Lines without comments and blank lines, continuations joined, each with the number of its first line.
pub fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some((_, last)) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(trimmed);
            }
            _ => lines.push((number + 1, trimmed.to_owned())),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        let path = Path::new("t");
        let table =
            Table::parse(path, "# c\nExample.com  smtp:[a]:25\n\n.sub\n  error:no\n   # c\n\tway\n").unwrap();
        assert_eq!(table.get("example.com"), Some("smtp:[a]:25"));
        assert_eq!(table.get(".sub"), Some("error:no way"));
        assert_eq!(table.iter().count(), 2);
        for (text, says) in
            [("a\n", "t:1: \"a\" has no value"), ("a b\n\nA c\n", "t:3: \"A\" is there twice")]
        {
            assert!(Table::parse(path, text).unwrap_err().to_string().starts_with(says));
        }
    }
}
