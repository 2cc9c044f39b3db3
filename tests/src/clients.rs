//! Real clients: swaks, curl and Python's smtplib.

use std::net::SocketAddr;
use std::process::Command;

use crate::process::{Output, run};
use crate::tools::python;

/// Sends a message (header and body, LF line ends) with swaks.
pub fn swaks(server: SocketAddr, from: &str, to: &[&str], message: &str, more: &[&str]) -> Output {
    let mut command = Command::new("swaks");
    command.args(["--server", &server.ip().to_string(), "--port", &server.port().to_string()]);
    command.args(["--helo", "client.test", "--from", from, "--to", &to.join(","), "--data", "-"]).args(more);
    run(&mut command, message.as_bytes())
}

/// Sends a message (CRLF line ends) with curl.
pub fn curl(server: SocketAddr, from: &str, to: &[&str], message: &str) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--url", &format!("smtp://{server}/client.test")]);
    command.args(["--mail-from", from]);
    for recipient in to {
        command.args(["--mail-rcpt", recipient]);
    }
    command.args(["--upload-file", "-"]);
    run(&mut command, message.as_bytes())
}

/// Sends a message (CRLF line ends) with Python's smtplib.
pub fn smtplib(server: SocketAddr, from: &str, to: &[&str], message: &[u8]) -> Output {
    const SCRIPT: &str = "
import smtplib, sys
host, port, sender, *recipients = sys.argv[1:]
with smtplib.SMTP(host, int(port), local_hostname='client.test') as smtp:
    refused = smtp.sendmail(sender, recipients, sys.stdin.buffer.read(), mail_options=['BODY=8BITMIME'])
    assert not refused, refused
";
    let mut command = python();
    command.args(["-c", SCRIPT, &server.ip().to_string(), &server.port().to_string(), from]).args(to);
    run(&mut command, message)
}
