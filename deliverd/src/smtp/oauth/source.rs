//! One token file with its token: asks the endpoint, for all who wait at once, and says in the log what an admin has to know.
//!
//! A request that has begun is brought to its end whoever gives up waiting: an endpoint that replaces refresh tokens has done so by then.

use super::cache::{Cache, Need};
use super::grant::{self, Granted};
use super::kept::{Kept, Place};
use common::oauth::{Endpoint, Secret, TokenFile};
use common::secret::{SecretFile, Secrets};
use common::table::TableError;
use common::time::Timestamp;
use common::tls::Roots;
use common::watched::Watched;
use https::Client;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For one request.
const LIMIT: Duration = Duration::from_secs(30);
/// An end is told of so long before, when nobody but an admin can do something about it.
const WARN: Duration = Duration::from_secs(7 * 86_400);
/// The same warning comes no more often.
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// See the head of the file.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: Watched<TokenFile>,
    place: Place,
    inner: Mutex<Inner>,
    /// Held by the one who asks.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Inner {
    cache: Cache,
    /// What the file said when the cache was filled: another endpoint's token is none of ours.
    of: Option<Arc<TokenFile>>,
    /// The newest refresh token, when it is not the one in the file.
    kept: Option<Kept>,
    warned: Option<Timestamp>,
}

impl Source {
    /// Opens the file. Errors: it cannot be read, or makes no sense.
    pub fn open(path: &Path, secret: Arc<SecretFile>, folder: &Path) -> Result<Self, TableError> {
        let file =
            Watched::new(path, move |path| secret.read().and_then(|text| TokenFile::parse(path, &text)))?;
        let place = Place::new(folder, path);
        let source =
            Self { path: path.to_owned(), file, place, inner: Mutex::default(), asking: Arc::default() };
        source.lock().follow(&source);
        Ok(source)
    }

    /// Reads the file anew, by a descriptor that was just handed over if there is one.
    pub fn refresh(&self, secrets: &Secrets) -> Result<(), TableError> {
        // The one within the reader is replaced by it.
        secrets.file(&self.path)?;
        self.file.refresh()
    }

    /// A token to log in with. Errors: there is none now, why, and what an admin can do.
    pub async fn token(self: &Arc<Self>) -> Result<Secret, String> {
        match self.need(Timestamp::now()) {
            Need::Use(token) => return Ok(token),
            Need::Wait(why) => return Err(why),
            Need::Ask => {}
        }
        let source = self.clone();
        let asked = tokio::spawn(async move {
            let _asking = source.asking.lock().await;
            // Somebody may have asked while we waited.
            match source.need(Timestamp::now()) {
                Need::Use(token) => Ok(token),
                Need::Wait(why) => Err(why),
                Need::Ask => source.ask().await,
            }
        });
        asked.await.unwrap_or_else(|_| Err(format!("{}: mail system: ended by a bug", self.path.display())))
    }

    /// A server did not take this token. May another one be had now?
    pub fn refused(&self, token: &Secret) -> bool {
        let mut inner = self.lock();
        match *self.file.get() {
            TokenFile::Fixed { token: ref now, .. } => now != token,
            TokenFile::Endpoint(_) => inner.cache.refused(token, Timestamp::now()),
        }
    }

    /// What an admin should know now.
    pub fn warning(&self, now: Timestamp) -> Option<String> {
        let mut inner = self.lock();
        let file = inner.follow(self);
        let ends = match &*file {
            TokenFile::Fixed { expires, .. } => expires.map(|at| ("the access token", at)),
            TokenFile::Endpoint(_) => {
                if let Some(why) = inner.cache.lasting_trouble() {
                    return Some(why.to_owned());
                }
                inner
                    .kept
                    .as_ref()
                    .and_then(|kept| kept.ends)
                    .map(|at| ("the refresh token, unless it is used before,", at))
            }
        };
        // One that is replaced each time it is used lives on; it is told of when it is nearly over.
        let soon = match &*file {
            TokenFile::Fixed { .. } => WARN,
            TokenFile::Endpoint(_) => WARN / 7,
        };
        let (what, at) = ends.filter(|(_, at)| *at <= now.after(soon))?;
        let verb = if at <= now { "has ended" } else { "ends" };
        Some(format!("{what} {verb} at {}: {}", at.rfc5322(), mend(&file)))
    }

    /// Logs the warning, if there is one and it was not logged today.
    pub fn warn(&self, now: Timestamp) {
        let Some(text) = self.warning(now) else { return };
        let mut inner = self.lock();
        if inner.warned.is_none_or(|at| now.since(at) >= WARN_EVERY) {
            inner.warned = Some(now);
            common::warn!("{}: {text}", self.path.display());
        }
    }

    fn need(&self, now: Timestamp) -> Need {
        let mut inner = self.lock();
        match &*inner.follow(self) {
            TokenFile::Fixed { token, .. } => Need::Use(token.clone()),
            TokenFile::Endpoint(_) => inner.cache.need(now),
        }
    }

