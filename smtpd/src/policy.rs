//! Who may send to whom, and is there room: pure rules over what the tables and the file system say. Never an
//! open relay: a recipient that is neither here nor in `relay_domains` is taken from `trusted_networks` only, and from who has logged in.

use crate::session::auth::Login;
use crate::session::reply::{NO_SPACE, Reply};
use common::address::{Address, Domain};
use common::sender_logins::Owners;
use common::status::EnhancedCode;
use spool::envelope::Recipient;
use std::net::IpAddr;

/// Room that must remain in the spool's file system beside a message, in octets: for journals and bounces.
pub const RESERVE: u64 = 256 * 1024;

/// What the tables say about a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// In a domain of this machine, with a mailbox or an alias.
    Known,
    /// In a domain of this machine, without one.
    Unknown,
    /// In a domain of this machine; whether it exists cannot be said now, for this reason (for the log).
    Unsure(String),
    /// In a relay domain; there, or nobody can say.
    Relay,
    /// In a relay domain, and not in the table of those who are there.
    UnknownRelay,
    /// Anywhere else.
    Elsewhere,
}

/// Is this recipient taken? `trusted`: is the client in `trusted_networks`, or logged in? Both rules below, in this order.
pub fn recipient(trusted: bool, address: &Address, standing: &Standing) -> Result<(), Reply> {
    relay(trusted, address, standing)?;
    existing(address, standing)
}

/// May this client send to this recipient's domain? Always asked first: what restrictions permit, this does not. An address that names another
/// way is not for strangers, whosever the domain is; as with Postfix.
pub fn relay(trusted: bool, address: &Address, standing: &Standing) -> Result<(), Reply> {
    if trusted || (*standing != Standing::Elsewhere && !is_routed(address)) {
        return Ok(());
    }
    Err(rejected(554, EnhancedCode::new(5, 7, 1), address, "Relay access denied"))
}

/// Does a recipient of this machine exist?
pub fn existing(address: &Address, standing: &Standing) -> Result<(), Reply> {
    match standing {
        Standing::Known | Standing::Relay | Standing::Elsewhere => Ok(()),
        Standing::Unknown => Err(rejected(
            550,
            EnhancedCode::new(5, 1, 1),
            address,
            "Recipient address rejected: User unknown in local recipient table",
        )),
        Standing::UnknownRelay => Err(rejected(
            550,
            EnhancedCode::new(5, 1, 1),
            address,
            "Recipient address rejected: User unknown in relay recipient table",
        )),
        Standing::Unsure(_) => {
            Err(rejected(451, EnhancedCode::new(4, 3, 0), address, "Temporary lookup failure"))
        }
    }
}

/// May this login write as this sender? Words are Postfix's.
pub fn own_sender(login: Option<&Login>, sender: &Address, owners: &Owners) -> Result<(), Reply> {
    let why = match login {
        None => "not logged in".to_owned(),
        Some(login) if owners.include(&login.name) => return Ok(()),
        Some(login) => format!("not owned by user {}", login.name),
    };
    let why = format!("Sender address rejected: {why}");
    Err(rejected(553, EnhancedCode::new(5, 7, 1), sender, &why))
}

/// Does the local-part name another way (`user%host`, `host!user`, `"user@host"`)? The next host might follow
/// it, because it trusts us; and so might whatever an alias hands it to.
fn is_routed(address: &Address) -> bool {
    address.local_part().value().contains(['%', '!', '@'])
}

fn rejected(status: u16, code: EnhancedCode, address: &Address, why: &str) -> Reply {
    Reply::new(status, code, format!("<{address}>: {why}"))
}

/// RFC 5321 4.1.3: mail for the address that the client has connected to is ours. Gives the recipient that is
/// meant: the same mailbox in `home`, a domain of this machine.
pub fn at_our_address(address: &Address, local_ip: IpAddr, home: Option<&Domain>) -> Option<Recipient> {
    let ip = address.domain().literal()?;
    if ip.to_canonical() != local_ip.to_canonical() {
        return None;
    }
    let meant = Address::new(address.local_part().clone(), home?.clone()).ok()?;
    Some(Recipient { original: Some(address.clone()), ..Recipient::new(meant) })
}

