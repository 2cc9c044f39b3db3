//! `ironpost user`: who may log in, where that is a users file (`[smtpd.auth] users`).
//!
//! | file | what |
//! | --- | --- |
//! | [`edit`] | the text of the file with one line more, less or changed; pure |
//! | [`mod@file`] | the file read and replaced, under a lock, so that it is whole at any instant |
//! | [`password`] | a password from the terminal, or from a pipe |
//!
//! Passwords and hashes are in no output and no error.

pub mod edit;
pub mod file;
pub mod password;

use crate::cli::{NewPassword, User};
use crate::exit;
use crate::failure::Failure;
use auth::hash::{Hash, Scheme};
use auth::name;
use auth::users::Users;
use common::config::{AuthUsers, Config};
use common::identity::Identities;
use file::UsersFile;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Does it. `config` is the configuration file, which is not read when the command names a users file.
pub fn run(config: &Path, command: &User) -> Result<(), Failure> {
    let (User::Add(NewPassword { file, .. })
    | User::Passwd(NewPassword { file, .. })
    | User::List { file }
    | User::Remove { file, .. }) = command;
    let place = Place::find(config, file.as_deref())?;
    match command {
        User::Add(new) => set(&place, new, true),
        User::Passwd(new) => set(&place, new, false),
        User::List { .. } => list(&place),
        User::Remove { name, .. } => remove(&place, name),
    }
}

/// The users file, and who will read it.
struct Place {
    path: PathBuf,
    daemon: Option<Identities>,
}

impl Place {
    fn find(config: &Path, file: Option<&Path>) -> Result<Self, Failure> {
        if let Some(path) = file {
            return Ok(Self { path: path.to_owned(), daemon: None });
        }
        let loaded = crate::load(config)?;
        let path = match &loaded.smtpd.auth.users {
            Some(AuthUsers::File(path)) => path.clone(),
            other => return Err(Failure::new(exit::CONFIG, no_file(config, other.as_ref()))),
        };
        Ok(Self { path, daemon: daemon(&loaded) })
    }

    /// What has to be done so that a change takes effect.
    fn hint(&self) -> &'static str {
        use std::os::unix::fs::MetadataExt;
        let owner = std::fs::metadata(&self.path).map(|meta| meta.uid()).ok();
        match &self.daemon {
            Some(ids) if owner == Some(ids.smtpd.uid.as_raw()) => "; in force within seconds",
            Some(_) => {
                "; now run \"ironpost reload smtpd\", since smtpd itself cannot read a file of this owner"
            }
            None => "",
        }
    }
}

fn daemon(config: &Config) -> Option<Identities> {
    Identities::resolve(config).ok()
}

fn no_file(config: &Path, users: Option<&AuthUsers>) -> String {
    let config = config.display();
    match users {
        Some(users) => format!(
            "{config}: [smtpd.auth] users = \"{users}\": these users are kept elsewhere, not in a file"
        ),
        None => format!(
            "{config}: there is no users file: say where it is, such as [smtpd.auth] users = \"users\", or give --file"
        ),
    }
}

fn set(place: &Place, new: &NewPassword, add: bool) -> Result<(), Failure> {
    let name = &new.name;
    name::check(name).map_err(|what| Failure::new(exit::USAGE, what))?;
    // Looked at before anybody types a password for nothing, and again under the lock.
    let text = UsersFile::peek(&place.path)?.unwrap_or_default();
    check_existence(&place.path, &text, name, add)?;
    let scheme = new.scheme.map_or_else(|| usual_scheme(&text), Scheme::from);
    let password = password::ask(name)?;
    let hash = match Hash::make(scheme, &password) {
        Some(Ok(hash)) => hash,
        Some(Err(what)) => return Err(Failure::new(exit::FAILURE, what)),
        None => return Err(Failure::new(exit::USAGE, format!("{scheme} is read, but not made"))),
    };
    let file = UsersFile::open(&place.path)?;
    check_existence(&place.path, file.text(), name, add)?;
    file.replace(&edit::with(file.text(), name, &hash))?;
    let done = if add { "added" } else { "has a new password" };
    say(&format!("{name} {done} ({scheme}){}\n", place.hint()))
}

fn check_existence(path: &Path, text: &str, name: &str, add: bool) -> Result<(), Failure> {
    match (edit::has(text, name), add) {
        (true, true) => Err(Failure::new(
            exit::CANNOT_CREATE,
            format!("{name} is in {} already: ironpost user passwd {name}", path.display()),
        )),
        (false, false) => Err(no_such_user(path, name)),
        _ => Ok(()),
    }
}

fn no_such_user(path: &Path, name: &str) -> Failure {
    Failure::new(exit::NO_USER, format!("{name} is not in {}", path.display()))
}

/// A user without SCRAM among users with it would take it from all of them.
fn usual_scheme(text: &str) -> Scheme {
    if Users::parse(Path::new(""), text).all_scram() { Scheme::ScramSha256 } else { Scheme::Argon2id }
}

fn list(place: &Place) -> Result<(), Failure> {
    let text = UsersFile::peek(&place.path)?;
    let text =
        text.ok_or_else(|| Failure::new(exit::NO_INPUT, format!("{}: not there", place.path.display())))?;
    for problem in Users::parse(&place.path, &text).problems() {
        eprintln!("ironpost: {}", crate::terminal::line(problem));
    }
    let mut out = String::new();
    let mut seen = std::collections::HashSet::new();
    for user in text.lines().filter_map(|line| auth::users::read_line(line).ok().flatten()) {
        if seen.insert(name::key(&user.name)) {
            out.push_str(&format!("{} {}\n", crate::terminal::line(&user.name), user.hash.scheme()));
        }
    }
    say(&out)
}

fn remove(place: &Place, name: &str) -> Result<(), Failure> {
    let file = UsersFile::open(&place.path)?;
    let text = edit::without(file.text(), name).ok_or_else(|| no_such_user(&place.path, name))?;
    file.replace(&text)?;
    say(&format!("{} removed{}\n", crate::terminal::line(name), place.hint()))
}

fn say(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::output(&error))
}
