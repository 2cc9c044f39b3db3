//! The lines of Dovecot's authentication protocol, version 1 (doc/wiki/Design.AuthProtocol.txt of Dovecot). Pure.
//!
//! A line is fields with tabs between them; in a field `\x01` followed by `0`, `1`, `t`, `r` or `n` stands for an octet that could not be there.

use common::text::printable_bytes;
use data_encoding::BASE64;
use std::net::IpAddr;

/// Longest message to Dovecot, base64 and all: it hangs up when a line is longer than 8192.
const MAX_MESSAGE: usize = 7900;
/// Longest reason that is kept, in octets.
const MAX_REASON: usize = 200;

/// What Dovecot says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Major version.
    Version(u32),
    /// A mechanism, and whether it is one for us.
    Mechanism(String, bool),
    /// The handshake is over.
    Done,
    /// An answer to the request of this number.
    Answer(u32, Answer),
    /// Something that is of no use here.
    Other,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The client is to be asked this.
    Continue(Vec<u8>),
    /// It is in: its name, and what it is to be told at last.
    Ok(String, Option<Vec<u8>>),
    /// It is not.
    Fail(Fail),
}

/// Why not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fail {
    /// The name, when it came to that.
    pub user: Option<String>,
    /// It could not be found out.
    pub temporary: bool,
    /// In printable words.
    pub why: String,
}

impl Line {
    /// Reads a line, without its end. Errors: this is not Dovecot.
    pub fn parse(line: &[u8]) -> Result<Self, &'static str> {
        let mut fields = line.split(|&b| b == b'\t');
        let verb = fields.next().unwrap_or_default();
        let mut id = || number(fields.next()).ok_or("a request without number");
        match verb {
            b"VERSION" => Ok(Self::Version(number(fields.next()).ok_or("a version that is no number")?)),
            b"MECH" => Ok(mechanism(fields)),
            b"DONE" => Ok(Self::Done),
            b"CONT" => {
                let id = id()?;
                let data =
                    base64(fields.next().unwrap_or_default()).ok_or("a challenge that is not base64")?;
                Ok(Self::Answer(id, Answer::Continue(data)))
            }
            b"OK" => {
                let id = id()?;
                let (mut user, mut last) = (None, None);
                for (name, value) in fields.map(split) {
                    match name {
                        b"user" => user = String::from_utf8(unescape(value)).ok(),
                        b"resp" => last = Some(base64(value).ok_or("a last challenge that is not base64")?),
                        _ => {}
                    }
                }
                Ok(Self::Answer(id, Answer::Ok(user.ok_or("a login without a name")?, last)))
            }
            b"FAIL" => {
                let id = id()?;
                Ok(Self::Answer(id, Answer::Fail(fail(fields.map(split)))))
            }
            _ => Ok(Self::Other),
        }
    }
}

/// A mechanism with its flags. For us are those that send no anonymous name, are not private to Dovecot, and need nothing of the connection that we cannot tell Dovecot:
/// a client's certificate (EXTERNAL), channel binding (-PLUS).
fn mechanism<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Line {
    let name = fields.next().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
    let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_".contains(&b);
    if name.is_empty() || name.len() > 20 || !name.bytes().all(good) {
        return Line::Other;
    }
    let not_ours = |flag: &[u8]| [&b"anonymous"[..], b"private", b"channel-binding"].contains(&flag);
    let ours = !fields.any(not_ours) && name != "EXTERNAL" && name != "ANONYMOUS" && !name.ends_with("-PLUS");
    Line::Mechanism(name.to_owned(), ours)
}

