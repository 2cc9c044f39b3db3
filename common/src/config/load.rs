//! From a file to a complete [`Config`].

use super::{Config, ConfigError, ListenKind, ListenTls, LogTo, Restrictions, Smtpd, Users};
use crate::address::Domain;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Largest configuration file that is read, in octets.
const MAX_FILE: u64 = 4 << 20;
/// Most threads that a daemon is told to serve with.
const MAX_WORKERS: u16 = 1024;

impl Config {
    /// Reads the file, which must be there: every key is optional, the file is not.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let meta = fs::metadata(path).map_err(|e| ConfigError::unreadable(path, &e))?;
        if meta.len() > MAX_FILE {
            return Err(ConfigError::at(path, "", None, "larger than 4 MiB: this is no configuration file"));
        }
        let bytes = fs::read(path).map_err(|e| ConfigError::unreadable(path, &e))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let spot = e.utf8_error().valid_up_to();
            let shown = String::from_utf8_lossy(e.as_bytes());
            ConfigError::at(
                path,
                &shown,
                Some(spot..spot + char::REPLACEMENT_CHARACTER.len_utf8()),
                "not UTF-8: save the file in this encoding",
            )
        })?;
        let folder = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self::parse(&text, path, folder.parent().unwrap_or(Path::new("/")))
    }

    /// Reads a text; `path` is for messages, `folder` for relative paths.
    pub fn parse(text: &str, path: &Path, folder: &Path) -> Result<Self, ConfigError> {
        let mut config: Self =
            toml::from_str(text).map_err(|e| ConfigError::at(path, text, e.span(), e.message()))?;
        let table = DeTable::parse(text).map_err(|e| ConfigError::at(path, text, e.span(), e.message()))?;
        let table = table.get_ref();
        let bad = config.bad_credential();
        config.complete(table, folder);
        if let Some((number, message)) = config.listener_problem() {
            let span = span_of_listener(table, number);
            return Err(ConfigError::at(path, text, span, &message));
        }
        match bad.or_else(|| config.problem()) {
            None => Ok(config),
            Some((keys, message)) => Err(ConfigError::at(path, text, span_of(table, keys), &message)),
        }
    }

    /// A credential has a plain name: a path would lead out of the folder. Before names become paths.
    fn bad_credential(&self) -> Option<(&'static [&'static str], String)> {
        let tls = &self.smtpd.tls;
        let first: [(&'static [&'static str], _); 3] = [
            (&["smtpd", "tls", "certificate"], tls.certificate.as_ref()),
            (&["smtpd", "tls", "private_key"], tls.private_key.as_ref()),
            (&["deliverd", "relay_credentials"], self.deliverd.relay_credentials.as_ref()),
        ];
        let keys: &'static [&'static str] = &["smtpd", "tls", "certificates"];
        let others = tls.certificates.iter().flat_map(|one| [&one.certificate, &one.private_key]);
        let mut all = first.into_iter().chain(others.map(|path| (keys, Some(path))));
        all.find_map(|(keys, path)| {
            let name = path?.to_str()?.strip_prefix("credential:")?;
            let plain = !name.is_empty() && !name.contains('/') && !matches!(name, "." | "..");
            let text = format!("\"credential:{name}\": wanted credential:NAME, as after LoadCredential=");
            (!plain).then_some((keys, text))
        })
    }

    /// The defaults that depend on the machine or on other keys, and absolute paths.
    fn complete(&mut self, given: &DeTable<'_>, folder: &Path) {
        if !given.contains_key("mail_name") {
            let named = fs::read_to_string("/etc/mailname").ok().and_then(|t| t.trim().parse().ok());
            self.mail_name = named.unwrap_or_else(|| self.hostname.clone());
        }
        if !given.contains_key("local_domains") {
            self.local_domains = self.default_local_domains();
        }
        let absolute = |path: &mut PathBuf| *path = folder.join(&*path);
        absolute(&mut self.spool_directory);
        absolute(&mut self.local.aliases);
        let deliverd = &mut self.deliverd;
        let secret = |path: &mut PathBuf, unit: &str| match credential(path, unit) {
            Some(credential) => *path = credential,
            None => absolute(path),
        };
        deliverd.relay_credentials.iter_mut().for_each(|path| secret(path, "ironpost-deliverd-smtp"));
        for path in [&mut deliverd.transport, &mut deliverd.tls_policy, &mut deliverd.ca_file] {
            path.iter_mut().for_each(absolute);
        }
        self.smtpd.restrictions.tables_mut().for_each(absolute);
        self.smtpd.submission_restrictions.tables_mut().for_each(absolute);
        self.smtpd.sender_logins.iter_mut().for_each(absolute);
        self.smtpd.relay_recipients.iter_mut().for_each(absolute);
        if self.smtpd.nameservers.is_empty() {
            self.smtpd.nameservers.clone_from(&self.deliverd.nameservers);
        }
        self.queued.notification_templates.iter_mut().for_each(absolute);
        let tls = &mut self.smtpd.tls;
        [&mut tls.client_ca_file, &mut tls.relay_clientcerts].into_iter().flatten().for_each(absolute);
        let pair = [&mut tls.certificate, &mut tls.private_key].into_iter().flatten();
        let others = tls.certificates.iter_mut().flat_map(|one| [&mut one.certificate, &mut one.private_key]);
        pair.chain(others).for_each(|path| secret(path, "ironpost-smtpd"));
        if let Users::File(file) = &mut self.local.users {
            absolute(file);
        }
        self.smtpd.auth.path_mut().into_iter().for_each(absolute);
        self.smtpd.auth.introspection.paths_mut().for_each(absolute);
        if let LogTo::File(file) = &mut self.log.to {
            absolute(file);
        }
        if !self.local.mailbox.starts_with(['/', '{']) {
            self.local.mailbox = format!("{}/{}", folder.display(), self.local.mailbox);
        }
    }

    fn default_local_domains(&self) -> Vec<Domain> {
        let mut domains = vec![self.mail_name.clone()];
        for domain in [Some(self.hostname.clone()), "localhost".parse().ok()].into_iter().flatten() {
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        domains
    }

    /// What the types cannot say: the first key that makes no sense, and why.
    fn problem(&self) -> Option<(&'static [&'static str], String)> {
        let zero = |keys: &'static [&'static str], is_zero: bool| {
            is_zero.then(|| (keys, format!("{} must not be 0", keys.last().unwrap_or(&""))))
        };
        let too_many = |keys: &'static [&'static str], workers: u16| {
            (workers > MAX_WORKERS).then(|| (keys, format!("workers must be {MAX_WORKERS} at most")))
        };
        zero(&["smtpd", "recipient_limit"], self.smtpd.recipient_limit == 0)
            .or(zero(&["smtpd", "max_connections"], self.smtpd.max_connections == 0))
            .or(zero(&["smtpd", "max_connections_per_client"], self.smtpd.max_connections_per_client == 0))
            .or(zero(&["smtpd", "max_submission_connections"], self.smtpd.max_submission_connections == 0))
            .or(zero(&["smtpd", "idle_timeout"], self.smtpd.idle_timeout.is_zero()))
            .or(zero(&["smtpd", "greylist", "entries"], self.smtpd.greylist.entries == 0))
            .or(zero(&["queued", "first_retry"], self.queued.first_retry.is_zero()))
            .or(zero(&["queued", "destinations", "concurrency"], self.queued.destinations.concurrency == 0))
            .or(zero(&["queued", "destinations", "recipients"], self.queued.destinations.recipients == 0))
            .or(zero(&["deliverd", "smtp_port"], self.deliverd.smtp_port == 0))
            .or(too_many(&["smtpd", "workers"], self.smtpd.workers))
            .or(too_many(&["deliverd", "workers"], self.deliverd.workers))
            .or_else(|| self.other_problem())
    }

    /// A listener that nobody could use: its number, and why.
    fn listener_problem(&self) -> Option<(usize, String)> {
        let nobody = self.smtpd.auth.users.is_none() && self.smtpd.auth.introspection.url.is_none();
        self.smtpd.listen.iter().enumerate().find_map(|(number, listen)| {
            let login = listen.auth || listen.kind == ListenKind::Submission;
            let what = if listen.auth { "auth = true" } else { "kind = \"submission\"" };
            let message = match listen {
                _ if login && nobody => format!("{what}, and nobody can log in: set users in [smtpd.auth]"),
                _ if login && listen.tls == ListenTls::None && !listen.auth_without_tls => format!(
                    "{what} with tls = \"none\": nobody could log in; choose another tls, or auth_without_tls = true in \
                     a network where nobody listens"
                ),
                _ if listen.auth_without_tls && !login => {
                    "auth_without_tls where nobody can log in: kind = \"submission\" or auth = true is missing".into()
                }
                _ if listen.hide_client && !login => {
                    "hide_client hides who has logged in only: kind = \"submission\" or auth = true is missing".into()
                }
                _ => return None,
            };
            Some((number, message))
        })
    }

    fn smtpd_problem(&self) -> Option<(&'static [&'static str], String)> {
        use super::restrictions::{Check, Plain};
        let Smtpd { dnsbl, greylist, .. } = &self.smtpd;
        if (1..64 << 10).contains(&self.smtpd.line_length_limit.0) {
            let text = "line_length_limit must be \"64K\" at least, or \"0\" for no limit";
            return Some((&["smtpd", "line_length_limit"], text.into()));
        }
        if self.smtpd.memory_limit.0 < 1 << 20 {
            return Some((&["smtpd", "memory_limit"], "memory_limit must be \"1M\" at least".into()));
        }
        if dnsbl.threshold < 1 {
            return Some((&["smtpd", "dnsbl", "threshold"], "threshold must be 1 at least".into()));
        }
        let weighs = |lists: &Restrictions| lists.uses(|check| *check == Check::Plain(Plain::Dnsbl));
        let wanted = self.smtpd.all_restrictions().into_iter().any(weighs);
        if wanted && dnsbl.sites.is_empty() {
            let text = "reject_dnsbl is in use, and there are no sites in [smtpd.dnsbl]";
            return Some((&["smtpd", "restrictions"], text.into()));
        }
        if !wanted && !dnsbl.sites.is_empty() {
            let text =
                "sites are for the restriction \"reject_dnsbl\", which no list in [smtpd.restrictions] has";
            return Some((&["smtpd", "dnsbl", "sites"], text.into()));
        }
        if greylist.retry_window <= greylist.delay {
            return Some((
                &["smtpd", "greylist", "retry_window"],
                "retry_window must be longer than delay: nobody would come back in time".into(),
            ));
        }
        if let Some((key, message)) = self.smtpd.auth.problem() {
            return Some((key, message));
        }
        if dnsbl.sites.len() > 50 {
            return Some((&["smtpd", "dnsbl", "sites"], "50 sites at most".into()));
        }
        None
    }

    /// What is said about clients' certificates must be able to have an effect.
    fn client_certificate_problem(&self) -> Option<(&'static [&'static str], String)> {
        use super::restrictions::{Check, Plain, Subject};
        use super::{ClientCertificates, ListenTls};
        let Smtpd { listen, tls, restrictions, .. } = &self.smtpd;
        let asks = |one: &&super::Listen| one.client_certificate != ClientCertificates::None;
        if listen.iter().filter(asks).any(|one| one.tls == ListenTls::None) {
            let text = "client_certificate needs TLS, and a listener with it has tls = \"none\"";
            return Some((&["smtpd", "listen"], text.into()));
        }
        let uses = |plain| restrictions.uses(|check| *check == Check::Plain(plain));
        if uses(Plain::PermitTlsClientcerts) && tls.relay_clientcerts.is_none() {
            let text = "permit_tls_clientcerts goes by [smtpd.tls] relay_clientcerts, which is not set";
            return Some((&["smtpd", "restrictions"], text.into()));
        }
        if uses(Plain::PermitTlsAllClientcerts) && tls.client_ca_file.is_none() {
            let text = "permit_tls_all_clientcerts goes by [smtpd.tls] client_ca_file, which is not set";
            return Some((&["smtpd", "restrictions"], text.into()));
        }
        let text = "no listener asks clients for certificates: set client_certificate in [[smtpd.listen]]";
        let wanted = restrictions.uses(|check| matches!(check, Check::Access(Subject::Certificate, _)));
        (wanted && !listen.iter().any(|one| asks(&one)))
            .then(|| (&["smtpd", "restrictions"] as &[&str], text.into()))
    }

    fn other_problem(&self) -> Option<(&'static [&'static str], String)> {
        if self.hostname.literal().is_some() {
            return Some((&["hostname"], "hostname must be a name, not an address literal".into()));
        }
        if self.mail_name.literal().is_some() {
            return Some((&["mail_name"], "mail_name must be a name, not an address literal".into()));
        }
        if let Some(problem) = self.client_certificate_problem() {
            return Some(problem);
        }
        match (&self.smtpd.tls.certificate, &self.smtpd.tls.private_key) {
            (Some(_), None) => {
                return Some((
                    &["smtpd", "tls", "certificate"],
                    "private_key is missing: a certificate needs its key".into(),
                ));
            }
            (None, Some(_)) => {
                return Some((
                    &["smtpd", "tls", "private_key"],
                    "certificate is missing: a key needs its certificate".into(),
                ));
            }
            _ => {}
        }
        if self.queued.max_retry < self.queued.first_retry {
            return Some((&["queued", "max_retry"], "max_retry is shorter than first_retry".into()));
        }
        if self.queued.destinations.recipients > 50 {
            return Some((&["queued", "destinations", "recipients"], "recipients can be 50 at most".into()));
        }
        if let Some(problem) = self.smtpd_problem() {
            return Some(problem);
        }
        let both = self.local_domains.iter().find(|domain| self.relay_domains.contains(domain));
        if let Some(domain) = both {
            return Some((
                &["relay_domains"],
                format!("{domain} is in local_domains as well: it can be one or the other"),
            ));
        }
        if let Err(message) = check_template(&self.local.mailbox) {
            return Some((&["local", "mailbox"], message));
        }
        let name = &self.log.name;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) {
            return Some((
                &["log", "name"],
                "name must be 1 to 32 letters, digits, \"-\", \"_\" or \".\"".into(),
            ));
        }
        None
    }
}

