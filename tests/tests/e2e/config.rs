//! The configuration: every bad one is refused at its spot, and the effective one is valid as input.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use ironpost_tests::process::{Output, run};
use ironpost_tests::setup::Setup;
use ironpost_tests::tools::binary;

fn ironpost(args: &[&str], config: &Path) -> Output {
    run(Command::new(binary("ironpost")).args(args).arg("-c").arg(config), b"")
}

/// The folder of bad configurations. The first line of each says in which line the mistake is, and a word of
/// the message.
fn bad() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/bad-config");
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(found.len() > 15);
    found
}

#[test]
fn every_bad_configuration_is_refused_at_its_spot() {
    let mut wrong = Vec::new();
    for path in bad() {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let (number, word) =
            text.lines().next().unwrap().strip_prefix("# expect ").unwrap().split_once(": ").unwrap();
        let number: usize = number.parse().unwrap();
        let output = ironpost(&["check"], &path);
        let said = format!("{}{}", output.text(), output.err);
        let spot = format!("{}:{number}:", path.display());
        let column =
            said.split_once(&spot).and_then(|(_, rest)| rest.split_once(':')).map(|(column, _)| column);
        let line = text.lines().nth(number - 1).unwrap();
        let good = output.code == 78
            && column.and_then(|column| column.parse::<usize>().ok()).is_some_and(|column| column > 0)
            && said.contains(line)
            && said.contains('^')
            && said.contains(word);
        if !good {
            wrong.push(format!("{}: exit {}: {said}", path.file_name().unwrap().display(), output.code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
}

#[test]
fn no_program_starts_with_a_bad_configuration() {
    for path in bad() {
        let name = path.file_name().unwrap().display().to_string();
        for args in [&["run"][..], &["config"], &["queue", "list"]] {
            let output = ironpost(args, &path);
            assert_eq!(output.code, 78, "{name}: ironpost {args:?}: {}", output.err);
        }
        for (program, args) in
            [("smtpd", &[][..]), ("queued", &[]), ("deliverd", &["smtp"]), ("deliverd", &["local"])]
        {
            let output = run(Command::new(binary(program)).args(args).arg("-c").arg(&path), b"");
            assert_eq!(output.code, 78, "{name}: {program} {args:?}: {}", output.err);
        }
    }
}

#[test]
fn missing_configuration_is_said_by_name() {
    let path = Path::new("/nonexistent/ironpost.toml");
    let output = ironpost(&["check"], path);
    assert_eq!(output.code, 78, "{}", output.err);
    assert!(output.err.contains("/nonexistent/ironpost.toml"), "{}", output.err);
}

#[test]
fn effective_configuration_is_valid_as_input() {
    let setup = Setup::new()
        .quick_retries()
        .text("smtpd", "message_size_limit", "1234567")
        .set("queued.destinations", "concurrency", "7")
        .listen(&["127.0.0.1:0", "127.0.0.2:0"]);
    let path = setup.write();
    let first = ironpost(&["config"], &path).ok();
    assert!(
        first.text().contains("mail.example.test") && first.text().contains("concurrency = 7"),
        "{}",
        first.text()
    );
    let again = setup.path().join("again.toml");
    std::fs::write(&again, &first.out).unwrap();
    // Relative paths are relative to the file's folder, which is the same.
    ironpost(&["check"], &again).ok();
    assert_eq!(ironpost(&["config"], &again).ok().text(), first.text());
}

#[test]
fn default_configuration_is_valid_as_input() {
    let setup = Setup::new();
    let defaults = run(Command::new(binary("ironpost")).args(["config", "--defaults"]), b"").ok();
    let path = setup.path().join("defaults.toml");
    std::fs::write(&path, &defaults.out).unwrap();
    let again = ironpost(&["config"], &path).ok();
    assert_eq!(again.text(), defaults.text());
}

/// Every example of doc/restrictions.md, as an admin would paste it, with the tables that it shows; and every restriction has one.
#[test]
fn examples_of_restrictions_can_be_pasted() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/restrictions.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = |kind: &str| {
        let blocks = page.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(kind));
        blocks.map(|block| block.strip_prefix('\n').unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut setup = Setup::new();
    for table in blocks("text") {
        let name = table.strip_prefix("# ").unwrap().split([':', '\n']).next().unwrap().to_owned();
        setup = setup.file(&name, &table);
    }
    let authority = ironpost_tests::certificates::Authority::new("for clients");
    setup = setup.file("client_ca.pem", &authority.pem());
    let examples = blocks("toml");
    assert!(examples.len() >= 12 && blocks("text").len() >= 4);
    for example in &examples {
        let path = setup.path().join("pasted.toml");
        std::fs::write(&path, format!("{}{example}", setup.toml().replace("[smtpd]\n", ""))).unwrap();
        let output = ironpost(&["check"], &path);
        assert_eq!(output.code, 0, "{example}\n{}{}", output.text(), output.err);
    }
    let names = ironpost(&["check"], &{
        let path = setup.path().join("wrong.toml");
        std::fs::write(&path, "[smtpd.restrictions]\nrcpt = [\"nonsense\"]\n").unwrap();
        path
    });
    let (_, names) = names.err.lines().next().unwrap().split_once("there are ").unwrap();
    assert!(names.split(", ").count() > 20);
    let words = examples.iter().flat_map(|example| example.split('"').skip(1).step_by(2));
    let used: BTreeSet<_> =
        words.filter_map(|word| word.trim_start_matches("warn:").split(':').next()).collect();
    let missing: Vec<_> = names.split(", ").filter(|name| !used.contains(name)).collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}

#[test]
fn check_accepts_a_good_configuration() {
    let ironpost_setup = Setup::new().stopped();
    ironpost_setup.ironpost(&["check"]).ok();
}

#[test]
fn check_names_a_missing_or_broken_table() {
    let setup = Setup::new().text("deliverd", "transport", "transport");
    let path = setup.write();
    let output = ironpost(&["check"], &path);
    assert_eq!(output.code, 78, "{}{}", output.text(), output.err);
    assert!(format!("{}{}", output.text(), output.err).contains("transport"));
    let setup = setup.file("transport", "good.test smtp:[127.0.0.1]:25\nbad.test nonsense:somewhere\n");
    let output = ironpost(&["check"], &path);
    assert_eq!(output.code, 78, "{}{}", output.text(), output.err);
    let said = format!("{}{}", output.text(), output.err);
    assert!(said.contains("transport:2:") && said.contains("nonsense"), "{said}");
    drop(setup);
}

#[test]
fn reload_with_a_broken_file_keeps_the_old_one() {
    let mut ironpost = Setup::new().start();
    let good = std::fs::read_to_string(ironpost.config()).unwrap();
    std::fs::write(ironpost.config(), "nonsense = 1\n").unwrap();
    let mark = ironpost.log.mark();
    ironpost.signal(nix::sys::signal::Signal::SIGHUP);
    ironpost
        .log
        .wait_after(mark, "the mistake in the log", |line| line.contains("ironpost.toml:1:").then_some(()));
    let id = ironpost.send("a@client.test", &["alice@example.test"], b"Subject: x\r\n\r\nx\r\n");
    ironpost.wait_removed(&id);
    // Mended, and with another limit.
    std::fs::write(ironpost.config(), good.replace("[log]", "[smtpd]\nrecipient_limit = 1\n[log]")).unwrap();
    ironpost.signal(nix::sys::signal::Signal::SIGHUP);
    ironpost.log.wait_until("the new limit", || {
        let mut client = ironpost.connect();
        client.hello();
        client.expect("MAIL FROM:<a@client.test>", "250");
        client.expect("RCPT TO:<alice@example.test>", "250");
        client.command("RCPT TO:<bob@example.test>").starts_with("452 4.5.3").then_some(())
    });
}
