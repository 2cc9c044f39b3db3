//! Access tables of smtpd: `KEY ACTION` a line, by client, HELO name, sender or recipient. Pure.
//!
//! Keys: addresses and networks in CIDR form (clients), domains (with all below them; with a dot before it: those below it only), complete
//! addresses, `user@` in any domain, `<>` for the null sender, fingerprints of certificates (SHA-256, 64 hexadecimal digits, colons or not). The more specific key counts, whatever the order of the lines.
//! A line that cannot be understood makes the whole table unusable; the error says `file:line: what`.

use crate::address::{Address, Domain, ReversePath};
use crate::config::Network;
use crate::status::EnhancedCode;
use crate::table::{TableError, logical_lines};
use crate::tls::policy::{Fingerprint, parse_fingerprint};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

/// Longest text of an action, in octets.
const MAX_TEXT: usize = 400;

/// What a table says about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ends the list of restrictions.
    Ok,
    /// As if the key were not there; shields it from a less specific one.
    Dunno,
    /// Refused. Three digits, enhanced code and text, as far as the line has them.
    Refuse {
        /// `None`: what is usual for REJECT (5) or DEFER (4).
        code: Option<u16>,
        /// From the text's beginning.
        enhanced: Option<EnhancedCode>,
        /// Empty: the usual one.
        text: String,
        /// Only for now (4xx).
        temporary: bool,
    },
    /// Logged, and otherwise as if the key were not there.
    Warn(String),
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessTable {
    names: HashMap<String, Action>,
    fingerprints: HashMap<Fingerprint, Action>,
    /// By network.
    networks: HashMap<Network, Action>,
    /// The lengths of prefixes that there are, longest first: IPv4, IPv6.
    lengths: [Vec<u8>; 2],
}

impl AccessTable {
    /// Reads a text.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let mut table = Self::default();
        for (number, line) in logical_lines(text) {
            let (key, action) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
            let at = |message: String| TableError::at(path, number, &message);
            let action = parse_action(action.trim()).map_err(at)?;
            if !table.add(key, action).map_err(at)? {
                return Err(at(format!("{key:?} is there twice")));
            }
        }
        for (v6, lengths) in table.lengths.iter_mut().enumerate() {
            let of_family = table.networks.keys().filter(|n| usize::from(n.address().is_ipv6()) == v6);
            lengths.extend(of_family.map(|n| n.bits()));
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        Ok(table)
    }

    fn add(&mut self, key: &str, action: Action) -> Result<bool, String> {
        if let Some(fingerprint) = parse_fingerprint(key) {
            return Ok(self.fingerprints.insert(fingerprint, action).is_none());
        }
        let numeric = key.contains(['/', ':']) || key.parse::<IpAddr>().is_ok();
        if numeric {
            let network: Network = key.parse()?;
            return Ok(self.networks.insert(network, action).is_none());
        }
        let key = key.to_lowercase();
        let domain = key.strip_prefix('.').unwrap_or(&key);
        let good = key == "<>"
            || domain.parse::<Domain>().is_ok()
            || key.parse::<Address>().is_ok()
            || key.strip_suffix('@').is_some_and(|user| format!("{user}@x").parse::<Address>().is_ok());
        if !good {
            return Err(format!(
                "{key:?} is no key: wanted an address, a network (192.0.2.0/24), a domain, user@, <> or a fingerprint"
            ));
        }
        Ok(self.names.insert(key, action).is_none())
    }

    /// What it says about a client: by its name, then by its address, the smallest network first. `name` must have been confirmed.
    pub fn client(&self, ip: IpAddr, name: Option<&str>) -> Option<&Action> {
        name.and_then(|name| self.name(name)).or_else(|| self.address(ip))
    }

    /// What it says about a certificate, by the first of its fingerprints that is there.
    pub fn certificate(&self, fingerprints: &[Fingerprint]) -> Option<&Action> {
        fingerprints.iter().find_map(|one| self.fingerprints.get(one))
    }

