//! Python's aiosmtpd as a provider: STARTTLS and a login are a must, PLAIN and LOGIN are offered.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::process::Process;
use crate::tools::python;

const SCRIPT: &str = r#"
import asyncio, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
host, certificate, key, user, password = sys.argv[1:]

def check(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == (user, password)
    print("login", mechanism, good, flush=True)
    return AuthResult(success=good)

class Handler:
    async def handle_DATA(self, server, session, envelope):
        print("taken", envelope.mail_from, *envelope.rcpt_tos, session.ssl["cipher"][1], flush=True)
        return "250 2.0.0 taken"

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)

async def main():
    loop = asyncio.get_running_loop()
    make = lambda: SMTP(Handler(), hostname="aiosmtpd.test", tls_context=context, require_starttls=True,
                        authenticator=check, auth_required=True, auth_require_tls=True)
    server = await loop.create_server(make, host, 0)
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"#;

/// A running one.
#[derive(Debug)]
pub struct Aiosmtpd {
    /// Prints `login MECHANISM True|False` and `taken SENDER RECIPIENT… TLS-VERSION`.
    pub process: Process,
    address: SocketAddr,
}

impl Aiosmtpd {
    /// Starts one with the certificate in this folder (see [`crate::certificates::Certificate::write`]), for one user.
    pub fn start(address: Ipv4Addr, folder: &Path, user: &str, password: &str) -> Self {
        let mut command = python();
        command.args(["-c", SCRIPT, &address.to_string()]);
        command.arg(folder.join("cert.pem")).arg(folder.join("key.pem")).args([user, password]);
        let process = Process::start(&mut command);
        let port =
            process.out.wait("the port of aiosmtpd", |line| line.strip_prefix("listening ")?.parse().ok());
        Self { process, address: SocketAddr::from((address, port)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
