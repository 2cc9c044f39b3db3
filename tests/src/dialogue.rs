//! Dialogues (`tests/dialogues/*.smtp`, one rule a file) against a server on the other end of a connection: ours, or one
//! with which we share the rule.
//!
//! The lines are those that `smtpd/tests/suite/dialogues.rs` explains; its core replays them, too. Here counts, beside them:
//!
//! | line | means |
//! | --- | --- |
//! | `# only the core: why` | not for servers: what happens in it cannot be brought about from outside |
//! | `# not on Postfix: why` | not a rule that Postfix has |
//! | `P: 551 5.0.0 \| why` | behind an `S:`: what Postfix says instead, and why we differ; `-`: nothing |
//! | `P: closed \| why` | Postfix closes the connection there |

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use crate::DEADLINE;

/// One file.
#[derive(Clone, Debug)]
pub struct Dialogue {
    /// Its name, without extension.
    pub name: String,
    /// What it is about.
    pub rule: String,
    lines: Vec<String>,
}

/// On which side of the common rules the server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Replies are exactly those of the `S:` lines.
    Ours,
    /// Codes are those of the `P:` lines, else those of the `S:` lines; texts do not count.
    Postfix,
}

/// Where Postfix answers otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The file.
    pub name: String,
    /// What we say.
    pub ours: String,
    /// What it says.
    pub theirs: String,
    /// Why.
    pub why: String,
}

/// A message that is to arrive.
#[derive(Clone, Debug)]
pub struct Message {
    /// Local-parts and domains.
    pub recipients: Vec<String>,
    /// With CRLF.
    pub content: Vec<u8>,
}

/// All dialogues, by name.
pub fn all() -> Vec<Dialogue> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogues");
    let mut found: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| read(&entry.unwrap().path())).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() > 50, "the fixtures are there");
    found
}

fn read(path: &Path) -> Dialogue {
    let text = std::fs::read_to_string(path).unwrap();
    let rule = text.lines().next().unwrap().trim_start_matches("# ").to_owned();
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    Dialogue { name, rule, lines: text.lines().map(str::to_owned).collect() }
}

