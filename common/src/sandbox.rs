//! What a daemon gives up for good besides its user: system calls that it has no business with (seccomp(2)).
//!
//! Applies to the calling thread and every thread started from it afterwards, so it is called after [`crate::identity::drop_to`] (which sets
//! no_new_privs) and before the first thread. A refused call fails with EPERM; nothing is killed.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use std::collections::BTreeMap;

/// The filter could not be made or was not taken by the kernel.
#[derive(Debug, thiserror::Error)]
#[error("cannot confine this process (seccomp): {0}")]
pub struct SandboxError(String);

/// Files can be added but not looked for: no folder can be listed, and no file's mode or access list be changed by name, any more.
///
/// smtpd holds a readable descriptor of `incoming/`, to sync it, and owns the files that it added there, whose mode lets it not read them. This keeps it from
/// reading names through the one, and from giving itself leave to read the others.
pub fn confine_to_adding() -> Result<(), SandboxError> {
    use nix::libc::{SYS_fchmodat, SYS_getdents64, SYS_lsetxattr, SYS_setxattr};
    let mut calls = vec![SYS_getdents64, SYS_fchmodat, FCHMODAT2, SYS_setxattr, SYS_lsetxattr, SETXATTRAT];
    calls.extend(OLD_CALLS);
    install(calls.into_iter().map(|call| (call, Vec::new())).collect())
}

/// Younger than the C library's list; the number is the same on all machines.
const FCHMODAT2: i64 = 452;
/// As above.
const SETXATTRAT: i64 = 463;

/// No socket but to processes of this machine can be made any more (netlink, which tells our own addresses, included). queued has no business with the network.
pub fn deny_network() -> Result<(), SandboxError> {
    let is_not = |family: i32| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
            .map_err(|e| SandboxError(e.to_string()))
    };
    let foreign = vec![is_not(nix::libc::AF_UNIX)?, is_not(nix::libc::AF_NETLINK)?];
    let rule = SeccompRule::new(foreign).map_err(|e| SandboxError(e.to_string()))?;
    install([(nix::libc::SYS_socket, vec![rule])].into())
}

/// Calls that only old machines have.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: [i64; 2] = [nix::libc::SYS_getdents, nix::libc::SYS_chmod];
/// Calls that only old machines have.
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: [i64; 0] = [];

/// Lets everything pass but calls that match the rules (all calls of that number where the list is empty).
fn install(rules: BTreeMap<i64, Vec<SeccompRule>>) -> Result<(), SandboxError> {
    let say = |error: &dyn std::fmt::Display| SandboxError(error.to_string());
    let refuse = SeccompAction::Errno(nix::libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| say(&e))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(|e| say(&e))?;
    let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| say(&e))?;
    apply_filter(&program).map_err(|e| say(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_given_up_is_refused_and_the_rest_goes_on() {
        // A thread of its own: the filter stays on it.
        std::thread::spawn(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            assert!(std::fs::read_dir("/").unwrap().next().unwrap().is_ok());
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("file");
            std::fs::write(&file, "x").unwrap();
            confine_to_adding().unwrap();
            assert_eq!(
                std::fs::read_dir("/").unwrap().next().unwrap().unwrap_err().kind(),
                ErrorKind::PermissionDenied
            );
            let mode = std::fs::metadata(&file).unwrap().permissions();
            assert_eq!(
                std::fs::set_permissions(&file, mode.clone()).unwrap_err().kind(),
                ErrorKind::PermissionDenied
            );
            assert!(
                std::fs::File::open(&file).unwrap().set_permissions(mode).is_ok(),
                "an open file is its holder's"
            );
            std::fs::remove_file(&file).unwrap();
            assert!(TcpListener::bind("127.0.0.1:0").is_ok());
            deny_network().unwrap();
            for address in ["127.0.0.1:0", "[::1]:0"] {
                assert_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::PermissionDenied);
            }
            assert!(UnixStream::pair().is_ok());
            assert!(!crate::tables::own_addresses().is_empty());
        })
        .join()
        .unwrap();
    }
}
