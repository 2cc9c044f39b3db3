//! Asks a web service: one form sent by POST over HTTPS, one answer read, within one time limit. For token endpoints and their like.
//!
//! Each request has a connection of its own. It goes where the address says and nowhere else: no redirect is followed, no proxy is taken from the
//! environment, no cookie kept; the certificate must be valid for the host, by the authorities that were handed in. An answer is at most
//! [`MAX_ANSWER`] octets long. Errors are printable, and hold nothing of what was sent. Needs a tokio runtime.

#![forbid(unsafe_code)]

mod connect;
mod error;

pub use error::{Error, Phase};

use common::https_url::HttpsUrl;
use common::oauth::Secret;
use common::tls::{Roots, VERSIONS, provider};
use data_encoding::BASE64;
use form_urlencoded::Serializer;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Largest answer that is read, in octets.
pub const MAX_ANSWER: usize = 64 * 1024;
/// Largest header of an answer.
const MAX_HEADER: usize = 16 * 1024;

/// Who asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
}

/// How the one who asks proves who they are, besides what the form says.
#[derive(Debug, Clone, Copy, Default)]
pub enum Authorization<'a> {
    /// Not at all.
    #[default]
    None,
    /// HTTP Basic, with name and password as OAuth 2.0 encodes them (RFC 6749 2.3.1).
    Basic(&'a str, &'a Secret),
    /// A token (RFC 6750 2.1).
    Bearer(&'a Secret),
}

/// What came back, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON. The error says where it is none, and shows nothing of it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let what = if error.is_data() { "not what was asked for" } else { "no JSON" };
            format!("{what} (line {}, column {})", error.line(), error.column())
        })
    }
}

impl Client {
    /// Trusts these authorities. Errors: the crypto provider lacks what it must have.
    pub fn new(roots: &Roots) -> Result<Self, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS)?;
        let mut config = builder.with_root_certificates(roots.store.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// Sends the form and reads the answer, all within `limit`.
    pub async fn post_form(
        &self,
        url: &HttpsUrl,
        fields: &[(&str, &str)],
        authorization: Authorization<'_>,
        limit: Duration,
    ) -> Result<Answer, Error> {
        let phase = Mutex::new(Phase::Name);
        let request = request(url, fields, authorization)?;
        match tokio::time::timeout(limit, self.ask(url, request, &phase)).await {
            Ok(answer) => answer,
            Err(_) => {
                let phase = *phase.lock().unwrap_or_else(PoisonError::into_inner);
                Err(Error::Timeout { phase, limit })
            }
        }
    }

    async fn ask(
        &self,
        url: &HttpsUrl,
        request: Request<Full<Bytes>>,
        phase: &Mutex<Phase>,
    ) -> Result<Answer, Error> {
        let enter = |next| *phase.lock().unwrap_or_else(PoisonError::into_inner) = next;
        let addresses = connect::addresses(url).await?;
        enter(Phase::Connect);
        let stream = connect::any(&addresses).await?;
        enter(Phase::Handshake);
        let stream = connect::secure(self.config.clone(), url, stream).await?;
        enter(Phase::Answer);
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEADER);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| Error::http(&error))?;
        // It ends with the exchange, also when that is given up.
        let _running = Running(tokio::spawn(connection).abort_handle());
        let response = sender.send_request(request).await.map_err(|error| Error::http(&error))?;
        read(response).await
    }
}

/// A task that lasts as long as this.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn request(
    url: &HttpsUrl,
    fields: &[(&str, &str)],
    authorization: Authorization<'_>,
) -> Result<Request<Full<Bytes>>, Error> {
    let body = Serializer::new(String::new()).extend_pairs(fields).finish();
    let mut request = Request::post(url.path())
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("Ironpost/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close");
    let proof = match authorization {
        Authorization::None => None,
        Authorization::Basic(name, password) => {
            let part = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", part(name), part(password.expose()));
            Some(format!("Basic {}", BASE64.encode(pair.as_bytes())))
        }
        Authorization::Bearer(token) => Some(format!("Bearer {}", token.expose())),
    };
    if let Some(proof) = proof {
        // Both are visible ASCII.
        let mut value = HeaderValue::try_from(proof).map_err(|_| Error::Request)?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Full::new(Bytes::from(body))).map_err(|_| Error::Request)
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Answer, Error> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    match body {
        Ok(body) => Ok(Answer { status, body: body.to_bytes().to_vec() }),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(Error::http(&error)),
            Err(_) => Err(Error::TooLarge),
        },
    }
}

#[cfg(test)]
mod tests;
