//! Against a small server of our own that can misbehave; real ones are asked in the end-to-end tests.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const LIMIT: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    roots: Roots,
    asked: mpsc::UnboundedReceiver<String>,
    _folder: tempfile::TempDir,
}

/// Answers every request with `says` and hangs up; `None`: never answers.
async fn serve(name: &str, says: Option<Vec<u8>>) -> Server {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
    let roots = Roots::from_file(&folder.path().join("ca.pem")).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            let mut octets = [0; 4096];
            while !is_whole(&request) {
                let n = stream.read(&mut octets).await.unwrap_or(0);
                if n == 0 {
                    break;
                }
                request.extend_from_slice(&octets[..n]);
            }
            told.send(String::from_utf8(request).unwrap()).unwrap();
            match &says {
                Some(says) => {
                    let _ = stream.write_all(says).await;
                    let _ = stream.shutdown().await;
                }
                None => std::future::pending().await,
            }
        }
    });
    Server { address, roots, asked, _folder: folder }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((header, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        header.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

impl Server {
    fn url(&self, path: &str) -> HttpsUrl {
        format!("https://{}{path}", self.address).parse().unwrap()
    }

    async fn ask(&self, limit: Duration) -> Result<Answer, Error> {
        let client = Client::new(&self.roots).unwrap();
        client.post_form(&self.url("/t?x=1"), &[("a", "b c&=é")], Authorization::None, limit).await
    }
}

fn answer(text: &str) -> Option<Vec<u8>> {
    Some(text.replace('\n', "\r\n").into_bytes())
}

#[tokio::test]
async fn a_form_is_sent_and_an_answer_read() {
    let mut server = serve("127.0.0.1", answer("HTTP/1.1 400 Bad\nContent-Length: 9\n\n{\"a\": 12}")).await;
    let said = server.ask(LIMIT).await.unwrap();
    assert_eq!(said.status, 400);
    assert_eq!(said.json::<serde_json::Value>().unwrap()["a"], 12);
    assert!(said.json::<Vec<u8>>().unwrap_err().starts_with("not what was asked for"));
    let asked = server.asked.recv().await.unwrap();
    assert!(asked.starts_with("POST /t?x=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains(&format!("\r\nhost: {}\r\n", server.address)), "{asked}");
    assert!(asked.ends_with("\r\n\r\na=b+c%26%3D%C3%A9"), "{asked}");
    assert!(!asked.to_lowercase().contains("authorization"), "{asked}");
}

#[tokio::test]
async fn who_asks_is_proven() {
    let mut server = serve("127.0.0.1", answer("HTTP/1.1 200 OK\n\n{}")).await;
    let secret = Secret::new("w%d:").unwrap();
    for (authorization, expected) in [
        // base64 of "id%3A1:w%25d%3A"
        (Authorization::Basic("id:1", &secret), "authorization: Basic aWQlM0ExOnclMjVkJTNB\r\n"),
        (Authorization::Bearer(&secret), "authorization: Bearer w%d:\r\n"),
    ] {
        let client = Client::new(&server.roots).unwrap();
        let said = client.post_form(&server.url("/"), &[], authorization, LIMIT).await.unwrap();
        assert_eq!((said.status, said.body.as_slice()), (200, &b"{}"[..]));
        let asked = server.asked.recv().await.unwrap();
        assert!(asked.contains(expected), "{asked}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = serve("127.0.0.1", answer("HTTP/1.1 307 Go\nLocation: https://127.0.0.1:9/\n\n")).await;
    assert_eq!(server.ask(LIMIT).await.unwrap().status, 307);
}

#[tokio::test]
async fn hostile_answers_are_errors() {
    let large = format!("HTTP/1.1 200 OK\n\n{}", "x".repeat(MAX_ANSWER + 1));
    let declared = format!("HTTP/1.1 200 OK\nContent-Length: 99999999999\n\n{}", "x".repeat(MAX_ANSWER + 1));
    let header = format!("HTTP/1.1 200 OK\nX: {}\n\n", "x".repeat(2 * MAX_HEADER));
    for (says, expected) in [
        (large.as_str(), "longer than 64 KiB"),
        (&declared, "longer than 64 KiB"),
        (&header, "no proper HTTP answer: "),
        ("220 mx.example ESMTP\n", "no proper HTTP answer: "),
        ("", "no proper HTTP answer: "),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nabc", "no proper HTTP answer: "),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nzz\n", "no proper HTTP answer: "),
    ] {
        let server = serve("127.0.0.1", answer(says)).await;
        let error = server.ask(LIMIT).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{}: {error}", &says[..says.len().min(40)]);
        assert!(error.bytes().all(|b| (32..127).contains(&b)));
    }
    let deep = Answer { status: 200, body: "[".repeat(60_000).into_bytes() };
    assert!(deep.json::<serde_json::Value>().unwrap_err().starts_with("no JSON"));
}

#[tokio::test]
async fn time_is_limited_and_the_text_says_where_it_went() {
    let server = serve("127.0.0.1", None).await;
    let error = server.ask(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap()).parse().unwrap();
    let client = Client::new(&server.roots).unwrap();
    let limit = Duration::from_millis(300);
    let error = client.post_form(&url, &[], Authorization::None, limit).await.unwrap_err();
    assert_eq!(error, Error::Timeout { phase: Phase::Handshake, limit });
    assert_eq!(error.to_string(), "timed out after 0.3 s while performing the TLS handshake");
}

#[tokio::test]
async fn the_certificate_must_be_for_the_host_and_of_a_known_authority() {
    let server = serve("elsewhere.example", answer("HTTP/1.1 200 OK\n\n")).await;
    let error = server.ask(LIMIT).await.unwrap_err().to_string();
    assert!(error.starts_with("TLS: invalid peer certificate: certificate not valid for name"), "{error}");
    let other = serve("127.0.0.1", answer("HTTP/1.1 200 OK\n\n")).await;
    let stranger = Client::new(&server.roots).unwrap();
    let error = stranger.post_form(&other.url("/"), &[], Authorization::None, LIMIT).await.unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("TLS: invalid peer certificate: "), "{error}");
}

#[tokio::test]
async fn nobody_there() {
    let server = serve("127.0.0.1", None).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("https://{free}/").parse().unwrap();
    let client = Client::new(&server.roots).unwrap();
    let error = client.post_form(&url, &[], Authorization::None, LIMIT).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot connect: ") && error.contains(&free.to_string()), "{error}");
}
