//! What the log rests on: that a sync of the file system tells of a file that could not be written. Linux does since 5.8.

/// The first version whose `syncfs` does.
const SINCE: (u32, u32) = (5, 8);

/// The running kernel's release, when its `syncfs` tells nothing.
pub fn silent_sync() -> Option<String> {
    let release = nix::sys::utsname::uname().ok()?.release().to_string_lossy().into_owned();
    version(&release).is_some_and(|version| version < SINCE).then_some(release)
}

/// Major and minor number of a release, such as `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_and_compared_as_such() {
        for (release, wanted) in [
            ("6.18.44-fc-v769", Some((6, 18))),
            ("5.10.0-8-amd64", Some((5, 10))),
            ("5.8-rc1", Some((5, 8))),
            ("4.19.0+", Some((4, 19))),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(version(release), wanted, "{release}");
        }
        assert!(version("5.4.0").unwrap() < SINCE && version("5.10.0").unwrap() > SINCE);
        assert!(version("5.8.0").unwrap() >= SINCE);
    }
}
