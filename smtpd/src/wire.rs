//! A connection in plain text or in TLS, as one stream, that costs nothing while its client is silent: octets are waited for on the
//! socket, and read into a buffer that is borrowed for that moment.

use crate::tls::Secure;
use common::tls::Parameters;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// One of the two, or neither after a handshake that failed: that reads as closed.
#[derive(Debug)]
pub enum Wire {
    /// As it came.
    Plain(TcpStream),
    /// After the handshake. `more`: something may be decrypted already, so that the socket would be waited for in vain.
    Tls {
        /// The connection.
        stream: Box<TlsStream<TcpStream>>,
        /// See above.
        more: bool,
    },
    /// Gone.
    Closed,
}

impl Wire {
    /// The connection itself, while it is in plain text.
    pub fn plain(&self) -> Option<&TcpStream> {
        if let Self::Plain(stream) = self { Some(stream) } else { None }
    }

    /// What binds an exchange to this connection (tls-exporter, RFC 9266): TLS 1.3 only, where it is sound without further ado.
    pub fn channel_binding(&self) -> Option<Vec<u8>> {
        let Self::Tls { stream, .. } = self else { return None };
        let connection = stream.get_ref().1;
        if connection.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
            return None;
        }
        let exported = connection.export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", Some(b""));
        exported.ok()
    }

    /// Waits until there is something to read, or may be.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.readable().await,
            Self::Tls { more: true, .. } => Ok(()),
            Self::Tls { stream, .. } => stream.get_ref().0.readable().await,
            Self::Closed => Ok(()),
        }
    }

    /// Reads what is there; `WouldBlock` when there is nothing. Asked the way that a waiting reader asks: what did not fill the buffer was
    /// all there is, and the socket need not be asked again until more comes.
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut room = ReadBuf::new(buffer);
        let mut context = Context::from_waker(Waker::noop());
        let read = match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(&mut context, &mut room),
            Self::Tls { stream, more } => {
                let read = Pin::new(stream.as_mut()).poll_read(&mut context, &mut room);
                *more = matches!(read, Poll::Ready(Ok(())));
                read
            }
            Self::Closed => return Ok(0),
        };
        match read {
            Poll::Ready(done) => done.map(|()| room.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Does the handshake as a server. After an error, also one about the client's certificate, the connection is gone.
    pub async fn secure(&mut self, secure: &Secure) -> io::Result<Option<Parameters>> {
        let stream = match std::mem::replace(self, Self::Closed) {
            Self::Plain(stream) => stream,
            other => {
                *self = other;
                return Err(io::Error::other("TLS already active"));
            }
        };
        let stream = Box::new(TlsAcceptor::from(secure.config.clone()).accept(stream).await?);
        let state = stream.get_ref().1;
        let mut parameters = Parameters::of(state);
        if let Some(parameters) = &mut parameters {
            let chain = state.peer_certificates().unwrap_or_default();
            parameters.client = secure.judge(chain).map_err(io::Error::other)?;
        }
        *self = Self::Tls { stream, more: true };
        Ok(parameters)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls { stream, .. } => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Tls { stream, .. } => Pin::new(stream.as_mut()).poll_write(cx, octets),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls { stream, .. } => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls { stream, .. } => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}
