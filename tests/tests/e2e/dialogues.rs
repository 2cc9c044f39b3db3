//! The dialogues of `tests/dialogues/` on the running daemons, octet by octet, and on Postfix where the rule is common.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::net::TcpStream;

use std::path::Path;
use std::time::Duration;

use ironpost_tests::counterpart::postfix::Postfix;
use ironpost_tests::dialogue::{self, Dialogue, Difference, Side};
use ironpost_tests::net::own_address;
use ironpost_tests::setup::Setup;
use ironpost_tests::{is_root, skipped};

const USERS: [&str; 8] = ["joe", "jane", "postmaster", "user1", "user2", "user3", "user4", "userö"];

/// Those that need the same host, by what it is like.
fn by_host(wanted: impl Fn(&Dialogue) -> bool) -> BTreeMap<Vec<String>, Vec<Dialogue>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for dialogue in dialogue::all() {
        if dialogue.remark("only the core: ").is_none() && wanted(&dialogue) {
            groups.entry(dialogue.host()).or_default().push(dialogue);
        }
    }
    groups
}

/// The host that the core's tests pretend.
fn setup(host: &[String]) -> Setup {
    let users = USERS.join("\n");
    let mut setup = Setup::new()
        // Which extensions come back is compared; a handshake cannot be written down.
        .listen_tls(&["none"])
        .file("users", &format!("{users}\n"))
        // Notifications to the senders go nowhere.
        .file("transport", "example local:\n* discard:\n")
        .text("deliverd", "transport", "transport")
        .set("", "hostname", "\"mail.example\"")
        .set("", "mail_name", "\"example\"")
        .set("", "local_domains", "[\"example\"]")
        .set("", "relay_domains", "[\"relay.example\"]")
        .set("", "trusted_networks", "[\"192.0.2.0/24\"]")
        .set("smtpd", "message_size_limit", "\"10000\"")
        .set("smtpd", "recipient_limit", "3");
    for line in host {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        setup = match (key, value) {
            ("size", size) => setup.text("smtpd", "message_size_limit", size),
            ("recipients", limit) => setup.set("smtpd", "recipient_limit", limit),
            ("trusted", _) => setup.set("", "trusted_networks", "[\"127.0.0.0/8\"]"),
            ("normalize", "client") => setup.set("smtpd", "bare_newlines_networks", "[\"127.0.0.0/8\"]"),
            ("normalize", _) => setup.text("smtpd", "bare_newlines", "normalize"),
            ("xclient", _) => setup.set("smtpd", "xclient_networks", "[\"127.0.0.0/8\"]"),
            _ => panic!("! {line} is for the core only: say so with `# only the core: why`"),
        };
    }
    setup
}

