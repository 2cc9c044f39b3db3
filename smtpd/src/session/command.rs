//! The grammar of commands (RFC 5321 4.1.2; parameters: RFC 1870, RFC 6152, RFC 3461, RFC 4954). A line becomes a value or the
//! reply that refuses it. RFC 6531: UTF-8 in paths where SMTPUTF8 was said.
//!
//! Taken beyond the grammar, because clients send it and it can mean only one thing: blanks at the end of a
//! line (RFC 5321 4.1.1 asks for that), and between `FROM:` or `TO:` and the path. Never taken: a path
//! without brackets, control characters, octets that are no UTF-8, other scripts without SMTPUTF8.

use super::reply::{self, Reply, syntax};
use super::verbs::Verb;
use common::address::{Address, AddressError, Domain, ForwardPath, ReversePath, parse_path};
use common::dsn::{EnvelopeId, MessageDsn, OriginalRecipient, RecipientDsn, decode_xtext};
use spool::envelope::Body;

/// Longest address that is shown in a refusal, in octets: what is longer is none (RFC 5321 4.5.3.1.3).
const MAX_SHOWN: usize = 256;
/// Longest name taken from HELO or EHLO, in octets (RFC 5321 4.5.3.1.2).
const MAX_HELLO: usize = 255;

const MAIL_SYNTAX: Reply = syntax("Syntax: MAIL FROM:<address>");
const RCPT_SYNTAX: Reply = syntax("Syntax: RCPT TO:<address>");
const BAD_SIZE: Reply = syntax("Bad message size syntax");
const BAD_SMTPUTF8: Reply = syntax("Error: Bad SMTPUTF8 parameter syntax");
const BAD_RET: Reply = syntax("Error: Bad RET parameter syntax");
const BAD_AUTH: Reply = syntax("Error: Bad AUTH parameter syntax");
const BAD_ENVID: Reply = syntax("Error: Bad ENVID parameter syntax");
const BAD_NOTIFY: Reply = syntax("Error: Bad NOTIFY parameter syntax");
const BAD_ORCPT: Reply = syntax("Error: Bad ORCPT parameter syntax");

/// A command that is well formed and offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `HELO name`.
    Helo(String),
    /// `EHLO name`.
    Ehlo(String),
    /// `MAIL FROM:<…>` with its parameters.
    Mail {
        /// The reverse-path; a bare local-part is completed with `mail_name`.
        sender: ReversePath,
        /// SIZE, in octets; saturated.
        size: Option<u64>,
        /// BODY.
        body: Body,
        /// RET and ENVID.
        dsn: MessageDsn,
        /// AUTH; `<>` when the client does not know.
        submitter: Option<ReversePath>,
    },
    /// `RCPT TO:<…>`.
    Rcpt {
        /// The forward-path; a bare local-part is completed with `mail_name`.
        recipient: Address,
        /// Was it `<postmaster>` without a domain (RFC 5321 4.5.1)?
        bare_postmaster: bool,
        /// NOTIFY and ORCPT.
        dsn: RecipientDsn,
    },
    /// `DATA`.
    Data,
    /// `RSET`.
    Rset,
    /// `NOOP`, with any argument.
    Noop,
    /// `VRFY` with something that could be an address or a user name; never looked up.
    Vrfy(String),
    /// `HELP`, with any argument.
    Help,
    /// `QUIT`.
    Quit,
}

/// Splits a line at its first blank: the verb, and the rest without blanks around it.
pub fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let line = trim(line);
    let end = line.iter().position(is_blank).unwrap_or(line.len());
    let (verb, rest) = line.split_at_checked(end).unwrap_or((line, b""));
    (verb, trim(rest))
}

