//! Every restriction against what it may find: one row a case.

use super::*;
use crate::policy::Standing;
use crate::session::Client;
use crate::session::auth::Login;
use common::access::AccessTable;
use common::address::{Domain, ReversePath};
use common::sender_logins::SenderLogins;
use std::net::Ipv4Addr;
use std::sync::Arc;

fn facts(ip: &str) -> Facts {
    let mut facts = Facts::new(Client::new(ip.parse().unwrap()), false);
    facts.hello = Some("helo.example".into());
    facts.sender = Some(ReversePath::Address("a@from.example".parse().unwrap()));
    facts.recipient = Some("joe@to.example".parse().unwrap());
    facts
}

/// What the world looks like: answers to every need that comes up.
fn answer(need: &Need) -> Finding {
    let name = |domain: &Domain| domain.as_str().to_owned();
    match need {
        Need::ClientName(ip) => Finding::ClientName(match ip.to_string().as_str() {
            "192.0.2.1" => ClientName::Confirmed("mail.example".parse().unwrap()),
            "192.0.2.2" => ClientName::Unconfirmed,
            "192.0.2.3" => ClientName::Missing,
            _ => ClientName::Unsure,
        }),
        Need::Domain(domain) => Finding::Domain(match name(domain).as_str() {
            "null.example" => MailDomain::NullMx,
            "none.example" => MailDomain::Missing,
            "slow.example" => MailDomain::Unsure,
            _ => MailDomain::Exists,
        }),
        Need::Listed(domain) => Finding::Listed(match name(domain).as_str() {
            "1.2.0.192.bl.example" => Listing::Answers(vec![Ipv4Addr::new(127, 0, 0, 3)]),
            "1.2.0.192.wl.example" => Listing::Answers(vec![Ipv4Addr::new(127, 0, 9, 2)]),
            "1.2.0.192.parked.example" => Listing::Answers(vec![Ipv4Addr::new(198, 51, 100, 1)]),
            "from.example.dbl.example" => Listing::Answers(vec![Ipv4Addr::new(127, 0, 1, 2)]),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example" => {
                Listing::Answers(vec![Ipv4Addr::new(127, 0, 0, 2)])
            }
            other if other.ends_with("down.example") => Listing::Unsure,
            _ => Listing::Answers(vec![]),
        }),
        Need::Reason(domain) if name(domain).ends_with(".dbl.example") => Finding::Reason(None),
        Need::Reason(_) => Finding::Reason(Some("see http://bl.example/\r\n250 ok".into())),
        Need::Table(path, key) => {
            let text = "192.0.2.1 OK\n192.0.2.2 REJECT go away\n192.0.2.3 450 4.3.2 not today\n192.0.2.4 DEFER\n\
                        192.0.2.5 WARN look\nfrom.example REJECT\nhelo.example 554 5.7.9 lies\njoe@ REJECT\n\
                        0101010101010101010101010101010101010101010101010101010101010101 OK\n\
                        0202020202020202020202020202020202020202020202020202020202020202 REJECT lost\n";
            let table = AccessTable::parse(path, text).unwrap();
            Finding::Table(match key {
                Key::Client(ip, name) => table.client(*ip, name.as_deref()).cloned(),
                Key::Certificate(prints) => table.certificate(prints).cloned(),
                Key::Name(name) => table.name(name).cloned(),
                Key::Sender(sender) => table.sender(sender, None).cloned(),
                Key::Recipient(recipient) => table.mailbox(recipient, None).cloned(),
            })
        }
        Need::Standing(address) => Finding::Standing(match address.to_string().as_str() {
            "nobody@to.example" => Standing::Unknown,
            "joe@far.example" => Standing::Elsewhere,
            _ => Standing::Known,
        }),
        Need::Owners(address) => {
            let text = "a@from.example boss\n";
            let table = SenderLogins::parse(std::path::Path::new("t"), text).unwrap();
            let local = name(address.domain()) == "to.example";
            Finding::Owners(table.owners(address, local, Some('+')))
        }
        Need::Greylist { .. } => Finding::Greylist(Some(std::time::Duration::from_millis(1500))),
    }
}

