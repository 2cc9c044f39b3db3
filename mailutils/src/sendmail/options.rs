//! The command line of `sendmail`: what programs pass to Postfix's, read by hand because it is not of the
//! getopt_long kind.
//!
//! Options may stand behind recipients, flags may be combined (`-ti`), values may be attached (`-fjoe`) or
//! follow (`-f joe`), and `-q` has a value only when it is attached. What Postfix ignores is ignored; what is
//! not supported is refused with its reason, never taken and dropped: a caller that asks for an SMTP
//! session must not believe it got one.

use common::dsn::{DsnError, EnvelopeId, Notify, Return};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mode {
    /// Read a message from standard input and send it (`-bm`, the default).
    #[default]
    Send,
    /// List the queue (`-bp`, `mailq`).
    List,
    /// Check the aliases (`-bi`, `-I`, `newaliases`).
    Aliases,
    /// Try queued messages again.
    Flush(Flush),
}

/// Which messages to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flush {
    /// All (`-q`, `-q30m`).
    All,
    /// Those with recipients in this domain (`-qRdomain`).
    Site(String),
    /// This one (`-qIid`).
    Id(String),
}

/// The command line, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What to do.
    pub mode: Mode,
    /// Take recipients from the header (`-t`).
    pub from_header: bool,
    /// A line with a lone dot does not end the message (`-i`, `-oi`).
    pub dots_are_content: bool,
    /// Envelope sender (`-f`, `-r`), as given.
    pub sender: Option<Vec<u8>>,
    /// Full name for a missing `From:` (`-F`).
    pub full_name: Option<Vec<u8>>,
    /// `-B8BITMIME`.
    pub eight_bit: bool,
    /// About what the sender is to be told (`-N`).
    pub notify: Notify,
    /// What comes back with a report of failure (`-R`).
    pub ret: Option<Return>,
    /// The sender's own name for the message (`-V`), decoded.
    pub envelope_id: Option<EnvelopeId>,
    /// Say what happened (`-v`).
    pub verbose: bool,
    /// Another configuration file (`-C`).
    pub config: Option<PathBuf>,
    /// Recipients, as given.
    pub recipients: Vec<Vec<u8>>,
    /// What was ignored although the caller may have meant something by it; said with `-v`.
    pub ignored: Vec<String>,
    /// `--help`, `--version`: to be printed instead of anything else.
    pub info: Option<Info>,
}

/// Answers that need nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Info {
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// Text for `--help`.
pub const HELP: &str = "\
Usage: sendmail [OPTION…] [RECIPIENT…] < MESSAGE
       mailq
       newaliases

  -t            recipients are taken from To, Cc and Bcc (and added to those on the command line)
  -i, -oi       a line with a lone dot does not end the message
  -f, -r ADDR   envelope sender
  -F NAME       full name, for a missing From
  -B TYPE       7BIT or 8BITMIME
  -N WHEN       notify the sender: never, or some of success,failure,delay
  -R WHAT       what comes back with a failed message: full or hdrs
  -V ID         envelope ID, repeated in notifications
  -bm           send a message (default)
  -bp           list the queue (as mailq)
  -bi, -I       check the aliases (as newaliases); nothing needs compiling
  -q            try all queued messages again; -qRDOMAIN, -qIID only some
  -C FILE       configuration file, as IRONPOST_CONFIG; both only without privilege
  -v            say what happened
Ignored as by Postfix: -A -c -e -G -h -L -m -n -O -o… -p -U -x -X
Not supported: -bd -bs -bv
";

const ID_RULE: &str = "an envelope ID is printable ASCII, at most 100 characters";

/// Flags without a value.
const FLAGS: &[u8] = b"GIUcimntvx";
/// Options with a value.
const VALUED: &[u8] = b"ABCFLNORVXbefhopr";

/// Reads a command line; the first argument is the program's own name. The error is for the caller of the
/// program.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
    let mut args = args.into_iter();
    let mut options = Options::default();
    let own = args.next().map(PathBuf::from).unwrap_or_default();
    match own.file_name().map(OsStrExt::as_bytes) {
        Some(b"mailq") => options.mode = Mode::List,
        Some(b"newaliases") => options.mode = Mode::Aliases,
        _ => {}
    }
    while let Some(arg) = args.next() {
        match arg.as_bytes() {
            b"--" => {
                options.recipients.extend(args.map(OsStringExt::into_vec));
                break;
            }
            b"--help" => options.info = Some(Info::Help),
            b"--version" => options.info = Some(Info::Version),
            [b'-', rest @ ..] if !rest.is_empty() => {
                let next = || args.next().map(OsStringExt::into_vec);
                options.cluster(rest, next)?;
            }
            recipient => options.recipients.push(recipient.to_vec()),
        }
    }
    Ok(options)
}

