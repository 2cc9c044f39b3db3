//! Asking the provider of a token whose it is (RFC 7662).
//!
//! | module | is |
//! | --- | --- |
//! | [`answer`] | what an answer is worth; pure |
//! | [`cache`] | answers of the last minutes; pure |
//!
//! At most [`AT_ONCE`] questions are out at once; waiting for one's turn counts against the time limit. No token or secret reaches a log line or an error.

pub mod answer;
pub mod cache;

use answer::{Verdict, Wanted};
use cache::Cache;
use common::config::Introspection;
use common::https_url::HttpsUrl;
use common::oauth::Secret;
use common::secret::Secrets;
use common::table::TableError;
use common::time::Timestamp;
use common::tls::Roots;
use common::watched::Watched;
use https::{Authorization, Client};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Questions that are out at once.
pub const AT_ONCE: usize = 32;

/// How tokens are asked about.
#[derive(Debug)]
pub struct Introspector {
    url: HttpsUrl,
    client: Client,
    client_id: Option<String>,
    client_secret: Option<Watched<Secret>>,
    wanted: Wanted,
    limit: Duration,
    turns: Semaphore,
    cache: Mutex<Cache>,
}

impl Introspector {
    /// By the configuration; `None` where there is none. Before privileges are dropped. Errors: one line that names the key or file and the reason.
    pub fn open(config: &Introspection, secrets: &Secrets) -> Result<Option<Self>, String> {
        let Some(url) = &config.url else { return Ok(None) };
        let wrong =
            |key: &str, what: &dyn std::fmt::Display| format!("[smtpd.auth.introspection] {key}: {what}");
        let roots = match &config.ca_file {
            Some(path) => Roots::from_file(path)
                .map_err(|what| wrong("ca_file", &format!("{}: {what}", path.display())))?,
            None => Roots::from_system().0,
        };
        let secret = config.client_secret.as_deref().map(|path| secret(path, secrets)).transpose();
        Ok(Some(Self {
            url: url.clone(),
            client: Client::new(&roots).map_err(|error| wrong("url", &error))?,
            client_id: config.client_id.clone(),
            client_secret: secret.map_err(|error| wrong("client_secret", &error))?,
            wanted: Wanted {
                username: config.username.clone(),
                scope: config.scope.clone(),
                audience: config.audience.clone(),
            },
            limit: config.timeout.0,
            turns: Semaphore::new(AT_ONCE),
            cache: Mutex::default(),
        }))
    }

    /// What a token must be good for.
    pub fn scope(&self) -> &str {
        &self.wanted.scope
    }

    /// Whose the token is. Errors: it cannot be found out now; the text is for the log.
    pub async fn ask(&self, token: &Secret) -> Result<Verdict, String> {
        let key = cache::key(token);
        if let Some(verdict) = self.cache().get(&key, Timestamp::now()) {
            return Ok(verdict);
        }
        let url = &self.url;
        let began = tokio::time::Instant::now();
        let turn = tokio::time::timeout(self.limit, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(format!("introspection at {url}: too many questions at once"));
        };
        // Somebody else may have asked meanwhile.
        if let Some(verdict) = self.cache().get(&key, Timestamp::now()) {
            return Ok(verdict);
        }
        let secret = self.client_secret.as_ref().map(Watched::get);
        let authorization = match (&self.client_id, &secret) {
            (Some(id), Some(secret)) => Authorization::Basic(id, secret),
            (None, Some(secret)) => Authorization::Bearer(secret),
            (_, None) => Authorization::None,
        };
        let mut fields = vec![("token", token.expose()), ("token_type_hint", "access_token")];
        if secret.is_none() {
            fields.extend(self.client_id.as_deref().map(|id| ("client_id", id)));
        }
        let left = self.limit.saturating_sub(began.elapsed());
        let said = self.client.post_form(url, &fields, authorization, left).await;
        let said = said.map_err(|error| format!("introspection at {url}: {error}"))?;
        let now = Timestamp::now();
        let (verdict, until) = answer::read(&said, &self.wanted, now)
            .map_err(|what| format!("introspection at {url}: {what}"))?;
        self.cache().put(key, verdict.clone(), until, now);
        Ok(verdict)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file whose one line is a secret.
fn secret(path: &Path, secrets: &Secrets) -> Result<Watched<Secret>, TableError> {
    let file = secrets.file(path)?;
    Watched::new(path, move |path| {
        let text = file.read()?;
        Secret::new(text.trim_end_matches(['\n', '\r'])).ok_or_else(|| {
            TableError::file(path, "wanted one line of visible ASCII characters without blanks")
        })
    })
}