/// Runs a list to its end; gives refusal and notes as text.
fn run(rules: &[&str], facts: &Facts) -> String {
    let rules: Vec<Rule> = rules.iter().map(|text| text.parse().unwrap()).collect();
    let sites = ["bl.example=127.0.0.[2..4]*3", "wl.example=127.0.[0..255].[1..3]*-2", "down.example*9"];
    let dnsbl = Dnsbl { sites: sites.iter().map(|site| site.parse().unwrap()).collect(), threshold: 2 };
    let mut found = Found::default();
    for _ in 0..100 {
        match evaluate(&[&rules], &dnsbl, facts, &found) {
            Step::Find(needs) => {
                assert!(!needs.is_empty());
                for need in needs {
                    assert!(found.get(&need).is_none(), "asked twice: {need:?}");
                    let finding = answer(&need);
                    found.insert(need, finding);
                }
            }
            Step::Done { refusal, notes } => {
                let mut parts: Vec<String> = notes
                    .iter()
                    .map(|note| match note {
                        Note::Spared(reply) => format!("(spared {reply})"),
                        Note::Warning(text) => format!("(warn {text})"),
                    })
                    .collect();
                parts.extend(refusal.map(|reply| reply.to_string()));
                return parts.join(" ");
            }
        }
    }
    panic!("no end: {rules:?}");
}

#[test]
fn each_restriction_says_what_postfix_says() {
    for (rule, ip, expected) in [
        ("permit", "192.0.2.1", ""),
        ("reject", "192.0.2.1", "554 5.7.1 <joe@to.example>: Recipient address rejected: Access denied"),
        ("defer", "192.0.2.1", "450 4.7.1 <joe@to.example>: Recipient address rejected: Try again later"),
        ("reject_unknown_client_hostname", "192.0.2.1", ""),
        (
            "reject_unknown_client_hostname",
            "192.0.2.2",
            "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.2]",
        ),
        (
            "reject_unknown_client_hostname",
            "192.0.2.3",
            "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.3]",
        ),
        (
            "reject_unknown_client_hostname",
            "192.0.2.9",
            "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.9]",
        ),
        ("reject_unknown_reverse_client_hostname", "192.0.2.2", ""),
        (
            "reject_unknown_reverse_client_hostname",
            "192.0.2.3",
            "450 4.7.25 Client host rejected: cannot find your reverse hostname, [192.0.2.3]",
        ),
        (
            "reject_rbl_client:bl.example",
            "192.0.2.1",
            "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example; see http://bl.example/\\x0d\\x0a250 ok",
        ),
        (
            "reject_rbl_client:bl.example",
            "2001:db8::1",
            "554 5.7.1 Service unavailable; Client host [2001:db8::1] blocked using bl.example; see http://bl.example/\\x0d\\x0a250 ok",
        ),
        ("reject_rbl_client:bl.example=127.0.0.2", "192.0.2.1", ""),
        ("reject_rbl_client:bl.example", "192.0.2.2", ""),
        ("reject_rbl_client:parked.example", "192.0.2.1", ""),
        ("reject_rbl_client:down.example", "192.0.2.1", ""),
        (
            "reject_rhsbl_sender:dbl.example",
            "192.0.2.1",
            "554 5.7.1 Service unavailable; Sender address [a@from.example] blocked using dbl.example",
        ),
        ("reject_rhsbl_helo:dbl.example", "192.0.2.1", ""),
        // 3 - 2 is below the threshold of 2; a list that is down counts nothing.
        ("reject_dnsbl", "192.0.2.1", ""),
        (
            "reject_dnsbl",
            "2001:db8::1",
            "554 5.7.1 Service unavailable; Client host [2001:db8::1] blocked using bl.example; see http://bl.example/\\x0d\\x0a250 ok",
        ),
        (
            "check_client_access:t",
            "192.0.2.2",
            "554 5.7.1 <unknown[192.0.2.2]>: Client host rejected: go away",
        ),
        (
            "check_client_access:t",
            "192.0.2.3",
            "450 4.3.2 <unknown[192.0.2.3]>: Client host rejected: not today",
        ),
        (
            "check_client_access:t",
            "192.0.2.4",
            "450 4.7.1 <unknown[192.0.2.4]>: Client host rejected: Try again later",
        ),
        ("check_client_access:t", "192.0.2.5", "(warn <unknown[192.0.2.5]>: look)"),
        ("check_client_access:t", "192.0.2.6", ""),
        (
            "check_sender_access:t",
            "192.0.2.1",
            "554 5.7.1 <a@from.example>: Sender address rejected: Access denied",
        ),
        ("check_helo_access:t", "192.0.2.1", "554 5.7.9 <helo.example>: Helo command rejected: lies"),
        (
            "check_recipient_access:t",
            "192.0.2.1",
            "554 5.7.1 <joe@to.example>: Recipient address rejected: Access denied",
        ),
        (
            "greylist",
            "192.0.2.1",
            "450 4.2.0 <joe@to.example>: Recipient address rejected: Greylisted, try again in 2 seconds",
        ),
        ("reject_unauth_destination", "192.0.2.1", ""),
        ("reject_unlisted_recipient", "192.0.2.1", ""),
    ] {
        assert_eq!(run(&[rule], &facts(ip)), expected, "{rule} {ip}");
        let spared = run(&[&format!("warn:{rule}")], &facts(ip));
        if expected.starts_with(['4', '5']) {
            assert_eq!(spared, format!("(spared {expected})"), "{rule} {ip}");
        }
    }
}