impl Options {
    /// One argument: flags, of which the last may have a value.
    fn cluster(&mut self, mut letters: &[u8], next: impl FnOnce() -> Option<Vec<u8>>) -> Result<(), String> {
        while let Some((&letter, rest)) = letters.split_first() {
            if letter == b'q' {
                return self.queue_run(rest);
            }
            if FLAGS.contains(&letter) {
                self.flag(letter);
                letters = rest;
                continue;
            }
            let name = common::text::printable_bytes(&[letter], 4);
            if !VALUED.contains(&letter) {
                return Err(format!("unknown option: -{name}"));
            }
            let value = if rest.is_empty() { next() } else { Some(rest.to_vec()) };
            let value = value.ok_or_else(|| format!("option -{name} needs a value"))?;
            return self.valued(letter, value);
        }
        Ok(())
    }

    fn flag(&mut self, letter: u8) {
        match letter {
            b'i' => self.dots_are_content = true,
            b't' => self.from_header = true,
            b'v' => self.verbose = true,
            b'I' => self.mode = Mode::Aliases,
            other => self.ignored.push(format!("-{}", char::from(other))),
        }
    }

    fn valued(&mut self, letter: u8, value: Vec<u8>) -> Result<(), String> {
        let shown = || format!("-{}{}", char::from(letter), common::text::printable_bytes(&value, 100));
        match letter {
            b'f' | b'r' => self.sender = Some(value),
            b'F' => self.full_name = Some(value),
            b'C' => self.config = Some(OsString::from_vec(value).into()),
            b'B' if value.eq_ignore_ascii_case(b"8BITMIME") => self.eight_bit = true,
            b'B' if value.eq_ignore_ascii_case(b"7BIT") => self.eight_bit = false,
            b'B' => return Err(format!("{}: the body type is 7BIT or 8BITMIME", shown())),
            b'o' if value == b"i" => self.dots_are_content = true,
            b'b' => self.mode = mode(&value)?,
            b'N' => self.notify = text(&value).parse().map_err(|e| format!("{}: {e}", shown()))?,
            b'R' => self.ret = Some(text(&value).parse().map_err(|e| format!("{}: {e}", shown()))?),
            b'V' => {
                let id = std::str::from_utf8(&value).map_err(|_| DsnError::Xtext).and_then(EnvelopeId::new);
                self.envelope_id = Some(id.map_err(|_| format!("{}: {ID_RULE}", shown()))?);
            }
            _ => self.ignored.push(shown()),
        }
        Ok(())
    }

    fn queue_run(&mut self, value: &[u8]) -> Result<(), String> {
        let text = |bytes: &[u8]| common::text::printable_bytes(bytes, 300);
        self.mode = Mode::Flush(match value {
            // An interval is for a daemon; Postfix flushes once.
            [] | [b'0'..=b'9', ..] => Flush::All,
            [b'R', site @ ..] if !site.is_empty() => Flush::Site(text(site)),
            [b'I', id @ ..] if !id.is_empty() => Flush::Id(text(id)),
            other => return Err(format!("-q{}: use -q, -qRDOMAIN or -qIID", text(other))),
        });
        Ok(())
    }
}

/// The words of `-N` and `-R`, which may have blanks between them.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).replace([' ', '\t'], "")
}