    /// What it says about a host name, or one of the domains above it.
    pub fn name(&self, name: &str) -> Option<&Action> {
        let name = name.to_lowercase();
        let mut rest = name.as_str();
        loop {
            if let Some(action) = self.names.get(rest) {
                return Some(action);
            }
            // `.example.org` is for what is below it only.
            let dot = rest.find('.')?;
            let below = rest.get(dot..)?;
            if let Some(action) = self.names.get(below) {
                return Some(action);
            }
            rest = below.get(1..)?;
        }
    }

    /// What it says about a sender.
    pub fn sender(&self, sender: &ReversePath, delimiter: Option<char>) -> Option<&Action> {
        match sender {
            ReversePath::Null => self.names.get("<>"),
            ReversePath::Address(address) => self.mailbox(address, delimiter),
        }
    }

    /// What it says about an address: the whole of it, without its extension, its domain and those above, its local-part.
    pub fn mailbox(&self, address: &Address, delimiter: Option<char>) -> Option<&Action> {
        let local = address.local_part().as_str().to_lowercase();
        let domain = address.domain().to_lowercase();
        let user =
            delimiter.and_then(|d| local.split_once(d)).map(|(user, _)| user).filter(|u| !u.is_empty());
        let get = |key: String| self.names.get(&key);
        get(format!("{local}@{domain}"))
            .or_else(|| user.and_then(|user| get(format!("{user}@{domain}"))))
            .or_else(|| self.name(&domain))
            .or_else(|| get(format!("{local}@")))
            .or_else(|| user.and_then(|user| get(format!("{user}@"))))
    }

    fn address(&self, ip: IpAddr) -> Option<&Action> {
        let ip = ip.to_canonical();
        let lengths = self.lengths.get(usize::from(ip.is_ipv6()))?;
        lengths.iter().find_map(|bits| self.networks.get(&Network::around(ip, *bits)))
    }
}

fn parse_action(text: &str) -> Result<Action, String> {
    let wrong = || {
        let shown = text.split_whitespace().next().unwrap_or("");
        format!(
            "{shown:?} is no action: wanted OK, DUNNO, REJECT [text], DEFER [text], 4xx or 5xx [text], WARN [text]"
        )
    };
    let (word, said) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let said = said.trim();
    if said.len() > MAX_TEXT || said.chars().any(char::is_control) {
        return Err(format!("the text is longer than {MAX_TEXT} octets, or has control characters in it"));
    }
    let refuse = |code: Option<u16>, temporary: bool| {
        let (enhanced, text) = split_enhanced(said, temporary)?;
        Ok(Action::Refuse { code, enhanced, text: text.to_owned(), temporary })
    };
    let number = word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit());
    match word.to_ascii_uppercase().as_str() {
        "OK" if said.is_empty() => Ok(Action::Ok),
        "DUNNO" if said.is_empty() => Ok(Action::Dunno),
        "REJECT" => refuse(None, false),
        "DEFER" => refuse(None, true),
        "WARN" => Ok(Action::Warn(said.to_owned())),
        "HOLD" | "DISCARD" | "REDIRECT" | "FILTER" | "PREPEND" | "BCC" | "DEFER_IF_PERMIT"
        | "DEFER_IF_REJECT" => Err(format!("{word} is not built yet")),
        _ if number => match word.parse::<u16>() {
            // 421 and 521 end sessions; that is not a table's business.
            Ok(code @ (400..=599)) if code != 421 && code != 521 => refuse(Some(code), code < 500),
            _ => Err(wrong()),
        },
        // As in Postfix: a key that needs no more than being there.
        _ if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) && said.is_empty() => {
            Ok(Action::Ok)
        }
        _ => Err(wrong()),
    }
}