#[test]
fn hello_names() {
    let rules =
        ["reject_invalid_helo_hostname", "reject_non_fqdn_helo_hostname", "reject_unknown_helo_hostname"];
    for (name, expected) in [
        ("mail.example", ["", "", ""]),
        ("mail.example.", ["", "", ""]),
        ("under_score.example", ["", "", ""]),
        ("[192.0.2.1]", ["", "", ""]),
        ("[IPv6:2001:db8::1]", ["", "", ""]),
        ("192.0.2.1", ["", "504 5.5.2", ""]),
        ("localhost", ["", "504 5.5.2", ""]),
        ("none.example", ["", "", "450 4.7.1"]),
        ("slow.example", ["", "", "450 4.7.1"]),
        ("null.example", ["", "", ""]),
        ("[192.0.2]", ["501 5.5.2", "504 5.5.2", "501 5.5.2"]),
        ("300.1.1.1", ["501 5.5.2", "504 5.5.2", "501 5.5.2"]),
        ("a b", ["501 5.5.2", "504 5.5.2", "501 5.5.2"]),
        ("-x.example", ["501 5.5.2", "504 5.5.2", "501 5.5.2"]),
        (".", ["501 5.5.2", "504 5.5.2", "501 5.5.2"]),
    ] {
        let mut facts = facts("192.0.2.1");
        facts.hello = Some(name.into());
        for (rule, expected) in rules.iter().zip(expected) {
            let said = run(&[rule], &facts);
            assert!(
                said.starts_with(expected) && said.is_empty() == expected.is_empty(),
                "{rule} {name}: {said}"
            );
        }
    }
}

#[test]
fn logins_and_their_senders() {
    let own = |login: &str| format!("553 5.7.1 <{login}>: Sender address rejected: ");
    let [both, inside, outside] = [
        "reject_sender_login_mismatch",
        "reject_authenticated_sender_login_mismatch",
        "reject_unauthenticated_sender_login_mismatch",
    ];
    for (login, sender, refusing, why) in [
        (None, "a@from.example", &[both, outside][..], "not logged in"),
        (None, "joe@to.example", &[both, outside], "not logged in"),
        (None, "x@far.example", &[], ""),
        (None, "", &[], ""),
        (Some("joe"), "joe@to.example", &[], ""),
        (Some("joe"), "joe+x@to.example", &[], ""),
        (Some("boss"), "a@from.example", &[], ""),
        (Some("joe"), "a@from.example", &[both, inside], "not owned by user joe"),
        (Some("joe"), "x@far.example", &[both, inside], "not owned by user joe"),
        (Some("joe"), "", &[], ""),
    ] {
        let mut facts = facts("192.0.2.1");
        facts.sender = Some(match sender {
            "" => ReversePath::Null,
            sender => ReversePath::Address(sender.parse().unwrap()),
        });
        facts.login = login.map(|name| Arc::new(Login { name: name.into(), method: "PLAIN".into() }));
        for rule in [both, inside, outside] {
            let expected = if refusing.contains(&rule) { own(sender) + why } else { String::new() };
            assert_eq!(run(&[rule], &facts), expected, "{login:?} {sender} {rule}");
        }
        let permitted = run(&["permit_sasl_authenticated", "reject"], &facts);
        assert_eq!(permitted.is_empty(), login.is_some());
        facts.recipient = Some("joe@far.example".parse().unwrap());
        let relayed = run(&["reject_unauth_destination"], &facts);
        assert_eq!(relayed.is_empty(), login.is_some(), "{relayed}");
    }
}