fn mode(value: &[u8]) -> Result<Mode, String> {
    match value {
        b"m" => Ok(Mode::Send),
        b"p" => Ok(Mode::List),
        b"i" => Ok(Mode::Aliases),
        b"d" | b"D" | b"l" => Err("-bd: the daemons are started by systemd or by `ironpost run`".into()),
        b"s" => Err("-bs: SMTP on standard input is not supported yet".into()),
        b"v" => {
            Err("-bv: verification is not supported; `ironpost route ADDRESS` explains where mail goes"
                .into())
        }
        other => Err(format!("unsupported: -b{}", common::text::printable_bytes(other, 100))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        parse(line.split(' ').map(OsString::from))
    }

    fn bytes(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|w| w.as_bytes().to_vec()).collect()
    }

    #[test]
    fn command_lines_that_are_taken() {
        let send = Options::default;
        for (line, expected) in [
            ("sendmail joe", Options { recipients: bytes(&["joe"]), ..send() }),
            ("/usr/bin/mailq", Options { mode: Mode::List, ..send() }),
            ("newaliases", Options { mode: Mode::Aliases, ..send() }),
            ("sendmail -bp", Options { mode: Mode::List, ..send() }),
            ("sendmail -b p", Options { mode: Mode::List, ..send() }),
            ("sendmail -bi", Options { mode: Mode::Aliases, ..send() }),
            ("sendmail -I", Options { mode: Mode::Aliases, ..send() }),
            ("sendmail -ti", Options { from_header: true, dots_are_content: true, ..send() }),
            ("sendmail -t -oi", Options { from_header: true, dots_are_content: true, ..send() }),
            ("sendmail -o i", Options { dots_are_content: true, ..send() }),
            (
                "sendmail -fjoe a b",
                Options { sender: Some(b"joe".into()), recipients: bytes(&["a", "b"]), ..send() },
            ),
            (
                "sendmail a -r joe b",
                Options { sender: Some(b"joe".into()), recipients: bytes(&["a", "b"]), ..send() },
            ),
            (
                "sendmail -tifjoe",
                Options { from_header: true, dots_are_content: true, sender: Some(b"joe".into()), ..send() },
            ),
            ("sendmail -F Joe", Options { full_name: Some(b"Joe".into()), ..send() }),
            ("sendmail -v -bm x", Options { verbose: true, recipients: bytes(&["x"]), ..send() }),
            ("sendmail -B8bitmime", Options { eight_bit: true, ..send() }),
            ("sendmail -B 7BIT", send()),
            (
                "sendmail -N success,Delay -R hdrs -V a+b",
                Options {
                    notify: "SUCCESS,DELAY".parse().unwrap(),
                    ret: Some(Return::Headers),
                    envelope_id: EnvelopeId::new("a+b").ok(),
                    ..send()
                },
            ),
            ("sendmail -Nnever -RFULL", Options { notify: Notify::NEVER, ret: Some(Return::Full), ..send() }),
            ("sendmail -C /x", Options { config: Some("/x".into()), ..send() }),
            ("sendmail -i -- -t", Options { dots_are_content: true, recipients: bytes(&["-t"]), ..send() }),
            ("sendmail -q", Options { mode: Mode::Flush(Flush::All), ..send() }),
            ("sendmail -q15m", Options { mode: Mode::Flush(Flush::All), ..send() }),
            (
                "sendmail -qRx.example",
                Options { mode: Mode::Flush(Flush::Site("x.example".into())), ..send() },
            ),
            ("sendmail -qI12", Options { mode: Mode::Flush(Flush::Id("12".into())), ..send() }),
            ("sendmail --help", Options { info: Some(Info::Help), ..send() }),
        ] {
            assert_eq!(read(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_postfix_ignores_is_ignored_and_can_be_said() {
        for (line, ignored) in [
            ("sendmail -Am -Ac", vec!["-Am", "-Ac"]),
            ("sendmail -odq -oem -om -o7", vec!["-odq", "-oem", "-om", "-o7"]),
            ("sendmail -O DeliveryMode=b -h 5", vec!["-ODeliveryMode=b", "-h5"]),
            ("sendmail -nGmU -x", vec!["-n", "-G", "-m", "-U", "-x"]),
            ("sendmail -L label -X log -p ESMTP:x -e m", vec!["-Llabel", "-Xlog", "-pESMTP:x", "-em"]),
        ] {
            let options = read(line).unwrap();
            assert_eq!(options.ignored, ignored, "{line}");
            assert_eq!(Options { ignored: Vec::new(), ..options }, Options::default(), "{line}");
        }
    }

    #[test]
    fn command_lines_that_are_refused_say_why() {
        for (line, part) in [
            ("sendmail -f", "-f needs a value"),
            ("sendmail -bs", "not supported yet"),
            ("sendmail -bd -q15m", "systemd"),
            ("sendmail -bv joe", "ironpost route"),
            ("sendmail -bz", "unsupported: -bz"),
            ("sendmail -N never,success", "-Nnever,success: wanted NEVER"),
            ("sendmail -N always", "-Nalways"),
            ("sendmail -R body", "-Rbody: wanted FULL"),
            ("sendmail -V \x1b", "at most 100 characters"),
            ("sendmail -B9BIT", "7BIT or 8BITMIME"),
            ("sendmail -qSx", "-qSx"),
            ("sendmail -qR", "-qR"),
            ("sendmail -\x1b", "\\x1b"),
            ("sendmail --sender", "unknown option: --"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