/// Blanks are spaces and tabs: a CR, or another control character, is not passed over.
fn is_blank(octet: &u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|octet| !is_blank(octet)).unwrap_or(text.len());
    let end = text.iter().rposition(|octet| !is_blank(octet)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// Reads the arguments of a verb that is offered; `None` for one that is not.
///
/// `utf8`: is this within a transaction with SMTPUTF8?
pub fn parse(verb: Verb, args: &[u8], mail_name: &Domain, utf8: bool) -> Option<Result<Command, Reply>> {
    let Ok(args) = std::str::from_utf8(args) else { return Some(Err(reply::BAD_UTF8)) };
    let may_be_utf8 = matches!(verb, Verb::Mail | Verb::Rcpt | Verb::Vrfy);
    if args.chars().any(|c| c.is_control() || (!c.is_ascii() && !may_be_utf8)) {
        return Some(Err(reply::BAD_CHARACTER));
    }
    let alone = |command, usage| if args.is_empty() { Ok(command) } else { Err(syntax(usage)) };
    Some(match verb {
        Verb::Helo => hello(args, "Syntax: HELO hostname").map(Command::Helo),
        Verb::Ehlo => hello(args, "Syntax: EHLO hostname").map(Command::Ehlo),
        Verb::Mail => mail(args, mail_name),
        Verb::Rcpt if !utf8 && !args.is_ascii() => Err(reply::UTF8_NOT_DECLARED),
        Verb::Rcpt => rcpt(args, mail_name),
        Verb::Data => alone(Command::Data, "Syntax: DATA"),
        Verb::Rset => alone(Command::Rset, "Syntax: RSET"),
        Verb::Noop => Ok(Command::Noop),
        Verb::Vrfy => vrfy(args),
        Verb::Help => Ok(Command::Help),
        // Whoever wants to go may go.
        Verb::Quit => Ok(Command::Quit),
        // BDAT, XCLIENT, AUTH and STARTTLS are read where they are carried out.
        Verb::Bdat | Verb::Xclient | Verb::StartTls | Verb::Auth | Verb::NotOffered | Verb::Foreign => {
            return None;
        }
    })
}

/// Checked loosely (RFC 5321 4.1.4): whatever is there is shown escaped, and nothing is decided by it.
fn hello(args: &str, usage: &'static str) -> Result<String, Reply> {
    if args.is_empty() || args.len() > MAX_HELLO { Err(syntax(usage)) } else { Ok(args.to_owned()) }
}

/// `KEYWORD:` and blanks, then the path and the parameters.
fn path<'a>(args: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, rest) = args.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    parse_path(rest.trim_start()).ok()
}

fn parameters(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split(' ').filter(|p| !p.is_empty()).map(|p| match p.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (p, None),
    })
}

/// A parameter as it came.
fn option(key: &str, value: Option<&str>) -> String {
    value.map_or(key.to_owned(), |value| format!("{key}={value}"))
}

fn mail(args: &str, mail_name: &Domain) -> Result<Command, Reply> {
    let (inner, rest) = path(args, "FROM:").ok_or(MAIL_SYNTAX)?;
    let sender = ReversePath::from_path(inner, mail_name).map_err(|_| bad_sender(inner))?;
    let mut size = None;
    let mut body = None;
    let mut utf8 = None;
    let mut dsn = MessageDsn::default();
    let mut submitter = None;
    for (key, value) in parameters(rest) {
        if key.eq_ignore_ascii_case("SIZE") {
            once(&mut size, key, octets(value)?)?;
        } else if key.eq_ignore_ascii_case("BODY") {
            let value = match value {
                Some(value) if value.eq_ignore_ascii_case("7BIT") => Body::SevenBit,
                Some(value) if value.eq_ignore_ascii_case("8BITMIME") => Body::EightBitMime,
                _ => return Err(reply::unsupported_option(&option(key, value))),
            };
            once(&mut body, key, value)?;
        } else if key.eq_ignore_ascii_case("SMTPUTF8") {
            // RFC 6531 3.4: it has no value.
            if value.is_some() {
                return Err(BAD_SMTPUTF8);
            }
            once(&mut utf8, key, ())?;
        } else if key.eq_ignore_ascii_case("RET") {
            once(&mut dsn.ret, key, value.and_then(|v| v.parse().ok()).ok_or(BAD_RET)?)?;
        } else if key.eq_ignore_ascii_case("ENVID") {
            let id = value.and_then(|v| EnvelopeId::from_xtext(v).ok()).ok_or(BAD_ENVID)?;
            once(&mut dsn.envelope_id, key, id)?;
        } else if key.eq_ignore_ascii_case("AUTH") {
            once(&mut submitter, key, mailbox(value, mail_name).ok_or(BAD_AUTH)?)?;
        } else {
            return Err(reply::unsupported_option(&option(key, value)));
        }
    }
    if utf8.is_none() && !args.is_ascii() {
        return Err(reply::UTF8_NOT_DECLARED);
    }
    let body = if utf8.is_some() { Body::Utf8 } else { body.unwrap_or(Body::SevenBit) };
    Ok(Command::Mail { sender, size, body, dsn, submitter })
}