#[test]
fn senders_and_recipients() {
    for (sender, recipient, rule, expected) in [
        (
            "a@none.example",
            "",
            "reject_unknown_sender_domain",
            "550 5.1.8 <a@none.example>: Sender address rejected: Domain not found",
        ),
        (
            "a@slow.example",
            "",
            "reject_unknown_sender_domain",
            "450 4.1.8 <a@slow.example>: Sender address rejected: Domain not found",
        ),
        (
            "a@null.example",
            "",
            "reject_unknown_sender_domain",
            "550 5.7.27 <a@null.example>: Sender address rejected: Domain null.example does not accept mail (nullMX)",
        ),
        ("a@[192.0.2.1]", "", "reject_unknown_sender_domain", ""),
        ("", "", "reject_unknown_sender_domain", ""),
        (
            "a@localhost",
            "",
            "reject_non_fqdn_sender",
            "504 5.5.2 <a@localhost>: Sender address rejected: need fully-qualified address",
        ),
        ("a@[192.0.2.1]", "", "reject_non_fqdn_sender", ""),
        ("", "", "reject_non_fqdn_sender", ""),
        (
            "",
            "j@none.example",
            "reject_unknown_recipient_domain",
            "550 5.1.2 <j@none.example>: Recipient address rejected: Domain not found",
        ),
        (
            "",
            "j@slow.example",
            "reject_unknown_recipient_domain",
            "450 4.1.2 <j@slow.example>: Recipient address rejected: Domain not found",
        ),
        (
            "",
            "j@null.example",
            "reject_unknown_recipient_domain",
            "556 5.1.10 <j@null.example>: Recipient address rejected: Domain null.example does not accept mail (nullMX)",
        ),
        (
            "",
            "j@localhost",
            "reject_non_fqdn_recipient",
            "504 5.5.2 <j@localhost>: Recipient address rejected: need fully-qualified address",
        ),
        (
            "",
            "joe@far.example",
            "reject_unauth_destination",
            "554 5.7.1 <joe@far.example>: Relay access denied",
        ),
        (
            "",
            "nobody@to.example",
            "reject_unlisted_recipient",
            "550 5.1.1 <nobody@to.example>: Recipient address rejected: User unknown in local recipient table",
        ),
        (
            "a@from.example",
            "",
            "reject_rhsbl_sender:dbl.example",
            "554 5.7.1 Service unavailable; Sender address [a@from.example] blocked using dbl.example",
        ),
        ("a@[192.0.2.1]", "", "reject_rhsbl_sender:dbl.example", ""),
        ("", "", "reject_rhsbl_sender:dbl.example", ""),
    ] {
        let mut facts = facts("192.0.2.1");
        facts.sender = Some(match sender {
            "" => ReversePath::Null,
            sender => ReversePath::Address(sender.parse().unwrap()),
        });
        facts.recipient = (!recipient.is_empty()).then(|| recipient.parse().unwrap());
        assert_eq!(run(&[rule], &facts), expected, "{sender} {recipient} {rule}");
        (facts.sender_is_ours, facts.recipient_is_ours) = (true, true);
        if rule.starts_with("reject_unknown") {
            assert_eq!(run(&[rule], &facts), "", "our own domains need no DNS");
        }
    }
}

