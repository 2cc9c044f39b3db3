//! What an admin should do something about and what can be seen without a daemon.

use common::config::Config;
use common::time::Timestamp;
use common::tls::Identity;
use nix::sys::statvfs::statvfs;
use spool::control::Counts;
use spool::layout::{Queue, Spool};
use std::path::Path;
use std::time::Duration;

/// So long before its end a certificate is told of.
const SOON: Duration = Duration::from_secs(14 * 86_400);
/// Of a hundred: less of the disk's room or its inodes is told of.
const LOW: u64 = 5;

/// All of them.
pub fn all(config: &Config, spool: &Spool, counts: Option<Counts>, now: Timestamp) -> Vec<String> {
    let tls = &config.smtpd.tls;
    let first = tls.certificate.as_deref().zip(tls.private_key.as_deref());
    let others = tls.certificates.iter().map(|one| (&*one.certificate, &*one.private_key));
    let mut warnings: Vec<String> =
        first.into_iter().chain(others).filter_map(|(chain, key)| certificate(chain, key, now)).collect();
    warnings.extend(disk(spool.root()));
    let corrupt = counts.and_then(|counts| counts.iter().find(|(queue, _)| *queue == Queue::Corrupt));
    if let Some((_, count)) = corrupt.filter(|(_, count)| *count > 0) {
        let folder = spool.directory(Queue::Corrupt);
        let plural = if count == 1 { "file" } else { "files" };
        warnings.push(format!(
            "{}: {count} {plural} that could not be read: look at the log, then save or remove what lies there",
            folder.display()
        ));
    }
    warnings
}

/// A certificate that ends soon, or cannot be used. What this user cannot read is passed over.
fn certificate(chain: &Path, key: &Path, now: Timestamp) -> Option<String> {
    let barred = |path: &Path| {
        std::fs::File::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    let file = chain.display();
    match Identity::load(chain, key) {
        Ok(identity) => match identity.problem(now) {
            Some(problem) => Some(format!("{file}: {problem}")),
            None if identity.ends() <= now.after(SOON) => {
                Some(format!("{file}: the certificate ends on {}", identity.ends().rfc5322()))
            }
            None => None,
        },
        Err(_) if barred(chain) || barred(key) => None,
        Err(error) => Some(error.to_string()),
    }
}

fn disk(root: &Path) -> Option<String> {
    let stat = statvfs(root).ok()?;
    low(root, "room", stat.blocks_available(), stat.blocks())
        .or_else(|| low(root, "inodes", stat.files_available(), stat.files()))
}

/// File systems without a number of their own say 0.
fn low(root: &Path, what: &str, free: u64, all: u64) -> Option<String> {
    let short = all > 0 && free < all / 100 * LOW;
    short.then(|| {
        let percent = free.saturating_mul(100) / all.max(1);
        format!(
            "{}: {percent} % of the file system's {what} left: new mail is refused when there is none",
            root.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told_of() {
        let root = Path::new("/spool");
        for (free, all, expected) in [
            (0, 0, None),
            (5000, 100_000, None),
            (
                4999,
                100_000,
                Some("/spool: 4 % of the file system's room left: new mail is refused when there is none"),
            ),
            (
                0,
                u64::MAX,
                Some("/spool: 0 % of the file system's room left: new mail is refused when there is none"),
            ),
        ] {
            assert_eq!(low(root, "room", free, all).as_deref(), expected, "{free} {all}");
        }
    }

    #[test]
    fn what_lies_in_corrupt_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse("", Path::new("c"), folder.path()).unwrap();
        let spool = Spool::new(folder.path());
        let said = |counts| all(&config, &spool, counts, Timestamp(0)).join("\n");
        assert!(!said(None).contains("corrupt"));
        assert!(!said(Some(Counts([9, 9, 9, 9, 9, 0]))).contains("corrupt"));
        assert!(said(Some(Counts([0, 0, 0, 0, 0, 1]))).contains("corrupt: 1 file that could not be read"));
    }
}