/// May a message come, of this size if it is declared, with so much room in the spool's file system (octets;
/// `None`: not known)?
pub fn room(size: Option<u64>, free: Option<u64>) -> Result<(), Reply> {
    // Messages are taken down to the reserve, so only well below that is it certain that this one cannot be.
    let needed = size.map_or(RESERVE / 2, |size| size.saturating_add(RESERVE));
    if free.is_some_and(|free| free < needed) { Err(NO_SPACE) } else { Ok(()) }
}

/// Is there room to write this much?
pub fn room_to_write(length: usize, free: Option<u64>) -> bool {
    room(Some(u64::try_from(length).unwrap_or(u64::MAX)), free).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_relays_who_may_not() {
        use Standing::{Elsewhere, Known, Relay, Unknown, UnknownRelay, Unsure};
        for (trusted, address, standing, expected) in [
            (false, "joe@here", Known, ""),
            (false, "joe%far@here", Known, "554 5.7.1 <joe%far@here>: Relay access denied"),
            (false, "far!joe@here", Unknown, "554 5.7.1 <far!joe@here>: Relay access denied"),
            (
                false,
                "\"joe@far\"@here",
                Unsure("disk".into()),
                "554 5.7.1 <\"joe@far\"@here>: Relay access denied",
            ),
            (true, "joe%far@here", Known, ""),
            (
                true,
                "far!joe@here",
                Unknown,
                "550 5.1.1 <far!joe@here>: Recipient address rejected: User unknown in local recipient table",
            ),
            (false, "joe@here", Unsure("disk".into()), "451 4.3.0 <joe@here>: Temporary lookup failure"),
            (false, "joe@relay", Relay, ""),
            (false, "joe%far@relay", Relay, "554 5.7.1 <joe%far@relay>: Relay access denied"),
            (false, "far!joe@relay", Relay, "554 5.7.1 <far!joe@relay>: Relay access denied"),
            (false, "\"joe@far\"@relay", Relay, "554 5.7.1 <\"joe@far\"@relay>: Relay access denied"),
            (true, "joe%far@relay", Relay, ""),
            (
                false,
                "joe@relay",
                UnknownRelay,
                "550 5.1.1 <joe@relay>: Recipient address rejected: User unknown in relay recipient table",
            ),
            (false, "joe%far@relay", UnknownRelay, "554 5.7.1 <joe%far@relay>: Relay access denied"),
            (false, "joe@far", Elsewhere, "554 5.7.1 <joe@far>: Relay access denied"),
            (true, "joe@far", Elsewhere, ""),
        ] {
            let reply = recipient(trusted, &address.parse().unwrap(), &standing);
            assert_eq!(
                reply.map_or_else(|r| r.to_string(), |()| String::new()),
                expected,
                "{trusted} {address}"
            );
        }
    }

    #[test]
    fn our_address_literal_is_ours() {
        let home = "mail.example".parse().unwrap();
        for (address, ip, meant) in [
            ("joe@[192.0.2.1]", "192.0.2.1", Some("joe@mail.example")),
            ("joe@[192.0.2.1]", "::ffff:192.0.2.1", Some("joe@mail.example")),
            ("joe@[IPv6:::1]", "::1", Some("joe@mail.example")),
            ("joe@[192.0.2.2]", "192.0.2.1", None),
            ("joe@mail.example", "192.0.2.1", None),
        ] {
            let found = at_our_address(&address.parse().unwrap(), ip.parse().unwrap(), Some(&home));
            assert_eq!(found.map(|r| r.address.to_string()).as_deref(), meant, "{address} {ip}");
        }
        assert_eq!(
            at_our_address(&"a@[192.0.2.1]".parse().unwrap(), "192.0.2.1".parse().unwrap(), None),
            None
        );
    }

    #[test]
    fn room_for_the_declared_size_and_a_reserve() {
        assert_eq!(room(None, None), Ok(()));
        assert_eq!(room(None, Some(RESERVE)), Ok(()));
        assert_eq!(room(None, Some(RESERVE / 2 - 1)), Err(NO_SPACE));
        assert_eq!(room(Some(1), Some(RESERVE)), Err(NO_SPACE));
        assert!(room_to_write(1, Some(RESERVE + 1)) && !room_to_write(1, Some(RESERVE)));
        assert_eq!(room(Some(u64::MAX), Some(u64::MAX - 1)), Err(NO_SPACE));
    }
}
