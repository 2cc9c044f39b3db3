//! `sendmail`, `mailq` and `newaliases`: what programs of this machine call to send mail.
//!
//! | file | what |
//! | --- | --- |
//! | [`options`] | the command line |
//! | [`addresses`], [`header`] | recipients and fields of the header |
//! | [`input`] | standard input made into content |
//! | [`submit`] | the way into the queue |
//!
//! A message is either on stable storage in the queue (exit code 0) or nowhere (any other code, with the
//! reason on standard error). Dates and Message-IDs are added by queued; a missing `From` is added here,
//! where the user's full name is known.

pub mod addresses;
pub mod header;
pub mod input;
pub mod options;
pub mod submit;

use crate::exit;
use crate::failure::Failure;
use common::address::{Address, ReversePath};
use common::config::{Config, DEFAULT_PATH};
use common::dsn::{MessageDsn, RecipientDsn};
use common::time::Timestamp;
use input::{Head, HeadReader, MAX_HEADER, Normalizer};
use nix::unistd::{User, getegid, geteuid, getgid, getuid};
use options::{Flush, Info, Mode, Options};
use spool::envelope::{Body, Envelope, Origin, Recipient};
use spool::id::QueueId;
use spool::layout::Spool;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// Octets read at once.
const CHUNK: usize = 64 * 1024;

/// Runs with these arguments, of which the first is the name it was called by; the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let options = match options::parse(args) {
        Ok(options) => options,
        Err(text) => return fatal(&Failure::new(exit::USAGE, text)),
    };
    if let Some(info) = options.info {
        let text = match info {
            Info::Help => options::HELP.to_owned(),
            Info::Version => format!("sendmail (Ironpost) {}\n", env!("CARGO_PKG_VERSION")),
        };
        return match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => exit::OK,
            Err(error) => Failure::output(&error).report("sendmail"),
        };
    }
    match run(&options) {
        Ok(()) => exit::OK,
        Err(failure) => fatal(&failure),
    }
}

fn fatal(failure: &Failure) -> u8 {
    failure.report("sendmail: fatal")
}

fn run(options: &Options) -> Result<(), Failure> {
    let config =
        Config::load(&config_path(options)?).map_err(|e| Failure::new(exit::CONFIG, e.to_string()))?;
    match &options.mode {
        Mode::Send => {
            let (id, count) = send(options, &config, io::stdin().lock())?;
            if options.verbose {
                for ignored in &options.ignored {
                    eprintln!("sendmail: {ignored}: ignored");
                }
                eprintln!(
                    "sendmail: {id}: queued for {count} recipient{}",
                    if count == 1 { "" } else { "s" }
                );
            }
            Ok(())
        }
        Mode::List => crate::queue::mailq(&config),
        Mode::Aliases => crate::check::newaliases(&config),
        Mode::Flush(flush) => crate::queue::flush(&config, &selected(flush)?),
    }
}

/// The environment and the command line name a configuration only where no privilege is at stake.
fn config_path(options: &Options) -> Result<PathBuf, Failure> {
    let privileged = getuid() != geteuid() || getgid() != getegid();
    match (&options.config, privileged) {
        (Some(_), true) => {
            Err(Failure::new(exit::NO_PERMISSION, "-C cannot be used while sendmail is set-group-ID"))
        }
        (Some(path), false) => Ok(path.clone()),
        (None, true) => Ok(DEFAULT_PATH.into()),
        (None, false) => Ok(std::env::var_os("IRONPOST_CONFIG").map_or(DEFAULT_PATH.into(), PathBuf::from)),
    }
}

fn selected(flush: &Flush) -> Result<spool::control::Selection, Failure> {
    let mut selection = spool::control::Selection::default();
    let wrong =
        |text: &str| Failure::new(exit::USAGE, format!("{text:?} is neither a domain nor a queue ID"));
    match flush {
        Flush::All => {}
        Flush::Site(site) => selection.domain = Some(site.parse().map_err(|_| wrong(site))?),
        Flush::Id(id) => selection.ids = vec![id.parse().map_err(|_| wrong(id))?],
    }
    Ok(selection)
}

