//! The users file: `NAME:HASH` a line, `#` comments. Pure.
//!
//! A line that is wrong is a problem, told with its number and nothing of its hash; the other users go on. A name counts once: its second line is a problem.

use crate::hash::Hash;
use crate::name;
use common::text::printable;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Somebody who may log in.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// The name as it stands in the file.
    pub name: String,
    /// What the password is compared with.
    pub hash: Hash,
}

/// What the file says.
#[derive(Debug, Default)]
pub struct Users {
    by_key: HashMap<String, Arc<User>>,
    problems: Vec<String>,
    usual: Option<Arc<User>>,
    scram: bool,
}

impl Users {
    /// Reads the text of the file at `path`, which is for messages.
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut users = Self::default();
        let mut costs: HashMap<String, (usize, Arc<User>)> = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let user = match read_line(line) {
                Ok(None) => continue,
                Ok(Some(user)) if !users.by_key.contains_key(&name::key(&user.name)) => Arc::new(user),
                Ok(Some(user)) => {
                    users.problem(
                        path,
                        number,
                        &format!("{:?} is there twice: this line does not count", user.name),
                    );
                    continue;
                }
                Err(what) => {
                    users.problem(path, number, &what);
                    continue;
                }
            };
            costs.entry(user.hash.cost()).or_insert_with(|| (0, user.clone())).0 += 1;
            users.by_key.insert(name::key(&user.name), user);
        }
        let most = costs.into_iter().max_by(|(a, (m, _)), (b, (n, _))| m.cmp(n).then_with(|| b.cmp(a)));
        users.usual = most.map(|(_, (_, user))| user);
        users.scram =
            !users.by_key.is_empty() && users.by_key.values().all(|user| user.hash.verifier().is_some());
        users
    }

    /// Somebody, by a name of any case.
    pub fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.by_key.get(&name::key(name))
    }

    /// A hash of the kind that most users have: what a name that nobody has is checked against, so that it takes as long.
    pub fn usual(&self) -> Option<&Hash> {
        self.usual.as_ref().map(|user| &user.hash)
    }

    /// Can every user log in with SCRAM?
    pub fn all_scram(&self) -> bool {
        self.scram
    }

    /// What is wrong, `file:line: what`.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Is there nobody?
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn problem(&mut self, path: &Path, number: usize, what: &str) {
        self.problems.push(format!("{}:{}: {}", path.display(), number + 1, printable(what, 500)));
    }
}

/// The user of a line; `None` for a blank line or a comment. Errors show nothing that could be a password.
pub fn read_line(line: &str) -> Result<Option<User>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, hash) = line.split_once(':').ok_or("wanted NAME:HASH")?;
    name::check(name)?;
    if hash.is_empty() {
        return Err(format!("{name:?} has no hash: wanted NAME:HASH"));
    }
    let hash = Hash::parse(hash).map_err(|what| format!("{name:?}: {what}"))?;
    Ok(Some(User { name: name.to_owned(), hash }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::Password;
    use proptest::prelude::*;

    const SHA: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
    const SCRAM: &str = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn the_file_is_read_line_by_line() {
        let text = format!("# the users\n\nJoe:{SHA}\n  jane@Example.com:{SCRAM}  \r\n#old:{SHA}\n");
        let users = Users::parse(Path::new("users"), &text);
        assert_eq!((users.len(), users.is_empty(), users.problems()), (2, false, &[][..]));
        assert_eq!(users.get("JOE").unwrap().name, "Joe");
        let jane = users.get("jane@example.com").unwrap();
        assert!(
            jane.hash.fits(&Password::new(b"pencil").unwrap())
                && !jane.hash.fits(&Password::new(b"Pencil").unwrap())
        );
        assert!(users.get("old").is_none() && users.get("").is_none() && !users.all_scram());
        assert!(!format!("{users:?}").contains("5B8vYYiY") && !format!("{users:?}").contains("W22Za"));
        assert!(Users::parse(Path::new("users"), &format!("a:{SCRAM}\nb:{SCRAM}\n")).all_scram());
        assert!(!Users::parse(Path::new("users"), "").all_scram());
    }

    #[test]
    fn garbage_is_told_with_its_line_and_the_others_go_on() {
        let text = format!(
            "hunter2\njoe:{SHA}\nJOE:{SHA}\nbob:hunter2\n:{SHA}\na b:{SHA}\neve:\n{SHA}\nx:{SHA}:1000\nuwe:{{PLAIN}}hunter2\njane:{SHA}\n"
        );
        let users = Users::parse(Path::new("users"), &text);
        assert_eq!(users.len(), 2);
        assert!(users.get("joe").is_some() && users.get("jane").is_some());
        let problems = users.problems();
        let expected = [
            "users:1: wanted NAME:HASH",
            "users:3: \"JOE\" is there twice",
            "users:4: \"bob\": what stands behind the name is no hash",
            "users:5: a name cannot be empty",
            "users:6: a name cannot have white space",
            "users:7: \"eve\" has no hash",
            "users:8: wanted NAME:HASH",
            "users:9: \"x\": the hash is cut short, or has something behind it",
            "users:10: \"uwe\": the scheme in braces is not known here",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}, not {expected}");
            assert!(!problem.contains("hunter2") && !problem.contains("5B8vYYiY"), "{problem}");
        }
    }

    #[test]
    fn a_name_that_nobody_has_costs_what_most_cost() {
        let text = format!("a:{SCRAM}\nb:{SHA}\nc:{SHA}\n");
        let users = Users::parse(Path::new("users"), &text);
        assert_eq!(users.usual().unwrap().cost(), "sha256-crypt 5000");
        assert!(Users::parse(Path::new("users"), "").usual().is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([a-z#]{0,3}(:|\\$|\\{|[^\\n]){0,40}\n){0,5}") {
            let users = Users::parse(Path::new("users"), &text);
            prop_assert!(users.len() + users.problems().len() <= text.lines().count());
        }
    }
}
