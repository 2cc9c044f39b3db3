//! Replays `tests/dialogues/*.smtp`, one rule a file: as written, and with the client's octets one at a time.
//!
//! | line | means |
//! | --- | --- |
//! | `# …` | what the rule is |
//! | `! key value` | the host: `size`, `recipients`, `free`, `commit`, `trusted`, `normalize`, `normalize client`, `refuses`, `early`, `starttls`, `xclient`, `auth` (`tls`: only there), `submission` |
//! | `C: …`, `C*20: …` | the client sends a line; lines in a row are one packet (`\r \n \0 \t \\ \xHH` are escapes) |
//! | `E: name` | the client says EHLO with this name, and is taken; which extensions come back is another file's rule |
//! | `R: …` | the same without CRLF at its end |
//! | `S: …`, `S*20: …` | exactly this comes back |
//! | `L: …` | this is in the log, behind what was found by earlier `L:` lines |
//! | `M: …` | a message was committed: `sender > recipient recipient > content`, content with escapes; `{…}` behind an address: what was said about notifications |
//! | `T: 5` | so many seconds pass |
//! | `G:` | the client is gone |
//! | `X:` | the connection is closed |

use crate::player::{Commit, Host, Player, of_client};
use common::config::BareNewlines;
use common::dsn::{MessageDsn, RecipientDsn};
use std::path::Path;
use std::time::Duration;

#[test]
fn dialogues() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/dialogues");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 20, "the fixtures are there");
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for bytewise in [false, true] {
            if bytewise && text.contains("# only in one packet") {
                continue;
            }
            if let Err(what) = replay(&text, bytewise) {
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                wrong.push(format!("{name}{}: {what}", if bytewise { " (octet by octet)" } else { "" }));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn replay(text: &str, bytewise: bool) -> Result<(), String> {
    let mut host = Host::default();
    let mut player: Option<Player> = None;
    let mut packet = Vec::new();
    let mut got: std::collections::VecDeque<String> = Default::default();
    let (mut logged, mut messages) = (0, 0);
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: String| Err(format!("line {}: {what}", number + 1));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(setting) = line.strip_prefix("! ") {
            set(&mut host, setting);
            continue;
        }
        let player = player.get_or_insert_with(|| Player::new(host.clone()));
        let (key, value) = line.split_once(':').ok_or(format!("line {}: {line:?}", number + 1))?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        let (key, times) = key.split_once('*').map_or((key, 1), |(k, n)| (k, n.parse().unwrap()));
        if !matches!(key, "C" | "R") {
            send(player, &std::mem::take(&mut packet), bytewise);
            got.extend(player.replies());
        }
        match key {
            "C" => (0..times).for_each(|_| packet.extend([unescape(value).as_slice(), b"\r\n"].concat())),
            "R" => (0..times).for_each(|_| packet.extend(unescape(value))),
            "S" => {
                for _ in 0..times {
                    match got.pop_front() {
                        Some(line) if line == value => {}
                        other => return wrong(format!("wanted {value:?}, got {other:?}")),
                    }
                }
            }
            "E" => {
                send(player, format!("EHLO {value}\r\n").as_bytes(), bytewise);
                let replies = player.replies();
                if replies.iter().any(|line| !line.starts_with("250")) {
                    return wrong(format!("EHLO is refused: {replies:?}"));
                }
            }
            "T" => player.pass(Duration::from_secs(value.parse().unwrap())),
            "G" => {
                player.session.lost();
                player.act();
            }
            "L" => match player.log.iter().skip(logged).position(|line| line == value) {
                Some(at) => logged += at + 1,
                None => return wrong(format!("not logged: {value:?}; {:#?}", player.log)),
            },
            "M" => {
                let message = player.messages.get(messages).map(|(start, content)| {
                    let sender = format!("{}{}", start.sender, of_message(&start.dsn));
                    let recipients: Vec<_> = start
                        .recipients
                        .iter()
                        .map(|r| format!("{}{}", r.address, of_recipient(&r.dsn)))
                        .collect();
                    format!("{sender} > {} > {}", recipients.join(" "), content.escape_ascii())
                });
                messages += 1;
                if message.as_deref() != Some(value) {
                    return wrong(format!("wanted message {value:?}, got {message:?}"));
                }
            }
            // What another server says: see tests/src/dialogue.rs.
            "P" => {}
            "X" if player.closed => {}
            "X" => return wrong("not closed".into()),
            _ => return wrong(format!("{line:?} means nothing")),
        }
    }
    let mut player = player.ok_or("nothing happens")?;
    send(&mut player, &packet, bytewise);
    got.extend(player.replies());
    if !got.is_empty() {
        return Err(format!("more came back: {got:?}"));
    }
    if player.messages.len() != messages {
        return Err(format!("{} messages, {messages} expected", player.messages.len()));
    }
    if player.closed && player.open.is_some() {
        return Err("a message is left open".into());
    }
    Ok(())
}

fn send(player: &mut Player, packet: &[u8], bytewise: bool) {
    for part in packet.chunks(if bytewise { 1 } else { packet.len().max(1) }) {
        player.send(part);
    }
}

fn of_message(dsn: &MessageDsn) -> String {
    let ret = dsn.ret.map(|ret| format!("RET={ret}"));
    braced([ret, dsn.envelope_id.as_ref().map(|id| format!("ENVID={}", id.to_xtext()))])
}

fn of_recipient(dsn: &RecipientDsn) -> String {
    let notify = (!dsn.notify.is_absent()).then(|| format!("NOTIFY={}", dsn.notify));
    braced([notify, dsn.original.as_ref().map(|original| format!("ORCPT={}", original.to_xtext()))])
}

fn braced(parts: [Option<String>; 2]) -> String {
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(" ")) }
}

