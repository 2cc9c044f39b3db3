//! Access tables on disk, read anew within seconds of a change.

use common::access::AccessTable;
use common::table::TableError;
use common::watched::Watched;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All access tables of a configuration.
#[derive(Default)]
pub struct AccessTables(HashMap<PathBuf, Watched<AccessTable>>);

impl std::fmt::Debug for AccessTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl AccessTables {
    /// Reads them all; each must be there and right.
    pub fn load<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Self, TableError> {
        let read = |path: &PathBuf| Ok((path.clone(), Watched::table(path, AccessTable::parse)?));
        paths.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The table as it is now; an empty one for a path that was not loaded.
    pub fn get(&self, path: &Path) -> Arc<AccessTable> {
        self.0.get(path).map(Watched::get).unwrap_or_default()
    }
}
