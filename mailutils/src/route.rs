//! `ironpost route`: why mail to an address would go where.
//!
//! Says what the tables say now, with the protection that `deliverd smtp` asks for; whether the other host is there is not tried, and mail exchangers are not
//! looked up.

use crate::exit;
use crate::failure::Failure;
use common::address::Address;
use common::config::Config;
use common::credentials::Table;
use common::destination::{Destination, Nexthop, Transport};
use common::routing::{AddressClass, Existence, Expansion, Router};
use common::tables::Tables;
use common::tls::{Policies, Policy};
use common::watched::Watched;
use std::fs;
use std::io::{self, Write};

/// Explains on standard output.
pub fn run(config: &Config, text: &str) -> Result<(), Failure> {
    let address = Address::parse_or_complete(text, &config.mail_name)
        .map_err(|e| Failure::new(exit::DATA, format!("{text:?}: {e}")))?;
    let tables = Tables::load(config).map_err(|e| Failure::new(exit::CONFIG, e.to_string()))?;
    let policies = policies(config).map_err(|text| Failure::new(exit::CONFIG, text))?;
    let router = tables.router();
    io::stdout()
        .write_all(explain(&router, config, &policies, &address).as_bytes())
        .map_err(|e| Failure::output(&e))
}

/// The table tls_policy, empty when there is none.
fn policies(config: &Config) -> Result<Policies, String> {
    let Some(path) = &config.deliverd.tls_policy else { return Ok(Policies::default()) };
    Watched::table(path, Policies::parse)
        .map(|table| Policies::clone(&table.get()))
        .map_err(|error| error.to_string())
}

fn explain(router: &Router, config: &Config, policies: &Policies, address: &Address) -> String {
    let class = match router.class(address.domain()) {
        AddressClass::Local => "local: its mailboxes are here",
        AddressClass::Relay => "relay: accepted from anyone, passed on",
        AddressClass::Default => "default: somebody else's, accepted from trusted_networks only",
    };
    let mut lines = vec![format!("address     {address}"), format!("class       {class}")];
    let found = match router.recipient_exists(address) {
        Existence::Yes => None,
        Existence::No => Some("no: there is neither a user nor an alias of that name".to_owned()),
        Existence::Unknown(why) => Some(format!("cannot be told now: {why}")),
    };
    lines.extend(found.map(|text| format!("exists      {text}")));
    let targets = match router.expand(address) {
        Expansion::Same => vec![address.clone()],
        Expansion::Into(targets) => {
            let list: Vec<String> = targets.iter().map(ToString::to_string).collect();
            lines.push(format!("aliases     {}", list.join(", ")));
            targets
        }
        Expansion::Broken(status) => {
            lines.push(format!("aliases     {} {}", status.code, status.text));
            Vec::new()
        }
    };
    for target in targets {
        let route = router.route(&target);
        lines.push(format!("route       {target} → {route}"));
        lines.push(format!("            {}", meaning(&route, config)));
        if route.transport == Transport::Smtp {
            lines.extend(protection(&route.nexthop, config, policies));
        }
    }
    lines.iter().map(|line| format!("{}\n", crate::terminal::line(line))).collect()
}

/// The policy, and where it comes from; who we are there.
fn protection(nexthop: &Nexthop, config: &Config, policies: &Policies) -> Vec<String> {
    let (policy, source) = match policies.find(nexthop) {
        Some(policy) => (policy.clone(), "by the table tls_policy"),
        None => (Policy::of(config.deliverd.tls), "by [deliverd] tls"),
    };
    let Some(path) = &config.deliverd.relay_credentials else {
        return vec![format!("tls         {policy} ({source})")];
    };
    let table = fs::read_to_string(path)
        .map_err(|error| format!("{}: cannot read: {error}", path.display()))
        .and_then(|text| Table::parse(path, &text).map_err(|error| error.to_string()));
    let is_relay_host = config.deliverd.relay_host.as_ref() == Some(nexthop);
    match table.map(|table| table.find(nexthop, None, is_relay_host)) {
        Err(why) => {
            vec![format!("tls         {policy} ({source})"), format!("login       cannot be told: {why}")]
        }
        Ok(None) => vec![format!("tls         {policy} ({source})")],
        Ok(Some(login)) => {
            let token = login.token_file().map(|file| format!(", with a token by {}", file.display()));
            let who = format!(
                "login       as {}{} (by the line {} of relay_credentials)",
                login.user(),
                token.as_deref().unwrap_or_default(),
                login.key()
            );
            let secret = if token.is_some() { "token" } else { "password" };
            let raised = if login.is_insecure() { policy.clone() } else { policy.clone().authenticated() };
            let raised_for = format!("because a {secret} is sent");
            let source = if raised == policy { source } else { &raised_for };
            vec![format!("tls         {raised} ({source})"), who]
        }
    }
}