fn set(host: &mut Host, setting: &str) {
    let (key, value) = setting.split_once(' ').unwrap_or((setting, ""));
    match key {
        "size" => host.settings.message_size_limit = value.parse().unwrap(),
        "recipients" => host.settings.recipient_limit = value.parse().unwrap(),
        "free" => host.free = value.parse().unwrap(),
        "trusted" => {
            host.trusted = true;
            host.settings.trusted_networks = of_client();
        }
        "early" => host.early = true,
        "starttls" => host.tls = true,
        "auth" => host.auth = if value == "tls" { "tls" } else { "always" },
        "submission" => host.submission = true,
        "xclient" => host.settings.xclient_networks = of_client(),
        "normalize" if value == "client" => host.settings.bare_newlines_networks = of_client(),
        "refuses" => {
            let stages = ["connect", "hello", "data"];
            host.refuses = stages.into_iter().find(|stage| *stage == value).unwrap();
        }
        "normalize" => host.settings.bare_newlines = BareNewlines::Normalize,
        "commit" if value == "full" => host.commit = Commit::Full,
        "commit" if value == "fails" => host.commit = Commit::Fails,
        _ => panic!("! {setting} means nothing"),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'x' => {
                    let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                }
                other => other,
            },
            other => other,
        });
    }
    out
}

/// `doc/rfc.md` names the dialogues that show a rule: those that it names are there.
#[test]
fn the_table_of_rules_names_dialogues_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("doc/rfc.md")).unwrap();
    let mut missing = Vec::new();
    let mut named = 0;
    for cell in text.lines().flat_map(|line| line.split(['|', ';'])) {
        let Some(list) = cell.trim().strip_prefix("D ").filter(|list| !list.starts_with("name")) else {
            continue;
        };
        // What stands behind the names is said of them.
        let list = list.split([':', '(']).next().unwrap_or("");
        for name in
            list.split(", ").map(|name| name.split(' ').next().unwrap_or("")).filter(|n| !n.contains('*'))
        {
            named += 1;
            if !root.join(format!("tests/dialogues/{name}.smtp")).exists() {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(named > 80, "{named} dialogues are named");
    assert!(missing.is_empty(), "{missing:?}");
}

/// It names files with their paths, and modules of the end-to-end tests (`e2e NAME`): these are there, too.
#[test]
fn the_table_of_rules_names_files_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("doc/rfc.md")).unwrap();
    // In the table of short names X stands for a name.
    let text = text.lines().filter(|line| !line.contains("/X.rs")).collect::<Vec<_>>().join("\n");
    let mut missing = Vec::new();
    let (mut files, mut modules) = (0, 0);
    for path in text.split('`').skip(1).step_by(2) {
        let path = path.split("::").next().unwrap_or(path);
        if path.contains('/') && (path.ends_with(".rs") || path.ends_with(".txt")) {
            files += 1;
            if !root.join(path).is_file() {
                missing.push(path.to_owned());
            }
        }
    }
    let is_name = |word: &str| word.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_');
    for list in text.split("e2e ").skip(1) {
        // What stands behind the names is said of them.
        let list = list.split(['|', ';', ':', '(', '.', '`', '\n']).next().unwrap_or("");
        let mut names = list.trim().split(", ");
        let first = names.next().map(|name| name.split(' ').next().unwrap_or(name));
        for name in first.into_iter().chain(names.take_while(|name| is_name(name))) {
            modules += 1;
            if !root.join(format!("tests/tests/e2e/{name}.rs")).is_file() {
                missing.push(format!("e2e {name}"));
            }
        }
    }
    assert!(files > 10 && modules > 40, "{files} files and {modules} modules are named");
    assert!(missing.is_empty(), "{missing:?}");
}
