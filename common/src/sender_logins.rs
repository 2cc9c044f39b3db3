//! Which login may write as which sender: the table `sender_logins`, and what holds without it. Pure.
//!
//! A line is `ADDRESS LOGIN…` or `@DOMAIN LOGIN…`, logins separated by commas or blanks. Without a line, a login owns the address that it is
//! (`joe@example.com`), and where it is a name only (`joe`) that mailbox in every domain of this machine, both also with an extension
//! (`joe+lists@…`). A line for an address says it all; one for a domain adds to what holds without. Upper and lower case do not count.

use crate::address::Address;
use crate::table::{TableError, address_key, logical_lines, mailboxes};
use std::collections::HashMap;
use std::path::Path;

/// Longest login, in octets.
const MAX: usize = 255;

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SenderLogins(HashMap<String, Vec<String>>);

/// To whom an address belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// In lower case.
    logins: Vec<String>,
    /// Is it anybody's? Otherwise the logins are those that could be.
    known: bool,
}

impl SenderLogins {
    /// Reads the table. Errors name the line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let mut map = HashMap::new();
        for (number, line) in logical_lines(text) {
            let wrong = |what: String| Err(TableError::at(path, number, &what));
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
            let Some(key) = address_key(key) else {
                return wrong(format!("{key:?} is neither an address nor @domain"));
            };
            let logins: Vec<String> = value
                .split(|c: char| c == ',' || c.is_whitespace())
                .filter(|login| !login.is_empty())
                .map(str::to_lowercase)
                .collect();
            if logins.is_empty() {
                return wrong(format!("{key:?} has no login: wanted ADDRESS LOGIN"));
            }
            if let Some(long) =
                logins.iter().find(|login| login.len() > MAX || login.chars().any(char::is_control))
            {
                return wrong(format!("{long:?} is no login"));
            }
            if map.insert(key.clone(), logins).is_some() {
                return wrong(format!("{key:?} is there twice"));
            }
        }
        Ok(Self(map))
    }

    /// Who may write as this sender. `local`: is its domain one of this machine's?
    pub fn owners(&self, address: &Address, local: bool, delimiter: Option<char>) -> Owners {
        let domain = address.domain().to_lowercase();
        let names = mailboxes(address, delimiter);
        let line = |name: &String| self.0.get(&format!("{name}@{domain}"));
        if let Some(logins) = names.iter().find_map(line) {
            return Owners { logins: logins.clone(), known: true };
        }
        let of_domain = self.0.get(&format!("@{domain}"));
        let mut logins: Vec<String> = of_domain.cloned().unwrap_or_default();
        for name in names {
            logins.push(format!("{name}@{domain}"));
            if local {
                logins.push(name);
            }
        }
        Owners { logins, known: local || of_domain.is_some() }
    }
}

impl Owners {
    /// Is this login among them?
    pub fn include(&self, login: &str) -> bool {
        let login = login.to_lowercase();
        self.logins.contains(&login)
    }

    /// Does the address belong to anybody here, so that strangers may not use it?
    pub fn are_known(&self) -> bool {
        self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SenderLogins, TableError> {
        SenderLogins::parse(Path::new("t"), text)
    }

    #[test]
    fn a_login_owns_its_addresses_and_what_the_table_says() {
        let table =
            "Info@Example.com joe, jane\n@lists.example admin\n@example.com boss\nold@far.example\tjoe\n";
        let table = parse(table).unwrap();
        let none = SenderLogins::default();
        for (table, login, address, local, expected) in [
            (&none, "joe", "joe@example.com", true, true),
            (&none, "Joe", "JOE@EXAMPLE.COM", true, true),
            (&none, "joe", "joe+lists@example.com", true, true),
            (&none, "joe+lists", "joe+lists@example.com", true, true),
            (&none, "joe", "jane@example.com", true, false),
            (&none, "joe", "\"joe\"@example.com", true, true),
            (&none, "joe", "joe@far.example", false, false),
            (&none, "joe", "+joe@example.com", true, false),
            (&none, "joe@far.example", "joe@far.example", false, true),
            (&none, "joe@far.example", "joe+x@far.example", false, true),
            (&none, "joe@far.example", "joe@example.com", true, false),
            (&none, "joe@far.example", "jane@far.example", false, false),
            (&table, "jane", "info@example.com", true, true),
            (&table, "JANE", "info+x@example.com", true, true),
            // The line says it all.
            (&table, "info", "info@example.com", true, false),
            (&table, "boss", "info@example.com", true, false),
            (&table, "boss", "anybody@example.com", true, true),
            (&table, "joe", "joe@example.com", true, true),
            (&table, "admin", "x@lists.example", false, true),
            (&table, "x", "x@lists.example", false, false),
            (&table, "joe", "old@far.example", false, true),
            (&table, "joe", "other@far.example", false, false),
        ] {
            let owners = table.owners(&address.parse().unwrap(), local, Some('+'));
            assert_eq!(owners.include(login), expected, "{login} {address}");
        }
        let known = |address: &str, local| table.owners(&address.parse().unwrap(), local, None).are_known();
        assert!(
            known("x@example.net", true)
                && known("old@far.example", false)
                && known("x@lists.example", false)
        );
        assert!(!known("x@far.example", false));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, says) in [
            ("joe joe", "t:1: \"joe\" is neither"),
            ("\na@b c\n@ joe", "t:3: \"@\" is neither"),
            ("a@b", "t:1: \"a@b\" has no login"),
            ("a@b ,", "has no login"),
            ("a@b c\nA@B d", "t:2: \"a@b\" is there twice"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
