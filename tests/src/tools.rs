//! Where the programs are that the tests run: our own, the installed ones, and those that `tests/tools.sh`
//! unpacked.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with Ironpost's binaries: `IRONPOST_BIN`, else where cargo put them beside this test.
pub fn ironpost_bin() -> PathBuf {
    match std::env::var_os("IRONPOST_BIN") {
        Some(folder) => PathBuf::from(folder),
        // target/debug/deps/e2e-…: two folders up.
        None => std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned(),
    }
}

/// One of Ironpost's binaries.
pub fn binary(name: &str) -> PathBuf {
    let path = ironpost_bin().join(name);
    assert!(path.exists(), "{} is not built: cargo build", path.display());
    path
}

/// The folder of this checkout where `tests/tools.sh` unpacks programs.
pub fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".tools")
}

/// The root of the unpacked Postfix.
pub fn postfix() -> PathBuf {
    let path = unpacked().join("postfix");
    assert!(path.exists(), "Postfix is not there: run tests/tools.sh");
    path
}

/// A program of the unpacked Postfix, such as `smtp-sink`, with the path of its libraries set.
pub fn postfix_program(name: &str) -> Command {
    let mut command = Command::new(postfix().join("usr/sbin").join(name));
    command.env("LD_LIBRARY_PATH", postfix().join("usr/lib/postfix"));
    command
}

/// The system's Python, whose version the unpacked test corpus has.
pub fn python() -> Command {
    Command::new("/usr/bin/python3")
}

/// The folder of CPython's e-mail test corpus.
pub fn python_corpus() -> PathBuf {
    for entry in std::fs::read_dir(unpacked()).expect("run tests/tools.sh").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(version) = name.strip_prefix("libpython").and_then(|rest| rest.strip_suffix("-testsuite"))
        else {
            continue;
        };
        let data = entry.path().join(format!("usr/lib/python{version}/test/test_email/data"));
        if data.exists() {
            return data;
        }
    }
    panic!("Python's e-mail test corpus is not there: run tests/tools.sh");
}
