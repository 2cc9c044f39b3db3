//! The aliases file (aliases(5)) in its plain form: `name: address, address …`. Pure.
//!
//! Commands (`|…`), files (`/…`) and `:include:` are not built yet: an alias that uses one is kept as unusable, with the reason, so that its mail waits
//! instead of going astray, and `ironpost check` says so.

use crate::address::{Address, AddressError, LocalPart};
use crate::status::MAX_STATUS_TEXT;
use crate::table::{TableError, logical_lines};
use crate::text::printable;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::Path;

/// One thing that an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address elsewhere or here.
    Address(Address),
    /// A name of this machine, to be expanded further.
    Name(LocalPart),
    /// `\name`: a mailbox of this machine, not expanded further.
    Mailbox(LocalPart),
}

/// What an alias stands for, or why it cannot be used.
pub type Entry = Result<Vec<Target>, String>;

/// All aliases, by name in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases {
    map: HashMap<String, Entry>,
    /// Names that are there again, with their places.
    again: Vec<String>,
}

impl Aliases {
    /// Reads a file's text. Lines that are no aliases at all are errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let mut map = HashMap::new();
        let mut again = Vec::new();
        for (number, line) in logical_lines(text) {
            let wrong = |what: &str| TableError::at(path, number, what);
            let (name, value) = split_name(&line).ok_or_else(|| wrong("wanted NAME: ADDRESS, …"))?;
            let parts = split_commas(value);
            if parts.is_empty() {
                return Err(wrong(&format!("alias {name:?} stands for nothing")));
            }
            let entry = parts.into_iter().map(target).collect::<Result<Vec<_>, _>>();
            let entry = match entry {
                Ok(targets) => Ok(targets),
                Err(Problem::Unbuilt(what)) => {
                    let text = format!("{}:{number}: alias {name:?}: {what}", path.display());
                    Err(printable(&text, MAX_STATUS_TEXT))
                }
                Err(Problem::Bad(text, error)) => return Err(wrong(&format!("{text:?}: {error}"))),
            };
            match map.entry(name.to_lowercase()) {
                Slot::Vacant(slot) => drop(slot.insert(entry)),
                Slot::Occupied(_) => again
                    .push(wrong(&format!("alias {name:?} is there twice: this line is ignored")).to_string()),
            }
        }
        Ok(Self { map, again })
    }

    /// The entry of a name, which must be in lower case.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.map.get(name)
    }

    /// Lines that say again what an alias stands for. The first one counts, as with Postfix.
    pub fn ignored(&self) -> impl Iterator<Item = &str> {
        self.again.iter().map(String::as_str)
    }

    /// Why some aliases cannot be used.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.map.values().filter_map(|entry| entry.as_ref().err().map(String::as_str))
    }
}

enum Problem {
    Unbuilt(String),
    Bad(String, AddressError),
}

fn split_name(line: &str) -> Option<(&str, &str)> {
    let (name, value) = match line.strip_prefix('"') {
        Some(rest) => {
            let (name, rest) = rest.split_once('"')?;
            (name, rest.trim_start().strip_prefix(':')?)
        }
        None => line.split_once(':')?,
    };
    let name = name.trim();
    if name.is_empty() { None } else { Some((name, value)) }
}

/// Splits at commas outside double quotes.
fn split_commas(value: &str) -> Vec<&str> {
    let mut quoted = false;
    let mut escaped = false;
    value
        .split(|c| {
            let comma = c == ',' && !quoted;
            quoted ^= c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            comma
        })
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

fn target(text: &str) -> Result<Target, Problem> {
    let inner = text.strip_prefix('"').unwrap_or(text);
    for (prefix, what) in [
        ("|", "delivery to commands is not built yet"),
        ("/", "delivery to files is not built yet"),
        (":include:", "included files are not built yet"),
    ] {
        if inner.starts_with(prefix) {
            return Err(Problem::Unbuilt(format!("{what} ({text})")));
        }
    }
    let bad = |error| Problem::Bad(text.to_owned(), error);
    let text = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text);
    match text.strip_prefix('\\') {
        Some(name) => name.parse().map(Target::Mailbox).map_err(bad),
        None => match text.parse::<Address>() {
            Ok(address) => Ok(Target::Address(address)),
            Err(AddressError::NoDomain) => text.parse().map(Target::Name).map_err(bad),
            Err(error) => Err(bad(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Aliases, TableError> {
        Aliases::parse(Path::new("aliases"), text)
    }

    #[test]
    fn plain_aliases_are_read() {
        let aliases = parse(
            "# x\nRoot: joe, jane@x.example,\n  \"a, b\"@y.example\npostmaster:root\n\"odd name\": \\joe\n",
        )
        .unwrap();
        assert_eq!(
            aliases.get("root").unwrap().as_ref().unwrap().as_slice(),
            [
                Target::Name("joe".parse().unwrap()),
                Target::Address("jane@x.example".parse().unwrap()),
                Target::Address("\"a, b\"@y.example".parse().unwrap()),
            ]
        );
        assert_eq!(
            aliases.get("odd name").unwrap().as_ref().unwrap(),
            &vec![Target::Mailbox("joe".parse().unwrap())]
        );
        assert!(aliases.get("joe").is_none());
    }

    #[test]
    fn what_is_not_built_is_kept_as_unusable() {
        let aliases =
            parse("a: |/bin/cat\nb: \"|/bin/cat x, y\", joe\nc: /dev/null\nd: :include:/x\ne: f\n").unwrap();
        assert!(["a", "b", "c", "d"].iter().all(|name| aliases.get(name).unwrap().is_err()));
        assert_eq!(aliases.problems().count(), 4);
        // What is said of them is shown at a terminal and in logs.
        let odd = parse("a: |/bin/\u{1b}[2Jcat\u{7f}\n").unwrap();
        assert!(
            odd.problems()
                .all(|text| text.bytes().all(|b| (32..127).contains(&b)) && text.contains("[2Jcat"))
        );
        assert!(
            aliases
                .get("a")
                .unwrap()
                .as_ref()
                .unwrap_err()
                .contains("aliases:1: alias \"a\": delivery to commands")
        );
    }

    #[test]
    fn of_two_lines_for_a_name_the_first_counts() {
        let aliases = parse("a: b\nA: c\n").unwrap();
        assert_eq!(aliases.get("a").unwrap().as_ref().unwrap(), &vec![Target::Name("b".parse().unwrap())]);
        let ignored: Vec<_> = aliases.ignored().collect();
        assert!(
            matches!(ignored[..], [line] if line.starts_with("aliases:2: alias \"A\" is there twice")),
            "{ignored:?}"
        );
    }

    #[test]
    fn lines_that_are_no_aliases_are_errors() {
        for (text, says) in [
            ("a b\n", "aliases:1: wanted NAME"),
            ("x: y\na:\n", "aliases:2: alias \"a\" stands for nothing"),
            ("a: b@\n", "aliases:1: \"b@\": empty address"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
