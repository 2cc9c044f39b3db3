//! A file that says where an OAuth 2.0 access token comes from, and a token's shape. Pure: the text is handed in.
//!
//! Either a token itself (`access_token`, and when it `expires`), or how to ask the provider for one (`token_endpoint`, `client_id`, …): with a
//! `refresh_token` as RFC 6749 6 says, without one by the client's own right (4.4). Unknown keys are errors. The file is a secret: errors name the key or
//! the line, and show nothing of what it is set to; `Debug` neither.

use crate::https_url::HttpsUrl;
use crate::table::TableError;
use crate::time::Timestamp;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Longest token, secret or name, in octets: what fits into a line of AUTH (RFC 4954 4: 12288 octets, base64 and all).
pub const MAX_TOKEN: usize = 8192;

/// Text that nobody may see.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// A token or secret as the RFCs allow them: visible ASCII (RFC 6749 A), at most [`MAX_TOKEN`] octets. `None` when it is none.
    pub fn new(text: &str) -> Option<Self> {
        let good = (1..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|b| (0x21..0x7f).contains(&b));
        good.then(|| Self(text.to_owned()))
    }

    /// To be sent, not shown.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where a token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFile {
    /// It stands in the file. Nobody but an admin can renew it.
    Fixed {
        /// The token.
        token: Secret,
        /// When it ends, if that is known.
        expires: Option<Timestamp>,
    },
    /// The provider gives one.
    Endpoint(Box<Endpoint>),
}

/// How a provider is asked for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its token endpoint (RFC 6749 3.2).
    pub url: HttpsUrl,
    /// Who we are there.
    pub client_id: String,
    /// What proves it; absent for a public client.
    pub client_secret: Option<Secret>,
    /// How the two are sent.
    pub client_auth: ClientAuth,
    /// What is given for a token. Absent: the client's own right counts (client_credentials).
    pub refresh_token: Option<Secret>,
    /// What the token shall be good for; absent: what was agreed upon.
    pub scope: Option<String>,
    /// Authorities that count for the endpoint; absent: the system's.
    pub ca_file: Option<PathBuf>,
}

/// How a client proves itself (RFC 6749 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// Within the form.
    #[default]
    Post,
    /// By HTTP Basic.
    Basic,
}

impl TokenFile {
    /// Reads the text of the file at `path`; paths in it are relative to its folder.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let table: Table = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            // What the parser says of the line might be what stands there.
            let line = before.matches('\n').count() + 1;
            TableError::at(path, line, "this is no KEY = \"VALUE\", or the key is there twice")
        })?;
        let mut keys = Keys(table);
        let read = keys.read(path).and_then(|file| match keys.0.keys().next() {
            None => Ok(file),
            Some(key) => {
                let key = crate::text::printable(key, 60);
                Err(format!(
                    "{key:?} is not known here: wanted access_token and expires, or token_endpoint, client_id, client_secret, client_auth, \
                     refresh_token, scope and ca_file"
                ))
            }
        });
        read.map_err(|what| TableError::file(path, &what))
    }
}

/// Keys that were not read yet.
struct Keys(Table);

