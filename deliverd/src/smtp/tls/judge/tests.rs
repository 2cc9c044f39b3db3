//! Certificates of every kind against every level.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::time::Duration;

/// An authority.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "common.example");
    params
}

fn signed(params: &CertificateParams, by: &CertifiedIssuer<'static, KeyPair>) -> CertificateDer<'static> {
    params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()
}

fn roots(of: &CertifiedIssuer<'static, KeyPair>) -> Roots {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, of.pem()).unwrap();
    Roots::from_file(&path).unwrap()
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_795_358_702))
}

fn expected(policy: &str, nexthop: &str, host: &str) -> Expected {
    let nexthop: Nexthop = nexthop.parse().unwrap();
    let text = format!("{nexthop} {policy}");
    let policies = common::tls::Policies::parse("t".as_ref(), &text).unwrap();
    Expected::new(policies.find(&nexthop).unwrap(), &nexthop, host)
}

#[test]
fn names_are_those_of_the_policy() {
    let ca = authority("ca");
    let roots = roots(&ca);
    for (names, policy, nexthop, host, good) in [
        (&["mx.example"][..], "verify", "d.example", "mx.example", true),
        (&["d.example"], "verify", "d.example", "mx.example", true),
        (&["other.example"], "verify", "d.example", "mx.example", false),
        // The DNS may name anyone as exchange: at level secure that counts for nothing.
        (&["mx.example"], "secure", "d.example", "mx.example", false),
        (&["d.example"], "secure", "d.example", "mx.example", true),
        (&["mx.d.example"], "secure", "d.example", "mx.d.example", true),
        (&["notd.example"], "secure", "d.example", "mx.d.example", false),
        (&["*.d.example"], "secure", "[a.d.example]:587", "a.d.example", true),
        (&["*.d.example"], "secure", "[a.b.d.example]:587", "a.b.d.example", false),
        (&["*.d.example"], "secure", "d.example", "mx.example", true),
        (&["D.Example"], "secure", "[d.example]:587", "d.example", true),
        (&["192.0.2.1"], "secure", "[192.0.2.1]:587", "192.0.2.1", true),
        (&["192.0.2.2"], "secure", "[192.0.2.1]:587", "192.0.2.1", false),
        (&["2001:db8::1"], "verify", "[2001:db8::1]", "2001:db8::1", true),
        (&["mx.example"], "secure match=mx.example", "d.example", "x.example", true),
        (&["a.mx.example"], "secure match=.mx.example", "d.example", "x.example", true),
        (&["mx.example"], "secure match=.mx.example", "d.example", "x.example", false),
        (&["d.example"], "secure match=mx.example", "d.example", "x.example", false),
        (&["mx.example"], "secure match=hostname", "d.example", "mx.example", true),
        // The common name counts for nothing.
        (&["x.example"], "secure", "common.example", "common.example", false),
        (&[], "secure", "common.example", "common.example", false),
    ] {
        let chain = [signed(&params(names), &ca)];
        let expected = expected(policy, nexthop, host);
        let trust = expected.judge(&chain, &roots, now());
        let shown = format!("{names:?} {policy} {nexthop} {host}: {trust:?}");
        assert_eq!(trust == Trust::Verified, good, "{shown}");
        assert_eq!(expected.suffices(&trust).is_ok(), good, "{shown}");
        assert!(good || matches!(trust, Trust::Trusted(_)), "{shown}");
    }
}

