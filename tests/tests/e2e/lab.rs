//! The lab of the README, "Through a provider": the very text, against a Postfix that plays the provider.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use ironpost_tests::certificates::Authority;
use ironpost_tests::counterpart::dovecot::Dovecot;
use ironpost_tests::lines::Lines;
use ironpost_tests::net::own_address;
use ironpost_tests::process::{Process, run};
use ironpost_tests::tools::binary;
use ironpost_tests::{is_root, skipped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::relay_host::provider;

/// The reader: anyone but root.
const READER: u32 = 61_299;

/// The commands of the section's block.
fn commands(readme: &str) -> &str {
    let section = readme.split("\n## Through a provider\n").nth(1).expect("the section");
    section.split("```sh\n").nth(1).expect("the block").split("```").next().unwrap()
}

/// A copy of the checkout as far as the lab needs it, with the binaries of this build.
fn checkout(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::create_dir_all(folder.join("etc")).unwrap();
    fs::create_dir_all(folder.join("target/debug")).unwrap();
    fs::copy(root.join("Makefile"), folder.join("Makefile")).unwrap();
    fs::copy(root.join("etc/run-here.sh"), folder.join("etc/run-here.sh")).unwrap();
    for name in ["ironpost", "smtpd", "queued", "deliverd", "sendmail"] {
        fs::copy(binary(name), folder.join("target/debug").join(name)).unwrap();
    }
    chown(folder, Some(READER), Some(READER)).unwrap();
}

#[test]
fn the_lab_of_the_readme_works_as_it_stands_there() {
    if !is_root() {
        return skipped("the_lab_of_the_readme", "Postfix and Dovecot run only as root");
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let text = commands(&readme);
    // What the lab promises: few commands, few lines.
    let lines: Vec<&str> = text.lines().collect();
    let begin = lines.iter().position(|line| line.starts_with("cat >>")).unwrap();
    let end = lines.iter().position(|line| *line == "END").unwrap();
    assert!(end - begin - 1 <= 4, "lines of configuration:\n{text}");
    assert!(lines.len() - (end - begin) <= 6, "commands:\n{text}");

    let ca = Authority::new("Test Authority");
    let dovecot = Dovecot::start(&[("you@example.net", "YOUR-PASSWORD")], "plain login scram-sha-256");
    let provider = provider(own_address(), &dovecot, &ca, "virtual_mailbox_domains = example.com\n");
    let temporary = tempfile::Builder::new().prefix("ironpost-lab-").tempdir().unwrap();
    let folder = temporary.path();
    checkout(folder);
    fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    // Where this provider is, and who vouches for it; the reader would put a real one's name there.
    let relay = provider.address();
    let text = text
        .replace("[smtp.example.net]:587", &format!("[{}]:{}", relay.ip(), relay.port()))
        .replace("/etc/ssl/certs/ca-certificates.crt", &folder.join("ca.pem").display().to_string());
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        // The binaries are built already.
        command.args(["-euc", &line.replace("make run", "exec make -o build run")]).current_dir(folder);
        command.env("IRONPOST_PORT", "0").env_remove("IRONPOST_CONFIG").env_remove("MAKEFLAGS");
        command.env("HOME", folder).uid(READER).gid(READER);
        command
    };
    let (before, after) = text.split_once("\nmake run ").expect("the command that stays");
    run(&mut shell(before), b"").ok();
    let mut daemons =
        Process::start_group(&mut shell(&format!("make run {}", after.lines().next().unwrap())));
    let log = daemons.err.clone();
    daemons.out.wait("ready", |line| (line == "ready").then_some(()));
    let supervisor = log
        .wait("the supervisor", |line| line.split_once("/master[")?.1.split(']').next()?.parse::<i32>().ok());
    let sent: String = after.lines().skip(1).map(|line| format!("{line}\n")).collect();
    run(&mut shell(&sent), b"").ok();

    let mail = provider.wait_mail(1);
    assert!(
        mail[0].text().contains("It works.") && mail[0].text().contains("with ESMTPSA"),
        "{}",
        mail[0].text()
    );
    provider.wait_log("sasl_username=you@example.net", 1);
    log.wait_text(": removed");
    assert_eq!(log.count(|line| line.contains("YOUR-PASSWORD")), 0);
    kill(Pid::from_raw(supervisor), Signal::SIGTERM).unwrap();
    let status = daemons.wait();
    assert!(status.success(), "{status}: {:?}", log.all());
    Lines::default().wait_until("the end of the supervisor", || {
        (!ironpost_tests::ironpost::alive(Pid::from_raw(supervisor))).then_some(())
    });
}
