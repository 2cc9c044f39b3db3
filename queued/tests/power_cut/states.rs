//! From a record to every state that a disk may show.
//!
//! What is certain after a cut: data that was synced with its file, names that were synced with their folder (and what had to happen to the same file before them), everything
//! before a sync of everything. What was written before a sync that failed is certainly not there. Every other operation may have reached the disk or not: for names, any number of the first ones *per file*, independent of
//! other files; for data, any number of the first writes, the last of them whole, torn in the middle, or as zeros (the length was
//! written, the data was not).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most states for one cut: scenarios are made so that this is enough, and fail when it is not.
pub const MOST: usize = 20_000;

/// One operation, or something that the scenario says.
#[derive(Debug, Clone)]
pub enum Op {
    Write {
        file: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: u64,
        length: u64,
    },
    SyncFile {
        file: u64,
    },
    SyncFolder {
        folder: PathBuf,
    },
    SyncAll,
    /// It failed: no later sync brings what was written before it to the disk, although it can still be read until the power goes.
    SyncAllFailed,
    /// Everything so far is on stable storage, and the power stays: cuts begin here.
    Ready,
    Link {
        file: u64,
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    MakeFolder {
        path: PathBuf,
    },
    /// A file of the base has this inode number.
    Found {
        file: u64,
        path: PathBuf,
    },
    Said(crate::promise::Said),
}

/// What is on a disk: files by path below the spool, and the folders that were made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    pub files: BTreeMap<PathBuf, Arc<Vec<u8>>>,
    pub folders: BTreeSet<PathBuf>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "on the disk:")?;
        for (path, bytes) in &self.files {
            writeln!(f, "  {} {} octets", path.display(), bytes.len())?;
        }
        Ok(())
    }
}

/// A file while the record is replayed.
#[derive(Debug, Clone, Default)]
struct Replayed {
    durable: Vec<u8>,
    /// Writes and truncations since.
    pending: Vec<Data>,
    /// Its name on stable storage.
    name: Option<PathBuf>,
    /// Its later names, in order; `None`: removed.
    names: Vec<Option<PathBuf>>,
}

#[derive(Debug, Clone)]
enum Data {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// The first cut that is looked at.
pub fn first_cut(ops: &[Op]) -> usize {
    ops.iter().rposition(|op| matches!(op, Op::Ready)).map_or(0, |at| at + 1)
}

/// Every state after a cut behind `ops`, without duplicates, starting from `base`, which is wholly on stable storage.
pub fn after_cut(base: &State, ops: &[Op]) -> BTreeSet<State> {
    let (files, folders) = replay(base, ops);
    let mut states = BTreeSet::from([State { files: BTreeMap::new(), folders: folders.0 }]);
    for file in files {
        let choices = choices(&file);
        let mut next = BTreeSet::new();
        for state in &states {
            for choice in &choices {
                let mut state = state.clone();
                if let Some((path, bytes)) = choice {
                    // A name can only be on the disk if its folder is.
                    state
                        .folders
                        .extend(path.parent().filter(|p| folders.1.contains(*p)).map(Path::to_owned));
                    state.files.insert(path.clone(), bytes.clone());
                }
                next.insert(state);
            }
        }
        states = next;
        assert!(states.len() <= MOST, "more than {MOST} states for one cut: make the scenario smaller");
    }
    states
}

/// All files, and the folders that were made: certainly there, and perhaps there.
fn replay(base: &State, ops: &[Op]) -> (Vec<Replayed>, (BTreeSet<PathBuf>, BTreeSet<PathBuf>)) {
    let mut files: Vec<Replayed> = Vec::new();
    let mut by_inode: BTreeMap<u64, usize> = BTreeMap::new();
    let mut by_name: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut perhaps = BTreeSet::new();
    for (path, bytes) in &base.files {
        by_name.insert(path.clone(), files.len());
        files.push(Replayed { durable: bytes.to_vec(), name: Some(path.clone()), ..Replayed::default() });
    }
    for op in ops {
        match op {
            Op::Write { file, offset, bytes } => {
                let at = new_or_known(&mut files, &mut by_inode, *file);
                files[at].pending.push(Data::Write(*offset, bytes.clone()));
            }
            Op::Truncate { file, length } => {
                let at = new_or_known(&mut files, &mut by_inode, *file);
                files[at].pending.push(Data::Truncate(*length));
            }
            Op::Found { file, path } => {
                by_inode.insert(*file, by_name[path]);
            }
            Op::SyncFile { file } => {
                if let Some(at) = by_inode.get(file) {
                    files[*at].sync_data();
                }
            }
            Op::SyncFolder { folder } => files.iter_mut().for_each(|file| file.sync_names(folder)),
            Op::SyncAll | Op::Ready => files.iter_mut().for_each(|file| {
                file.sync_data();
                file.sync_all_names();
            }),
            Op::SyncAllFailed => files.iter_mut().for_each(|file| file.pending.clear()),
            Op::Link { file, path } => {
                let at = by_inode[file];
                files[at].names.push(Some(path.clone()));
                by_name.insert(path.clone(), at);
            }
            Op::Rename { from, to } => {
                let at = by_name.remove(from).expect("a file that was there");
                files[at].names.push(Some(to.clone()));
                by_name.insert(to.clone(), at);
            }
            Op::Remove { path } => {
                let at = by_name.remove(path).expect("a file that was there");
                files[at].names.push(None);
            }
            Op::MakeFolder { path } => {
                perhaps.insert(path.clone());
            }
            Op::Said(_) => {}
        }
    }
    (files, (base.folders.clone(), perhaps))
}

fn new_or_known(files: &mut Vec<Replayed>, by_inode: &mut BTreeMap<u64, usize>, inode: u64) -> usize {
    *by_inode.entry(inode).or_insert_with(|| {
        files.push(Replayed::default());
        files.len() - 1
    })
}

impl Replayed {
    fn sync_data(&mut self) {
        for data in std::mem::take(&mut self.pending) {
            data.apply(&mut self.durable);
        }
    }