    async fn ask(&self) -> Result<Secret, String> {
        let (file, newest) = {
            let mut inner = self.lock();
            (inner.follow(self), inner.kept.clone())
        };
        let TokenFile::Endpoint(endpoint) = &*file else { return Err(String::new()) };
        let refresh_token = newest.as_ref().map(|kept| &kept.token).or(endpoint.refresh_token.as_ref());
        let asked = request(endpoint, refresh_token).await;
        let now = Timestamp::now();
        if let (Ok(granted), Some(given), Some(sent)) = (&asked, &endpoint.refresh_token, refresh_token) {
            self.keep(given, sent, granted, newest.as_ref(), now).await;
        }
        let mut inner = self.lock();
        // The file may say something else by now: then this is no news about what it says.
        let same = Arc::ptr_eq(&file, &inner.follow(self));
        match asked {
            Ok(granted) => {
                if inner.cache.trouble().is_some() {
                    common::info!("{}: a new OAuth token was given", self.path.display());
                }
                if same {
                    inner.cache.granted(granted.access_token.clone(), granted.life, now);
                }
                Ok(granted.access_token)
            }
            Err((text, lasting)) => {
                let path = self.path.display();
                let todo = if lasting { mend(&file) } else { "it is asked again by itself" };
                let url = &endpoint.url;
                let why = format!("{path}: no OAuth token from {url}: {text}; {todo}");
                let before = inner.cache.trouble().map(|(why, _)| why.to_owned());
                let left = if same { inner.cache.failed(&why, lasting, now) } else { None };
                if before.as_ref() != Some(&why) {
                    common::warn!("{why}");
                }
                left.ok_or(why)
            }
        }
    }

    /// Keeps the refresh token that counts from now on, when it is another one than before.
    async fn keep(
        &self,
        given: &Secret,
        sent: &Secret,
        granted: &Granted,
        before: Option<&Kept>,
        now: Timestamp,
    ) {
        let token = granted.refresh_token.as_ref().unwrap_or(sent).clone();
        let kept = Kept { token, ends: granted.refresh_life.map(|life| now.after(life)) };
        let news = before.map_or(kept.token != *given || kept.ends.is_some(), |before| *before != kept);
        if !news {
            return;
        }
        let write = {
            let (place, given, kept) = (self.place.clone(), given.clone(), kept.clone());
            tokio::task::spawn_blocking(move || place.write(&given, &kept)).await
        };
        if let Err(error) = write.unwrap_or_else(|_| Err("mail system: ended by a bug".into())) {
            common::error!(
                "cannot keep the new refresh token, it is lost when this process ends: {error}; mend that, or put a new one into {}",
                self.path.display()
            );
        }
        let mut inner = self.lock();
        let same = match &*inner.follow(self) {
            TokenFile::Endpoint(endpoint) => endpoint.refresh_token.as_ref() == Some(given),
            TokenFile::Fixed { .. } => false,
        };
        if same {
            inner.kept = Some(kept);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What the file says now; when that is something new, what was known is of no account.
    fn follow(&mut self, source: &Source) -> Arc<TokenFile> {
        let now = source.file.get();
        if !self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &now)) {
            let same = self.of.as_ref().is_some_and(|of| **of == *now);
            if !same {
                *self = Self::default();
                self.kept = source.kept(&now);
            }
            self.of = Some(now.clone());
        }
        now
    }
}

impl Source {
    fn kept(&self, file: &TokenFile) -> Option<Kept> {
        let TokenFile::Endpoint(endpoint) = file else { return None };
        self.place.read(endpoint.refresh_token.as_ref()?).unwrap_or_else(|error| {
            common::error!(
                "the newest refresh token cannot be read, the one in {} is used: {error}",
                self.path.display()
            );
            None
        })
    }
}

/// What an admin does when a token is no good any more.
fn mend(file: &TokenFile) -> &'static str {
    match file {
        TokenFile::Fixed { .. } => "put a new access_token into the file",
        TokenFile::Endpoint(endpoint) if endpoint.refresh_token.is_some() => {
            "get a new refresh token from the provider and put it into the file"
        }
        TokenFile::Endpoint(_) => "look at client_id and client_secret in the file",
    }
}

/// Asks the endpoint. The authorities are read each time, so that they are today's.
async fn request(endpoint: &Endpoint, refresh_token: Option<&Secret>) -> Result<Granted, (String, bool)> {
    let ca_file = endpoint.ca_file.clone();
    let load = move || match &ca_file {
        Some(path) => Roots::from_file(path).map_err(|what| format!("ca_file {}: {what}", path.display())),
        None => Ok(Roots::from_system().0),
    };
    let roots = tokio::task::spawn_blocking(load).await;
    let roots = roots.unwrap_or_else(|_| Err("mail system: ended by a bug".into()));
    let client = roots.and_then(|roots| Client::new(&roots).map_err(|error| error.to_string()));
    let client = client.map_err(|text| (text, false))?;
    let (fields, authorization) = grant::request(endpoint, refresh_token);
    let answer = client.post_form(&endpoint.url, &fields, authorization, LIMIT).await;
    let answer = answer.map_err(|error| (error.to_string(), false))?;
    let secrets: Vec<&Secret> = endpoint.client_secret.iter().chain(refresh_token).collect();
    grant::read(&answer, &secrets).map_err(|refused| (refused.text, refused.lasting))
}
