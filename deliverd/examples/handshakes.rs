//! How many TLS handshakes with servers one core makes in a second, full ones and resumed ones, the server's half
//! included: client and server in one thread, over memory. For `make bench`.
//!
//! Each is a handshake of `deliverd smtp` as it is: the certificate is judged at level `secure` every time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use common::destination::Nexthop;
use common::tls::{Level, Policy, Roots, provider};
use deliverd::smtp::client::Peer;
use deliverd::smtp::tls::Security;
use deliverd::smtp::tls::handshake::Secure;
use deliverd::smtp::tls::judge::{Expected, Trust};
use deliverd::smtp::tls::sessions::Sessions;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

/// How long each kind is measured.
const TIME: Duration = Duration::from_secs(3);
const NAME: &str = "mx.example";

struct Case {
    acceptor: TlsAcceptor,
    roots: Roots,
    peer: Peer,
    nexthop: Nexthop,
    security: Security,
}

impl Case {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let file = std::env::temp_dir().join(format!("handshakes-{}.pem", std::process::id()));
        std::fs::write(&file, ca.pem()).unwrap();
        let roots = Roots::from_file(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            peer: Peer { name: NAME.into(), address: "192.0.2.1:25".parse().unwrap() },
            nexthop: format!("[{NAME}]").parse().unwrap(),
            security: Security { policy: Policy::of(Level::Secure), roots: roots.id, login: None },
            roots,
        }
    }

    /// One handshake; was it a resumed one?
    async fn handshake(&self, sessions: &Sessions) -> bool {
        let config = sessions.config(self.peer.address, &self.nexthop, &self.security);
        let expected = Expected::new(&self.security.policy, &self.nexthop, &self.peer.name);
        let secure = Secure::new(config, expected, self.roots.clone(), &self.peer);
        let (ours, theirs) = duplex(64 * 1024);
        let server = async {
            let mut stream = self.acceptor.accept(theirs).await.unwrap();
            // Tickets come before it.
            stream.write_all(b"x").await.unwrap();
            stream.flush().await.unwrap();
        };
        let client = async {
            let (mut stream, established) = secure.with(ours).await.unwrap();
            assert_eq!(established.trust, Trust::Verified);
            stream.read_u8().await.unwrap();
            established.parameters.unwrap().resumed
        };
        tokio::join!(server, client).1
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let case = Case::new();
    let shared = Sessions::new().unwrap();
    for resumed in [false, true] {
        // The session to be taken up again; the server keeps the newest ones only.
        case.handshake(&shared).await;
        let (began, mut count) = (Instant::now(), 0_u32);
        while began.elapsed() < TIME {
            let other = Sessions::new().unwrap();
            let sessions = if resumed { &shared } else { &other };
            assert_eq!(case.handshake(sessions).await, resumed);
            count += 1;
        }
        let rate = f64::from(count) / began.elapsed().as_secs_f64();
        let kind = if resumed { "resumed" } else { "full" };
        println!("TLS 1.3 handshakes in a second, {kind}, both sides on one core: {rate:.0}");
    }
}
