//! Which files a daemon reads that may be for root alone.

use super::Config;
use crate::reload::Daemon;
use std::path::Path;

impl Config {
    /// Those of one daemon: opened before it drops privileges, and again by `ironpost reload`.
    pub fn secrets(&self, daemon: Daemon) -> Vec<&Path> {
        let tls = &self.smtpd.tls;
        match daemon {
            Daemon::Smtpd => {
                let first = [tls.certificate.as_deref(), tls.private_key.as_deref()].into_iter().flatten();
                let others = tls.certificates.iter();
                let users = self.smtpd.auth.users_file();
                first
                    .chain(others.flat_map(|one| [&*one.certificate, &*one.private_key]))
                    .chain(users)
                    .chain(self.smtpd.auth.introspection.client_secret.as_deref())
                    .collect()
            }
            Daemon::DeliverdSmtp => self.deliverd.relay_credentials.as_deref().into_iter().collect(),
            Daemon::Queued | Daemon::DeliverdLocal => Vec::new(),
        }
    }
}
