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

/// Sends a message as it is with Python's smtplib, its content by BDAT in chunks of so many octets (RFC 3030).
pub fn smtplib_bdat(server: SocketAddr, from: &str, to: &[&str], message: &[u8], chunk: usize) -> Output {
    const SCRIPT: &str = "
import smtplib, sys

class Chunking(smtplib.SMTP):
    def data(self, message):
        assert self.has_extn('chunking')
        at = 0
        while True:
            part = message[at:at + size]
            at += len(part)
            last = at == len(message)
            self.send(b'BDAT %d%s\\r\\n' % (len(part), b' LAST' if last else b''))
            self.send(part)
            code, text = self.getreply()
            if last or code != 250:
                return code, text

host, port, size, sender, *recipients = sys.argv[1:]
size = int(size)
with Chunking(host, int(port), local_hostname='client.test') as smtp:
    refused = smtp.sendmail(sender, recipients, sys.stdin.buffer.read(), mail_options=['BODY=8BITMIME'])
    assert not refused, refused
";
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let mut command = python();
    command.args(["-c", SCRIPT, &host, &port, &chunk.to_string(), from]).args(to);
    run(&mut command, message)
}

/// Sends a message as it is with Python's smtplib and SMTPUTF8 (RFC 6531): addresses and header may be UTF-8.
pub fn smtplib_utf8(server: SocketAddr, from: &str, to: &[&str], message: &[u8]) -> Output {
    const SCRIPT: &str = "
import os, smtplib, sys
host, port, sender, *recipients = (os.fsencode(word).decode('utf-8') for word in sys.argv[1:])
with smtplib.SMTP(host, int(port), local_hostname='client.test') as smtp:
    smtp.ehlo()
    assert smtp.has_extn('smtputf8')
    options = ['SMTPUTF8', 'BODY=8BITMIME']
    refused = smtp.sendmail(sender, recipients, sys.stdin.buffer.read(), mail_options=options)
    assert not refused, refused
";
    let mut command = python();
    command.args(["-c", SCRIPT, &server.ip().to_string(), &server.port().to_string(), from]).args(to);
    run(&mut command, message)
}
