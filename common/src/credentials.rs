//! The table `relay_credentials`: with which name and password (or token) to log in to a next host. Pure.
//!
//! A line is `KEY [insecure] USER:PASSWORD` or `KEY [insecure] xoauth2 USER:FILE`, where FILE says where the token comes from
//! ([`crate::oauth`]). The key is a nexthop (as `ironpost route` prints it, with or without its port; a host also
//! without its brackets), or a sender's address, or `@domain` of senders. A sender's line goes first, but only towards `relay_host` and nexthops that
//! have a line themselves: a password is for one provider, not for whoever a message goes to. Passwords are in no message, error or `Debug`.

use crate::address::Address;
use crate::destination::{Host, Nexthop};
use crate::table::{TableError, logical_lines};
use crate::text::printable;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest name or password, in octets.
const MAX: usize = 1024;

/// A name, and what proves it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    key: String,
    user: String,
    proof: Proof,
    insecure: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Proof {
    Password(String),
    Token(PathBuf),
}

impl Credentials {
    /// The key of its line.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password; `None` where a token takes its place.
    pub fn password(&self) -> Option<&str> {
        match &self.proof {
            Proof::Password(password) => Some(password),
            Proof::Token(_) => None,
        }
    }

    /// The file that says where the token comes from; `None` where there is a password.
    pub fn token_file(&self) -> Option<&Path> {
        match &self.proof {
            Proof::Password(_) => None,
            Proof::Token(file) => Some(file),
        }
    }

    /// May it be sent to a server that nobody vouches for, or in plain text?
    pub fn is_insecure(&self) -> bool {
        self.insecure
    }
}

impl fmt::Debug for Credentials {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("key", &self.key)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(HashMap<String, Arc<Credentials>>);

impl Table {
    /// Reads the table. Errors are at their line, and show nothing behind its key.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let mut map = HashMap::new();
        for (number, line) in logical_lines(text) {
            let folder = path.parent().unwrap_or(Path::new(""));
            let credentials = read_line(&line, folder).map_err(|what| TableError::at(path, number, &what))?;
            let key = credentials.key.clone();
            if map.insert(key.clone(), Arc::new(credentials)).is_some() {
                return Err(TableError::at(path, number, &format!("{key:?} is there twice")));
            }
        }
        Ok(Self(map))
    }