/// `credential:NAME`: what systemd's `LoadCredential=NAME:…` has put there for this service, or puts there for this unit (systemd.exec(5)).
fn credential(path: &Path, unit: &str) -> Option<PathBuf> {
    let name = path.to_str()?.strip_prefix("credential:")?;
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    Some(folder.unwrap_or_else(|| format!("/run/credentials/{unit}.service").into()).join(name))
}

/// Placeholders that exist, each a whole or part of one path component; `{home}` only at the start.
fn check_template(template: &str) -> Result<(), String> {
    let mut rest = template;
    let mut user = false;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, after) = tail.split_once('}').ok_or("mailbox: a \"{\" without \"}\"")?;
        match name {
            "user" | "home" => user = true,
            "domain" | "extension" => {}
            other => {
                return Err(format!(
                    "mailbox: {{{other}}} is not known: there are {{user}} {{domain}} {{home}} {{extension}}"
                ));
            }
        }
        if name == "home" && (!before.is_empty() || rest.len() != template.len()) {
            return Err("mailbox: {home} can only stand at the beginning".into());
        }
        rest = after;
    }
    if !user {
        return Err("mailbox: without {user} or {home} everybody would share one mailbox".into());
    }
    if rest.contains('}') || template.split('/').any(|part| part == "..") {
        return Err("mailbox: neither \"..\" nor a lone \"}\" may stand in it".into());
    }
    Ok(())
}

