//! Tables of what is an address and what is not.

use super::*;

#[test]
fn addresses_that_are_taken_keep_their_spelling() {
    for text in [
        "a@b",
        "Joe.Doe+x@Example.COM",
        "postmaster@[127.0.0.1]",
        "x@[IPv6:::1]",
        "\"a b\"@c.example",
        "\"a@b\"@c.example",
        r#""a\"b"@c.example"#,
        "under_score@host_name.example",
        "!#$%&'*+-/=?^_`{|}~@x",
    ] {
        assert_eq!(text.parse::<Address>().map(|a| a.to_string()).as_deref(), Ok(text));
    }
}

/// RFC 5321, erratum 4315: the RFC's own grammar has `::` for two groups at least.
#[test]
fn two_colons_may_stand_for_a_single_group_of_zeros() {
    for text in ["x@[IPv6:2001:db8::1:2:3:4:5]", "x@[IPv6:::2:3:4:5:6:7:8]", "x@[IPv6:1:2:3:4:5:6:7::]"] {
        let address = text.parse::<Address>();
        assert!(
            address.as_ref().is_ok_and(|a| a.domain().literal().is_some_and(|ip| ip.is_ipv6())),
            "{text}"
        );
    }
}

#[test]
fn addresses_that_are_refused() {
    use AddressError::*;
    for (text, error) in [
        ("", Empty),
        ("a", NoDomain),
        ("@b", LocalPart),
        (".a@b", LocalPart),
        ("a.@b", LocalPart),
        ("a..b@c", LocalPart),
        ("a b@c", LocalPart),
        ("a@", Empty),
        ("a@b..c", Domain),
        ("a@.b", Domain),
        ("a@b.", Domain),
        ("a@-b", Domain),
        ("a@b-", Domain),
        ("a@[1.2.3]", Domain),
        ("a@[IPv6:zz]", Domain),
        ("a@[::1]", Domain),
        ("a@b@c", Domain),
        ("\"a@b", LocalPart),
        ("\"a\"b@c", LocalPart),
        ("\"a\nb\"@c", LocalPart),
        ("a\0@c", LocalPart),
        ("a\u{85}b@c", LocalPart),
        ("a\u{202e}b@c", LocalPart),
        ("a\u{a0}b@c", LocalPart),
        ("\u{feff}a@c", LocalPart),
        ("\"a\u{9b}b\"@c", LocalPart),
        ("a@\u{200b}", Domain),
        ("a@\u{ff20}", Domain),
        ("a@ü..c", Domain),
        ("a@xn--\u{fc}", Domain),
        ("a@b\r\nDATA", Domain),
    ] {
        assert_eq!(text.parse::<Address>(), Err(error), "{text:?}");
    }
}

#[test]
fn other_scripts() {
    // RFC 5890, RFC 6531 3.2: domains in their ASCII form, local-parts as they came.
    for (text, read, ascii) in [
        ("joe@bücher.example", "joe@xn--bcher-kva.example", true),
        ("joe@BÜCHER.example", "joe@xn--bcher-kva.example", true),
        ("joe@bu\u{308}cher.example", "joe@xn--bcher-kva.example", true),
        ("joe@faß.example", "joe@xn--fa-hia.example", true),
        ("joe@例え。テスト", "joe@xn--r8jz45g.xn--zckzah", true),
        ("jörg@b.example", "jörg@b.example", false),
        ("用户@例子.example", "用户@xn--fsqu00a.example", false),
        ("\"jörg müller\"@b.example", "\"jörg müller\"@b.example", false),
        ("\"jörg\"@b.example", "jörg@b.example", false),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!((address.to_string().as_str(), address.is_ascii()), (read, ascii), "{text}");
    }
    let upper: Domain = "XN--BCHER-KVA.example".parse().unwrap();
    assert_eq!(upper, "Bücher.Example".parse().unwrap());
    assert_eq!(format!("a@{}", "ü".repeat(60)).parse::<Address>(), Err(AddressError::Domain));
    assert_eq!(format!("a@{}", "ü".repeat(200)).parse::<Address>(), Err(AddressError::TooLong));
}

#[test]
fn length_limits() {
    let domain = format!("{}.example", ["a"; 60].concat());
    let fits = format!("{}@{domain}", "x".repeat(MAX_ADDRESS - domain.len() - 1));
    assert!(fits.parse::<Address>().is_ok());
    assert_eq!(format!("x{fits}").parse::<Address>(), Err(AddressError::TooLong));
    assert!(format!("a@{}", "b".repeat(63)).parse::<Address>().is_ok());
    assert_eq!(format!("a@{}", "b".repeat(64)).parse::<Address>(), Err(AddressError::Domain));
}

#[test]
fn quotes_that_are_not_needed_are_dropped() {
    let plain: Address = "joe@x.example".parse().unwrap();
    let quoted: Address = "\"joe\"@X.example".parse().unwrap();
    assert_eq!(plain, quoted);
    assert_eq!(quoted.local_part().as_str(), "joe");
    assert_eq!("\"a\\\"b c\"@x".parse::<Address>().unwrap().local_part().value(), "a\"b c");
    assert_eq!(LocalPart::quote("a\"b c").unwrap().as_str(), "\"a\\\"b c\"");
}

#[test]
fn paths_are_split_at_the_closing_bracket() {
    for (text, expected) in [
        ("<a@b>", Ok(("a@b", ""))),
        ("<>", Ok(("", ""))),
        ("<a@b> SIZE=1", Ok(("a@b", " SIZE=1"))),
        ("<\"a>b\"@c> X", Ok(("\"a>b\"@c", " X"))),
        ("<a@b>SIZE=1", Err(AddressError::Path)),
        ("a@b", Err(AddressError::Path)),
        ("<a@b", Err(AddressError::Path)),
        ("<a@b>>", Err(AddressError::Path)),
        ("<<a@b>", Err(AddressError::Path)),
        ("<\"a>", Err(AddressError::LocalPart)),
        (" <a@b>", Err(AddressError::Path)),
    ] {
        assert_eq!(parse_path(text), expected, "{text:?}");
    }
}

#[test]
fn source_routes_are_accepted_and_ignored() {
    let mail_name: Domain = "here.example".parse().unwrap();
    for (inner, expected) in [
        ("@a,@b:joe@c", Ok("joe@c")),
        ("@[IPv6:::1]:joe@c", Ok("joe@c")),
        ("joe", Ok("joe@here.example")),
        ("@a:joe", Ok("joe@here.example")),
        ("@a", Err(AddressError::Path)),
        ("@a,b:joe@c", Err(AddressError::Path)),
        ("@:joe@c", Err(AddressError::Empty)),
    ] {
        let got = ForwardPath::from_path(inner).and_then(|p| p.complete(&mail_name)).map(|a| a.to_string());
        assert_eq!(got.as_deref(), expected.as_ref().map(|s| *s), "{inner}");
    }
    assert_eq!(ReversePath::from_path("", &mail_name), Ok(ReversePath::Null));
}