/// Reads a message and queues it; its ID and the number of recipients.
fn send(options: &Options, config: &Config, source: impl Read) -> Result<(QueueId, usize), Failure> {
    let user = User::from_uid(getuid()).ok().flatten();
    let sender = sender(options, config, user.as_ref())?;
    let mut recipients = Vec::new();
    for text in &options.recipients {
        recipients.extend(addresses::parse(text, &config.mail_name).map_err(bad_address)?);
    }
    if recipients.is_empty() && !options.from_header {
        return Err(Failure::new(
            exit::USAGE,
            "name the recipients on the command line, or use -t to take them from the header",
        ));
    }
    let mut input = Input::new(source, !options.dots_are_content);
    let head = input.head()?;
    if options.from_header {
        recipients.extend(header::recipients(&head.fields, &config.mail_name).map_err(bad_address)?);
    }
    let mut seen = HashSet::new();
    recipients.retain(|address| seen.insert(address.clone()));
    let count = recipients.len();
    if count == 0 {
        return Err(Failure::new(exit::USAGE, "no recipient addresses found in the message header"));
    }

    let now = Timestamp::now();
    let (mut writer, way) = submit::begin(&Spool::new(&config.spool_directory), now)?;
    let utf8 = !sender.is_ascii() || !recipients.iter().all(Address::is_ascii);
    let eight_bit = options.eight_bit || header::declares_eight_bit(&head.fields);
    let recipient = |address| Recipient {
        dsn: RecipientDsn { notify: options.notify, original: None },
        ..Recipient::new(address)
    };
    let envelope = Envelope {
        sender: sender.clone(),
        arrived: now,
        origin: Origin::Local { uid: getuid().as_raw() },
        // The addresses alone decide about SMTPUTF8: a header with UTF-8 in it has always been sent as it is, and
        // must not begin to need servers that know SMTPUTF8.
        body: match (utf8, eight_bit) {
            (true, _) => Body::Utf8,
            (false, true) => Body::EightBitMime,
            (false, false) => Body::SevenBit,
        },
        recipients: recipients.into_iter().map(recipient).collect(),
        dsn: MessageDsn { ret: options.ret, envelope_id: options.envelope_id.clone() },
    };
    writer
        .set_envelope(&envelope)
        .map_err(|e| Failure::new(exit::DATA, format!("{count} recipients: {e}")))?;
    let from = || header::mailbox(&full_name(options, user.as_ref()), &from_address(&sender, config));
    let mut content = header::compose(&head.fields, from);
    content.extend_from_slice(&head.rest);
    let limit = config.smtpd.message_size_limit.0;
    loop {
        writer.write(&content).map_err(|e| submit::write_failure(&e))?;
        if limit > 0 && writer.content_length() > limit {
            return Err(Failure::new(
                exit::DATA,
                format!("the message is larger than the limit of {limit} octets"),
            ));
        }
        content.clear();
        if !input.more(&mut content)? {
            break;
        }
    }
    Ok((submit::finish(writer, way)?, count))
}

fn bad_address(error: addresses::ListError) -> Failure {
    Failure::new(exit::DATA, error.to_string())
}

/// The envelope sender: `-f`, or who we are.
fn sender(options: &Options, config: &Config, user: Option<&User>) -> Result<ReversePath, Failure> {
    let Some(given) = &options.sender else {
        let login = match user {
            Some(user) => user.name.clone(),
            // A container's arbitrary uid.
            None => std::env::var("LOGNAME").unwrap_or_else(|_| format!("uid{}", getuid())),
        };
        let address = common::address::LocalPart::quote(&login)
            .and_then(|local| Address::new(local, config.mail_name.clone()));
        let wrong =
            |e| Failure::new(exit::USAGE, format!("the login name {login:?} is no address ({e}): use -f"));
        return address.map(ReversePath::Address).map_err(wrong);
    };
    if matches!(given.trim_ascii(), b"" | b"<>") {
        return Ok(ReversePath::Null);
    }
    let mut list = addresses::parse(given, &config.mail_name)
        .map_err(|e| Failure::new(exit::USAGE, format!("-f: {e}")))?;
    match (list.pop(), list.pop()) {
        (Some(address), None) => Ok(ReversePath::Address(address)),
        _ => Err(Failure::new(exit::USAGE, "-f: wanted one address, or \"\" for the null sender")),
    }
}

fn from_address(sender: &ReversePath, config: &Config) -> String {
    match sender {
        ReversePath::Address(address) => address.to_string(),
        ReversePath::Null => format!("MAILER-DAEMON@{}", config.mail_name),
    }
}

/// `-F`, else the first part of the user's entry, where `&` stands for the login name (passwd(5)).
fn full_name(options: &Options, user: Option<&User>) -> Vec<u8> {
    if let Some(name) = &options.full_name {
        return name.clone();
    }
    let Some(user) = user else { return Vec::new() };
    let gecos = user.gecos.to_string_lossy();
    let name = gecos.split(',').next().unwrap_or("");
    let mut login = user.name.chars();
    let capital: String = login.next().into_iter().flat_map(char::to_uppercase).chain(login).collect();
    name.replace('&', &capital).into_bytes()
}

/// Standard input, read as [`input`] says.
struct Input<R> {
    source: R,
    normalizer: Normalizer,
    chunk: Vec<u8>,
    over: bool,
}

impl<R: Read> Input<R> {
    fn new(source: R, dot_ends: bool) -> Self {
        Self { source, normalizer: Normalizer::new(dot_ends), chunk: vec![0; CHUNK], over: false }
    }

    /// Adds the next part of the content to `out`; false when there is no more.
    fn more(&mut self, out: &mut Vec<u8>) -> Result<bool, Failure> {
        if self.over {
            return Ok(false);
        }
        let got = loop {
            match self.source.read(&mut self.chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    break other.map_err(|e| {
                        Failure::new(exit::IO_ERROR, format!("cannot read the message: {e}"))
                    })?;
                }
            }
        };
        self.normalizer.feed(self.chunk.get(..got).unwrap_or_default(), out);
        if got == 0 || self.normalizer.ended() {
            self.normalizer.finish(out);
            self.over = true;
        }
        Ok(true)
    }

    fn head(&mut self) -> Result<Head, Failure> {
        let mut reader = HeadReader::new();
        loop {
            let more = self.more(reader.buffer())?;
            let too_long =
                |_| Failure::new(exit::DATA, format!("the header is longer than {MAX_HEADER} octets"));
            if let Some(head) = reader.advance(!more).map_err(too_long)? {
                return Ok(head);
            }
        }
    }
}

#[cfg(test)]
mod tests;