    /// For mail to `nexthop` from `sender` (`None`: the null sender).
    pub fn find(
        &self,
        nexthop: &Nexthop,
        sender: Option<&Address>,
        is_relay_host: bool,
    ) -> Option<Arc<Credentials>> {
        if self.0.is_empty() {
            return None;
        }
        let own = self.of_nexthop(nexthop);
        let of_sender = sender.filter(|_| own.is_some() || is_relay_host).and_then(|sender| {
            let whole = sender.to_string().to_lowercase();
            let domain = format!("@{}", sender.domain().to_lowercase());
            self.0.get(&whole).or_else(|| self.0.get(&domain))
        });
        of_sender.or(own).cloned()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Credentials> {
        self.0.values().map(AsRef::as_ref)
    }

    fn of_nexthop(&self, nexthop: &Nexthop) -> Option<&Arc<Credentials>> {
        let bare = match nexthop {
            Nexthop::Host { host: Host::Name(name), .. } => Some(name.to_lowercase()),
            Nexthop::Host { host: Host::Ip(_), .. } | Nexthop::Domain { .. } => None,
            Nexthop::Here | Nexthop::Text(_) => return None,
        };
        self.0
            .get(&nexthop.to_string())
            .or_else(|| self.0.get(&nexthop.without_port().to_string()))
            .or_else(|| self.0.get(&bare?))
    }
}

fn read_line(line: &str, folder: &Path) -> Result<Credentials, String> {
    let (key, mut rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let key = read_key(key)?;
    let (mut insecure, mut token) = (false, false);
    loop {
        rest = rest.trim_start();
        let (word, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match word {
            _ if word.contains(':') => break,
            "insecure" if !insecure => {
                insecure = true;
                rest = behind;
            }
            "xoauth2" if !token => {
                token = true;
                rest = behind;
            }
            _ if token => return Err(format!("{key}: wanted xoauth2 USER:FILE")),
            // Not shown: it may be a password.
            _ => {
                return Err(format!(
                    "{key}: wanted USER:PASSWORD or xoauth2 USER:FILE, and perhaps the word insecure before it"
                ));
            }
        }
    }
    let (user, password) = rest.split_once(':').unwrap_or((rest, ""));
    if user.is_empty() || password.is_empty() {
        let what = if token { "file" } else { "password" };
        return Err(format!("{key}: neither name nor {what} can be empty"));
    }
    let bad = |text: &str| text.len() > MAX || text.chars().any(char::is_control);
    if bad(user) || bad(password) {
        return Err(format!(
            "{key}: name or password is longer than {MAX} octets, or has control characters"
        ));
    }
    let proof = if token { Proof::Token(folder.join(password)) } else { Proof::Password(password.into()) };
    Ok(Credentials { key, user: user.into(), proof, insecure })
}

fn read_key(key: &str) -> Result<String, String> {
    let shown = || printable(key, 300);
    match key.split_once('@') {
        None => key.parse::<Nexthop>().map(|nexthop| nexthop.to_string()).map_err(|e| e.to_string()),
        Some(("", domain)) => match domain.parse::<crate::address::Domain>() {
            Ok(domain) => Ok(format!("@{}", domain.to_lowercase())),
            Err(error) => Err(format!("{:?}: {error}", shown())),
        },
        Some(_) => match key.parse::<Address>() {
            Ok(address) => Ok(address.to_string().to_lowercase()),
            Err(error) => Err(format!("{:?}: {error}", shown())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Table, TableError> {
        Table::parse(Path::new("t"), text)
    }

    #[test]
    fn lines_are_found_by_nexthop_and_sender() {
        let table = parse(
            "[Smtp.example.net]:587 a:1\n[smtp.example.net] b:2\nbare.example.net c:3\nd.example.com insecure d:4:5 6\n\
             Joe@Me.example e:7\n@me.example f:8\n",
        )
        .unwrap();
        let joe: Address = "joe@me.example".parse().unwrap();
        let jane: Address = "jane@me.example".parse().unwrap();
        let other: Address = "x@other.example".parse().unwrap();
        for (nexthop, sender, relay, expected) in [
            ("[smtp.example.net]:587", None, false, Some("a")),
            ("[SMTP.example.net]:465", Some(&other), false, Some("b")),
            ("[bare.example.net]:587", None, true, Some("c")),
            ("d.example.com", None, false, Some("d")),
            ("smtp.example.net", None, false, None),
            ("[smtp.example.net]:587", Some(&joe), false, Some("e")),
            ("[smtp.example.net]:587", Some(&jane), false, Some("f")),
            ("[relay.example]:587", Some(&joe), true, Some("e")),
            ("[relay.example]:587", Some(&other), true, None),
            // Somebody's exchange gets nobody's password.
            ("somebody.example", Some(&joe), false, None),
            ("[somebody.example]", Some(&jane), false, None),
        ] {
            let found = table.find(&nexthop.parse().unwrap(), sender, relay);
            assert_eq!(found.as_ref().map(|c| c.user()), expected, "{nexthop} {sender:?}");
        }
        let d = table.find(&"d.example.com".parse().unwrap(), None, false).unwrap();
        assert_eq!((d.password(), d.token_file(), d.is_insecure()), (Some("4:5 6"), None, true));
        assert_eq!(table.iter().count(), 6);
        assert!(!format!("{table:?}").contains("4:5"));
    }

    #[test]
    fn a_token_takes_the_place_of_a_password() {
        let text = "a.example xoauth2 joe@x.example:tokens/joe.toml\n\
                    b.example insecure xoauth2 b:/run/b c\nc.example xoauth2 insecure c:d\n";
        let table = Table::parse(Path::new("/etc/ironpost/logins"), text).unwrap();
        for (nexthop, user, file, insecure) in [
            ("a.example", "joe@x.example", "/etc/ironpost/tokens/joe.toml", false),
            ("b.example", "b", "/run/b c", true),
            ("c.example", "c", "/etc/ironpost/d", true),
        ] {
            let found = table.find(&nexthop.parse().unwrap(), None, false).unwrap();
            assert_eq!((found.user(), found.password(), found.is_insecure()), (user, None, insecure));
            assert_eq!(found.token_file(), Some(Path::new(file)));
        }
    }

    #[test]
    fn mistakes_are_told_without_the_password() {
        for (line, says) in [
            ("[x]:587 secret1", "wanted USER:PASSWORD"),
            ("[x]:587", "wanted USER:PASSWORD"),
            ("[x]:587 plain user:secret1", "wanted USER:PASSWORD"),
            ("[x]:587 xoauth2 secret1", "wanted xoauth2 USER:FILE"),
            ("[x]:587 xoauth2 plain user:secret1", "wanted xoauth2 USER:FILE"),
            ("[x]:587 xoauth2 user:", "neither name nor file"),
            ("[x]:587 :secret1", "neither name nor password"),
            ("[x]:587 user:", "neither name nor password"),
            ("[x]:587 user:sec\u{1}ret1", "control characters"),
            ("[x user:secret1", "missing \"]\""),
            ("a b@c user:secret1", "wanted USER:PASSWORD"),
            ("@bad_-. user:secret1", "@bad_-."),
            ("[x]:587 user:secret1\n[X]:587 user:secret1", "t:2: \"[x]:587\" is there twice"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.starts_with("t:") && error.contains(says), "{line}: {error}");
            assert!(!error.contains("secret1") && !error.contains("ret1"), "{error}");
        }
    }
}
