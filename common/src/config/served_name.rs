//! A name that clients ask a server for (SNI), or all names one label below one.

use crate::address::Domain;
use serde::{Deserialize, Serialize};
use std::fmt;

/// `mail.example.com`, or `*.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServedName {
    below: bool,
    domain: Domain,
}

impl fmt::Display for ServedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.domain)
    }
}

impl TryFrom<String> for ServedName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (below, name) = text.strip_prefix("*.").map_or((false, text.as_str()), |name| (true, name));
        match name.parse::<Domain>() {
            Ok(domain) if domain.literal().is_none() => Ok(Self { below, domain }),
            _ => Err(format!(
                "{text:?} is no name that clients ask for: wanted \"mail.example.com\" or \"*.example.com\""
            )),
        }
    }
}

impl From<ServedName> for String {
    fn from(name: ServedName) -> Self {
        name.to_string()
    }
}
