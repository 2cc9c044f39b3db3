//! Which recipients there are in `relay_domains`: the table `relay_recipients`. Pure.
//!
//! A line is `ADDRESS` or `@DOMAIN` (all of a domain); what stands behind it is not looked at, so that a table made for Postfix's
//! `relay_recipient_maps` can be used as it is. An address stands for itself with any extension, too (`joe+lists@…`). Upper and lower
//! case do not count.

use crate::address::Address;
use crate::table::{TableError, address_key, logical_lines, mailboxes};
use std::collections::HashSet;
use std::path::Path;

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayRecipients(HashSet<String>);

impl RelayRecipients {
    /// Reads the table. Errors name the line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let mut set = HashSet::new();
        for (number, line) in logical_lines(text) {
            let key = line.split_whitespace().next().unwrap_or_default();
            let Some(known) = address_key(key) else {
                let what = format!("{key:?} is neither an address nor @domain");
                return Err(TableError::at(path, number, &what));
            };
            set.insert(known);
        }
        Ok(Self(set))
    }

    /// Is this recipient there?
    pub fn contains(&self, address: &Address, delimiter: Option<char>) -> bool {
        let domain = address.domain().to_lowercase();
        self.0.contains(&format!("@{domain}"))
            || mailboxes(address, delimiter).iter().any(|name| self.0.contains(&format!("{name}@{domain}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_domains_and_extensions() {
        let text = "# ours\nJoe@Relay.example OK\n\"a,b\"@relay.example\n@all.example\tx y\njane+lists@relay.example\n";
        let table = RelayRecipients::parse(Path::new("t"), text).unwrap();
        for (address, there) in [
            ("joe@relay.example", true),
            ("JOE@RELAY.EXAMPLE", true),
            ("joe+x@relay.example", true),
            ("joe-x@relay.example", false),
            ("+x@relay.example", false),
            ("\"a,b\"@relay.example", true),
            ("\"joe\"@relay.example", true),
            ("jane@relay.example", false),
            ("jane+lists@relay.example", true),
            ("joe@sub.relay.example", false),
            ("anyone@all.example", true),
            ("anyone@relay.example", false),
        ] {
            assert_eq!(table.contains(&address.parse().unwrap(), Some('+')), there, "{address}");
        }
        assert!(!table.contains(&"joe+x@relay.example".parse().unwrap(), None));
    }

    #[test]
    fn what_is_no_recipient_is_an_error_with_its_line() {
        for (text, expected) in [
            ("a@b.example\njoe\n", "t:2: \"joe\" is neither an address nor @domain"),
            ("@\n", "t:1: \"@\" is neither an address nor @domain"),
            ("a\u{1b}@b\n", "is neither an address nor @domain"),
        ] {
            let error = RelayRecipients::parse(Path::new("t"), text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\u{1b}'), "{error:?}");
        }
    }
}
