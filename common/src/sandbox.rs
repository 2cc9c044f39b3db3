//! What a daemon gives up for good besides its user: system calls that it has no business with (seccomp(2)).
//!
//! Applies to the calling thread and every thread started from it afterwards, so it is called after [`crate::identity::drop_to`] (which sets
//! no_new_privs) and before the first thread. A refused call fails with EPERM; nothing is killed. What would get round a filter goes with
//! every one: io_uring, whose rings make calls that no filter sees, and the second set of numbers (x32) that x86_64 has for all calls.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, sock_filter,
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

/// io_uring_setup, _enter and _register.
const RINGS: [i64; 3] =
    [nix::libc::SYS_io_uring_setup, nix::libc::SYS_io_uring_enter, nix::libc::SYS_io_uring_register];
/// Numbers from here on are calls of the x32 ABI, which shares its mark in seccomp_data with x86_64 (seccomp(2)).
const X32: u32 = 0x4000_0000;

/// Lets everything pass but calls that match the rules (all calls of that number where the list is empty), and the ways round them.
fn install(rules: BTreeMap<i64, Vec<SeccompRule>>) -> Result<(), SandboxError> {
    apply_filter(&program(rules)?).map_err(|e| SandboxError(e.to_string()))
}

fn program(mut rules: BTreeMap<i64, Vec<SeccompRule>>) -> Result<BpfProgram, SandboxError> {
    let say = |error: &dyn std::fmt::Display| SandboxError(error.to_string());
    let refuse = SeccompAction::Errno(nix::libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| say(&e))?;
    rules.extend(RINGS.map(|call| (call, Vec::new())));
    let mut program =
        if cfg!(target_arch = "x86_64") { refuse_x32(refuse.clone().into()) } else { Vec::new() };
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(|e| say(&e))?;
    let rest: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| say(&e))?;
    // Jumps are relative: the rest does not mind what stands before it.
    program.extend(rest);
    Ok(program)
}

/// seccompiler compares call numbers for equality only. Load the number (offset 0); if it is at least [`X32`], answer.
fn refuse_x32(answer: u32) -> BpfProgram {
    use nix::libc::{BPF_ABS, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let step = |code: u32, jf, k| sock_filter { code: u16::try_from(code).unwrap_or(0), jt: 0, jf, k };
    vec![
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0),
        step(BPF_JMP | BPF_JGE | BPF_K, 1, X32),
        step(BPF_RET | BPF_K, 0, answer),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    /// What the kernel would do with a program that looks at call numbers only.
    fn run(program: &[sock_filter], number: u32, arch: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                0x20 => value = if step.k == 0 { number } else { arch },
                0x05 => at += step.k as usize,
                0x15 => at += jump(value == step.k),
                0x35 => at += jump(value >= step.k),
                0x06 => return step.k,
                code => panic!("{code:#x}"),
            }
        }
    }

    #[test]
    fn every_filter_refuses_rings_and_other_numbers_for_the_same_calls() {
        let arch = match std::env::consts::ARCH {
            "x86_64" => 0xc000_003e,
            "aarch64" => 0xc000_00b7,
            _ => return,
        };
        let (refused, allowed) = (u32::from(SeccompAction::Errno(1)), u32::from(SeccompAction::Allow));
        let getdents = u32::try_from(nix::libc::SYS_getdents64).unwrap();
        let with_one = [(i64::from(getdents), Vec::new())].into();
        for (rules, listing) in [(BTreeMap::new(), allowed), (with_one, refused)] {
            let program = program(rules).unwrap();
            let answer = |number| run(&program, number, arch);
            assert_eq!([425, 426, 427].map(answer), [refused; 3]);
            assert_eq!([0, 63, 424, 428, 452].map(answer), [allowed; 5]);
            assert_eq!(answer(getdents), listing);
            if std::env::consts::ARCH == "x86_64" {
                assert_eq!([X32, X32 | getdents, X32 | 425, u32::MAX].map(answer), [refused; 4]);
            }
            assert_eq!(run(&program, 0, 3), u32::from(SeccompAction::KillProcess), "another machine's calls");
        }
    }

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
