//! Values as they come and as they go out again.

use super::*;

#[test]
fn envelope_ids_are_decoded_and_encoded_again() {
    let long = "x".repeat(100);
    let too_long = "x".repeat(101);
    let blown_up = "+20".repeat(34);
    for (value, expected) in [
        ("QQ314159", Ok("QQ314159")),
        ("a+2Bb+3Dc+20d", Ok("a+b=c d")),
        ("+2b", Ok("+")),
        (&long, Ok(long.as_str())),
        (&too_long, Err(DsnError::TooLong)),
        (&blown_up, Err(DsnError::TooLong)),
        ("", Err(DsnError::Empty)),
        ("a b", Err(DsnError::Xtext)),
        ("a=b", Err(DsnError::Xtext)),
        ("a+", Err(DsnError::Xtext)),
        ("a+4", Err(DsnError::Xtext)),
        ("a+4G", Err(DsnError::Xtext)),
        ("a++41", Err(DsnError::Xtext)),
        ("a+0D+0Ab", Err(DsnError::Xtext)),
        ("a+7Fb", Err(DsnError::Xtext)),
        ("a+E9b", Err(DsnError::Xtext)),
        ("\u{e9}", Err(DsnError::Xtext)),
    ] {
        let id = EnvelopeId::from_xtext(value);
        assert_eq!(id.as_ref().map(EnvelopeId::as_str), expected.as_ref().copied(), "{value}");
        if let Ok(id) = id {
            assert_eq!(id.to_xtext(), value.replace("+2b", "+2B"), "{value}");
        }
    }
}

#[test]
fn original_recipients_have_a_type() {
    let long = format!("rfc822;{}", "x".repeat(493));
    let too_long = format!("rfc822;{}", "x".repeat(494));
    for (value, expected) in [
        ("rfc822;bob@example.com", Ok("rfc822; bob@example.com")),
        ("RFC822;bob+2Btag@example.com", Ok("RFC822; bob+tag@example.com")),
        ("x400;/C=de", Err(DsnError::Xtext)),
        ("x400;/C+3Dde", Ok("x400; /C=de")),
        ("utf-8;\\x{E9}@example.com", Ok("utf-8; \\x{E9}@example.com")),
        ("rfc822;a;b", Ok("rfc822; a;b")),
        (&long, Ok(&*format!("rfc822; {}", "x".repeat(493)))),
        (&too_long, Err(DsnError::TooLong)),
        ("bob@example.com", Err(DsnError::AddressType)),
        (";bob@example.com", Err(DsnError::AddressType)),
        ("rfc 822;bob@example.com", Err(DsnError::AddressType)),
        ("rfc822;", Err(DsnError::Empty)),
        ("rfc822;bob+0Aevil", Err(DsnError::Xtext)),
    ] {
        let read = OriginalRecipient::from_xtext(value);
        assert_eq!(
            read.as_ref().map(ToString::to_string),
            expected.as_ref().map(ToString::to_string),
            "{value}"
        );
        if let Ok(read) = read {
            assert_eq!(read.to_xtext(), value);
            assert_eq!(OriginalRecipient::try_from(String::from(read.clone())), Ok(read));
        }
    }
}