/// RFC 4954 5: `<>`, or an address in xtext; some put it into brackets.
fn mailbox(value: Option<&str>, mail_name: &Domain) -> Option<ReversePath> {
    let text = decode_xtext(value?).ok()?;
    let inner = match text.strip_prefix('<') {
        Some(rest) => rest.strip_suffix('>')?,
        None if text.is_empty() => return None,
        None => &text,
    };
    ReversePath::from_path(inner, mail_name).ok()
}

/// RFC 5321 4.1.1.11: a parameter stands once.
fn once<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), Reply> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Reply::new(
            501,
            common::status::EnhancedCode::new(5, 5, 4),
            format!("Error: multiple {}= options", key.to_ascii_uppercase()),
        )),
    }
}

/// RFC 1870 6: up to 20 digits. More than 64 bits hold is more than any limit.
fn octets(value: Option<&str>) -> Result<u64, Reply> {
    let digits = value.filter(|v| (1..=20).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_digit()));
    Ok(digits.ok_or(BAD_SIZE)?.parse().unwrap_or(u64::MAX))
}

fn rcpt(args: &str, mail_name: &Domain) -> Result<Command, Reply> {
    let (inner, rest) = path(args, "TO:").ok_or(RCPT_SYNTAX)?;
    let recipient = ForwardPath::from_path(inner)
        .and_then(|path| path.complete(mail_name))
        .map_err(|_| bad_recipient(inner))?;
    let mut notify = None;
    let mut original = None;
    for (key, value) in parameters(rest) {
        if key.eq_ignore_ascii_case("NOTIFY") {
            once(&mut notify, key, value.and_then(|v| v.parse().ok()).ok_or(BAD_NOTIFY)?)?;
        } else if key.eq_ignore_ascii_case("ORCPT") {
            let address = value.and_then(|v| OriginalRecipient::from_xtext(v).ok()).ok_or(BAD_ORCPT)?;
            once(&mut original, key, address)?;
        } else {
            return Err(reply::unsupported_option(&option(key, value)));
        }
    }
    let dsn = RecipientDsn { notify: notify.unwrap_or_default(), original };
    Ok(Command::Rcpt { recipient, bare_postmaster: inner.eq_ignore_ascii_case("postmaster"), dsn })
}

/// A user name or a mailbox, with or without brackets (RFC 5321 4.1.1.6, 3.5.1); SMTPUTF8 may stand behind it
/// (RFC 6531 3.7.4.2).
fn vrfy(args: &str) -> Result<Command, Reply> {
    let args = match args.rsplit_once(' ') {
        Some((address, word)) if word.eq_ignore_ascii_case("SMTPUTF8") => address.trim_end(),
        _ if !args.is_ascii() => return Err(reply::UTF8_NOT_DECLARED),
        _ => args,
    };
    if args.is_empty() {
        return Err(syntax("Syntax: VRFY address"));
    }
    let check = || -> Result<(), AddressError> {
        let inner = match parse_path(args) {
            Ok((inner, "")) => inner,
            _ => args,
        };
        ForwardPath::from_path(inner).map(|_| ())
    };
    check().map(|()| Command::Vrfy(args.to_owned())).map_err(|_| bad_recipient(args))
}

fn bad_sender(text: &str) -> Reply {
    bad_address(7, "sender", text)
}

fn bad_recipient(text: &str) -> Reply {
    bad_address(3, "recipient", text)
}