fn meaning(route: &Destination, config: &Config) -> String {
    match (&route.transport, &route.nexthop) {
        (Transport::Local, _) => format!("into a mailbox of this machine: {}", config.local.mailbox),
        (Transport::Discard, _) => "thrown away".into(),
        (Transport::Error, _) => "refused with this text".into(),
        (Transport::Smtp, Nexthop::Domain { domain, port }) => {
            format!("to the MX of {domain}, port {}", port.unwrap_or(config.deliverd.smtp_port))
        }
        (Transport::Smtp, Nexthop::Host { port, .. }) => {
            format!("to this host, no MX look-up, port {}", port.unwrap_or(config.deliverd.smtp_port))
        }
        (Transport::Smtp, _) => "by SMTP".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(address: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("users", "joe\n"),
            ("aliases", "all: joe, x@far.example\nbad: |cmd\n"),
            ("transport", "far.example smtp:[192.0.2.1]:2525\nno.example error:not here\n"),
            ("tls_policy", "[192.0.2.1] secure match=far.example\n"),
            ("relay_credentials", "login.example me:hush\nopen.example insecure me:hush\n"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let text = "hostname = \"mx.here.example\"\nmail_name = \"here.example\"\n\
            [local]\nusers = \"users\"\naliases = \"aliases\"\nmailbox = \"/m/{user}/\"\n\
            [deliverd]\ntransport = \"transport\"\ntls_policy = \"tls_policy\"\n\
            relay_credentials = \"relay_credentials\"\n";
        let config = Config::parse(text, "x".as_ref(), folder.path()).unwrap();
        let router = Tables::load(&config).unwrap().router();
        explain(
            &router,
            &config,
            &policies(&config).unwrap(),
            &Address::parse_or_complete(address, &config.mail_name).unwrap(),
        )
    }

    #[test]
    fn every_step_is_told() {
        for (address, parts) in [
            (
                "joe",
                &["address     joe@here.example\n", "local: its", "joe@here.example → local:", "/m/{user}/"]
                    [..],
            ),
            ("nobody-such", &["exists      no: there is neither"]),
            (
                "all",
                &[
                    "aliases     joe@here.example, x@far.example\n",
                    "→ smtp:[192.0.2.1]:2525\n",
                    "port 2525\n",
                    "tls         secure match=far.example (by the table tls_policy)\n",
                ],
            ),
            ("bad", &["aliases     4.3.5 alias cannot be used"]),
            (
                "a@else.example",
                &[
                    "default: somebody",
                    "→ smtp:else.example\n",
                    "MX of else.example, port 25\n",
                    "tls         may (by [deliverd] tls)\n",
                ],
            ),
            (
                "a@login.example",
                &[
                    "tls         secure (because a password is sent)\n",
                    "login       as me (by the line login.example of relay_credentials)\n",
                ],
            ),
            ("a@open.example", &["tls         may (by [deliverd] tls)\n", "login       as me ("]),
            ("a@no.example", &["→ error:not here\n", "refused with"]),
        ] {
            let text = explained(address);
            for part in parts {
                assert!(text.contains(part), "{address}: no {part:?} in\n{text}");
                assert!(!text.contains("hush"));
            }
        }
    }
}
