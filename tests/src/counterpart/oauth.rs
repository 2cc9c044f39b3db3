//! A provider of OAuth 2.0 tokens, in Python: a token endpoint (RFC 6749) that replaces refresh tokens each time, and introspection (RFC 7662),
//! over HTTPS; introspection without proof also over plain HTTP, for servers that are not asked in earnest.
//!
//! How it behaves is said in a file that it reads at each request ([`Provider::behave`]). What it was asked is in its output.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::certificates::Authority;
use crate::process::Process;
use crate::tools::python;

const SCRIPT: &str = r#"
import base64, json, ssl, sys, threading, time, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
host, folder = sys.argv[1:]
lock = threading.Lock()
refresh, grants, tokens = 0, 0, {}

def say(*words):
    print(*words, flush=True)

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, value):
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def proven(self, form):
        given = self.headers.get("Authorization", "")
        if given.startswith("Basic "):
            name, secret = base64.b64decode(given[6:]).decode().split(":", 1)
            name, secret = urllib.parse.unquote_plus(name), urllib.parse.unquote_plus(secret)
        else:
            name, secret = form.get("client_id"), form.get("client_secret")
        return (name, secret) == ("ironpost", "client+secret/1")

    def do_POST(self):
        global refresh, grants
        length = int(self.headers.get("Content-Length", 0))
        form = dict(urllib.parse.parse_qsl(self.rfile.read(length).decode()))
        with open(folder + "/behave.json") as file:
            behave = json.load(file)
        if behave.get("delay"):
            time.sleep(behave["delay"])
        if behave.get("raw") is not None:
            say("raw", self.path)
            return self.answer(behave.get("status", 200), behave["raw"])
        with lock:
            if self.path == "/token":
                if not self.proven(form):
                    say("unproven")
                    return self.answer(401, {"error": "invalid_client"})
                if form["grant_type"] == "refresh_token" and form["refresh_token"] != "refresh-%d" % refresh:
                    say("wrong", form["refresh_token"])
                    return self.answer(400, {"error": "invalid_grant", "error_description": form["refresh_token"] + " is used up"})
                grants += 1
                token = "access-%d" % grants
                life = behave.get("life", 3600)
                tokens[token] = time.time() + life
                given = {"access_token": token, "token_type": "Bearer", "expires_in": life}
                if form["grant_type"] == "refresh_token":
                    refresh += 1
                    given["refresh_token"] = "refresh-%d" % refresh
                say("granted", form["grant_type"], token, form.get("scope", "-"))
                return self.answer(200, given)
            if self.path == "/introspect" and not self.proven(form):
                say("unproven")
                return self.answer(401, {"error": "invalid_client"})
            token = form.get("token", "")
            active = token in tokens or token in behave.get("known", [])
            active = active and token not in behave.get("revoked", [])
            say("introspected", token, active)
            if not active:
                return self.answer(200, {"active": False})
            said = {"active": True, "username": "alice", "scope": "mail other", "exp": int(tokens.get(token, time.time() + 600))}
            said.update(behave.get("claims", {}))
            return self.answer(200, {key: value for key, value in said.items() if value is not None})

def serve(context):
    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
say("listening", serve(context), serve(None))
threading.Event().wait()
"#;

/// A running one. It knows one client: `ironpost`, whose secret is [`CLIENT_SECRET`].
#[derive(Debug)]
pub struct Provider {
    /// Prints `granted GRANT_TYPE TOKEN SCOPE`, `wrong REFRESH_TOKEN`, `introspected TOKEN True|False`, `unproven`, `raw PATH`.
    pub process: Process,
    folder: TempDir,
    secure: SocketAddr,
    open: SocketAddr,
}

/// Proves the client.
pub const CLIENT_SECRET: &str = "client+secret/1";

impl Provider {
    /// Starts one with a certificate of this authority. Its first refresh token is `refresh-0`, its first access token `access-1`.
    pub fn start(address: Ipv4Addr, ca: &Authority) -> Self {
        let folder = tempfile::Builder::new().prefix("ironpost-oauth-").tempdir().unwrap();
        ca.issue(&[&address.to_string()]).write(folder.path());
        behave(folder.path(), "{}");
        let mut command = python();
        command.args(["-c", SCRIPT, &address.to_string()]).arg(folder.path());
        let process = Process::start(&mut command);
        let ports = process.out.wait("the ports of the provider", |line| {
            let (secure, open) = line.strip_prefix("listening ")?.split_once(' ')?;
            Some((secure.parse().ok()?, open.parse().ok()?))
        });
        let at = |port: u16| SocketAddr::from((address, port));
        Self { process, folder, secure: at(ports.0), open: at(ports.1) }
    }

    /// An address for this path, by HTTPS.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.secure)
    }

    /// Introspection without proof, by plain HTTP.
    pub fn open_introspection(&self) -> String {
        format!("http://{}/open", self.open)
    }

    /// From now on it behaves so: JSON with `life` (seconds, of tokens), `revoked` and `known` (lists of access tokens), `claims` (added to what
    /// introspection says; null takes away), `delay` (seconds), `raw` and `status` (the answer to everything).
    pub fn behave(&self, how: &str) {
        behave(self.folder.path(), how);
    }

    /// Where its files are.
    pub fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

fn behave(folder: &Path, how: &str) {
    let new = folder.join("behave.new");
    fs::write(&new, how).unwrap();
    fs::rename(new, folder.join("behave.json")).unwrap();
}