fn fail<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Fail {
    let mut fail = Fail::default();
    let mut reason = String::new();
    let mut kind = "wrong name or password";
    for (name, value) in fields {
        match (name, value) {
            (b"user", _) => fail.user = String::from_utf8(unescape(value)).ok(),
            (b"temp", _) | (b"code", b"temp_fail") => {
                fail.temporary = true;
                kind = "a temporary failure";
            }
            (b"authz", _) | (b"code", b"authz_fail") => kind = "not authorized",
            (b"user_disabled", _) | (b"code", b"user_disabled") => kind = "the user is disabled",
            (b"pass_expired", _) | (b"code", b"pass_expired") => kind = "the password has expired",
            (b"reason", _) => reason = printable_bytes(&unescape(value), MAX_REASON),
            _ => {}
        }
    }
    fail.why = if reason.is_empty() { kind.to_owned() } else { format!("{kind}: {reason}") };
    fail
}

/// The handshake's lines from us. The number names us, and must be another one for each connection.
pub fn hello(number: u32) -> Vec<u8> {
    format!("VERSION\t1\t1\nCPID\t{number}\n").into_bytes()
}

/// A new request. `None`: the response is too long for Dovecot.
pub fn auth(
    id: u32,
    mechanism: &str,
    tls: bool,
    (client, local): (IpAddr, IpAddr),
    response: Option<&[u8]>,
) -> Option<Vec<u8>> {
    let secured = if tls { "\tsecured" } else { "" };
    let mut line =
        format!("AUTH\t{id}\t{mechanism}\tservice=smtp\tnologin{secured}\tlip={local}\trip={client}");
    if let Some(response) = response {
        // The last one, by the protocol.
        line.push_str("\tresp=");
        BASE64.encode_append(response, &mut line);
    }
    bounded(line)
}

/// The client's response to a challenge. `None`: too long.
pub fn cont(id: u32, response: &[u8]) -> Option<Vec<u8>> {
    let mut line = format!("CONT\t{id}\t");
    BASE64.encode_append(response, &mut line);
    bounded(line)
}

/// The client has gone.
pub fn cancel(id: u32) -> Vec<u8> {
    format!("CANCEL\t{id}\n").into_bytes()
}

fn bounded(mut line: String) -> Option<Vec<u8>> {
    line.push('\n');
    (line.len() <= MAX_MESSAGE).then(|| line.into_bytes())
}

fn number(field: Option<&[u8]>) -> Option<u32> {
    std::str::from_utf8(field?).ok()?.parse().ok()
}

fn base64(field: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(field).ok()
}

