//! Tables of classes, aliases and routes.

use super::*;

fn router(aliases: &str, transports: &str) -> Router {
    let domains = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect();
    Router {
        mail_name: "here.example".parse().unwrap(),
        local_domains: domains(&["here.example", "localhost"]),
        relay_domains: domains(&["relay.example"]),
        own_addresses: ["127.0.0.1".parse().unwrap()].into(),
        delimiter: Some('+'),
        relay_host: None,
        transports: Transports::parse(Path::new("transport"), transports).unwrap(),
        aliases: Aliases::parse(Path::new("aliases"), aliases).unwrap(),
        users: Users::parse(Path::new("users"), "joe\njane\n").unwrap(),
    }
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

#[test]
fn classes_and_existence() {
    use AddressClass::*;
    let router = router(
        "list: joe\nbad: |x\n",
        "moved@here.example smtp:[new.example]\nhere.example local:\nlocalhost :\n",
    );
    for (text, class, exists) in [
        ("joe@here.example", Local, Existence::Yes),
        ("JOE@HERE.example", Local, Existence::Yes),
        ("joe+x@localhost", Local, Existence::Yes),
        ("list@localhost", Local, Existence::Yes),
        ("list+x@localhost", Local, Existence::Yes),
        ("bad@localhost", Local, Existence::Yes),
        ("moved@here.example", Local, Existence::Yes),
        ("PostMaster@here.example", Local, Existence::Yes),
        ("nobody@here.example", Local, Existence::No),
        ("joe@[127.0.0.1]", Local, Existence::Yes),
        ("joe@[127.0.0.2]", Default, Existence::Yes),
        ("x@relay.example", Relay, Existence::Yes),
        ("x@sub.relay.example", Default, Existence::Yes),
        ("joe@sub.here.example", Default, Existence::Yes),
    ] {
        assert_eq!(router.class(address(text).domain()), class, "{text}");
        assert_eq!(router.recipient_exists(&address(text)), exists, "{text}");
    }
}

#[test]
fn aliases_are_expanded() {
    let aliases = "team: joe, jane, far@away.example, joe\nall: team, jane\njoe: joe, archive@away.example\n\
                   a: b\nb: c\nc: a\nraw: \\team\nbad: |x\nroot: jane\n";
    let router = router(aliases, "");
    for (text, expected) in [
        ("jane@localhost", Ok(vec![])),
        ("far@away.example", Ok(vec![])),
        ("team@away.example", Ok(vec![])),
        ("joe@localhost", Ok(vec!["joe@localhost", "archive@away.example"])),
        (
            "TEAM@localhost",
            Ok(vec!["joe@localhost", "archive@away.example", "jane@localhost", "far@away.example"]),
        ),
        (
            "all@localhost",
            Ok(vec!["joe@localhost", "archive@away.example", "jane@localhost", "far@away.example"]),
        ),
        ("raw@localhost", Ok(vec!["team@localhost"])),
        ("postmaster@localhost", Ok(vec!["jane@localhost"])),
        ("a@localhost", Err("5.4.6")),
        ("bad@localhost", Err("4.3.5")),
    ] {
        let got = match router.expand(&address(text)) {
            Expansion::Same => Ok(vec![]),
            Expansion::Into(list) => Ok(list.iter().map(ToString::to_string).collect()),
            Expansion::Broken(status) => Err(status.code.to_string()),
        };
        let expected = expected.map(|l| l.into_iter().map(String::from).collect()).map_err(String::from);
        assert_eq!(got, expected, "{text}");
    }
}

#[test]
fn a_rule_that_leads_to_the_mailboxes_here_leaves_aliases_in_force() {
    let router = router(
        "info: joe\n",
        "moved@localhost smtp:[new.example]\nlocalhost local:\nhere.example :\n* smtp:[hub.example]\n",
    );
    for domain in ["localhost", "here.example"] {
        let Expansion::Into(list) = router.expand(&address(&format!("info@{domain}"))) else {
            panic!("{domain}")
        };
        let [only] = list.as_slice() else { panic!("{list:?}") };
        assert_eq!(only.local_part().as_str(), "joe");
    }
    assert!(matches!(router.expand(&address("moved@localhost")), Expansion::Same));
}

#[test]
fn postmaster_without_alias_or_user_goes_to_the_first_user() {
    let Expansion::Into(list) = router("", "").expand(&address("postmaster@here.example")) else { panic!() };
    assert_eq!(list, [address("joe@here.example")]);
}

#[test]
fn an_alias_that_explodes_is_refused() {
    let mut text = String::new();
    for i in 0..40 {
        text += &format!("x{i}: a{i}@far.example, x{0}, x{0}\n", i + 1);
    }
    text += &format!(
        "wide: {}\n",
        (0..MAX_EXPANSION + 1).map(|i| format!("u{i}@far.example")).collect::<Vec<_>>().join(", ")
    );
    let router = router(&text, "");
    assert!(matches!(router.expand(&address("x0@localhost")), Expansion::Into(list) if list.len() == 41));
    assert!(matches!(router.expand(&address("wide@localhost")), Expansion::Broken(_)));
}

#[test]
fn routes() {
    let table = "friend@far.example smtp:[127.0.0.1]:2525\nfar.example smtp:hub.example\n.far.example error:5.7.1 no\n\
                 own.example local:\nnull.example discard:\nport.example :[gw.example]:26\nplain.example smtp:\n\
                 joe@here.example smtp:[old.example]\n";
    let mut router = router("", table);
    let cases = [
        ("joe@localhost", "local:local", "local:local"),
        ("joe@here.example", "smtp:[old.example]", "smtp:[old.example]"),
        ("x@any.example", "smtp:any.example", "smtp:[relay.example]:587"),
        ("x@relay.example", "smtp:relay.example", "smtp:[relay.example]:587"),
        ("x@[192.0.2.1]", "smtp:[192.0.2.1]", "smtp:[relay.example]:587"),
        ("Friend@Far.example", "smtp:[127.0.0.1]:2525", "smtp:[127.0.0.1]:2525"),
        ("x@far.example", "smtp:hub.example", "smtp:hub.example"),
        ("x@a.b.far.example", "error:5.7.1 no", "error:5.7.1 no"),
        ("x@own.example", "local:local", "local:local"),
        ("x@null.example", "discard:", "discard:"),
        ("x@port.example", "smtp:[gw.example]:26", "smtp:[gw.example]:26"),
        ("x@plain.example", "smtp:plain.example", "smtp:plain.example"),
    ];
    for (text, by_mx, _) in cases {
        assert_eq!(router.route(&address(text)).to_string(), by_mx, "{text}");
    }
    router.relay_host = Some("[relay.example]:587".parse().unwrap());
    for (text, _, by_relay_host) in cases {
        assert_eq!(router.route(&address(text)).to_string(), by_relay_host, "{text}");
    }
}

#[test]
fn bad_transport_tables_say_why() {
    for (text, says) in [
        ("x smtp\n", "wanted transport:nexthop"),
        ("x uucp:y\n", "\"uucp\" is not known"),
        ("x smtp:[y\n", "missing \"]\""),
        ("x local:y\n", "takes no nexthop"),
    ] {
        let error = Transports::parse(Path::new("transport"), text).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
