//! Who has a mailbox on this machine: the system's users, or the names in a file.

use crate::table::{TableError, logical_lines};
use nix::unistd::User;
use std::collections::HashSet;
use std::path::Path;

/// Longest user name, in octets: one component of a path.
pub const MAX_NAME: usize = 200;

/// The users that exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// getpwnam(3).
    System,
    /// The names of a file, in lower case, and the first of them.
    Names {
        /// All names.
        names: HashSet<String>,
        /// The one who gets postmaster's mail when nothing else says who.
        first: Option<String>,
    },
}

/// The answer to a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// This user, in the spelling of the users file or the system; the rest of the local-part is the extension.
    Found {
        /// A safe path component: see [`is_safe_name`].
        user: String,
        /// Without delimiter; empty where there is none.
        extension: String,
    },
    /// No such user.
    NotFound,
    /// The system could not say (a directory service is down): ask again later.
    Unavailable(String),
}

/// Can this be a user's name and a path component? Not empty, at most [`MAX_NAME`] octets, no `/`, no control character, no leading `.` or `-`.
pub fn is_safe_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with(['.', '-'])
        && !name.chars().any(|c| c == '/' || c.is_control() || c.is_whitespace())
}

impl Users {
    /// Reads a users file: one name a line (what follows a `:` on it is not ours), `#` comments.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let mut names = HashSet::new();
        let mut first = None;
        for (number, line) in logical_lines(text) {
            let name = line.split(':').next().unwrap_or("").trim().to_lowercase();
            if !is_safe_name(&name) || name.contains('@') {
                let what = "wanted one user name a line, without \"/\", \"@\", white space or a leading \".\" or \"-\"";
                return Err(TableError::at(path, number, what));
            }
            first.get_or_insert_with(|| name.clone());
            names.insert(name);
        }
        Ok(Self::Names { names, first })
    }

    /// Finds the user that a local-part (its value, quotes undone) names: the whole of it first, then what stands before the first delimiter.
    pub fn find(&self, local_part: &str, delimiter: Option<char>) -> Lookup {
        let whole = local_part.to_lowercase();
        match self.find_exactly(&whole) {
            Lookup::NotFound => {}
            found => return found,
        }
        // The extension keeps its case. Lower-casing may change lengths outside ASCII, where there are no users anyway.
        let Some((user, extension)) = delimiter.and_then(|d| local_part.split_once(d)) else {
            return Lookup::NotFound;
        };
        match self.find_exactly(&user.to_lowercase()) {
            Lookup::Found { user, .. } => Lookup::Found { user, extension: extension.to_owned() },
            other => other,
        }
    }

    fn find_exactly(&self, name: &str) -> Lookup {
        if !is_safe_name(name) {
            return Lookup::NotFound;
        }
        let found = || Lookup::Found { user: name.to_owned(), extension: String::new() };
        match self {
            Self::Names { names, .. } if names.contains(name) => found(),
            Self::Names { .. } => Lookup::NotFound,
            Self::System => match User::from_name(name) {
                Ok(Some(_)) => found(),
                Ok(None) => Lookup::NotFound,
                Err(error) => Lookup::Unavailable(format!("cannot look up user {name}: {error}")),
            },
        }
    }

    /// Who gets postmaster's mail when neither an alias nor a user of that name exists: root, else the first user of the file.
    pub fn postmaster(&self) -> Option<String> {
        match (self, self.find_exactly("root")) {
            (_, Lookup::Found { user, .. }) => Some(user),
            (Self::Names { first, .. }, _) => first.clone(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_and_without_extension() {
        let users = Users::parse(Path::new("users"), "# all\nJoe\njane:hash\na+b\n").unwrap();
        let found =
            |user: &str, extension: &str| Lookup::Found { user: user.into(), extension: extension.into() };
        for (local, expected) in [
            ("joe", found("joe", "")),
            ("JOE", found("joe", "")),
            ("joe+Lists", found("joe", "Lists")),
            ("joe+a+b", found("joe", "a+b")),
            ("a+b", found("a+b", "")),
            ("a+c", Lookup::NotFound),
            ("+x", Lookup::NotFound),
            ("../joe", Lookup::NotFound),
            ("", Lookup::NotFound),
        ] {
            assert_eq!(users.find(local, Some('+')), expected, "{local}");
        }
        assert_eq!(users.find("joe+x", None), Lookup::NotFound);
        assert_eq!(users.postmaster().as_deref(), Some("joe"));
        assert_eq!(Users::System.find("root+x", Some('+')), found("root", "x"));
        assert_eq!(Users::System.find("no-such-user-here", Some('+')), Lookup::NotFound);
    }

    #[test]
    fn names_that_could_leave_the_mailbox_root_are_refused() {
        for text in ["a/b", "..", ".", "-x", "a b", "a@b", "x\n/"] {
            assert!(Users::parse(Path::new("users"), text).is_err(), "{text:?}");
        }
    }
}