fn split(field: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = field.splitn(2, |&b| b == b'=');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn unescape(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut octets = value.iter();
    while let Some(&octet) = octets.next() {
        out.push(match (octet, octet == 1) {
            (_, true) => match octets.next() {
                Some(b'0') => 0,
                Some(b'1') => 1,
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(other) => *other,
                None => break,
            },
            (other, false) => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read() {
        let answer = |id, answer| Ok(Line::Answer(id, answer));
        let fail = |user: Option<&str>, temporary, why: &str| {
            Answer::Fail(Fail { user: user.map(str::to_owned), temporary, why: why.into() })
        };
        for (line, expected) in [
            ("VERSION\t1\t2", Ok(Line::Version(1))),
            ("VERSION\t2\t0", Ok(Line::Version(2))),
            ("VERSION", Err("a version that is no number")),
            ("VERSION\tx\t2", Err("a version that is no number")),
            ("MECH\tPLAIN\tplaintext", Ok(Line::Mechanism("PLAIN".into(), true))),
            (
                "MECH\tSCRAM-SHA-256\tdictionary\tactive\tmutual-auth",
                Ok(Line::Mechanism("SCRAM-SHA-256".into(), true)),
            ),
            ("MECH\tANONYMOUS\tanonymous", Ok(Line::Mechanism("ANONYMOUS".into(), false))),
            ("MECH\tEXTERNAL", Ok(Line::Mechanism("EXTERNAL".into(), false))),
            ("MECH\tDOVECOT-TOKEN\tprivate", Ok(Line::Mechanism("DOVECOT-TOKEN".into(), false))),
            (
                "MECH\tSCRAM-SHA-256-PLUS\tchannel-binding",
                Ok(Line::Mechanism("SCRAM-SHA-256-PLUS".into(), false)),
            ),
            ("MECH", Ok(Line::Other)),
            ("MECH\tPL AIN", Ok(Line::Other)),
            ("MECH\tPLAIN\r", Ok(Line::Other)),
            ("SPID\t123", Ok(Line::Other)),
            ("COOKIE\tabc", Ok(Line::Other)),
            ("DONE", Ok(Line::Done)),
            ("", Ok(Line::Other)),
            ("CONT\t7\tVXNlcm5hbWU6", answer(7, Answer::Continue(b"Username:".to_vec()))),
            ("CONT\t7\t", answer(7, Answer::Continue(Vec::new()))),
            ("CONT\t7", answer(7, Answer::Continue(Vec::new()))),
            ("CONT\t7\t!", Err("a challenge that is not base64")),
            ("CONT\tx\t", Err("a request without number")),
            ("CONT\t-1\t", Err("a request without number")),
            ("CONT\t99999999999\t", Err("a request without number")),
            ("OK\t1\tuser=joe\toriginal_user=JOE", answer(1, Answer::Ok("joe".into(), None))),
            (
                "OK\t1\tuser=a\u{1}tb\u{1}1\tresp=dj0=",
                answer(1, Answer::Ok("a\tb\u{1}".into(), Some(b"v=".to_vec()))),
            ),
            ("OK\t1", Err("a login without a name")),
            ("OK\t1\tuser=joe\tresp=!", Err("a last challenge that is not base64")),
            ("OK", Err("a request without number")),
            ("FAIL\t2\tuser=joe", answer(2, fail(Some("joe"), false, "wrong name or password"))),
            ("FAIL\t2\tuser=joe\ttemp", answer(2, fail(Some("joe"), true, "a temporary failure"))),
            (
                "FAIL\t2\tcode=temp_fail\treason=db\u{1}ndown\x1b",
                answer(2, fail(None, true, "a temporary failure: db\\x0adown\\x1b")),
            ),
            ("FAIL\t2\tuser=joe\tuser_disabled", answer(2, fail(Some("joe"), false, "the user is disabled"))),
            ("FAIL\t2\tcode=pass_expired", answer(2, fail(None, false, "the password has expired"))),
            ("FAIL\t2\tauthz", answer(2, fail(None, false, "not authorized"))),
            ("FAIL\t2", answer(2, fail(None, false, "wrong name or password"))),
        ] {
            assert_eq!(Line::parse(line.as_bytes()), expected, "{line:?}");
        }
        assert_eq!(Line::parse(b"OK\t1\tuser=\xff"), Err("a login without a name"));
    }

    #[test]
    fn requests_are_written_and_bounded() {
        let addresses = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([127, 0, 0, 1]));
        let line = |tls, response: Option<&[u8]>| {
            auth(3, "PLAIN", tls, addresses, response).map(|line| String::from_utf8(line).unwrap())
        };
        let begin = "AUTH\t3\tPLAIN\tservice=smtp\tnologin";
        assert_eq!(line(false, None).unwrap(), format!("{begin}\tlip=127.0.0.1\trip=192.0.2.1\n"));
        assert_eq!(
            line(true, Some(b"\0a\0b")).unwrap(),
            format!("{begin}\tsecured\tlip=127.0.0.1\trip=192.0.2.1\tresp=AGEAYg==\n")
        );
        assert!(line(true, Some(b"")).unwrap().ends_with("\tresp=\n"));
        assert!(line(true, Some(&[b'x'; 8000])).is_none() && cont(1, &[b'x'; 8000]).is_none());
        assert_eq!(cont(1, b"").unwrap(), b"CONT\t1\t\n");
        assert_eq!((hello(9), cancel(4)), (b"VERSION\t1\t1\nCPID\t9\n".to_vec(), b"CANCEL\t4\n".to_vec()));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..200), verb in "(OK|FAIL|CONT|MECH|VERSION)\t[0-9]{0,3}\t") {
            let _ = Line::parse(&line);
            let _ = Line::parse(&[verb.as_bytes(), &line].concat());
        }
    }
}