    /// A synced folder makes certain the last change that concerns it, and with it all that had to happen before to the same file.
    fn sync_names(&mut self, folder: &Path) {
        let lies_in = |name: &Option<PathBuf>| name.as_deref().and_then(Path::parent) == Some(folder);
        let before: Vec<_> = std::iter::once(&self.name).chain(&self.names).collect();
        let concerned = before.iter().zip(&self.names).rposition(|(from, to)| lies_in(from) || lies_in(to));
        if let Some(last) = concerned {
            self.name = self.names.drain(..=last).next_back().flatten();
        }
    }

    fn sync_all_names(&mut self) {
        if let Some(name) = self.names.drain(..).next_back() {
            self.name = name;
        }
    }
}

impl Data {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let offset = usize::try_from(*offset).unwrap();
                content.resize(content.len().max(offset + bytes.len()), 0);
                content[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(length) => content.resize(usize::try_from(*length).unwrap(), 0),
        }
    }

    /// How it may look when it was cut short.
    fn torn(&self) -> Vec<Self> {
        match self {
            Self::Write(offset, bytes) if bytes.len() > 1 => {
                let zeros = vec![0; bytes.len()];
                vec![Self::Write(*offset, bytes[..bytes.len() / 2].to_vec()), Self::Write(*offset, zeros)]
            }
            _ => Vec::new(),
        }
    }
}

/// What may be found of a file: `None`, or a name and its data.
fn choices(file: &Replayed) -> Vec<Option<(PathBuf, Arc<Vec<u8>>)>> {
    let mut contents = BTreeSet::from([file.durable.clone()]);
    let mut so_far = file.durable.clone();
    for data in &file.pending {
        for torn in data.torn() {
            let mut content = so_far.clone();
            torn.apply(&mut content);
            contents.insert(content);
        }
        data.apply(&mut so_far);
        contents.insert(so_far.clone());
    }
    let contents: Vec<Arc<Vec<u8>>> = contents.into_iter().map(Arc::new).collect();
    let names: BTreeSet<&Option<PathBuf>> = std::iter::once(&file.name).chain(&file.names).collect();
    let mut choices = Vec::new();
    for name in names {
        match name {
            None => choices.push(None),
            Some(name) => choices.extend(contents.iter().map(|c| Some((name.clone(), c.clone())))),
        }
    }
    choices
}
