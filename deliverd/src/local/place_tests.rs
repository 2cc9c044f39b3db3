use super::*;
use std::os::unix::fs::chown;

fn names(text: &str) -> Users {
    Users::parse(Path::new("users"), text).unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

#[test]
fn users_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    if is_root() {
        chown(folder.path(), Some(61210), Some(61211)).unwrap();
    }
    let template = Template::parse(&format!("{}/{{user}}/", folder.path().display())).unwrap();
    let users = names("bob\na+b\n");
    for (recipient, expected) in [
        ("bob@x.example", Ok("bob")),
        ("BOB+x+y@x.example", Ok("bob")),
        ("a+b@x.example", Ok("a+b")),
        ("a+c@x.example", Err("5.1.1")),
        ("eve@x.example", Err("5.1.1")),
        ("\"../bob\"@x.example", Err("5.1.1")),
        ("\"bob/\"@x.example", Err("5.1.1")),
        ("\"..+x\"@x.example", Err("5.1.1")),
    ] {
        match (find(&address(recipient), &template, &users, Some('+')), expected) {
            (Ok(place), Ok(step)) => {
                assert_eq!((place.mailbox.steps, place.kind), (vec![step.to_owned()], Kind::Maildir));
                let owner = is_root().then_some(Owner { uid: 61210, gid: 61211, mail_group: None });
                assert_eq!(place.owner, owner);
            }
            (Err(status), Err(code)) => assert_eq!(status.code.to_string(), code, "{recipient}"),
            (got, _) => panic!("{recipient}: {got:?}"),
        }
    }
    // Without a delimiter the extension is part of the name.
    assert!(find(&address("bob+x@x.example"), &template, &users, None).is_err());
}

#[test]
fn extensions_and_domains_name_folders() {
    let folder = tempfile::tempdir().unwrap();
    if is_root() {
        chown(folder.path(), Some(61210), Some(61210)).unwrap();
    }
    let template =
        Template::parse(&format!("{}/{{domain}}/{{user}}/{{extension}}/", folder.path().display()));
    let (template, users) = (template.unwrap(), names("bob\n"));
    let place = find(&address("bob+Lists@X.example"), &template, &users, Some('+')).unwrap();
    assert_eq!(place.mailbox.steps, ["x.example", "bob", "Lists"]);
    for (hostile, code) in [
        ("\"bob+../../x\"@x.example", "5.1.3"),
        ("\"bob+..\"@x.example", "5.1.3"),
        ("bob@x.example", "5.1.1"),
        ("bob+@x.example", "5.1.1"),
    ] {
        let status = find(&address(hostile), &template, &users, Some('+')).unwrap_err();
        assert_eq!(status.code.to_string(), code, "{hostile}");
    }
}

#[test]
fn mailboxes_of_a_users_file_belong_to_the_owner_of_their_folder() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let folder = tempfile::tempdir().unwrap();
    let template = Template::parse(&format!("{}/{{user}}/", folder.path().display())).unwrap();
    for (uid, gid) in [(0, 0), (12345, 12346)] {
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).unwrap();
        let place = find(&address("bob@x.example"), &template, &names("bob\n"), None).unwrap();
        assert_eq!(place.owner, Some(Owner { uid, gid, mail_group: None }));
    }
    let template = Template::parse("/no/such/folder/{user}/").unwrap();
    let status = find(&address("bob@x.example"), &template, &names("bob\n"), None).unwrap_err();
    assert_eq!(status.text, "the folder /no/such/folder does not exist: create it");
}

#[test]
fn system_users_are_their_own_owners() {
    let template = Template::parse("{home}/Maildir/").unwrap();
    let place = find(&address("Root+x@x.example"), &template, &Users::System, Some('+')).unwrap();
    let root = User::from_name("root").unwrap().unwrap();
    assert_eq!(place.mailbox.display(), root.dir.join("Maildir"));
    assert_eq!(place.owner, is_root().then_some(Owner { uid: 0, gid: 0, mail_group: None }));
    let status =
        find(&address("no-such-user-here@x.example"), &template, &Users::System, Some('+')).unwrap_err();
    assert_eq!(status.code.to_string(), "5.1.1");
    assert_eq!(status.text, "unknown user: \"no-such-user-here\"");
}

#[test]
fn the_group_of_a_mail_folder_is_given_only_where_it_is_needed() {
    if !is_root() {
        return eprintln!("skipped: only root can give folders away");
    }
    for (mode, gid, template, group) in [
        (0o2775, 8, "{user}", Some(8)),
        (0o775, 8, "{user}", Some(8)),
        (0o755, 8, "{user}", None),
        (0o1777, 8, "{user}", None),
        (0o775, 0, "{user}", None),
        (0o775, 8, "{user}/", None),
        (0o775, 8, "{user}/mbox", None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(0), Some(gid)).unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let template = Template::parse(&format!("{}/{template}", folder.path().display())).unwrap();
        let place = find(&address("root@x.example"), &template, &Users::System, None).unwrap();
        assert_eq!(place.owner.unwrap().mail_group, group, "{mode:o} {gid}");
    }
}
