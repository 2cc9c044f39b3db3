//! `[smtpd.auth.introspection]`: whom to ask whose an OAuth 2.0 token is.

use super::TimeSpan;
use crate::https_url::HttpsUrl;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[smtpd.auth.introspection]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Introspection {
    /// Address where the provider is asked about tokens (RFC 7662), https only. With it OAUTHBEARER and XOAUTH2 are offered. Absent: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpsUrl>,
    /// Who we are there. Absent: client_secret is sent as a token of our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// File whose one line proves that, for its owner alone (mode 600).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<PathBuf>,
    /// Which member of the answer has the name of the user.
    pub username: String,
    /// Words that must be in the scope of a token, blanks between them.
    pub scope: String,
    /// For whom a token must be made (aud). Absent: whoever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Authorities that count for the address, a PEM file. Absent: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Time for an answer.
    pub timeout: TimeSpan,
}

impl Default for Introspection {
    fn default() -> Self {
        Self {
            url: None,
            client_id: None,
            client_secret: None,
            username: "username".into(),
            scope: String::new(),
            audience: None,
            ca_file: None,
            timeout: TimeSpan::from_secs(10),
        }
    }
}

impl Introspection {
    /// The paths, to be made absolute.
    pub(super) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.client_secret.iter_mut().chain(&mut self.ca_file)
    }

    /// What makes no sense, and where.
    pub(super) fn problem(&self) -> Option<(&'static [&'static str], String)> {
        if self.url.is_none() && *self != Self::default() {
            let text = "introspection has no url: wanted the address where tokens are asked about";
            return Some((&["smtpd", "auth", "introspection"], text.into()));
        }
        if self.username.is_empty() {
            let text = "username is empty: wanted a member of the answer, such as \"username\", \"email\" or \"sub\"";
            return Some((&["smtpd", "auth", "introspection", "username"], text.into()));
        }
        let printable = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
        if !printable(&self.scope) {
            let text = "scope: wanted words of ASCII with blanks between them";
            return Some((&["smtpd", "auth", "introspection", "scope"], text.into()));
        }
        if self.client_id.as_deref().is_some_and(|id| id.is_empty() || !printable(id)) {
            let text = "client_id: wanted ASCII characters";
            return Some((&["smtpd", "auth", "introspection", "client_id"], text.into()));
        }
        if self.timeout.is_zero() || self.timeout.0 > std::time::Duration::from_secs(60) {
            let text = "timeout must be between \"1ms\" and \"60s\"";
            return Some((&["smtpd", "auth", "introspection", "timeout"], text.into()));
        }
        None
    }
}