impl Dialogue {
    /// What stands behind a comment that begins so.
    pub fn remark(&self, begins: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix("# ")?.strip_prefix(begins))
    }

    /// The host that it needs: its `!` lines.
    pub fn host(&self) -> Vec<String> {
        self.lines.iter().filter_map(|line| line.strip_prefix("! ")).map(str::to_owned).collect()
    }

    /// The messages that are accepted in it.
    pub fn messages(&self) -> Vec<Message> {
        let message = |line: &String| {
            let mut parts = line.strip_prefix("M: ")?.splitn(3, " > ").skip(1);
            let recipients = without_braces(parts.next()?);
            let recipients = recipients.split(' ').filter(|part| !part.is_empty()).map(str::to_owned);
            Some(Message { recipients: recipients.collect(), content: unescape(parts.next().unwrap_or("")) })
        };
        self.lines.iter().filter_map(message).collect()
    }

    /// Plays it; what the client says goes out octet by octet, or in the packets of the file. Errors: what went wrong, and where.
    pub fn play(&self, server: SocketAddr, side: Side, by_octets: bool) -> Result<Vec<Difference>, String> {
        let stream = TcpStream::connect(server).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(*DEADLINE)).unwrap();
        let mut wire = Wire { stream: BufReader::new(stream), by_octets };
        let mut packet = Vec::new();
        let mut differences = Vec::new();
        let mut lines = self.lines.iter().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let wrong = |what: String| format!("{}, line {}: {what}", self.name, number + 1);
            let Some((key, value)) = line.split_once(':').filter(|_| !line.starts_with(['#', '!'])) else {
                continue;
            };
            let value = value.strip_prefix(' ').unwrap_or(value);
            let (key, times) = key.split_once('*').map_or((key, 1), |(key, n)| (key, n.parse().unwrap()));
            if !matches!(key, "C" | "R") {
                wire.send(&std::mem::take(&mut packet));
            }
            match key {
                "C" => (0..times).for_each(|_| packet.extend([unescape(value).as_slice(), b"\r\n"].concat())),
                "R" => (0..times).for_each(|_| packet.extend(unescape(value))),
                "E" => {
                    wire.send(format!("EHLO {value}\r\n").as_bytes());
                    while let Some(line) = wire.line() {
                        if !line.starts_with("250") {
                            return Err(wrong(format!("EHLO is answered with {line:?}")));
                        }
                        if line.starts_with("250 ") {
                            break;
                        }
                    }
                }
                "S" => {
                    let theirs =
                        lines.next_if(|(_, next)| next.starts_with("P: ")).map(|(_, next)| &next[3..]);
                    let theirs = theirs.map(|text| text.split_once(" | ").expect("a reason behind |"));
                    if let (Some((said, why)), Side::Postfix) = (theirs, side) {
                        let difference = Difference {
                            name: self.name.clone(),
                            ours: value.to_owned(),
                            theirs: said.to_owned(),
                            why: why.to_owned(),
                        };
                        if codes(said) == codes(value) {
                            return Err(wrong(format!("{difference:?} is no difference")));
                        }
                        differences.push(difference);
                        match (said, if said == "-" { None } else { wire.line() }) {
                            ("-", _) => {}
                            ("closed", None) => return Ok(differences),
                            (said, Some(line)) if codes(said) == codes(&line) => {}
                            (said, line) => {
                                return Err(wrong(format!("expected {said:?}, Postfix said {line:?}")));
                            }
                        }
                        continue;
                    }
                    for _ in 0..times {
                        let line = wire.line();
                        let same = line.as_ref().is_some_and(|line| match side {
                            Side::Ours => without_id(line) == without_id(value),
                            Side::Postfix => codes(line) == codes(value),
                        });
                        if !same {
                            return Err(wrong(format!("expected {value:?}, got {line:?}")));
                        }
                    }
                }
                "X" => match wire.line() {
                    None => return Ok(differences),
                    Some(line) => return Err(wrong(format!("expected the end, got {line:?}"))),
                },
                "G" => return Ok(differences),
                "L" | "M" => {}
                _ => return Err(wrong(format!("{key}: is not for servers"))),
            }
        }
        wire.send(&packet);
        wire.send(b"QUIT\r\n");
        match wire.line() {
            Some(line) if line.starts_with("221 ") => Ok(differences),
            other => Err(format!("{}: at its end expected 221, got {other:?}", self.name)),
        }
    }
}

struct Wire {
    stream: BufReader<TcpStream>,
    by_octets: bool,
}

impl Wire {
    /// A server that has closed already need not hear the rest.
    fn send(&mut self, octets: &[u8]) {
        let stream = self.stream.get_mut();
        for part in octets.chunks(if self.by_octets { 1 } else { octets.len().max(1) }) {
            if stream.write_all(part).is_err() {
                return;
            }
        }
    }

    /// The next line; none at the end of the connection.
    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.stream.by_ref().read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => Some(format!("no reply: {error}")),
        }
    }
}

/// Without what was said about notifications.
fn without_braces(text: &str) -> String {
    let mut depth = 0;
    let outside = |c: &char| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0 && *c != '}'
    };
    text.chars().filter(outside).collect()
}

/// Queue IDs are the server's.
fn without_id(reply: &str) -> &str {
    reply.split_once("queued as ").map_or(reply, |(before, _)| before)
}

/// The three digits and the enhanced code.
fn codes(reply: &str) -> String {
    let mut words = reply.split([' ', '-']);
    let code = words.next().unwrap_or_default();
    let is_enhanced = |word: &&str| {
        let numbers: Vec<_> = word.split('.').collect();
        numbers.len() == 3 && numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    format!("{code} {}", words.next().filter(is_enhanced).unwrap_or_default())
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'x' => {
                    let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
                }
                other => other,
            },
            other => other,
        });
    }
    out
}
