use super::*;

fn values<'a>(user: &'a str, extension: Option<&'a str>) -> Values<'a> {
    Values { user, domain: "x.example", home: Some(Path::new("/home/u")), extension }
}

#[test]
fn templates_are_read() {
    for (text, folder, kind, path) in [
        ("/var/mail/{user}", Some("/var/mail"), Kind::Mbox, "/var/mail/bob"),
        ("/srv/{domain}/{user}/", Some("/srv"), Kind::Maildir, "/srv/x.example/bob"),
        ("/srv//v-{user}.{domain}/Maildir//", Some("/srv"), Kind::Maildir, "/srv/v-bob.x.example/Maildir"),
        ("{home}/Maildir/", None, Kind::Maildir, "/home/u/Maildir"),
        ("{home}/mail/{extension}", None, Kind::Mbox, "/home/u/mail/lists"),
        ("/etc/../srv/{user}", Some("/etc/../srv"), Kind::Mbox, "/etc/../srv/bob"),
        ("/{user}", Some("/"), Kind::Mbox, "/bob"),
        // Without a placeholder there is one mailbox for all; its folder is the one that holds it.
        ("/srv/all/", Some("/srv"), Kind::Maildir, "/srv/all"),
    ] {
        let template = Template::parse(text).unwrap();
        assert_eq!((template.folder(), template.kind()), (folder.map(Path::new), kind), "{text}");
        let mailbox = template.expand(&values("bob", Some("lists"))).unwrap();
        assert_eq!(mailbox.display(), Path::new(path), "{text}");
    }
}

#[test]
fn bad_templates_are_refused() {
    for (text, problem) in [
        ("", "begin with"),
        ("var/mail/{user}", "begin with"),
        ("{user}", "begin with"),
        ("{home}", "begin with"),
        ("{home}mail", "begin with"),
        ("{home}/", "no mailbox"),
        ("/", "no mailbox"),
        ("/mail/{home}/", "beginning"),
        ("/mail/{name}", "placeholders are"),
        ("/mail/{user", "has no"),
        ("/mail/{user}/..", "cannot stand"),
        ("/mail/{user}/../x", "cannot stand"),
        ("{home}/./x", "cannot stand"),
        ("/mail/..", "cannot stand"),
    ] {
        let error = Template::parse(text).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[test]
fn no_value_leaves_the_folder() {
    let long = "x".repeat(256);
    for (user, code) in [
        ("", "5.1.1"),
        (".", "5.1.3"),
        ("..", "5.1.3"),
        ("...", "5.1.3"),
        (".ssh", "5.1.3"),
        ("a/b", "5.1.3"),
        ("/", "5.1.3"),
        ("../../etc/passwd", "5.1.3"),
        ("a\0b", "5.1.3"),
        (long.as_str(), "5.1.3"),
    ] {
        for text in ["/mail/{user}/", "/mail/{user}", "/mail/x{user}", "/mail/{user}/{domain}/"] {
            let status = Template::parse(text).unwrap().expand(&values(user, None)).unwrap_err();
            assert_eq!(status.code.to_string(), code, "{user:?} in {text}: {}", status.text);
        }
        for text in ["/mail/{extension}/", "/mail/{extension}", "/mail/a+{extension}"] {
            let status = Template::parse(text).unwrap().expand(&values("bob", Some(user))).unwrap_err();
            assert_eq!(status.code.to_string(), code, "{user:?} in {text}: {}", status.text);
        }
        let hostile = Values { domain: user, ..values("bob", None) };
        assert!(Template::parse("/mail/{domain}/{user}").unwrap().expand(&hostile).is_err(), "{user:?}");
    }
}

#[test]
fn odd_but_harmless_values_stay_one_component() {
    for user in ["a b", "a\\b", "~", "-rf", "$HOME", "{home}", "a..b", "a.", "\"q\""] {
        let mailbox = Template::parse("/mail/{user}/").unwrap().expand(&values(user, None)).unwrap();
        assert_eq!(mailbox.steps, [user]);
    }
}

#[test]
fn names_leave_room_for_a_lock_beside_an_mbox() {
    let name = |length| "x".repeat(length);
    for (text, length, good) in [
        ("/mail/{user}/", 255, true),
        ("/mail/{user}", 250, true),
        ("/mail/{user}", 251, false),
        ("/mail/{user}.{domain}/", 255, false),
    ] {
        let user = name(length);
        let expanded = Template::parse(text).unwrap().expand(&values(&user, None));
        assert_eq!(expanded.is_ok(), good, "{text} with {length} octets");
    }
}

#[test]
fn a_missing_extension_or_home_is_said() {
    let status =
        Template::parse("/mail/{user}/{extension}").unwrap().expand(&values("bob", None)).unwrap_err();
    assert_eq!(status.code.to_string(), "5.1.1");
    for home in [None, Some(Path::new("relative"))] {
        let values = Values { home, ..values("bob", None) };
        let status = Template::parse("{home}/Maildir/").unwrap().expand(&values).unwrap_err();
        assert_eq!(status.code.to_string(), "4.3.5");
    }
}
