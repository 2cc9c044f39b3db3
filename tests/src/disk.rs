//! Small file systems that can be filled, and made read-only: for root alone, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::DEADLINE;
use crate::process::run;

/// A mounted file system.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    image: Option<PathBuf>,
}

impl SmallDisk {
    /// A file system in memory at `path`, with these further mount options (`size=3m`, `nr_inodes=50`). None
    /// where it cannot be mounted.
    pub fn tmpfs(path: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("mode=0755,{options}"), "ironpost-test"]).arg(path);
        (run(&mut command, b"").code == 0).then(|| Self { path: path.to_owned(), image: None })
    }

    /// An ext4 at `path`, in a file beside it, of so many octets and inodes. None where it cannot be mounted.
    pub fn ext4(path: &Path, size: u64, inodes: usize) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let image = path.with_extension("ext4");
        std::fs::File::create(&image).unwrap().set_len(size).unwrap();
        let mut make = Command::new("/sbin/mkfs.ext4");
        make.args(["-q", "-m0", "-N", &inodes.to_string()]).arg(&image);
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop"]).arg(&image).arg(path);
        if run(&mut make, b"").code != 0 || run(&mut mount, b"").code != 0 {
            let _ = std::fs::remove_file(&image);
            return None;
        }
        Some(Self { path: path.to_owned(), image: Some(image) })
    }

    /// Makes it read-only (`ro`), or writable again (`rw`). Waits for a moment when no file is open for writing.
    pub fn remount(&self, option: &str) {
        let end = Instant::now() + *DEADLINE;
        loop {
            let mut command = Command::new("mount");
            command.args(["-o", &format!("remount,{option}")]).arg(&self.path);
            let output = run(&mut command, b"");
            if output.code == 0 {
                return;
            }
            assert!(Instant::now() < end, "cannot be remounted: {}", output.err);
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.path), b"");
        if let Some(image) = &self.image {
            let _ = std::fs::remove_file(image);
        }
    }
}
