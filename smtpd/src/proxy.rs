//! The PROXY protocol (haproxy's `proxy-protocol.txt`, versions 1 and 2): who is really there, told by a proxy in front of us.
//!
//! Reads the header and not one octet more, within a time limit. Only believed from `proxy_networks`; whatever is wrong with a header ends the
//! connection without a word, for nobody knows who would read it. A header without addresses (LOCAL, UNKNOWN) is the proxy speaking for itself.

use proxy_header::{ParseConfig, ProxyHeader};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// For the whole header.
const LIMIT: Duration = Duration::from_secs(5);
/// The shortest header of all is `PROXY UNKNOWN` and CRLF.
const SHORTEST: usize = 15;
/// Longest header of version 1 (section 2.1).
const LONGEST_TEXT: usize = 107;
/// Fixed part of version 2 (section 2.2).
const FIXED: usize = 16;
/// Longest rest of version 2 that is taken: addresses, and more about the connection than any proxy tells.
const LONGEST_REST: u16 = 4096;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Both ends of the connection that the proxy has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// Where it has connected to.
    pub destination: SocketAddr,
}

/// Reads the header. `None`: the proxy speaks for itself. Errors: no header in time, or a malformed one.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Ends>> {
    timeout(LIMIT, header(stream)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn header(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Ends>> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed PROXY header");
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await?;
    if header.starts_with(SIGNATURE) {
        header.push(stream.read_u8().await?);
        let length = header.get(FIXED - 2..FIXED).and_then(|octets| octets.try_into().ok());
        let length = u16::from_be_bytes(length.unwrap_or_default());
        if length > LONGEST_REST {
            return Err(malformed());
        }
        header.resize(FIXED + usize::from(length), 0);
        stream.read_exact(header.get_mut(FIXED..).unwrap_or_default()).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() >= LONGEST_TEXT {
                return Err(malformed());
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(malformed());
    }
    let (parsed, length) = ProxyHeader::parse(&header, ParseConfig::default()).map_err(|_| malformed())?;
    if length != header.len() {
        return Err(malformed());
    }
    Ok(parsed.proxied_address().map(|both| Ends { source: both.source, destination: both.destination }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a header gives, and what is left of the stream behind it.
    fn parse(input: &[u8]) -> (Result<Option<String>, io::ErrorKind>, usize) {
        let mut rest = input;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let read = runtime.block_on(read(&mut rest));
        let shown = read.map(|ends| ends.map(|ends| format!("{} > {}", ends.source, ends.destination)));
        (shown.map_err(|error| error.kind()), rest.len())
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    #[test]
    fn headers_are_read_and_nothing_behind_them() {
        let four: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 25];
        let six =
            [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0x20, 1, 0xd, 0xb8], &[0; 11], &[2, 1, 0, 0, 25]]
                .concat();
        for (header, expected) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 25\r\n".to_vec(),
                Some("192.0.2.1:4660 > 198.51.100.2:25"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 2001:db8::2 256 25\r\n".to_vec(),
                Some("[2001:db8::1]:256 > [2001:db8::2]:25"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 whatever\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &four), Some("192.0.2.1:4660 > 198.51.100.2:25")),
            (version_2(0x21, 0x21, &six), Some("[2001:db8::1]:256 > [2001:db8::2]:25")),
            // More about the connection: passed over.
            (
                version_2(0x21, 0x11, &[&four[..], &[4, 0, 2, 1, 2]].concat()),
                Some("192.0.2.1:4660 > 198.51.100.2:25"),
            ),
            // LOCAL: a health check.
            (version_2(0x20, 0, &[]), None),
        ] {
            let input = [&header[..], b"EHLO x\r\n"].concat();
            assert_eq!(parse(&input), (Ok(expected.map(str::to_owned)), 8), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat();
        for bad in [
            b"EHLO client.example\r\n".as_slice(),
            b"PROXY TCP4 192.0.2.1 198.51.100.2 4660\r\n     ",
            b"PROXY TCP4 192.0.2.256 198.51.100.2 4660 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.2 99999 25\r\n",
            b"PROXY TCP9 192.0.2.1 198.51.100.2 1 25\r\n",
            b"PROXY  TCP4 192.0.2.1 198.51.100.2 1 25\r\n",
            &long,
            &version_2(0x31, 0x11, &[0; 12]),
            &version_2(0x21, 0x11, &[0; 4]),
            &version_2(0x21, 0x11, &[0; 5000]),
        ] {
            assert_eq!(parse(bad).0, Err(io::ErrorKind::InvalidData), "{}", bad.escape_ascii());
        }
        for short in [b"".as_slice(), b"PROXY TCP4 192.0.2.1", b"\r\n\r\n\0\r\nQUIT\n"] {
            assert_eq!(parse(short).0, Err(io::ErrorKind::UnexpectedEof), "{}", short.escape_ascii());
        }
    }
}
