//! The text of a users file, changed: everything else in it stays as it is. Pure.

use auth::name;

/// Is there a line of this name, right or wrong?
pub fn has(text: &str, name: &str) -> bool {
    text.lines().any(|line| is_of(line, name))
}

/// With this hash for a name: in place of its line (the first one, and the others go), else at the end.
pub fn with(text: &str, name: &str, hash: &str) -> String {
    let mut out = String::with_capacity(text.len() + hash.len() + 64);
    let mut done = false;
    for line in text.lines() {
        if !is_of(line, name) {
            push(&mut out, line);
        } else if !done {
            // The spelling of the name that is there stays.
            let old = line.trim().split(':').next().unwrap_or(name);
            push(&mut out, &format!("{old}:{hash}"));
            done = true;
        }
    }
    if !done {
        push(&mut out, &format!("{name}:{hash}"));
    }
    out
}

/// Without a name; `None`: it is not there.
pub fn without(text: &str, name: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    text.lines().filter(|line| !is_of(line, name)).for_each(|line| push(&mut out, line));
    has(text, name).then_some(out)
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn is_of(line: &str, name: &str) -> bool {
    let line = line.trim();
    !line.starts_with('#')
        && line.split_once(':').is_some_and(|(there, _)| name::key(there) == name::key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# staff\n\n  Joe:$6$old\n# joe:$6$older\njane:broken\nlast:x";

    #[test]
    fn only_the_line_of_the_name_changes() {
        for (name, expected) in [
            ("JOE", "# staff\n\nJoe:NEW\n# joe:$6$older\njane:broken\nlast:x\n"),
            ("jane", "# staff\n\n  Joe:$6$old\n# joe:$6$older\njane:NEW\nlast:x\n"),
            ("eve", "# staff\n\n  Joe:$6$old\n# joe:$6$older\njane:broken\nlast:x\neve:NEW\n"),
        ] {
            assert_eq!(with(TEXT, name, "NEW"), expected, "{name}");
        }
        assert_eq!(with("", "eve", "NEW"), "eve:NEW\n");
        assert_eq!(with("a:1\nA:2\n", "a", "NEW"), "a:NEW\n");
        assert_eq!(without(TEXT, "joe").unwrap(), "# staff\n\n# joe:$6$older\njane:broken\nlast:x\n");
        assert_eq!(without(TEXT, "eve"), None);
        assert!(has(TEXT, "Last") && !has(TEXT, "staff") && !has(TEXT, "# joe"));
    }
}
