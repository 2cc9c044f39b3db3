//! Command lines with their parameters: what is understood, said again in its plain form, means the same.

use common::address::{Domain, ReversePath};
use common::dsn::{EnvelopeId, Notify, OriginalRecipient, Return, encode_xtext};
use smtpd::session::command::{self, Command};
use smtpd::session::verbs;
use spool::envelope::Body;

/// The whole input is a command line without its CRLF.
pub fn run(input: &[u8]) {
    let mail_name: Domain = "mail.example".parse().expect("a domain");
    for utf8 in [false, true] {
        if let Some(command) = read(input, &mail_name, utf8)
            && let Some(line) = say(&command)
        {
            assert_eq!(read(line.as_bytes(), &mail_name, utf8), Some(command), "{line:?}");
        }
    }
    if let Ok(text) = std::str::from_utf8(input) {
        values(text);
    }
}

fn read(line: &[u8], mail_name: &Domain, utf8: bool) -> Option<Command> {
    let (word, args) = command::split(line);
    let (_, rule) = verbs::find(word)?;
    match command::parse(rule.verb, args, mail_name, utf8)? {
        Ok(command) => Some(command),
        Err(reply) => {
            let mut wire = Vec::new();
            reply.write_to(&mut wire);
            crate::replies_are_well_formed(&wire);
            assert!(reply.is_error());
            None
        }
    }
}

/// The plain form; `None` for commands that have nothing to say again.
fn say(command: &Command) -> Option<String> {
    Some(match command {
        Command::Helo(name) => format!("HELO {name}"),
        Command::Ehlo(name) => format!("EHLO {name}"),
        Command::Mail { sender, size, body, dsn, submitter } => {
            let size = size.map(|size| format!(" SIZE={size}")).unwrap_or_default();
            let body = match body {
                Body::SevenBit => " BODY=7BIT",
                Body::EightBitMime => " BODY=8BITMIME",
                Body::Utf8 => " SMTPUTF8",
            };
            let ret = dsn.ret.map(|ret| format!(" RET={ret}")).unwrap_or_default();
            let id = dsn.envelope_id.as_ref().map(|id| format!(" ENVID={}", id.to_xtext()));
            let by = submitter.as_ref().map(|by| match by {
                ReversePath::Null => " AUTH=<>".to_owned(),
                ReversePath::Address(address) => format!(" AUTH={}", encode_xtext(&address.to_string())),
            });
            let (id, by) = (id.unwrap_or_default(), by.unwrap_or_default());
            format!("MAIL FROM:<{sender}>{size}{body}{ret}{id}{by}")
        }
        Command::Rcpt { recipient, bare_postmaster, dsn, .. } => {
            let notify =
                if dsn.notify.is_absent() { String::new() } else { format!(" NOTIFY={}", dsn.notify) };
            let original = dsn.original.as_ref().map(|o| format!(" ORCPT={}", o.to_xtext()));
            let address =
                if *bare_postmaster { recipient.local_part().to_string() } else { recipient.to_string() };
            format!("RCPT TO:<{address}>{notify}{}", original.unwrap_or_default())
        }
        _ => return None,
    })
}

/// The values by themselves: parse, print, parse.
fn values(text: &str) {
    let printable = |text: &str| assert!(text.bytes().all(|b| (33..127).contains(&b)), "{text:?}");
    let no_control = |text: &str| {
        assert!(!text.chars().any(|c| c.is_control() || c.is_whitespace()), "{text:?}");
    };
    if let Ok(id) = EnvelopeId::from_xtext(text) {
        printable(&id.to_xtext());
        assert_eq!(EnvelopeId::from_xtext(&id.to_xtext()).as_ref(), Ok(&id));
        assert_eq!(EnvelopeId::new(id.as_str()), Ok(id));
    }
    if let Ok(original) = OriginalRecipient::from_xtext(text) {
        no_control(&original.to_xtext());
        printable(&original.to_ascii_xtext());
        assert_eq!(OriginalRecipient::from_xtext(&original.to_xtext()), Ok(original));
    }
    if let Ok(notify) = text.parse::<Notify>() {
        assert_eq!(notify.to_string().parse(), Ok(notify));
        assert_eq!(Notify::try_from(u8::from(notify)), Ok(notify));
    }
    if let Ok(ret) = text.parse::<Return>() {
        assert_eq!(ret.to_string().parse(), Ok(ret));
    }
}