#[test]
fn original_recipients_in_other_scripts() {
    // (parameter, what is passed on with SMTPUTF8, and without)
    for (value, with, without) in [
        ("utf-8;jörg@b.example", "utf-8;jörg@b.example", "utf-8;j\\x{F6}rg@b.example"),
        ("utf-8;j\\x{F6}rg@b.example", "utf-8;j\\x{F6}rg@b.example", "utf-8;j\\x{F6}rg@b.example"),
        ("UTF-8;j\\x{2B}ö@b", "UTF-8;j\\x{2B}ö@b", "UTF-8;j\\x{2B}\\x{F6}@b"),
        (
            "utf-8;用户@例子.example",
            "utf-8;用户@例子.example",
            "utf-8;\\x{7528}\\x{6237}@\\x{4F8B}\\x{5B50}.example",
        ),
    ] {
        let read = OriginalRecipient::from_xtext(value).unwrap();
        assert_eq!((read.to_xtext().as_str(), read.to_ascii_xtext().as_str()), (with, without), "{value}");
        assert_eq!(OriginalRecipient::try_from(String::from(read.clone())), Ok(read));
    }
    for value in ["rfc822;jörg@b", "utf-8;jö+rg@b", "utf-8;jö=rg@b", "utf-8;a\u{85}ö", "utf-8;a\u{202e}"]
    {
        assert_eq!(OriginalRecipient::from_xtext(value), Err(DsnError::Xtext), "{value}");
    }
    let of = |address: &str| OriginalRecipient::of(&address.parse().unwrap()).unwrap();
    assert_eq!(of("joe+x@b").to_xtext(), "rfc822;joe+2Bx@b");
    assert_eq!(of("jö+x=y@b").to_xtext(), "utf-8;jö\\x{2B}x\\x{3D}y@b");
    assert_eq!(of("jö+x=y@b").to_ascii_xtext(), "utf-8;j\\x{F6}\\x{2B}x\\x{3D}y@b");
    assert_eq!(OriginalRecipient::from_xtext(&of("\"jö a\"@b").to_xtext()).unwrap(), of("\"jö a\"@b"));
}

#[test]
fn notify_is_never_or_a_list() {
    use Occasion::{Delay, Failure, Success};
    for (value, shown, wanted) in [
        ("NEVER", "NEVER", &[][..]),
        ("never", "NEVER", &[]),
        ("SUCCESS", "SUCCESS", &[Success]),
        ("delay,Success", "SUCCESS,DELAY", &[Success, Delay]),
        ("FAILURE,FAILURE", "FAILURE", &[Failure]),
        ("SUCCESS,FAILURE,DELAY", "SUCCESS,FAILURE,DELAY", &[Success, Failure, Delay]),
    ] {
        let notify: Notify = value.parse().unwrap();
        assert_eq!(notify.to_string(), shown);
        for occasion in [Success, Failure, Delay] {
            assert_eq!(notify.wants(occasion), wanted.contains(&occasion), "{value} {occasion:?}");
        }
        assert_eq!(Notify::try_from(u8::from(notify)), Ok(notify));
    }
    for value in ["", "NEVER,SUCCESS", "SUCCESS,NEVER", "SUCCESS,", ",", "SUCCESS, DELAY", "ALWAYS"] {
        assert_eq!(value.parse::<Notify>(), Err(DsnError::Notify), "{value}");
    }
    let absent = Notify::default();
    assert!(absent.is_absent() && absent.wants(Failure) && absent.wants(Delay) && !absent.wants(Success));
    for bits in 0..=255 {
        let good = matches!(bits, 0 | 1) || (bits < 16 && bits % 2 == 0);
        assert_eq!(Notify::try_from(bits).is_ok(), good, "{bits}");
    }
}

#[test]
fn success_is_taken_out_for_those_a_recipient_expands_into() {
    for (before, after) in [
        ("SUCCESS", "NEVER"),
        ("SUCCESS,FAILURE", "FAILURE"),
        ("FAILURE,DELAY", "FAILURE,DELAY"),
        ("NEVER", "NEVER"),
    ] {
        assert_eq!(before.parse::<Notify>().unwrap().without_success().to_string(), after);
    }
    assert!(Notify::default().without_success().is_absent());
}

#[test]
fn ret_is_one_of_two_words() {
    for (value, expected) in [
        ("FULL", Ok(Return::Full)),
        ("hdrs", Ok(Return::Headers)),
        ("", Err(DsnError::Return)),
        ("HEADERS", Err(DsnError::Return)),
    ] {
        assert_eq!(value.parse(), expected, "{value}");
    }
}
