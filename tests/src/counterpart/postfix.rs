//! A real Postfix as the next host: the unpacked one, with a configuration and a queue of its own, delivering
//! into a Maildir.
//!
//! Its master insists on root; tests that use it are skipped for everyone else.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Group, User};
use tempfile::TempDir;

use super::sink::wait_listening;
use crate::lines::Lines;
use crate::mailbox::{Mail, maildir};
use crate::net::free_port;
use crate::process::Process;
use crate::tools::postfix;

/// A running Postfix that takes mail for `remote.test`.
#[derive(Debug)]
pub struct Postfix {
    // First: it must be gone before its folder.
    _process: Process,
    address: SocketAddr,
    folder: TempDir,
}

impl Postfix {
    /// Starts one at this address, with these lines added to its main.cf.
    pub fn start(address: Ipv4Addr, more: &str) -> Self {
        Self::start_with(address, None, &more.replace("{folder}", "/nonexistent"), |_| {})
    }

    /// As [`start`](Self::start), at this port (a free one), with files made by `prepare` in its folder, which `{folder}` in
    /// the lines stands for.
    pub fn start_with(address: Ipv4Addr, port: Option<u16>, more: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::Builder::new().prefix("ironpost-postfix-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        make_folders(folder.path());
        prepare(folder.path());
        let more = &more.replace("{folder}", &folder.path().display().to_string());
        let mut said = Vec::new();
        for _ in 0..20 {
            let address = SocketAddr::from((address, port.unwrap_or_else(|| free_port(address))));
            fs::write(folder.path().join("etc/main.cf"), main_cf(folder.path()) + more).unwrap();
            fs::write(folder.path().join("etc/master.cf"), master_cf(address)).unwrap();
            let mut command = Command::new(postfix().join("usr/lib/postfix/sbin/master"));
            command.arg("-c").arg(folder.path().join("etc")).arg("-d");
            command.env("LD_LIBRARY_PATH", postfix().join("usr/lib/postfix"));
            let mut process = Process::start_group(&mut command);
            if wait_listening(address, &mut process) {
                return Self { _process: process, address, folder };
            }
            said = process.err.all();
        }
        panic!(
            "Postfix does not start: {said:?}\n{}",
            fs::read_to_string(folder.path().join("log")).unwrap_or_default()
        );
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until it has logged so many lines that contain `text`.
    pub fn wait_log(&self, text: &str, count: usize) {
        Lines::default().wait_until(&format!("{count} times {text:?} in Postfix's log"), || {
            (self.log().matches(text).count() >= count).then_some(())
        });
    }

    /// The messages that it delivered.
    pub fn mail(&self) -> Vec<Mail> {
        maildir(&self.folder.path().join("mail/box"))
    }

    /// Waits until it has delivered `count` messages.
    pub fn wait_mail(&self, count: usize) -> Vec<Mail> {
        let log = self.folder.path().join("log");
        Lines::default().wait_until(
            &format!("{count} messages in Postfix, whose log is {}", log.display()),
            || {
                let found = self.mail();
                (found.len() >= count).then_some(found)
            },
        )
    }
}

fn make_folders(folder: &Path) {
    let owner = User::from_name("daemon").unwrap().expect("user daemon").uid.as_raw();
    let nobody = User::from_name("nobody").unwrap().expect("user nobody").uid.as_raw();
    let group = Group::from_name("mail").unwrap().expect("group mail").gid.as_raw();
    let make = |path: PathBuf, owner: u32, group: Option<u32>, mode: u32| {
        fs::create_dir(&path).unwrap();
        chown(&path, Some(owner), group).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    make(folder.join("etc"), 0, None, 0o755);
    make(folder.join("data"), owner, None, 0o700);
    make(folder.join("mail"), nobody, None, 0o755);
    make(folder.join("queue"), 0, None, 0o755);
    for name in [
        "incoming", "active", "deferred", "bounce", "defer", "hold", "corrupt", "trace", "flush", "saved",
        "private",
    ] {
        make(folder.join("queue").join(name), owner, None, 0o700);
    }
    make(folder.join("queue/pid"), 0, None, 0o755);
    make(folder.join("queue/public"), owner, Some(group), 0o710);
    make(folder.join("queue/maildrop"), owner, Some(group), 0o730);
}

/// The interface must be one that the kernel lists; where to listen is in master.cf.
fn main_cf(folder: &Path) -> String {
    let programs = postfix();
    format!(
        "compatibility_level = 3.6
queue_directory = {0}/queue
data_directory = {0}/data
command_directory = {1}/usr/sbin
daemon_directory = {1}/usr/lib/postfix/sbin
shlib_directory = {1}/usr/lib/postfix
meta_directory = {0}/etc
mail_owner = daemon
setgid_group = mail
import_environment = MAIL_CONFIG LD_LIBRARY_PATH TZ
maillog_file = {0}/log
maillog_file_prefixes = /
myhostname = postfix.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = remote.test
virtual_mailbox_base = {0}/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
virtual_alias_maps =
local_recipient_maps =
alias_maps =
alias_database =
local_header_rewrite_clients =
smtpd_peername_lookup = no
",
        folder.display(),
        programs.display(),
    )
}

fn master_cf(address: SocketAddr) -> String {
    format!(
        "{address} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
smtp unix - - n - - smtp
postlog unix-dgram n - n - 1 postlogd
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
"
    )
}