/// Where a listener stands.
fn span_of_listener(table: &DeTable<'_>, number: usize) -> Option<Range<usize>> {
    let DeValue::Table(smtpd) = table.get("smtpd")?.get_ref() else { return None };
    let listen = smtpd.get("listen")?;
    match listen.get_ref() {
        DeValue::Array(listeners) => Some(listeners.get(number)?.span()),
        _ => Some(listen.span()),
    }
}

/// Where the value of a key stands; that of its section where the key is absent.
fn span_of(table: &DeTable<'_>, keys: &[&str]) -> Option<Range<usize>> {
    let (first, rest) = keys.split_first()?;
    let value = table.get(*first)?;
    match value.get_ref() {
        DeValue::Table(inner) if !rest.is_empty() => span_of(inner, rest).or(Some(value.span())),
        _ => Some(value.span()),
    }
}

/// This machine's full name: gethostname(2), completed from /etc/hosts when it has no dot; `localhost` when it is no name at all.
pub(super) fn machine_name() -> Domain {
    let short = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let full = if short.contains('.') {
        None
    } else {
        full_name(&short, &fs::read_to_string("/etc/hosts").unwrap_or_default())
    };
    full.unwrap_or(short)
        .parse()
        .or_else(|_| "localhost".parse())
        .unwrap_or_else(|_| Domain::from(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)))
}

/// The first dotted name on the line of hosts(5) that has `short` among its names.
fn full_name(short: &str, hosts: &str) -> Option<String> {
    hosts.lines().find_map(|line| {
        let names = || line.split('#').next().unwrap_or("").split_whitespace().skip(1);
        if names().any(|name| name == short) {
            names().find(|name| name.contains('.')).map(str::to_owned)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_name_is_found_in_hosts() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 mail.example.com mail # me\n";
        assert_eq!(full_name("mail", hosts).as_deref(), Some("mail.example.com"));
        assert_eq!(full_name("localhost", hosts), None);
        assert_eq!(full_name("other", hosts), None);
    }
}
