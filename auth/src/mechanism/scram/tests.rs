use super::*;
use crate::hash::Hash;
use crate::hash::verifier::mac;
use aws_lc_rs::{digest, pbkdf2};
use proptest::prelude::*;

const PENCIL: &str = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn verifier() -> Verifier {
    Hash::parse(PENCIL).unwrap().verifier().unwrap().clone()
}

const PLAIN: Binding<'static> = Binding { plus: false, offered: false, data: b"" };
const OFFERED: Binding<'static> = Binding { plus: false, offered: true, data: b"exported" };
const PLUS: Binding<'static> = Binding { plus: true, offered: true, data: b"exported" };

/// RFC 7677 3.
#[test]
fn the_example_of_the_rfc_holds() {
    let first = First::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", PLAIN).unwrap();
    assert_eq!((first.name.as_str(), first.authorization.as_str()), ("user", ""));
    let conversation = first.answer(verifier(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    assert_eq!(
        conversation.server_first(),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(
        conversation.finish(last.as_bytes(), PLAIN).unwrap(),
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
    // One bit of the proof, the nonce, the header.
    for (from, to, expected) in [
        ("p=dHzb", "p=dHzc", "wrong password"),
        ("r=rOpr", "r=rOps", "the nonce"),
        ("lF$k0", "lF$k", "the nonce"),
        ("c=biws", "c=eSws", "another channel"),
        ("c=biws", "c=biwsZXhwb3J0ZWQ=", "another channel"),
    ] {
        let message = last.replacen(from, to, 1);
        match conversation.finish(message.as_bytes(), PLAIN) {
            Err(ScramError::Refused(why)) => assert!(why.contains(expected), "{message}: {why}"),
            other => panic!("{message}: {other:?}"),
        }
    }
    assert!(!format!("{conversation:?}").contains("W22Z"));
}

/// A client that does it right, with this header and binding.
fn client(header: &str, binding: &[u8], conversation: &Conversation, bare: &str, nonce: &str) -> String {
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        verifier().iterations(),
        verifier().salt(),
        b"pencil",
        &mut salted,
    );
    let client_key = mac(&salted, &[b"Client Key"]);
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let channel = BASE64.encode(&[header.as_bytes(), binding].concat());
    let without_proof = format!("c={channel},r={nonce}");
    let signed = format!("{bare},{},{without_proof}", conversation.server_first());
    let signature = mac(stored_key.as_ref(), &[signed.as_bytes()]);
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", BASE64.encode(&proof))
}

#[test]
fn a_client_is_bound_to_its_channel() {
    for (header, offered, sent, good) in [
        ("p=tls-exporter,,", PLUS, &b"exported"[..], true),
        ("p=tls-exporter,,", PLUS, b"another one", false),
        ("p=tls-exporter,,", PLUS, b"", false),
        ("n,,", OFFERED, b"", true),
        ("n,a=user,", OFFERED, b"", true),
        ("y,,", PLAIN, b"", true),
    ] {
        let first = First::parse(format!("{header}n=user,r=abc").as_bytes(), offered).unwrap();
        let conversation = first.answer(verifier(), "XYZ");
        let last = client(header, sent, &conversation, "n=user,r=abc", "abcXYZ");
        assert_eq!(conversation.finish(last.as_bytes(), offered).is_ok(), good, "{header} {sent:?}");
    }
}

#[test]
fn flags_that_do_not_fit_are_refused() {
    for (message, binding, says) in [
        ("y,,n=u,r=a", OFFERED, "somebody may be in between"),
        ("n,,n=u,r=a", PLUS, "does not bind"),
        ("y,,n=u,r=a", PLUS, "does not bind"),
        ("p=tls-exporter,,n=u,r=a", OFFERED, "is for SCRAM-SHA-256-PLUS"),
        ("p=tls-exporter,,n=u,r=a", Binding { data: b"", ..PLUS }, "is for SCRAM-SHA-256-PLUS"),
        ("p=tls-unique,,n=u,r=a", PLUS, "there is tls-exporter"),
        ("p=,,n=u,r=a", PLUS, "there is tls-exporter"),
    ] {
        match First::parse(message.as_bytes(), binding) {
            Err(ScramError::Refused(why)) => assert!(why.contains(says), "{message}: {why}"),
            other => panic!("{message}: {other:?}"),
        }
    }
}

#[test]
fn messages_that_are_not_scram_are_refused() {
    let long = format!("n,,n=u,r={}", "x".repeat(MAX_NONCE + 1));
    let longer = format!("n,,n=u,r=a,{}", "x".repeat(MAX));
    for message in [
        "",
        ",",
        ",,",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,n=u",
        "n,,n=u,",
        "n,,n=u,r=",
        "n,,r=a,n=u",
        "n,,m=x,n=u,r=a",
        "n,,n=,r=a",
        "n,,n=a=b,r=a",
        "n,,n=a=2c,r=a",
        "n,,n==,r=a",
        "n,,n=a=,r=a",
        "n,b=x,n=u,r=a",
        "n,a=,n=u,r=a",
        "x,,n=u,r=a",
        "N,,n=u,r=a",
        "n,,n=u,r=a b",
        "n,,n=u,r=é",
        "n,,n=u\0,r=a",
        &long,
        &longer,
    ] {
        assert!(
            matches!(First::parse(message.as_bytes(), PLAIN), Err(ScramError::Malformed(_))),
            "{message:?}"
        );
    }
    assert!(First::parse(b"n,,n=\xff,r=a", PLAIN).is_err());
    assert_eq!(First::parse(b"n,,n=a=2Cb=3D=3Dc,r=a,ext=1", PLAIN).unwrap().name, "a,b==c");
    let conversation = First::parse(b"n,,n=u,r=a", PLAIN).unwrap().answer(verifier(), "b");
    for message in [
        "",
        "c=biws",
        "c=biws,r=ab",
        "c=biws,r=ab,p=",
        "c=biws,r=ab,p=AAAA",
        "c=!,r=ab,p=AAAA",
        "r=ab,c=biws,p=AAAA",
        "c=biws,r=ab,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=,x=1",
        ",p=",
        "c=,r=,p=dHzb",
    ] {
        assert!(
            matches!(conversation.finish(message.as_bytes(), PLAIN), Err(ScramError::Malformed(_))),
            "{message:?}"
        );
    }
}

proptest! {
    #[test]
    fn anything_is_answered_or_refused(first in "[nyp],?(a=)?[a-z=,]{0,12}n=[a-zA-F0-9=,]{0,9},r=[!-~]{0,9}", last in "[cr=,pA-Za-z0-9+/]{0,80}") {
        for binding in [PLAIN, OFFERED, PLUS] {
            if let Ok(first) = First::parse(first.as_bytes(), binding) {
                prop_assert!(first.answer(verifier(), "n").finish(last.as_bytes(), binding).is_err());
            }
        }
    }
}
