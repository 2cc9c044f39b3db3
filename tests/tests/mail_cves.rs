//! `doc/mail-cves.md` names tests: each of them exists, and no row is without a test or a reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Is there a function of this name with `#[test]` above it?
fn is_test(code: &str, name: &str) -> bool {
    let function = format!("fn {name}()");
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(i, line)| {
        line.contains(&function)
            && lines[..i]
                .iter()
                .rev()
                .take_while(|l| l.starts_with(['#', '/']))
                .any(|l| l.starts_with("#[test]") || l.starts_with("#[tokio::test"))
    })
}

#[test]
fn every_test_named_in_the_page_exists() {
    let page = std::fs::read_to_string(root().join("doc/mail-cves.md")).unwrap();
    let (mut wrong, mut tests, mut rows) = (Vec::new(), 0, 0);
    for line in page.lines() {
        for word in quoted(line) {
            let path = word.split("::").next().unwrap();
            if let Some((file, name)) = word.split_once(".rs::") {
                tests += 1;
                let code = std::fs::read_to_string(root().join(format!("{file}.rs"))).unwrap_or_default();
                if !is_test(&code, name) {
                    wrong.push(word.to_owned());
                }
            } else if path.contains('/') && (path.ends_with(".smtp") || path.ends_with(".rs")) {
                tests += 1;
                if !root().join(path).is_file() {
                    wrong.push(word.to_owned());
                }
            }
        }
        for target in line.split("(fuzz ").skip(1).flat_map(|rest| quoted(rest.split(')').next().unwrap())) {
            if !root().join("fuzz/corpus").join(target).is_dir() {
                wrong.push(format!("fuzz target {target}"));
            }
        }
        if line.starts_with("| ") && !line.starts_with("| hole") && !line.starts_with("| ---") {
            rows += 1;
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            assert_eq!(cells.len(), 3, "three cells: {line}");
            assert!(cells.iter().all(|cell| cell.trim().len() > 5), "{line}");
        }
    }
    assert!(wrong.is_empty(), "named in doc/mail-cves.md, but not there: {wrong:#?}");
    assert!(rows > 50 && tests > 60, "the page was read: {rows} rows, {tests} tests");
}
