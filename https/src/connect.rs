//! From an address to an encrypted connection with its host.

use crate::error::Error;
use common::destination::Host;
use common::https_url::HttpsUrl;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 6;
/// For each of them but the last, so that one that is dead does not use up all the time.
const EACH: Duration = Duration::from_secs(3);

/// Where the host is, by the means of the operating system (/etc/hosts counts).
pub async fn addresses(url: &HttpsUrl) -> Result<Vec<SocketAddr>, Error> {
    let found: Vec<SocketAddr> = match url.host() {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, url.port())],
        Host::Name(name) => {
            let found = lookup_host((name.to_string(), url.port())).await;
            found.map_err(|error| Error::name(&error))?.take(MAX_ADDRESSES).collect()
        }
    };
    if found.is_empty() {
        return Err(Error::name(&io::Error::other("it has none")));
    }
    Ok(found)
}

/// A connection to the first of them that takes one.
pub async fn any(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut trouble = io::Error::other("no address");
    for (i, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let connected = if i + 1 == addresses.len() {
            connecting.await
        } else {
            timeout(EACH, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => trouble = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(Error::connect(&trouble))
}

/// The handshake; the certificate must be valid for the host.
pub async fn secure(
    config: Arc<ClientConfig>,
    url: &HttpsUrl,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Error> {
    let name = match url.host() {
        Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
        Host::Name(name) => ServerName::try_from(name.to_string())
            .map_err(|_| Error::tls(&io::Error::other("no certificate can be for this host")))?,
    };
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| Error::tls(&error))
}
