//! OAuth 2.0 tokens for logging in to next hosts: where each one comes from, and how it is kept fresh.
//!
//! | module | is |
//! | --- | --- |
//! | [`cache`] | when to use a token, to ask for another one, or to wait; pure |
//! | [`grant`] | what is sent to a token endpoint, and what its answer means; pure |
//! | [`kept`] | a refresh token that the endpoint has replaced, on disk |
//! | [`source`] | one token file with its token |
//!
//! A token is asked for when mail needs it, and again some minutes before it ends or when a server refuses it; whoever else needs it meanwhile waits
//! for that one answer. When the endpoint fails, mail waits and it is asked again with growing pauses. No text made here has a token or secret in it.

pub mod cache;
pub mod grant;
pub mod kept;
pub mod source;

use common::credentials::Table;
use common::oauth::Secret;
use common::secret::Secrets;
use common::table::TableError;
use common::time::Timestamp;
use source::Source;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All token files that the table `relay_credentials` names. What is known of them outlives a change of the configuration.
#[derive(Debug, Default)]
pub struct Tokens {
    sources: Mutex<HashMap<PathBuf, Arc<Source>>>,
}

impl Tokens {
    /// Opens the files that the table names, reads those that are open anew, and forgets the others. `folder` is where replaced refresh tokens are kept.
    /// Errors: one cannot be read or makes no sense; nothing has changed then.
    pub fn open(&self, table: &Table, secrets: &Secrets, folder: &Path) -> Result<(), TableError> {
        let known = self.lock().clone();
        let mut sources = HashMap::new();
        for path in table.iter().filter_map(|line| line.token_file()) {
            let source = match known.get(path) {
                Some(source) => {
                    source.refresh(secrets)?;
                    source.clone()
                }
                None => Arc::new(Source::open(path, secrets.file(path)?, folder)?),
            };
            sources.insert(path.to_owned(), source);
        }
        *self.lock() = sources;
        Ok(())
    }

    /// The token by this file. Errors: there is none now, why, and what an admin can do.
    pub async fn get(&self, file: &Path) -> Result<Secret, String> {
        let source = self.lock().get(file).cloned();
        match source {
            Some(source) => source.token().await,
            None => Err(format!("{}: this file is not open", file.display())),
        }
    }

    /// A server did not take this token. May another one be had now?
    pub fn refused(&self, file: &Path, token: &Secret) -> bool {
        let source = self.lock().get(file).cloned();
        source.is_some_and(|source| source.refused(token))
    }

    /// What an admin should know of, by file: tokens that end and cannot be renewed, endpoints that refuse.
    pub fn warnings(&self, now: Timestamp) -> Vec<(PathBuf, String)> {
        let sources: Vec<_> =
            self.lock().iter().map(|(path, source)| (path.clone(), source.clone())).collect();
        let warn = |(path, source): (PathBuf, Arc<Source>)| source.warning(now).map(|text| (path, text));
        let mut warnings: Vec<_> = sources.into_iter().filter_map(warn).collect();
        warnings.sort();
        warnings
    }

    /// Logs the warnings that were not logged today.
    pub fn warn(&self, now: Timestamp) {
        let sources: Vec<_> = self.lock().values().cloned().collect();
        sources.iter().for_each(|source| source.warn(now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
