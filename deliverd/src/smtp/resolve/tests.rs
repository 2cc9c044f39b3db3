//! From tables of records to candidates and failures.

use super::*;
use crate::smtp::random::Random;
use std::collections::HashMap;
use std::sync::Arc;

/// `name MX 10 host`, `name A ip`, `name none` (exists without records), `name fails`; other names do not
/// exist.
#[derive(Clone)]
struct Table(Arc<HashMap<String, Vec<Vec<String>>>>);

impl Table {
    fn new(lines: &[&str]) -> Self {
        let mut table: HashMap<String, Vec<Vec<String>>> = HashMap::new();
        for line in lines {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            table.entry(words[0].clone()).or_default().push(words[1..].to_vec());
        }
        Self(Arc::new(table))
    }

    fn ask<T>(&self, name: &Domain, read: impl Fn(&[String]) -> Option<T>) -> Result<Vec<T>, Missing> {
        let records = self.0.get(&name.to_lowercase()).ok_or(Missing::Name)?;
        if records.iter().any(|words| words[0] == "fails") {
            return Err(Missing::Unknown);
        }
        let list: Vec<T> = records.iter().filter_map(|words| read(words)).collect();
        if list.is_empty() { Err(Missing::Records) } else { Ok(list) }
    }
}

impl Dns for Table {
    async fn mx(&self, domain: &Domain) -> Result<Vec<MxRecord>, Missing> {
        self.ask(domain, |words| match words {
            [kind, preference, exchange] if kind == "MX" => Some(MxRecord {
                preference: preference.parse().unwrap(),
                exchange: exchange.trim_end_matches('.').to_owned(),
            }),
            _ => None,
        })
    }

    async fn addresses(&self, name: &Domain) -> Result<Vec<IpAddr>, Missing> {
        self.ask(name, |words| match words {
            [kind, ip] if kind == "A" => ip.parse().ok(),
            _ => None,
        })
    }
}

