//! What an admin or a user writes: read, or refused with a message in one printable line that says where.

use common::address::Domain;
use common::aliases::Aliases;
use common::config::Config;
use common::relay_recipients::RelayRecipients;
use common::sender_logins::SenderLogins;
use common::table::Table;
use common::templates::Templates;
use common::users::{Lookup, Users, is_safe_name};
use mailutils::sendmail::addresses;
use std::path::Path;

/// The first octet says what the rest is.
pub fn run(input: &[u8]) {
    let Some((kind, octets)) = input.split_first() else { return };
    let path = Path::new("file");
    let text = String::from_utf8_lossy(octets);
    match kind % 6 {
        0 => {
            // The message is several lines: it shows the spot.
            let read = Config::parse(&text, path, Path::new("/"));
            if let Err(error) = read {
                assert!(error.to_string().starts_with("file:"), "{error}");
            }
        }
        1 => match Table::parse(path, &text) {
            Ok(table) => {
                assert!(table.iter().all(|(key, value)| !key.is_empty() && !value.is_empty()));
                lists_of_addresses(path, &text);
            }
            Err(error) => refused(&error.to_string()),
        },
        2 => match Aliases::parse(path, &text) {
            Ok(aliases) => aliases.problems().for_each(refused),
            Err(error) => refused(&error.to_string()),
        },
        3 => match Users::parse(path, &text) {
            Ok(users) => {
                for word in text.split_whitespace() {
                    if let Lookup::Found { user, .. } = users.find(word, Some('+')) {
                        assert!(is_safe_name(&user), "{user:?}");
                    }
                }
            }
            Err(error) => refused(&error.to_string()),
        },
        4 => {
            if let Err(error) = Templates::parse(path, octets) {
                refused(&error.to_string());
            }
        }
        _ => {
            let mail_name: Domain = "mail.example".parse().unwrap();
            match addresses::parse(octets, &mail_name) {
                Ok(list) => {
                    assert!(list.len() <= octets.len());
                    let again: Vec<_> = list.iter().map(ToString::to_string).collect();
                    assert_eq!(addresses::parse(again.join(", ").as_bytes(), &mail_name), Ok(list));
                }
                Err(error) => refused(&error.to_string()),
            }
        }
    }
}

/// The tables whose keys are addresses and domains.
fn lists_of_addresses(path: &Path, text: &str) {
    match RelayRecipients::parse(path, text) {
        Ok(table) => {
            for address in text.split_whitespace().filter_map(|word| word.parse().ok()) {
                let _ = table.contains(&address, Some('+'));
            }
        }
        Err(error) => refused(&error.to_string()),
    }
    if let Err(error) = SenderLogins::parse(path, text) {
        refused(&error.to_string());
    }
}

fn refused(message: &str) {
    assert!(!message.chars().any(char::is_control), "{message:?}");
}