#[test]
fn chains_and_times() {
    let (ca, other) = (authority("ca"), authority("other"));
    let mut expired = params(&["d.example"]);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let mut future = params(&["d.example"]);
    future.not_before = date_time_ymd(2030, 1, 1);
    future.not_after = date_time_ymd(2031, 1, 1);
    let mut middle = params(&[]);
    middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    middle.distinguished_name.push(DnType::CommonName, "middle");
    let middle = CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), &ca).unwrap();
    let by_middle = params(&["d.example"]).signed_by(&KeyPair::generate().unwrap(), &middle).unwrap();
    let own = params(&["d.example"]).self_signed(&KeyPair::generate().unwrap()).unwrap();
    for (chain, word, says) in [
        (vec![signed(&params(&["d.example"]), &ca)], "Verified", ""),
        (vec![by_middle.der().clone(), middle.der().clone()], "Verified", ""),
        (vec![by_middle.der().clone()], "Untrusted", "not trusted: its issuer is not known"),
        (vec![signed(&expired, &ca)], "Untrusted", "not trusted: it has expired"),
        (vec![signed(&future, &ca)], "Untrusted", "not trusted: it is not valid yet"),
        (vec![signed(&params(&["d.example"]), &other)], "Untrusted", "not trusted: its issuer is not known"),
        (vec![own.der().clone()], "Untrusted", "not trusted: it is self-signed"),
        (vec![other.der().clone()], "Untrusted", "not trusted: it is self-signed"),
        (vec![], "Untrusted", "not trusted: the server showed none"),
        (vec![CertificateDer::from(b"junk".to_vec())], "Untrusted", "not trusted: "),
        (
            vec![signed(&params(&["x.example"]), &ca)],
            "Trusted",
            "not verified: it is for x.example, not for d.example or .d.example",
        ),
    ] {
        for (policy, strict) in [("secure", true), ("may", false), ("encrypt", false)] {
            let expected = expected(policy, "d.example", "mx.example");
            let trust = expected.judge(&chain, &roots(&ca), now());
            match (expected.suffices(&trust), strict) {
                (Err(text), true) => {
                    assert!(!says.is_empty() && text.contains(says), "{text}");
                    assert_eq!(trust.word(), word);
                }
                (Ok(()), true) => assert_eq!((trust.word(), says), ("Verified", "")),
                (result, false) => {
                    // Anyone will do; the log says what is known.
                    assert_eq!(result, Ok(()));
                    let known = if word == "Untrusted" { "Untrusted" } else { "Trusted" };
                    assert_eq!(trust.word(), known, "{policy}");
                }
            }
        }
    }
}

#[test]
fn a_server_s_own_certificate_in_ca_file_counts_while_it_is_valid() {
    for (calls_itself_authority, year, says) in
        [(true, 2031, ""), (false, 2031, ""), (true, 2021, "it has expired"), (false, 2021, "it has expired")]
    {
        let mut own = params(&["d.example"]);
        if calls_itself_authority {
            own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        own.not_before = date_time_ymd(2020, 1, 1);
        own.not_after = date_time_ymd(year, 1, 1);
        let own = own.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), own.pem()).unwrap();
        let roots = Roots::from_file(&folder.path().join("ca.pem")).unwrap();
        let chain = [own.der().clone()];
        let trust = expected("secure", "d.example", "mx.example").judge(&chain, &roots, now());
        match says {
            "" => assert_eq!(trust, Trust::Verified, "{calls_itself_authority}"),
            _ => assert_eq!(trust, Trust::Untrusted(says.into()), "{calls_itself_authority}"),
        }
        // The name counts as ever.
        let trust = expected("secure", "e.example", "mx.example").judge(&chain, &roots, now());
        assert_ne!(trust, Trust::Verified);
    }
}

#[test]
fn fingerprints_are_of_the_certificate_or_its_key() {
    let key = KeyPair::generate().unwrap();
    let mut expired = params(&["d.example"]);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let certificate = expired.self_signed(&key).unwrap().der().clone();
    let spki = {
        let end = EndEntityCert::try_from(&certificate).unwrap();
        end.subject_public_key_info().as_ref().to_vec()
    };
    let hex = |octets: &[u8]| sha256(octets).iter().map(|o| format!("{o:02X}")).collect::<Vec<_>>().join(":");
    for (print, good) in [(hex(certificate.as_ref()), true), (hex(&spki), true), (hex(b"x"), false)] {
        let expected = expected(&format!("fingerprint fingerprint={print}"), "d.example", "mx.example");
        let trust = expected.judge(std::slice::from_ref(&certificate), &Roots::none(), now());
        assert_eq!(trust == Trust::Verified, good);
        let verdict = expected.suffices(&trust);
        assert_eq!(verdict.is_ok(), good);
        if let Err(text) = verdict {
            assert!(text.contains(&hex(certificate.as_ref()).to_lowercase()), "{text}");
        }
        assert_eq!(expected.server_name(), server_name("mx.example"));
    }
}

#[test]
fn the_server_is_told_the_name_that_is_looked_for() {
    for (policy, nexthop, host, name) in [
        ("may", "d.example", "mx.example", "mx.example"),
        ("encrypt", "d.example", "mx.example.", "mx.example"),
        ("verify", "d.example", "mx.example", "mx.example"),
        ("secure", "d.example", "mx.example", "d.example"),
        ("secure", "[d.example]:587", "d.example", "d.example"),
        ("secure match=.x.example", "d.example", "mx.example", "mx.example"),
        ("secure match=y.example", "d.example", "mx.example", "y.example"),
        ("may", "[192.0.2.1]", "192.0.2.1", "192.0.2.1"),
    ] {
        let told = expected(policy, nexthop, host).server_name().unwrap();
        assert_eq!(told.to_str(), name, "{policy}");
    }
}
