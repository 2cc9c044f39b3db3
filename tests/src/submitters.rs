//! Real mail programs that log in and submit: each over STARTTLS or implicit TLS, believing one authority only.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::process::{Output, run};
use crate::tools::{python, unpacked};

/// Where to, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// The listener; its certificate names 127.0.0.1.
    pub server: SocketAddr,
    /// TLS from the first octet?
    pub implicit: bool,
    /// The file with the authority's certificate.
    pub ca: &'a Path,
    /// A folder for configuration files.
    pub folder: &'a Path,
    /// Who logs in.
    pub user: &'a str,
    /// With what.
    pub password: &'a str,
    /// The reverse-path.
    pub from: &'a str,
    /// The forward-path.
    pub to: &'a str,
}

impl Account<'_> {
    fn ca(&self) -> String {
        self.ca.display().to_string()
    }

    fn port(&self) -> String {
        self.server.port().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

/// curl, with a mechanism of its choice or this one; `message` as it is.
pub fn curl(account: Account<'_>, mechanism: Option<&str>, message: &[u8]) -> Output {
    let scheme = if account.implicit { "smtps" } else { "smtp" };
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--ssl-reqd", "--cacert", &account.ca()])
        .args(["--url", &format!("{scheme}://{}/client.test", account.server)])
        .args(["--user", &format!("{}:{}", account.user, account.password)])
        .args(["--mail-from", account.from, "--mail-rcpt", account.to, "--upload-file", "-"]);
    if let Some(mechanism) = mechanism {
        command.args(["--login-options", &format!("AUTH={mechanism}")]);
    }
    run(&mut command, message)
}

/// swaks, with this mechanism; `message` with LF line ends, of which it adds one itself.
pub fn swaks(account: Account<'_>, mechanism: &str, message: &str) -> Output {
    let tls = if account.implicit { "--tls-on-connect" } else { "--tls" };
    let more = [tls, "--tls-ca-path", &account.ca(), "--tls-verify", "--auth", mechanism];
    let login = ["--auth-user", account.user, "--auth-password", account.password];
    let more: Vec<&str> = more.into_iter().chain(login).collect();
    let message = message.strip_suffix('\n').unwrap_or(message);
    crate::clients::swaks(account.server, account.from, &[account.to], message, &more)
}

/// Python's smtplib; `message` as it is, by this mechanism (`plain`, `login`).
pub fn smtplib(account: Account<'_>, mechanism: &str, message: &[u8]) -> Output {
    const SCRIPT: &str = "
import smtplib, ssl, sys
host, port, implicit, ca, mechanism, user, password, sender, recipient = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if implicit == 'yes':
    smtp = smtplib.SMTP_SSL(host, int(port), local_hostname='client.test', context=context)
else:
    smtp = smtplib.SMTP(host, int(port), local_hostname='client.test')
    smtp.ehlo()
    assert not smtp.has_extn('auth')
    smtp.starttls(context=context)
smtp.ehlo()
smtp.user, smtp.password = user, password
print(smtp.auth(mechanism, getattr(smtp, 'auth_' + mechanism)))
smtp.sendmail(sender, [recipient], sys.stdin.buffer.read())
smtp.quit()
";
    let Account { server, implicit, user, password, from, to, .. } = account;
    let implicit = if implicit { "yes" } else { "no" };
    let mut command = python();
    command.args(["-c", SCRIPT, &server.ip().to_string(), &account.port(), implicit, &account.ca()]);
    command.args([mechanism, user, password, from, to]);
    run(&mut command, message)
}

/// msmtp, by this mechanism (`plain`, `scram-sha-256`, …); `message` with LF line ends.
pub fn msmtp(account: Account<'_>, mechanism: &str, message: &str) -> Output {
    let Account { server, implicit, user, password, from, to, .. } = account;
    let starttls = if implicit { "off" } else { "on" };
    let text = format!(
        "account default\nhost {}\nport {}\ndomain client.test\nfrom {from}\nauth {mechanism}\nuser {user}\npassword {password}\n\
         tls on\ntls_starttls {starttls}\ntls_trust_file {}\n",
        server.ip(),
        server.port(),
        account.ca()
    );
    let file = account.write("msmtprc", &text);
    let mut command = Command::new("msmtp");
    command.args(["-C", &file, to]).env("HOME", account.folder);
    run(&mut command, message.as_bytes())
}

/// As in a URL.
fn percent(text: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric();
    text.bytes()
        .map(|octet| if plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") })
        .collect()
}

/// s-nail, by this mechanism (`plain`, `login`); `body` with LF line ends.
pub fn s_nail(account: Account<'_>, mechanism: &str, subject: &str, body: &str) -> Output {
    let Account { server, implicit, user, password, from, to, .. } = account;
    let scheme = if implicit { "smtps" } else { "submission" };
    let mut command = Command::new("s-nail");
    command.env("HOME", account.folder).env("LC_ALL", "C.UTF-8").env_remove("MAILRC");
    command.args([
        "-:/",
        "-Sv15-compat",
        "-Snosave",
        "-Ssendwait",
        "-Shostname=client.test",
        "-Stls-verify=strict",
    ]);
    // It does not look for addresses in certificates.
    let (user, password, port) = (percent(user), percent(password), server.port());
    command.arg(format!("-Smta={scheme}://{user}:{password}@localhost:{port}"));
    command.arg(format!("-Ssmtp-auth={mechanism}"));
    if !implicit {
        command.arg("-Ssmtp-use-starttls");
    }
    command.arg(format!("-Stls-ca-file={}", account.ca())).arg("-Stls-ca-no-defaults");
    command.args(["-r", from, "-s", subject, to]);
    run(&mut command, body.as_bytes())
}

/// mutt, by this mechanism (`plain`, `scram-sha-256`); `body` with LF line ends, `hidden` in Bcc.
pub fn mutt(account: Account<'_>, mechanism: &str, subject: &str, body: &str, hidden: &str) -> Output {
    let Account { server, implicit, user, password, from, to, .. } = account;
    let scheme = if implicit { "smtps" } else { "smtp" };
    let text = format!(
        "set smtp_url=\"{scheme}://{user}@{server}/\"\nset smtp_pass=\"{password}\"\nset smtp_authenticators=\"{mechanism}\"\n\
         set ssl_starttls=yes\nset ssl_force_tls=yes\nset ssl_ca_certificates_file=\"{}\"\nset certificate_file=\"\"\nset from=\"{from}\"\nset use_envelope_from=yes\n\
         set hostname=client.test\nset copy=no\nset write_bcc=yes\nset record=\"\"\n",
        account.ca()
    );
    let file = account.write("muttrc", &text);
    let mut command = Command::new("mutt");
    command.env("HOME", account.folder).env("LC_ALL", "C.UTF-8").env("TERM", "dumb");
    command.args(["-n", "-F", &file, "-s", subject, "-b", hidden, "--", to]);
    run(&mut command, body.as_bytes())
}

/// nodemailer; `body` with LF line ends.
pub fn nodemailer(account: Account<'_>, mechanism: &str, subject: &str, body: &str) -> Output {
    const SCRIPT: &str = "
const [host, port, implicit, ca, method, user, pass, from, to, subject, text] = process.argv.slice(1);
const transport = require('nodemailer').createTransport({
  host, port: Number(port), secure: implicit === 'yes', requireTLS: true, name: 'client.test',
  authMethod: method, auth: { user, pass }, tls: { ca: require('fs').readFileSync(ca) },
});
transport.sendMail({ from, to, subject, text }).then(
  (info) => { console.log(info.response); transport.close(); },
  (error) => { console.error(error.message); process.exit(1); });
";
    let Account { server, implicit, user, password, from, to, .. } = account;
    let implicit = if implicit { "yes" } else { "no" };
    let mut command = Command::new("node");
    command.env("NODE_PATH", unpacked().join("node-nodemailer/usr/share/nodejs"));
    command.args(["-e", SCRIPT, "--", &server.ip().to_string(), &account.port(), implicit, &account.ca()]);
    command.args([mechanism, user, password, from, to, subject, body]);
    run(&mut command, b"")
}
