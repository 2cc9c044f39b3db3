//! The table `relay_clientcerts`: clients that may send to anywhere, by the fingerprint of their certificate. Pure.
//!
//! A line is `FINGERPRINT [NAME…]`: SHA-256 of the certificate or of its public key, colons or not; the rest is for people.

use super::policy::{Fingerprint, parse_fingerprint};
use crate::table::{TableError, logical_lines};
use std::collections::HashSet;
use std::path::Path;

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCerts(HashSet<Fingerprint>);

impl ClientCerts {
    /// Reads the table. Errors are at their line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let mut set = HashSet::new();
        for (number, line) in logical_lines(text) {
            let key = line.split_whitespace().next().unwrap_or_default();
            let Some(fingerprint) = parse_fingerprint(key) else {
                let what =
                    format!("{key:?} is no fingerprint: wanted the 64 hexadecimal digits of a SHA-256");
                return Err(TableError::at(path, number, &what));
            };
            if !set.insert(fingerprint) {
                return Err(TableError::at(path, number, &format!("{key:?} is there twice")));
            }
        }
        Ok(Self(set))
    }

    /// Is one of them in it?
    pub fn has(&self, fingerprints: &[Fingerprint]) -> bool {
        fingerprints.iter().any(|one| self.0.contains(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_with_colons_or_without() {
        let path = Path::new("t");
        let colons = ["aB"; 32].join(":");
        let table = ClientCerts::parse(path, &format!("# c\n{colons} joe's laptop\n{}\n", "01".repeat(32)));
        let table = table.unwrap();
        assert!(table.has(&[[0; 32], [0xab; 32]]) && table.has(&[[1; 32]]) && !table.has(&[[0; 32]]));
        for (text, says) in [
            ("joe AB:CD\n".to_owned(), "t:1: \"joe\" is no fingerprint"),
            (format!("{colons}\n\n{}\n", "AB".repeat(32)), "t:3: "),
            (format!("{colons}:AB x\n"), "t:1: "),
        ] {
            let error = ClientCerts::parse(path, &text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
