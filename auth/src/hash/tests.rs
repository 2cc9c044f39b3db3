use super::*;
use proptest::prelude::*;

fn password(text: &str) -> Password {
    Password::new(text.as_bytes()).unwrap()
}

/// Made by others: crypt(3) of Debian 12 (libxcrypt), `doveadm pw` of Dovecot 2.3, Python's hashlib, RFC 7677's example, passlib's documentation.
const MADE_BY_OTHERS: &[(&str, &str, &str)] = &[
    ("Hello world!", "sha256-crypt 5000", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    (
        "Hello world!",
        "sha256-crypt 10000",
        "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
    ),
    (
        "Hello world!",
        "sha512-crypt 5000",
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    (
        "Hello world!",
        "sha512-crypt 10000",
        "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
    ),
    (
        "Hello world!",
        "sha512-crypt 5000",
        "{SHA512-CRYPT}$6$q4Snc0DCxwZ1Seww$qL61/rVxmZ4ayMmdL/.pa9AJMnq81e8TO5EeHsCtwwlYWM9YEjiYcePQJ95/haWtjdDQ0qOfMSYhpPsvu99NY0",
    ),
    (
        "Hello world!",
        "sha256-crypt 5000",
        "{sha256-crypt}$5$bNe1T.FPyznlzPCi$510OmmKCjnSdiwbqEWBWcMkaGuyNHiyMXtnV7i1fTLB",
    ),
    (
        "é",
        "sha512-crypt 5000",
        "$6$abc$tAdC2NGAORPCKiADyNcf96S23G339pkWtP14HIli3PSA1SlkyW8rUR9VXHr77MFHD1uds8EHyOmvZabpGsSM91",
    ),
    (
        "",
        "sha512-crypt 5000",
        "$6$abc$mJP3a6FyA8uCnzRtlnNypPwjnvpi5TP9qOrInzrfDmwxUQG38PkpCPdqfTb8JQfAngapMxeim4AZ..hSdRRzD.",
    ),
    (
        "Hello world!",
        "yescrypt j9T",
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$42RgPIrXdXSEEs77lDi/4IqKVqFBAVaHJkzw5uD1r57",
    ),
    (
        "Hello world!",
        "yescrypt j75",
        "{CRYPT}$y$j75$F5Jx5fExrKuPp53xLKQ..1$f2itnMrRpK.7/qouLjCA8FmdTxLajBjBbFKcf7iQD2B",
    ),
    ("é", "yescrypt j9T", "$y$j9T$abcd$eEXcRKPcMSTpR0oen74TN5tvCqXr5LXsL5If1Ivk7UB"),
    ("Hello world!", "bcrypt 5", "$2b$05$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW"),
    ("Hello world!", "bcrypt 5", "$2y$05$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW"),
    ("Hello world!", "bcrypt 5", "$2a$05$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW"),
    ("Hello world!", "bcrypt 5", "{BLF-CRYPT}$2y$05$8M/IqG6aYDJMuzi.YfRxGuEu39Ag6Y3g9HPnQwrORgpQ8BedrYawi"),
    ("é", "bcrypt 4", "$2b$04$abcdefghijklmnopqrstuuhLs2FTTXh4aTzDmos5X8XImgHYf5TbO"),
    (
        "Hello world!",
        "argon2id m=65536,t=3,p=1",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$BtkR6yOPgFBV6u6g7VLRQQ$gzpx9tRhAl96HKV15q0kokUPuULaOFEfWszfo+Ar91o",
    ),
    (
        "Hello world!",
        "argon2i m=32768,t=4,p=1",
        "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$oU9Ncn13A/U5p/7lFXRjhA$Nf9BWr9WOEdJJs+4fRtQX7liJpPkGCssnptjsFycEtg",
    ),
    (
        "Hello world!",
        "scrypt ln=14,r=8,p=1",
        "$scrypt$ln=14,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$StE6oYRIyr5D0NGwHkrJu5DKEIuMHEfyRAf4ZbJXvaE",
    ),
    (
        "password",
        "scrypt ln=16,r=8,p=1",
        "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
    ),
    (
        "Hello world!",
        "scram-sha-256 4096",
        "{SCRAM-SHA-256}4096,djs/pw9/bWWxmeZxQVOO7Q==,mai+CLnTTE/JEiJkRaeQjisVB3gOAprNV9/TIvgpnMk=,7kQ5ays1JHuszhgPaLz2+xtlz8MUB2fgYtzqO3CQ1Ck=",
    ),
    (
        "pencil",
        "scram-sha-256 4096",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    ),
];

#[test]
fn hashes_that_others_made_are_understood() {
    for (word, cost, text) in MADE_BY_OTHERS {
        let hash = Hash::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(hash.cost(), *cost, "{text}");
        assert!(hash.fits(&password(word)), "{text}");
        assert!(!hash.fits(&password("Hello world?")), "{text}");
        assert!(!format!("{hash:?}").contains('$'), "{hash:?}");
    }
}

#[test]
fn what_is_made_here_is_read_here_and_is_new_each_time() {
    for (scheme, name) in SCHEMES {
        let Some(made) = Hash::make(scheme, &password("correct horse")) else {
            assert!(["argon2i", "argon2d"].contains(&name));
            continue;
        };
        let made = made.unwrap();
        let hash = Hash::parse(&made).unwrap_or_else(|error| panic!("{made}: {error}"));
        assert_eq!(hash.scheme(), scheme);
        assert!(hash.fits(&password("correct horse")) && !hash.fits(&password("correct Horse")), "{made}");
        assert_ne!(Hash::make(scheme, &password("correct horse")).unwrap().unwrap(), made);
    }
    assert!(Hash::make(Scheme::Bcrypt, &password(&"x".repeat(73))).unwrap().is_err());
}

#[test]
fn an_accented_password_fits_however_it_is_typed() {
    let made = Hash::make(Scheme::ScramSha256, &password("Ame\u{301}lie")).unwrap().unwrap();
    let hash = Hash::parse(&made).unwrap();
    assert!(
        hash.fits(&password("Amélie"))
            && hash.fits(&password("Ame\u{301}lie"))
            && !hash.fits(&password("Amelie"))
    );
}

/// Nothing here may take time, memory or the daemon.
#[test]
fn hashes_that_cost_too_much_or_are_none_are_refused() {
    let hash86 = "x".repeat(86);
    let phc = "$BtkR6yOPgFBV6u6g7VLRQQ$gzpx9tRhAl96HKV15q0kokUPuULaOFEfWszfo+Ar91o";
    for (text, says) in [
        ("", "is no hash"),
        ("hunter2", "is no hash"),
        ("$", "is no hash"),
        ("$$$", "is no hash"),
        ("*", "is no hash"),
        ("!$6$a$b", "is no hash"),
        ("$1$abc$def", "too weak"),
        ("$2x$05$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW", "too weak"),
        ("{PLAIN}hunter2", "not known here"),
        ("{SHA512-CRYPT}hunter2", "no such hash"),
        ("{SHA512-CRYPT}$5$a$b", "no such hash"),
        ("{", "is no hash"),
        ("$6$", "salt"),
        ("$6$abc", "cut short"),
        (&format!("$6$abc${hash86}x"), "cut short"),
        (&format!("$6$abc${hash86}$"), "something stands behind"),
        (&format!("$6$abc${}:", &hash86[1..]), "cut short"),
        (&format!("$6$abcdefghijklmnopq${hash86}"), "salt"),
        (&format!("$6$rounds=999${}${hash86}", "abc"), "rounds of"),
        (&format!("$6$rounds=1000001${}${hash86}", "abc"), "rounds of"),
        (&format!("$6$rounds=99999999999999999999${}${hash86}", "abc"), "rounds of"),
        (&format!("$6$rounds=-5${}${hash86}", "abc"), "rounds of"),
        ("$2b$31$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW", "a cost of 4 to 15"),
        ("$2b$03$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW", "a cost of 4 to 15"),
        ("$2b$5$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW", "two digits"),
        ("$2b$05$abc", "cut short"),
        // N = 2^30, r = 32.
        ("$y$jRT$F5Jx5fExrKuPp53xLKQ..1$42RgPIrXdXSEEs77lDi/4IqKVqFBAVaHJkzw5uD1r57", "more time or memory"),
        // t = 2, which takes longer and is never made by crypt(3).
        ("$y$j953/$F5Jx5fExrKuPp53xLKQ..1$42RgPIrXdXSEEs77lDi/4IqKVqFBAVaHJkzw5uD1r57", "parameters"),
        ("$y$$F5Jx5fExrKuPp53xLKQ..1$42RgPIrXdXSEEs77lDi/4IqKVqFBAVaHJkzw5uD1r57", "parameters"),
        (
            "$y$zzzzzzzzzzzzzzzz$F5Jx5fExrKuPp53xLKQ..1$42RgPIrXdXSEEs77lDi/4IqKVqFBAVaHJkzw5uD1r57",
            "parameters",
        ),
        ("$y$j9T$$42RgPIrXdXSEEs77lDi/4IqKVqFBAVaHJkzw5uD1r57", "salt"),
        ("$y$j9T$abcd$short", "cut short"),
        (&format!("$argon2id$v=19$m=1048576,t=3,p=1{phc}"), "more time or memory"),
        (&format!("$argon2id$v=19$m=4294967295,t=4294967295,p=4294967295{phc}"), "more time or memory"),
        (&format!("$argon2id$v=19$m=65536,t=4294967295,p=1{phc}"), "more time or memory"),
        (&format!("$argon2id$v=19$m=65536,m=1048576,t=3,p=1{phc}"), "each once"),
        (&format!("$argon2id$v=19$m=65536,t=3{phc}"), "each once"),
        (&format!("$argon2id$v=19$m=65536,t=3,p=1,keyid=Zm9v{phc}"), "no number"),
        (&format!("$argon2id$v=19$m=0,t=3,p=1{phc}"), "above 0"),
        (&format!("$argon2id$v=19$m=8,t=1,p=4{phc}"), "parameters are not those"),
        (&format!("$argon2id$v=20$m=65536,t=3,p=1{phc}"), "parameters are not those"),
        ("$argon2id$v=19$m=65536,t=3,p=1$BtkR6yOPgFBV6u6g7VLRQQ", "missing"),
        ("$argon2id$v=19$m=65536,t=3,p=1", "missing"),
        ("$argon2id$", "PHC"),
        (&format!("$scrypt$ln=30,r=8,p=1{phc}"), "more time or memory"),
        (&format!("$scrypt$ln=64,r=1,p=1{phc}"), "more time or memory"),
        (&format!("$scrypt$ln=14,r=4294967295,p=4294967295{phc}"), "more time or memory"),
        (&format!("$scrypt$ln=14,r=8,p=1000{phc}"), "more time or memory"),
        (&format!("$scrypt$ln=0,r=8,p=1{phc}"), "above 0"),
        ("{SCRAM-SHA-256}", "wanted {SCRAM-SHA-256}"),
        (
            "{SCRAM-SHA-256}4095,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "iterations",
        ),
        (
            "{SCRAM-SHA-256}4000000000,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "iterations",
        ),
        (
            "{SCRAM-SHA-256}4096,,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
            "base64",
        ),
        ("{SCRAM-SHA-256}4096,W22Z,W22Z,W22Z", "base64"),
        ("SCRAM-SHA-256$4096:x", "wanted SCRAM"),
        (&"x".repeat(513), "longer than"),
    ] {
        let error = Hash::parse(text).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_a_hash_or_refused(text in "(\\$(y|5|6|2b|argon2id|scrypt)\\$|\\{[A-Z0-9-]{0,9}\\})?[a-z0-9=,.$/:]{0,60}") {
        let _ = Hash::parse(&text);
    }

    #[test]
    fn a_hash_with_a_changed_octet_is_read_or_refused(which in 0..MADE_BY_OTHERS.len(), at in any::<prop::sample::Index>(), with in "[ -~]") {
        let (_, _, text) = MADE_BY_OTHERS[which];
        let at = at.index(text.len());
        let _ = Hash::parse(&format!("{}{with}{}", &text[..at], &text[at + 1..]));
    }
}