/// With what was said, as far as it may be an address: of several, the client is to know which.
fn bad_address(detail: u16, whose: &str, text: &str) -> Reply {
    let code = common::status::EnhancedCode::new(5, 1, detail);
    let text = common::text::printable(text, MAX_SHOWN);
    Reply::new(501, code, format!("<{text}>: Bad {whose} address syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::verbs;

    /// A command line and what it means, in one line of text.
    fn read(line: &[u8]) -> String {
        let (word, args) = split(line);
        let Some((_, rule)) = verbs::find(word) else { return "unknown".into() };
        match parse(rule.verb, args, &"mail.example".parse().unwrap(), line.ends_with(b"~")) {
            None => "not offered".into(),
            Some(Err(reply)) => reply.to_string(),
            Some(Ok(Command::Mail { sender, size, body, dsn, submitter })) => {
                let ret = dsn.ret.map(|ret| format!(" RET={ret}")).unwrap_or_default();
                let id = dsn.envelope_id.map(|id| format!(" ENVID={:?}", id.as_str())).unwrap_or_default();
                let by = submitter.map(|by| format!(" AUTH=<{by}>")).unwrap_or_default();
                format!("mail {sender} {size:?} {body:?}{ret}{id}{by}")
            }
            Some(Ok(Command::Rcpt { recipient, bare_postmaster, dsn })) => {
                let notify = match dsn.notify.to_string() {
                    text if text.is_empty() => text,
                    text => format!(" NOTIFY={text}"),
                };
                let original = dsn.original.map(|o| format!(" ORCPT={o}")).unwrap_or_default();
                format!("rcpt {recipient} {bare_postmaster}{notify}{original}")
            }
            Some(Ok(command)) => format!("{command:?}"),
        }
    }

    #[test]
    fn commands_are_read_by_the_grammar() {
        let mail = "501 5.5.4 Syntax: MAIL FROM:<address>";
        let rcpt = "501 5.5.4 Syntax: RCPT TO:<address>";
        let sender = |shown: &str| format!("501 5.1.7 <{shown}>: Bad sender address syntax");
        let recipient = |shown: &str| format!("501 5.1.3 <{shown}>: Bad recipient address syntax");
        let size = "501 5.5.4 Bad message size syntax";
        let utf8 = "553 5.6.7 Error: SMTPUTF8 is required for this address";
        let (ret, envid) =
            ("501 5.5.4 Error: Bad RET parameter syntax", "501 5.5.4 Error: Bad ENVID parameter syntax");
        let auth = "501 5.5.4 Error: Bad AUTH parameter syntax";
        let (notify, orcpt) =
            ("501 5.5.4 Error: Bad NOTIFY parameter syntax", "501 5.5.4 Error: Bad ORCPT parameter syntax");
        let long = format!("MAIL FROM:<{}@example.com>", "x".repeat(250));
        let longest_id = format!("MAIL FROM:<a@b> ENVID={}", "x".repeat(100));
        let too_long_id = format!("MAIL FROM:<a@b> ENVID={}", "x".repeat(101));
        let too_long_orcpt = format!("RCPT TO:<a@b> ORCPT=rfc822;{}", "x".repeat(494));
        for (line, expected) in [
            ("HELO a.example", "Helo(\"a.example\")"),
            ("ehlo [127.0.0.1]  ", "Ehlo(\"[127.0.0.1]\")"),
            ("EHLO my pc", "Ehlo(\"my pc\")"),
            ("HELO", "501 5.5.4 Syntax: HELO hostname"),
            ("EHLO  ", "501 5.5.4 Syntax: EHLO hostname"),
            ("EHLO a\x01", "501 5.5.2 Error: control or non-ASCII character in command"),
            ("MAIL FROM:<a@b.example>", "mail a@b.example None SevenBit"),
            ("mail from:<a@b.example>", "mail a@b.example None SevenBit"),
            ("MAIL FROM: <a@b.example>  ", "mail a@b.example None SevenBit"),
            ("MAIL FROM:<>", "mail  None SevenBit"),
            ("MAIL FROM:<joe>", "mail joe@mail.example None SevenBit"),
            ("MAIL FROM:<@x.example,@y.example:a@b.example>", "mail a@b.example None SevenBit"),
            ("MAIL FROM:<\"a b\\\"c>\"@d.example> SIZE=1", "mail \"a b\\\"c>\"@d.example Some(1) SevenBit"),
            ("MAIL FROM:<a@b> SIZE=0 BODY=8BITMIME", "mail a@b Some(0) EightBitMime"),
            (
                "MAIL FROM:<a@b> body=7bit size=20000000000000000000",
                "mail a@b Some(18446744073709551615) SevenBit",
            ),
            ("MAIL FROM:<a@b> SIZE=", size),
            ("MAIL FROM:<a@b> SIZE", size),
            ("MAIL FROM:<a@b> SIZE=-1", size),
            ("MAIL FROM:<a@b> SIZE=1x", size),
            ("MAIL FROM:<a@b> SIZE=1 SIZE=2", "501 5.5.4 Error: multiple SIZE= options"),
            ("MAIL FROM:<a@b> BODY=BINARYMIME", "555 5.5.4 Unsupported option: BODY=BINARYMIME"),
            ("MAIL FROM:<a@b> SMTPUTF8", "mail a@b None Utf8"),
            (
                "MAIL FROM:<jörg@bücher.example> smtputf8 BODY=7BIT",
                "mail jörg@xn--bcher-kva.example None Utf8",
            ),
            ("MAIL FROM:<jörg@b>", utf8),
            ("MAIL FROM:<a@bücher.example>", utf8),
            ("MAIL FROM:<a@b> SMTPUTF8=YES", "501 5.5.4 Error: Bad SMTPUTF8 parameter syntax"),
            ("MAIL FROM:<a@b> SMTPUTF8 SMTPUTF8", "501 5.5.4 Error: multiple SMTPUTF8= options"),
            ("MAIL FROM:<a@b> ENVID=jörg SMTPUTF8", envid),
            ("MAIL FROM:<j\u{202e}g@b> SMTPUTF8", &sender(r"j\xe2\x80\xaeg@b")),
            ("RCPT TO:<jörg@b>", utf8),
            ("RCPT TO:<a~@b> ORCPT=utf-8;ö@b X~", "555 5.5.4 Unsupported option: X~"),
            ("VRFY jörg", utf8),
            ("VRFY jörg SMTPUTF8", "Vrfy(\"jörg\")"),
            ("EHLO bücher.example", "501 5.5.2 Error: control or non-ASCII character in command"),
            ("MAIL FROM:<a@b> AUTH=<>", "mail a@b None SevenBit AUTH=<>"),
            ("MAIL FROM:<a@b> auth=e+3Dmc2@example.com", "mail a@b None SevenBit AUTH=<e=mc2@example.com>"),
            ("MAIL FROM:<a@b> AUTH=<joe@c.example>", "mail a@b None SevenBit AUTH=<joe@c.example>"),
            ("MAIL FROM:<a@b> AUTH", auth),
            ("MAIL FROM:<a@b> AUTH=", auth),
            ("MAIL FROM:<a@b> AUTH=<", auth),
            ("MAIL FROM:<a@b> AUTH=a+0D+0A@b", auth),
            ("MAIL FROM:<a@b> AUTH=<> AUTH=<>", "501 5.5.4 Error: multiple AUTH= options"),
            ("MAIL FROM:<a@b> RET=HDRS", "mail a@b None SevenBit RET=HDRS"),
            ("MAIL FROM:<> envid=a+2Bb+20c ret=full", "mail  None SevenBit RET=FULL ENVID=\"a+b c\""),
            ("MAIL FROM:<a@b> RET", ret),
            ("MAIL FROM:<a@b> RET=", ret),
            ("MAIL FROM:<a@b> RET=BODY", ret),
            ("MAIL FROM:<a@b> RET=FULL RET=FULL", "501 5.5.4 Error: multiple RET= options"),
            ("MAIL FROM:<a@b> ENVID", envid),
            ("MAIL FROM:<a@b> ENVID=", envid),
            ("MAIL FROM:<a@b> ENVID=a=b", envid),
            ("MAIL FROM:<a@b> ENVID=a+0Ab", envid),
            ("MAIL FROM:<a@b> ENVID=a+4", envid),
            ("MAIL FROM:<a@b> ENVID=a ENVID=a", "501 5.5.4 Error: multiple ENVID= options"),
            (&longest_id, "mail a@b None SevenBit ENVID=LONG"),
            (&too_long_id, envid),
            ("MAIL FROM:<a@b> NOTIFY=NEVER", "555 5.5.4 Unsupported option: NOTIFY=NEVER"),
            ("MAIL", mail),
            ("MAIL FROM", mail),
            ("MAIL FROM:", mail),
            ("MAIL FROM:a@b", mail),
            ("MAIL FROM:<a@b", mail),
            ("MAIL FROM:<a@b>x", mail),
            ("MAIL TO:<a@b>", mail),
            ("MAIL FROM:<a@>", &sender("a@")),
            ("MAIL FROM:<a..b@c>", &sender("a..b@c")),
            ("MAIL FROM:<a b@c>", &sender("a b@c")),
            ("MAIL FROM:<a@b_.c-.example>", &sender("a@b_.c-.example")),
            (&long, &sender(&format!("{}@examp", "x".repeat(250)))),
            ("RCPT TO:<a@b.example>", "rcpt a@b.example false"),
            ("RCPT TO:<joe>", "rcpt joe@mail.example false"),
            ("RCPT TO:<Postmaster>", "rcpt Postmaster@mail.example true"),
            ("RCPT TO:<postmaster@b>", "rcpt postmaster@b false"),
            ("RCPT TO:<a%b@c>", "rcpt a%b@c false"),
            ("RCPT TO:<a@[IPv6:::1]>", "rcpt a@[IPv6:::1] false"),
            ("RCPT TO:<a@b> NOTIFY=NEVER", "rcpt a@b false NOTIFY=NEVER"),
            ("RCPT TO:<a@b> notify=delay,success", "rcpt a@b false NOTIFY=SUCCESS,DELAY"),
            (
                "RCPT TO:<a@b> ORCPT=rfc822;a+2Bx@c NOTIFY=FAILURE",
                "rcpt a@b false NOTIFY=FAILURE ORCPT=rfc822; a+x@c",
            ),
            (
                "RCPT TO:<postmaster> ORCPT=x400;/C+3Dde",
                "rcpt postmaster@mail.example true ORCPT=x400; /C=de",
            ),
            ("RCPT TO:<a@b> NOTIFY", notify),
            ("RCPT TO:<a@b> NOTIFY=", notify),
            ("RCPT TO:<a@b> NOTIFY=NEVER,DELAY", notify),
            ("RCPT TO:<a@b> NOTIFY=SUCCESS,", notify),
            ("RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", "501 5.5.4 Error: multiple NOTIFY= options"),
            ("RCPT TO:<a@b> ORCPT", orcpt),
            ("RCPT TO:<a@b> ORCPT=a@b", orcpt),
            ("RCPT TO:<a@b> ORCPT=rfc822;", orcpt),
            ("RCPT TO:<a@b> ORCPT=rfc822;a+0D+0Ab", orcpt),
            ("RCPT TO:<a@b> ORCPT=rfc822;a ORCPT=rfc822;a", "501 5.5.4 Error: multiple ORCPT= options"),
            (&too_long_orcpt, orcpt),
            ("RCPT TO:<a@b> RET=FULL", "555 5.5.4 Unsupported option: RET=FULL"),
            ("RCPT TO:<a@b> X", "555 5.5.4 Unsupported option: X"),
            ("RCPT TO:<>", &recipient("")),
            ("RCPT TO:<@b>", &recipient("@b")),
            ("RCPT TO:<a@b@c>", &recipient("a@b@c")),
            ("RCPT FROM:<a@b>", rcpt),
            ("RCPT TO:", rcpt),
            ("RCPT", rcpt),
            ("DATA", "Data"),
            ("DATA x", "501 5.5.4 Syntax: DATA"),
            ("RSET", "Rset"),
            ("RSET x", "501 5.5.4 Syntax: RSET"),
            ("NOOP any thing", "Noop"),
            ("VRFY joe", "Vrfy(\"joe\")"),
            ("VRFY <joe@b>", "Vrfy(\"<joe@b>\")"),
            ("VRFY", "501 5.5.4 Syntax: VRFY address"),
            ("VRFY joe doe", &recipient("joe doe")),
            ("HELP me", "Help"),
            ("QUIT now", "Quit"),
            ("AUTH PLAIN", "not offered"),
            ("GET / HTTP/1.1", "not offered"),
            ("MAILFROM:<a@b>", "unknown"),
            ("", "unknown"),
        ] {
            let read = read(line.as_bytes()).replace(&format!("{:?}", "x".repeat(100)), "LONG");
            assert_eq!(read, expected, "{line:?}");
        }
        assert_eq!(read(b"RCPT TO:<\xff@b>"), "500 5.5.2 Error: bad UTF-8 syntax");
        let within = |line: &str| {
            let (_, args) = split(line.as_bytes());
            match parse(Verb::Rcpt, args, &"mail.example".parse().unwrap(), true).unwrap() {
                Ok(Command::Rcpt { recipient, dsn, .. }) => {
                    (recipient.to_string(), dsn.original.unwrap().to_xtext())
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            within("RCPT TO:<用户@bücher.example> ORCPT=utf-8;用户@bücher.example"),
            ("用户@xn--bcher-kva.example".into(), "utf-8;用户@bücher.example".into())
        );
    }
}
