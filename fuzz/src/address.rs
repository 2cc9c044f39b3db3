//! Addresses, paths, domains, nexthops: what is read and printed is read again as the same.

use common::address::{Address, Domain, ForwardPath, LocalPart, MAX_ADDRESS, ReversePath, parse_path};
use common::destination::Nexthop;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{Debug, Display};
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The whole input is the text; octets that are no UTF-8 are passed over.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mail_name: Domain = "mail.example".parse().expect("a domain");
    if let Some(address) = again::<Address>(text) {
        assert!(address.to_string().len() <= MAX_ADDRESS);
        parts(&address);
        // In the brackets of a command it is found whole.
        assert_eq!(parse_path(&format!("<{address}> SIZE=1")), Ok((address.to_string().as_str(), " SIZE=1")));
        let forward = ForwardPath::from_path(&address.to_string()).and_then(|p| p.complete(&mail_name));
        assert_eq!(forward, Ok(address.clone()));
        assert_eq!(Address::parse_or_complete(&address.to_string(), &mail_name), Ok(address));
    }
    if let Ok(address) = Address::parse_or_complete(text, &mail_name) {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    again::<ReversePath>(text);
    if let Some(domain) = again::<Domain>(text) {
        let lower: Domain = domain.to_lowercase().parse().expect("in lower case it is one, too");
        assert_eq!(hash(&lower), hash(&domain));
        assert_eq!(lower, domain);
        if let Some(ip) = domain.literal() {
            assert_eq!(Domain::from(ip).literal(), Some(ip));
        }
    }
    if let Some(local) = again::<LocalPart>(text) {
        assert_eq!(LocalPart::quote(&local.value()).as_ref(), Ok(&local));
    }
    if let Ok(local) = LocalPart::quote(text) {
        assert_eq!(local.value(), text);
    }
    if let Ok(nexthop) = text.parse::<Nexthop>() {
        assert_eq!(nexthop.to_string().parse::<Nexthop>().as_ref(), Ok(&nexthop), "{text:?}");
    }
    paths(text, &mail_name);
}

fn paths(text: &str, mail_name: &Domain) {
    for text in [text.to_owned(), format!("<{text}")] {
        if let Ok((inner, rest)) = parse_path(&text) {
            assert_eq!(format!("<{inner}>{rest}"), text);
            assert!(rest.is_empty() || rest.starts_with(' '));
            if let Ok(path) = ReversePath::from_path(inner, mail_name) {
                assert_eq!(path.to_string().parse(), Ok(path));
            }
        }
    }
    if let Ok(address) = ForwardPath::from_path(text).and_then(|path| path.complete(mail_name)) {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
}

fn parts(address: &Address) {
    let (local, domain) = (address.local_part(), address.domain());
    assert_eq!(Address::new(local.clone(), domain.clone()).as_ref(), Ok(address));
    let value = local.value();
    assert!(!value.chars().any(char::is_control), "{value:?}");
    // What is equal has the same hash, whatever the quotes.
    let quoted = format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    if let Ok(quoted) = quoted.parse::<LocalPart>() {
        assert_eq!(quoted, *local);
        assert_eq!(hash(&quoted), hash(local));
    }
}

/// Parse, print, parse.
fn again<T: FromStr + Display + PartialEq + Debug + Hash>(text: &str) -> Option<T>
where
    T::Err: Debug + PartialEq,
{
    let value: T = text.parse().ok()?;
    let printed = value.to_string();
    // Fit for a command line, a header and a log without another look.
    assert!(!printed.chars().any(char::is_control), "{printed:?}");
    let second = printed.parse::<T>();
    assert_eq!(second.as_ref(), Ok(&value), "{text:?}");
    assert_eq!(second.as_ref().map(hash), Ok(hash(&value)));
    assert_eq!(second.map(|value| value.to_string()), Ok(printed));
    Some(value)
}

fn hash<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