impl Keys {
    fn read(&mut self, path: &Path) -> Result<TokenFile, String> {
        let token = self.secret("access_token")?;
        let Some(url) = self.text("token_endpoint")? else {
            let token = token.ok_or("it needs an access_token, or a token_endpoint to ask for one")?;
            return Ok(TokenFile::Fixed { token, expires: self.time("expires")? });
        };
        if token.is_some() {
            return Err("access_token and token_endpoint: one of them is too many".into());
        }
        // The address is no secret, and a slip in it is hard to find unseen.
        let url = url.parse().map_err(|error| format!("token_endpoint: {error}"))?;
        let client_id = self.secret("client_id")?.ok_or("token_endpoint needs a client_id")?.0;
        let client_secret = self.secret("client_secret")?;
        let client_auth = match self.text("client_auth")?.as_deref() {
            None | Some("post") => ClientAuth::Post,
            Some("basic") if client_secret.is_none() => {
                return Err("client_auth \"basic\" needs a client_secret".into());
            }
            Some("basic") => ClientAuth::Basic,
            Some(_) => return Err("client_auth: wanted \"post\" or \"basic\"".into()),
        };
        let refresh_token = self.secret("refresh_token")?;
        if refresh_token.is_none() && client_secret.is_none() {
            return Err("token_endpoint needs a refresh_token, or a client_secret at least".into());
        }
        let scope = self.text("scope")?;
        if scope.as_ref().is_some_and(|scope| !scope.bytes().all(|b| (0x20..0x7f).contains(&b))) {
            return Err("scope: wanted words of ASCII with blanks between them".into());
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let ca_file = self.text("ca_file")?.map(|file| folder.join(file));
        let endpoint = Endpoint { url, client_id, client_secret, client_auth, refresh_token, scope, ca_file };
        Ok(TokenFile::Endpoint(Box::new(endpoint)))
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        match self.0.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) if (1..=MAX_TOKEN).contains(&text.len()) => Ok(Some(text)),
            Some(_) => {
                Err(format!("{key}: wanted a text in quotes, neither empty nor longer than 8192 octets"))
            }
        }
    }

    fn secret(&mut self, key: &str) -> Result<Option<Secret>, String> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let secret = Secret::new(&text);
        secret.map(Some).ok_or_else(|| format!("{key}: wanted visible ASCII characters without blanks"))
    }

    fn time(&mut self, key: &str) -> Result<Option<Timestamp>, String> {
        let text = match self.0.remove(key) {
            None => return Ok(None),
            Some(Value::Datetime(time)) => time.to_string(),
            Some(Value::String(text)) => text,
            Some(_) => String::new(),
        };
        let time = text.parse::<jiff::Timestamp>();
        time.map(|time| Some(Timestamp(time.as_microsecond())))
            .map_err(|_| format!("{key}: wanted a time with its zone, such as 2027-01-31T00:00:00Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TokenFile, TableError> {
        TokenFile::parse(Path::new("/etc/t"), text)
    }

    #[test]
    fn both_kinds_are_read() {
        let secret = |text: &str| Secret::new(text).unwrap();
        let fixed = |expires| TokenFile::Fixed { token: secret("abc.def-_"), expires };
        let time = Some(Timestamp::from_seconds(1_798_761_600));
        assert_eq!(parse("access_token = \"abc.def-_\"\n").unwrap(), fixed(None));
        for line in ["2027-01-01T00:00:00Z", "2027-01-01 01:00:00+01:00", "\"2027-01-01T00:00:00Z\""] {
            let text = format!("# mine\nexpires = {line}\naccess_token = 'abc.def-_'\n");
            assert_eq!(parse(&text).unwrap(), fixed(time), "{line}");
        }
        let text =
            "token_endpoint = \"https://login.example/token\"\nclient_id = \"me\"\nrefresh_token = \"r\"\n";
        let plain = Endpoint {
            url: "https://login.example/token".parse().unwrap(),
            client_id: "me".into(),
            client_secret: None,
            client_auth: ClientAuth::Post,
            refresh_token: Some(secret("r")),
            scope: None,
            ca_file: None,
        };
        assert_eq!(parse(text).unwrap(), TokenFile::Endpoint(Box::new(plain.clone())));
        let text = text.replace("refresh_token = \"r\"", "client_secret = \"s\"\nclient_auth = \"basic\"")
            + "scope = \"a b\"\nca_file = \"ca.pem\"\n";
        let own = Endpoint {
            client_secret: Some(secret("s")),
            client_auth: ClientAuth::Basic,
            refresh_token: None,
            scope: Some("a b".into()),
            ca_file: Some("/etc/ca.pem".into()),
            ..plain
        };
        let read = parse(&text).unwrap();
        assert_eq!(read, TokenFile::Endpoint(Box::new(own)));
        assert!(!format!("{read:?}").contains("\"s\""));
    }

    #[test]
    fn mistakes_are_told_without_what_is_secret() {
        const ENDPOINT: &str = "token_endpoint = \"https://login.example/\"\n";
        for (text, says) in [
            ("", "t: it needs an access_token"),
            ("expires = 2027-01-01T00:00:00Z", "it needs an access_token"),
            ("access_token = \"\"", "access_token: wanted a text"),
            ("access_token = 51238", "access_token: wanted a text"),
            ("access_token = \"hush hush\"", "access_token: wanted visible"),
            ("access_token = \"hush\nhush\"", ": this is no KEY"),
            ("\naccess_token = hush", "t:2: this is no KEY"),
            ("hush", "t:1: this is no KEY"),
            ("access_token = \"hush\"\naccess_token = \"hush\"", "t:2: this is no KEY"),
            (
                "access_token = \"hush\"\nexpires = 2027-01-01T00:00:00",
                "expires: wanted a time with its zone",
            ),
            ("access_token = \"hush\"\nexpires = 1", "expires: wanted a time"),
            ("access_token = \"hush\"\nscopes = \"hush\"", "\"scopes\" is not known here"),
            ("access_token = \"hush\"\nrefresh_token = \"hush\"", "\"refresh_token\" is not known here"),
            ("token_endpoint = \"http://x/\"\nclient_id = \"hush\"", "token_endpoint: no https://"),
            (&format!("access_token = \"hush\"\n{ENDPOINT}"), "one of them is too many"),
            (ENDPOINT, "needs a client_id"),
            (&format!("{ENDPOINT}client_id = \"i\""), "needs a refresh_token, or a client_secret"),
            (&format!("{ENDPOINT}client_id = \"i\"\nclient_auth = \"hush\""), "client_auth: wanted"),
            (
                &format!("{ENDPOINT}client_id = \"i\"\nrefresh_token = \"hush\"\nclient_auth = \"basic\""),
                "\"basic\" needs a client_secret",
            ),
            (
                &format!("{ENDPOINT}client_id = \"i\"\nrefresh_token = \"hush\"\nscope = \"é\""),
                "scope: wanted",
            ),
            (&format!("access_token = \"{}\"", "a".repeat(MAX_TOKEN + 1)), "access_token: wanted a text"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("/etc/t") && error.contains(says), "{text}: {error}");
            assert!(!error.contains("hush") && !error.contains("51238"), "{error}");
        }
    }
}
