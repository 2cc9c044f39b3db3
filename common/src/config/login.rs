//! `[smtpd.auth]`: who may log in, and how.

use super::Introspection;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use std::fmt;
use std::path::{Path, PathBuf};

/// Longest name of a mechanism (RFC 4422 3.1).
const MAX_NAME: usize = 20;

/// `[smtpd.auth]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpdAuth {
    /// Who may log in: a file with NAME:HASH lines, for its owner alone (mode 600); "dovecot:/run/dovecot/auth-client"; "system". Absent: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<AuthUsers>,
    /// Mechanisms that are offered. Absent: all that every user can use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanisms: Option<Vec<MechanismName>>,
    /// The PAM service behind users = "system": a file in /etc/pam.d.
    pub pam_service: String,
    /// Whom to ask whose an OAuth 2.0 token is.
    pub introspection: Introspection,
}

impl Default for SmtpdAuth {
    fn default() -> Self {
        Self {
            users: None,
            mechanisms: None,
            pam_service: "ironpost".into(),
            introspection: Introspection::default(),
        }
    }
}

/// `users`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthUsers {
    /// A file with `NAME:HASH` lines.
    File(PathBuf),
    /// The socket of Dovecot's authentication service.
    Dovecot(PathBuf),
    /// The users of the operating system, through PAM.
    System,
}

impl fmt::Display for AuthUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Dovecot(path) => write!(f, "dovecot:{}", path.display()),
            Self::System => f.write_str("system"),
        }
    }
}

impl Serialize for AuthUsers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AuthUsers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            _ if text == "system" => Ok(Self::System),
            _ if text.is_empty() => {
                Err(D::Error::custom("users: wanted a file, \"dovecot:SOCKET\" or \"system\""))
            }
            Some(("dovecot", "")) => Err(D::Error::custom(
                "users: the socket is missing: wanted \"dovecot:/run/dovecot/auth-client\"",
            )),
            Some(("dovecot", path)) => Ok(Self::Dovecot(path.into())),
            Some((kind, _)) if !kind.contains('/') => Err(D::Error::custom(format!(
                "users: {kind:?} is not known: wanted a file, \"dovecot:SOCKET\" or \"system\""
            ))),
            _ => Ok(Self::File(text.into())),
        }
    }
}

/// The name of a SASL mechanism, in capitals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MechanismName(String);

impl MechanismName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for MechanismName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?.to_ascii_uppercase();
        let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_".contains(&b);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(good) {
            return Err(D::Error::custom(format!(
                "{name:?} is no mechanism: wanted a name such as \"PLAIN\" or \"SCRAM-SHA-256\""
            )));
        }
        Ok(Self(name))
    }
}

impl SmtpdAuth {
    /// The users file, where that is what there is.
    pub fn users_file(&self) -> Option<&Path> {
        match &self.users {
            Some(AuthUsers::File(path)) => Some(path),
            Some(AuthUsers::Dovecot(_) | AuthUsers::System) | None => None,
        }
    }

    /// The path in `users`, to be made absolute.
    pub(super) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match &mut self.users {
            Some(AuthUsers::File(path) | AuthUsers::Dovecot(path)) => Some(path),
            Some(AuthUsers::System) | None => None,
        }
    }

    /// What makes no sense, and where.
    pub(super) fn problem(&self) -> Option<(&'static [&'static str], String)> {
        const MECHANISMS: &[&str] = &["smtpd", "auth", "mechanisms"];
        let own: &[&str] = match &self.users {
            Some(AuthUsers::File(_)) => &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"],
            Some(AuthUsers::System) => &["PLAIN", "LOGIN"],
            // Dovecot has what it has.
            Some(AuthUsers::Dovecot(_)) | None => &[],
        };
        let service = self.pam_service.as_bytes();
        if service.is_empty() || !service.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)) {
            let text =
                "pam_service must be the name of a file in /etc/pam.d: letters, digits, \"-\" and \"_\"";
            return Some((&["smtpd", "auth", "pam_service"], text.into()));
        }
        if let Some(problem) = self.introspection.problem() {
            return Some(problem);
        }
        let names = self.mechanisms.as_ref()?;
        if names.is_empty() {
            return Some((MECHANISMS, "mechanisms is empty: without it all are offered that can be".into()));
        }
        let with_token = |name: &MechanismName| {
            self.introspection.url.is_some() && ["OAUTHBEARER", "XOAUTH2"].contains(&name.as_str())
        };
        let unknown =
            names.iter().find(|name| !own.is_empty() && !own.contains(&name.as_str()) && !with_token(name));
        unknown.map(|name| {
            (MECHANISMS, format!("{} is not known for these users: there are {}", name.0, own.join(", ")))
        })
    }
}
