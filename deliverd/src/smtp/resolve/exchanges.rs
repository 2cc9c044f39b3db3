//! From MX records to groups of exchanges of equal preference. Pure.

use common::address::Domain;
use std::net::Ipv4Addr;

/// Most MX records looked at; the ones of highest preference value are left out.
pub const MAX_RECORDS: usize = 100;

/// An MX record as it came: preference and the name of the exchange, without a trailing dot (so the root is
/// the empty name).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MxRecord {
    /// Lower first.
    pub preference: u16,
    /// Presentation form; anything at all.
    pub exchange: String,
}

/// What a domain's MX records mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchanges {
    /// Hosts, grouped by preference, lowest first; the names of a group are distinct.
    Groups(Vec<(u16, Vec<Domain>)>),
    /// The domain takes no mail (RFC 7505).
    NullMx,
    /// There are records, and none names a host.
    Malformed,
}

impl Exchanges {
    /// Reads the records, at least one. Exchanges that are no host names (addresses, for instance: RFC 5321
    /// 5.1 wants names) are left out.
    pub fn new(mut records: Vec<MxRecord>) -> Self {
        if let [only] = records.as_slice()
            && only.exchange.is_empty()
        {
            return Self::NullMx;
        }
        records.sort_by_key(|record| record.preference);
        records.truncate(MAX_RECORDS);
        let mut groups: Vec<(u16, Vec<Domain>)> = Vec::new();
        for MxRecord { preference, exchange } in records {
            let Some(name) = host_name(&exchange) else { continue };
            let known = groups.iter().any(|(_, names)| names.contains(&name));
            match groups.last_mut() {
                // A name with two preferences counts with the lower one.
                _ if known => {}
                Some((last, names)) if *last == preference => names.push(name),
                _ => groups.push((preference, vec![name])),
            }
        }
        if groups.is_empty() { Self::Malformed } else { Self::Groups(groups) }
    }
}

fn host_name(text: &str) -> Option<Domain> {
    let name: Domain = text.parse().ok()?;
    (name.literal().is_none() && text.parse::<Ipv4Addr>().is_err()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &[(u16, &str)]) -> String {
        let record = |(preference, exchange): &(u16, &str)| MxRecord {
            preference: *preference,
            exchange: (*exchange).to_owned(),
        };
        match Exchanges::new(records.iter().map(record).collect()) {
            Exchanges::NullMx => "null".into(),
            Exchanges::Malformed => "malformed".into(),
            Exchanges::Groups(groups) => {
                let group = |(preference, names): &(u16, Vec<Domain>)| {
                    format!("{preference}:{}", names.iter().map(Domain::as_str).collect::<Vec<_>>().join(","))
                };
                groups.iter().map(group).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn records_become_groups() {
        for (records, expected) in [
            (&[(10, "a.example")][..], "10:a.example"),
            (
                &[(20, "b.example"), (10, "a.example"), (20, "c.example")],
                "10:a.example 20:b.example,c.example",
            ),
            (&[(10, "a.example"), (20, "A.example")], "10:a.example"),
            (&[(0, "")], "null"),
            (&[(10, "")], "null"),
            // RFC 7505 3: the null MX stands alone; among others it is no host.
            (&[(0, ""), (10, "a.example")], "10:a.example"),
            (&[(10, "192.0.2.1")], "malformed"),
            (&[(10, "192.0.2.1"), (20, "b.example")], "20:b.example"),
            (&[(10, "bad name")], "malformed"),
            (&[(10, "-x.example")], "malformed"),
            (&[(10, "[192.0.2.1]")], "malformed"),
            (&[(10, "under_score.example")], "10:under_score.example"),
            (&[(10, "localhost")], "10:localhost"),
        ] {
            assert_eq!(read(records), expected, "{records:?}");
        }
    }

    #[test]
    fn too_many_records_are_cut() {
        let records = (0..1000u16)
            .map(|i| MxRecord { preference: 1000 - i, exchange: format!("mx{i}.example") })
            .collect();
        let Exchanges::Groups(groups) = Exchanges::new(records) else { panic!() };
        assert_eq!((groups.len(), groups[0].0), (MAX_RECORDS, 1));
    }
}
