//! Every file of every corpus through the body of its target: what was once found stays found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use ironpost_fuzz::TARGETS;
use ironpost_fuzz::memory::{Counting, bounded};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[global_allocator]
static MEMORY: Counting = Counting;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn names(folder: &Path) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    std::fs::read_dir(folder).unwrap().map(|entry| stem(entry.unwrap().path())).collect()
}

#[test]
fn every_target_has_its_program_and_its_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&here().join("libfuzzer/fuzz_targets")), targets);
    assert_eq!(names(&here().join("corpus")), targets);
    let manifest = std::fs::read_to_string(here().join("libfuzzer/Cargo.toml")).unwrap();
    for name in &targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn corpora_are_replayed() {
    let mut broken = Vec::new();
    for (name, run) in TARGETS {
        let mut files: Vec<_> =
            std::fs::read_dir(here().join("corpus").join(name)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 3, "{name} has a corpus");
        for file in files {
            let input = std::fs::read(&file).unwrap();
            if std::panic::catch_unwind(|| run(&input)).is_err() {
                broken.push(file);
            }
        }
    }
    assert!(broken.is_empty(), "these break a promise: {broken:#?}");
}

#[test]
fn memory_is_counted_here() {
    let most = std::panic::catch_unwind(|| bounded(1000, || drop(vec![1u8; 2000])));
    assert!(most.is_err(), "otherwise no target would notice memory without bounds");
    bounded(3000, || drop(vec![1u8; 2000]));
}