#[test]
fn dialogues_on_the_running_daemons() {
    let mut wrong = Vec::new();
    for (host, dialogues) in by_host(|_| true) {
        let ironpost = setup(&host).start();
        for dialogue in dialogues {
            let by_octets = dialogue.remark("only in one packet").is_none();
            if let Err(what) = dialogue.play(ironpost.smtp(), Side::Ours, by_octets) {
                wrong.push(what);
                continue;
            }
            for message in dialogue.messages() {
                for recipient in &message.recipients {
                    let user = recipient.split('@').next().unwrap().to_lowercase();
                    let mut content = message.content.clone();
                    content.retain(|octet| *octet != b'\r');
                    ironpost.log.wait_until(&format!("the message of {} for {user}", dialogue.name), || {
                        ironpost.mail(&user).iter().any(|mail| mail.parts().1 == content).then_some(())
                    });
                }
            }
        }
        ironpost.wait_empty();
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The same host, as Postfix has it.
fn main_cf(host: &[String]) -> String {
    let mailboxes = USERS.iter().map(|user| format!("{user}@example=box/")).collect::<Vec<_>>().join(" ");
    let mut lines = format!(
        "myhostname = mail.example
myorigin = example
virtual_mailbox_domains = example
virtual_mailbox_maps = inline:{{ {mailboxes} }}
relay_domains = relay.example
mynetworks = 192.0.2.0/24
message_size_limit = 10000
smtpd_recipient_limit = 3
smtpd_recipient_overshoot_limit = 1000
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 20
smtpd_junk_command_limit = 100
smtpd_helo_required = yes
strict_rfc821_envelopes = yes
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =
smtpd_forbid_unauth_pipelining = yes
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
"
    );
    for line in host {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let _ = match (key, value) {
            ("size", size) => writeln!(lines, "message_size_limit = {size}\nvirtual_mailbox_limit = {size}"),
            ("recipients", limit) => writeln!(lines, "smtpd_recipient_limit = {limit}"),
            ("trusted", _) => writeln!(lines, "mynetworks = 127.0.0.0/8"),
            ("normalize", "client") => writeln!(lines, "smtpd_forbid_bare_newline_exclusions = 127.0.0.0/8"),
            ("normalize", _) => writeln!(lines, "smtpd_forbid_bare_newline = normalize"),
            ("xclient", _) => writeln!(lines, "smtpd_authorized_xclient_hosts = 127.0.0.0/8"),
            _ => panic!("! {line} is for the core only"),
        };
    }
    lines
}

/// A Postfix that has greeted someone: one that was looked at too early may keep its next clients waiting for a minute.
fn start(host: &[String]) -> Postfix {
    loop {
        let postfix = Postfix::start(own_address(), &main_cf(host));
        let mut stream = TcpStream::connect(postfix.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        if stream.read(&mut [0]).is_ok_and(|octets| octets == 1) {
            return postfix;
        }
    }
}

/// Where we differ stands in the fixtures, with the reason, and is looked at here: it has to be true. The list for readers is
/// doc/postfix-differences.md, written anew with `UPDATE=1`.
#[test]
fn dialogues_on_postfix() {
    if !is_root() {
        return skipped("dialogues_on_postfix", "Postfix's master runs only as root");
    }
    let (mut wrong, mut differences) = (Vec::new(), Vec::new());
    for (host, dialogues) in by_host(|dialogue| dialogue.remark("not on Postfix: ").is_none()) {
        let postfix = start(&host);
        for dialogue in dialogues {
            match dialogue.play(postfix.address(), Side::Postfix, false) {
                Ok(found) => differences.extend(found),
                Err(what) => wrong.push(what),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    differences.sort_by(|a, b| a.name.cmp(&b.name));
    let page = page(&differences);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/postfix-differences.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    println!("{page}");
    assert_eq!(
        page,
        std::fs::read_to_string(&path).unwrap(),
        "UPDATE=1 writes doc/postfix-differences.md anew"
    );
}

fn page(differences: &[Difference]) -> String {
    let mut page = "# Where our SMTP server answers otherwise than Postfix\n\n\
        Made by the test that replays `tests/dialogues/` on both (`UPDATE=1 cargo test -p ironpost-tests --test e2e dialogues_on`).\n\
        Texts do not count, only codes. Every other rule in that folder that is common to both has the same codes.\n\n\
        | dialogue | we say | Postfix says | why |\n| --- | --- | --- | --- |\n"
        .to_owned();
    let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
    for Difference { name, ours, theirs, why } in differences {
        let theirs = if theirs == "-" { "nothing" } else { theirs };
        let _ = writeln!(page, "| {name} | {} | {} | {} |", cell(ours), cell(theirs), cell(why));
    }
    page += "\n## Rules that are not looked at there\n\n| dialogue | rule | why not |\n| --- | --- | --- |\n";
    for dialogue in dialogue::all() {
        let why = dialogue.remark("only the core: ").or(dialogue.remark("not on Postfix: "));
        if let Some(why) = why {
            let _ = writeln!(page, "| {} | {} | {} |", dialogue.name, cell(&dialogue.rule), cell(why));
        }
    }
    page
}