#[test]
fn bounces_have_one_recipient() {
    let mut facts = facts("192.0.2.1");
    facts.recipient = None;
    for (null, recipients, expected) in [
        (true, 2, "550 5.5.3 <DATA>: Data command rejected: Multi-recipient bounce"),
        (true, 1, ""),
        (false, 2, ""),
    ] {
        facts.recipients = recipients;
        facts.sender =
            Some(if null { ReversePath::Null } else { ReversePath::Address("a@b".parse().unwrap()) });
        assert_eq!(run(&["reject_multi_recipient_bounce"], &facts), expected);
    }
}

#[test]
fn the_first_decision_counts() {
    let trusted = |ip: &str| Facts { trusted: true, ..facts(ip) };
    for (rules, facts, expected) in [
        (&["permit", "reject"][..], facts("192.0.2.1"), ""),
        (&["permit_mynetworks", "reject"], trusted("192.0.2.1"), ""),
        (
            &["permit_mynetworks", "permit_dnswl_client:none.example", "defer"],
            facts("192.0.2.1"),
            "450 4.7.1",
        ),
        (&["permit_dnswl_client:wl.example", "reject"], facts("192.0.2.1"), ""),
        (&["permit_dnswl_client:down.example", "reject"], facts("192.0.2.1"), "554 5.7.1"),
        (&["check_client_access:t", "reject"], facts("192.0.2.1"), ""),
        // What cannot be found out does not save from what is certain, and counts even when the rest permits.
        (&["reject_unknown_client_hostname", "reject"], facts("192.0.2.9"), "554 5.7.1"),
        (&["reject_unknown_client_hostname", "permit"], facts("192.0.2.9"), "450 4.7.25"),
        (&["warn:permit", "reject"], facts("192.0.2.1"), "554 5.7.1"),
        (&["warn:reject", "defer"], facts("192.0.2.1"), "(spared 554 5.7.1"),
    ] {
        let said = run(rules, &facts);
        assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{rules:?}: {said}");
    }
}

#[test]
fn certificates_count_by_their_fingerprints_and_by_who_vouches_for_them() {
    let key = rcgen::KeyPair::generate().unwrap();
    let der = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let read = common::tls::Shown::read(der.der()).unwrap();
    let with = |print: u8, key_print: u8, listed: bool, vouched: bool| {
        let mut shown = read.clone();
        (shown.fingerprint, shown.key_fingerprint) = ([print; 32], [key_print; 32]);
        shown.distrust = (!vouched).then(|| "its issuer is not known".into());
        Facts {
            certificate: Some(std::sync::Arc::new(shown)),
            certificate_listed: listed,
            ..facts("192.0.2.1")
        }
    };
    let table = &["check_ccert_access:t", "reject"][..];
    let refused = "554 5.7.1 <joe@to.example>: Recipient address rejected: Access denied";
    let lost = "554 5.7.1 <unknown[192.0.2.1]>: Client certificate rejected: lost";
    for (rules, facts, expected) in [
        (table, facts("192.0.2.1"), refused),
        (table, with(9, 9, true, true), refused),
        (table, with(1, 9, false, false), ""),
        (table, with(9, 1, false, false), ""),
        (table, with(2, 9, false, true), lost),
        // The certificate goes before its key.
        (table, with(1, 2, false, false), ""),
        (&["permit_tls_clientcerts", "reject"], with(9, 9, true, false), ""),
        (&["permit_tls_clientcerts", "reject"], with(9, 9, false, true), refused),
        (&["permit_tls_all_clientcerts", "reject"], with(9, 9, false, true), ""),
        (&["permit_tls_all_clientcerts", "reject"], with(9, 9, true, false), refused),
        (&["permit_tls_all_clientcerts", "reject"], facts("192.0.2.1"), refused),
    ] {
        assert_eq!(run(rules, &facts), expected, "{rules:?}");
    }
    assert!(with(9, 9, true, false).may_relay() && !with(9, 9, false, true).may_relay());
}

#[test]
fn what_would_make_a_name_too_long_is_not_asked_for() {
    let mut facts = facts("192.0.2.1");
    facts.hello = Some(vec!["a".repeat(60); 4].join(".").into());
    assert_eq!(run(&["reject_rhsbl_helo:dbl.example.org"], &facts), "");
    assert_eq!(run(&["check_helo_access:t"], &facts), "");
}
