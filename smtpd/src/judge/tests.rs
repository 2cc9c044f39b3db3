use super::*;
use crate::message::Store;
use crate::restrictions::facts::KEPT;
use common::config::Config;
use spool::layout::Spool;
use spool::writer::Spooler;
use tokio::runtime::Runtime;

const CLIENT: &str = "192.0.2.1";

/// A judge under this configuration, and the folder of its files.
fn judge(top: &str, smtpd: &str) -> (Judge, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir_all(path.join("spool/incoming")).unwrap();
    std::fs::write(path.join("users"), "joe\n").unwrap();
    std::fs::write(path.join("names"), "bad.example REJECT\n").unwrap();
    let text = format!(
        "hostname = \"mail.example\"\nmail_name = \"example\"\nspool_directory = \"spool\"\n{top}\n{smtpd}\n\
         [local]\nusers = \"users\"\naliases = \"aliases\"\n"
    );
    let config = Config::parse(&text, &path.join("ironpost.toml"), path).unwrap();
    let spooler = Spooler::open(&path.join("spool/incoming"), 0o600).unwrap();
    let store = Store::new(spooler, &Spool::new(&path.join("spool")), None);
    let shared = Arc::new(Shared::new(Rules::load(&config).unwrap(), store, u32::MAX));
    let place = ("192.0.2.25".parse().unwrap(), Entrance::default());
    (Judge::new(client(CLIENT), place, shared.rules(), shared), folder)
}

fn client(ip: &str) -> Client {
    Client::new(ip.parse().unwrap())
}

fn now<T>(future: impl Future<Output = T>) -> T {
    Runtime::new().unwrap().block_on(future)
}

fn text(answer: Answer) -> String {
    match answer {
        Answer::Refused(reply) => reply.to_string(),
        _ => "taken".into(),
    }
}

/// Each address came with a finding that nobody took away where there were no lists at all.
#[test]
fn recipients_leave_nothing_behind_where_there_are_no_restrictions() {
    for lists in ["", "[smtpd.restrictions]\nrcpt = [\"reject_unlisted_recipient\"]"] {
        let (mut judge, _folder) = judge("relay_domains = [\"relay.example\"]", lists);
        now(async {
            for transaction in 0..5 {
                judge.sender(ReversePath::Null, None, None).await;
                for n in 0..1000 {
                    for domain in ["example", "relay.example", "far.example"] {
                        let address = format!("u{transaction}-{n}@{domain}").parse().unwrap();
                        judge.recipient(address, false).await;
                        assert!(judge.found.len() <= KEPT, "{}", judge.found.len());
                    }
                }
                judge.data(1).await;
            }
        });
        assert_eq!(judge.found.len(), 0);
    }
}

#[test]
fn a_name_that_xclient_gives_is_judged_as_one_that_was_said() {
    let lists = |delay: bool| {
        format!("[smtpd.restrictions]\ndelay_reject = {delay}\nhelo = [\"check_helo_access:names\"]")
    };
    let refusal = "5.7.1 <bad.example>: Helo command rejected: Access denied";
    let other = client("192.0.2.9");
    // With the same client, too.
    for who in [client(CLIENT), other] {
        let (mut judge, _folder) = judge("", &lists(false));
        assert_eq!(text(now(judge.connect(&who, None, Some("bad.example")))), format!("521 {refusal}"));
        assert_eq!(text(now(judge.connect(&who, None, Some("good.example")))), "taken");

        let (mut judge, _folder) = self::judge("", &lists(true));
        for (name, expected) in [("bad.example", format!("554 {refusal}")), ("good.example", "taken".into())]
        {
            assert_eq!(text(now(judge.connect(&who, None, Some(name)))), "taken");
            assert_eq!(text(now(judge.sender(ReversePath::Null, None, None))), "taken");
            assert_eq!(text(now(judge.recipient("joe@example".parse().unwrap(), false))), expected);
        }
        // Whoever comes next has said nothing yet.
        now(judge.hello("bad.example"));
        now(judge.connect(&who, None, None));
        assert_eq!(judge.facts.hello, None);
    }
}

#[test]
fn a_name_makes_nobody_trusted_whose_address_is_not() {
    let (mut judge, _folder) = judge("trusted_networks = [\"192.0.2.0/24\"]", "");
    assert!(judge.trusts());
    judge.distrust();
    let named = Client { name: "x.example".into(), ..client(CLIENT) };
    now(judge.connect(&named, None, None));
    assert!(!judge.trusts());
    for (ip, trusted) in [("198.51.100.1", false), ("192.0.2.9", true)] {
        now(judge.connect(&client(ip), None, None));
        assert_eq!(judge.trusts(), trusted, "{ip}");
    }
}