fn run(nexthop: &str, lines: &[&str]) -> String {
    let ourselves =
        Ourselves::new("me.example".parse().unwrap(), vec!["192.0.2.99:25".parse().unwrap()], Vec::new());
    let dns = Table::new(lines);
    // Names in alphabetical order within a group, so that the table below is readable.
    let order = |mut hosts: Vec<Host>| {
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts.into_iter().flat_map(|h| h.addresses.into_iter().map(move |ip| (h.name.clone(), ip))).collect()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(find(&dns, &nexthop.parse().unwrap(), 25, &ourselves, &order)) {
        Ok(list) => {
            let show = |c: &Candidate| format!("{}:{}@{}", c.tier, c.name, c.address);
            list.iter().map(show).collect::<Vec<_>>().join(" ")
        }
        Err(status) => format!("{} {}", status.code, status.text),
    }
}

#[test]
fn nexthops_become_candidates() {
    let mx = ["d.example MX 10 a.example", "d.example MX 20 b.example", "a.example A 192.0.2.1"];
    let with = |more: &[&'static str]| [&mx[..], more].concat();
    let not_found = "Host or domain name not found. Name service error for name=";
    for (nexthop, lines, expected) in [
        (
            "d.example",
            with(&["b.example A 192.0.2.2", "b.example A 2001:db8::2"]),
            "0:a.example@192.0.2.1:25 1:b.example@192.0.2.2:25 1:b.example@[2001:db8::2]:25".to_owned(),
        ),
        ("d.example:587", with(&["b.example fails"]), "0:a.example@192.0.2.1:587".into()),
        // An exchange that does not exist is left out.
        ("d.example", mx.to_vec(), "0:a.example@192.0.2.1:25".into()),
        // No MX records: the domain itself (RFC 5321 5.1).
        ("d.example", vec!["d.example A 192.0.2.3"], "0:d.example@192.0.2.3:25".into()),
        // Records, but not of a host with an address.
        (
            "d.example",
            vec!["d.example none"],
            format!("5.1.2 {not_found}d.example type=A: Host found but no data record of requested type"),
        ),
        ("d.example", vec![], format!("5.1.2 {not_found}d.example type=MX: Host not found")),
        (
            "d.example",
            vec!["d.example fails"],
            format!("4.4.3 {not_found}d.example type=MX: Host not found, try again"),
        ),
        (
            "d.example",
            vec!["d.example MX 0 ."],
            "5.1.10 Domain d.example does not accept mail (nullMX)".into(),
        ),
        (
            "d.example",
            vec!["d.example MX 0 192.0.2.1"],
            format!("5.4.4 {not_found}d.example type=MX: Malformed or unexpected name server reply"),
        ),
        (
            "d.example",
            vec!["d.example MX 10 a.example"],
            format!("5.4.4 {not_found}a.example type=A: Host not found"),
        ),
        // With MX records, the domain's own address does not count.
        (
            "d.example",
            vec!["d.example MX 10 a.example", "d.example A 192.0.2.3"],
            format!("5.4.4 {not_found}a.example type=A: Host not found"),
        ),
        // One exchange that may come back keeps the mail.
        (
            "d.example",
            vec![
                "d.example MX 10 x.example",
                "d.example MX 20 y.example",
                "d.example MX 30 z.example",
                "y.example fails",
            ],
            format!("4.4.3 {not_found}y.example type=A: Host not found, try again"),
        ),
        // Loops: by name, by address, and what stands beside or behind.
        (
            "d.example",
            with(&["d.example MX 15 ME.example", "b.example A 192.0.2.2"]),
            "0:a.example@192.0.2.1:25".into(),
        ),
        (
            "d.example",
            with(&["d.example MX 5 me.example"]),
            "5.4.6 mail for d.example loops back to myself".into(),
        ),
        (
            "d.example",
            with(&["d.example MX 10 c.example", "c.example A 192.0.2.99"]),
            "5.4.6 mail for d.example loops back to myself".into(),
        ),
        (
            "d.example:26",
            vec!["d.example MX 10 c.example", "c.example A 192.0.2.99"],
            "0:c.example@192.0.2.99:26".into(),
        ),
        (
            "me.example",
            vec!["me.example A 192.0.2.5"],
            "5.4.6 mail for me.example loops back to myself".into(),
        ),
        (
            "d.example",
            vec!["d.example MX 5 x.example", "d.example MX 10 me.example", "x.example fails"],
            format!("4.4.3 {not_found}x.example type=A: Host not found, try again"),
        ),
        // Hosts in brackets: no MX look-up.
        ("[d.example]", with(&["d.example A 192.0.2.7"]), "0:d.example@192.0.2.7:25".into()),
        ("[d.example]:2525", vec!["d.example A 192.0.2.99"], "0:d.example@192.0.2.99:2525".into()),
        (
            "[d.example]",
            mx.to_vec(),
            format!("5.1.2 {not_found}d.example type=A: Host found but no data record of requested type"),
        ),
        ("[192.0.2.8]:26", vec![], "0:192.0.2.8@192.0.2.8:26".into()),
        ("[192.0.2.99]", vec![], "5.4.6 mail for [192.0.2.99] loops back to myself".into()),
        ("[IPv6:2001:db8::1]", vec![], "0:2001:db8::1@[2001:db8::1]:25".into()),
    ] {
        assert_eq!(run(nexthop, &lines), expected, "{nexthop} {lines:?}");
    }
}

#[test]
fn candidates_are_bounded() {
    let mut lines = Vec::new();
    for i in 0..200 {
        lines.push(format!("d.example MX 10 h{i}.example"));
        for j in 0..30 {
            lines.push(format!("h{i}.example A 10.0.{i}.{j}"));
        }
    }
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    assert_eq!(run("d.example", &lines).split(' ').count(), MAX_CANDIDATES);
}

#[test]
fn the_real_order_fits_in() {
    let random = std::sync::Mutex::new(Random::from_seed(3));
    let order = |hosts| order(hosts, |_| None, &mut random.lock().unwrap());
    let dns = Table::new(&["d.example A 192.0.2.3", "d.example A 2001:db8::3"]);
    let ourselves = Ourselves::new("me.example".parse().unwrap(), Vec::new(), Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let list = runtime.block_on(find(&dns, &"d.example".parse().unwrap(), 25, &ourselves, &order)).unwrap();
    assert!(list[0].address.is_ipv6() && list[1].address.is_ipv4());
}
