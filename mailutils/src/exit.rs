//! Exit codes of all commands: sysexits(3).

/// Done.
pub const OK: u8 = 0;
/// Something went wrong that has no code of its own (also: standard output was closed).
pub const FAILURE: u8 = 1;
/// The command line makes no sense.
pub const USAGE: u8 = 64;
/// The message (or another input) is not acceptable.
pub const DATA: u8 = 65;
/// No such queue ID, or no readable input.
pub const NO_INPUT: u8 = 66;
/// No such user.
pub const NO_USER: u8 = 67;
/// A daemon is down.
pub const UNAVAILABLE: u8 = 69;
/// A system call failed.
pub const OS_ERROR: u8 = 71;
/// A file of the installation is missing.
pub const OS_FILE: u8 = 72;
/// It is there already.
pub const CANNOT_CREATE: u8 = 73;
/// Reading or writing failed.
pub const IO_ERROR: u8 = 74;
/// Not now; the same may work later.
pub const TRY_AGAIN: u8 = 75;
/// Not permitted.
pub const NO_PERMISSION: u8 = 77;
/// The configuration is wrong.
pub const CONFIG: u8 = 78;