/// `5.7.1 text`: the class must be that of the reply.
fn split_enhanced(text: &str, temporary: bool) -> Result<(Option<EnhancedCode>, &str), String> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match word.parse::<EnhancedCode>() {
        Ok(code) if code.class() == if temporary { 4 } else { 5 } => Ok((Some(code), rest.trim())),
        Ok(code) => Err(format!("the status code {code} does not belong to this reply")),
        Err(_) => Ok((None, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<AccessTable, TableError> {
        AccessTable::parse(Path::new("t"), text)
    }

    fn show(action: Option<&Action>) -> String {
        match action {
            None => "-".into(),
            Some(Action::Ok) => "OK".into(),
            Some(Action::Dunno) => "DUNNO".into(),
            Some(Action::Warn(text)) => format!("WARN {text}"),
            Some(Action::Refuse { code, enhanced, text, temporary }) => {
                let code = code.map_or(String::new(), |c| format!("{c} "));
                let enhanced = enhanced.map_or(String::new(), |c| format!("{c} "));
                format!("{}{code}{enhanced}{text}", if *temporary { "later " } else { "never " })
            }
        }
    }

    #[test]
    fn clients_are_found_by_name_and_by_the_smallest_network() {
        let table = table(
            "192.0.2.0/24 REJECT net\n192.0.2.8/29 OK\n192.0.2.9 DUNNO\n2001:db8::/32 450 4.7.1 six\n\
             0.0.0.0/0 WARN all\nexample.org REJECT\n.example.net DEFER below\nmail.example.org OK\n",
        )
        .unwrap();
        for (ip, name, expected) in [
            ("192.0.2.1", None, "never net"),
            ("192.0.2.10", None, "OK"),
            ("192.0.2.9", None, "DUNNO"),
            ("::ffff:192.0.2.9", None, "DUNNO"),
            ("198.51.100.1", None, "WARN all"),
            ("2001:db8::1", None, "later 450 4.7.1 six"),
            ("2001:db9::1", None, "-"),
            ("192.0.2.1", Some("a.b.Example.org"), "never "),
            ("192.0.2.1", Some("mail.example.org"), "OK"),
            ("192.0.2.1", Some("example.net"), "never net"),
            ("192.0.2.1", Some("x.example.net"), "later below"),
            ("192.0.2.1", Some("notexample.org"), "never net"),
        ] {
            assert_eq!(show(table.client(ip.parse().unwrap(), name)), expected, "{ip} {name:?}");
        }
    }

    #[test]
    fn addresses_are_found_from_the_whole_to_the_domain() {
        let table =
            table("joe@a.example OK\na.example REJECT\nabuse@ OK\n<> 554 5.7.1 no bounces\n").unwrap();
        for (sender, expected) in [
            ("joe@a.example", "OK"),
            ("Joe+x@A.example", "OK"),
            ("jane@a.example", "never "),
            ("jane@sub.a.example", "never "),
            ("abuse@b.example", "OK"),
            ("abuse+x@b.example", "OK"),
            ("jane@b.example", "-"),
            ("", "never 554 5.7.1 no bounces"),
        ] {
            let path = if sender.is_empty() {
                ReversePath::Null
            } else {
                ReversePath::Address(sender.parse().unwrap())
            };
            assert_eq!(show(table.sender(&path, Some('+'))), expected, "{sender}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, says) in [
            ("a.example\n", "t:1: \"\" is no action"),
            ("\na.example MAYBE\n", "t:2: \"MAYBE\" is no action"),
            ("a.example HOLD\n", "t:1: HOLD is not built yet"),
            ("a.example OK\nA.example REJECT\n", "t:2: \"A.example\" is there twice"),
            ("192.0.2.1/24 OK\n", "t:1: \"192.0.2.1/24\" has bits set"),
            ("a..b OK\n", "t:1: \"a..b\" is no key"),
            ("a.example 450 5.7.1 x\n", "t:1: the status code 5.7.1 does not belong"),
            ("a.example 421 bye\n", "t:1: \"421\" is no action"),
            ("a.example 299 x\n", "t:1: \"299\" is no action"),
            ("a.example OK really\n", "t:1: \"OK\" is no action"),
        ] {
            let error = table(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{text:?}: {error}");
        }
        assert_eq!(show(table("10.0.0.1 1\n").unwrap().client("10.0.0.1".parse().unwrap(), None)), "OK");
    }
}
