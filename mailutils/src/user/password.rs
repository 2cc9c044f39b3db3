//! A new password: typed twice at the terminal, where it is not shown; or the first line of what is piped in.

use crate::exit;
use crate::failure::Failure;
use auth::prepare::{self, Password};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read, Stdin, Write};

/// For this user.
pub fn ask(name: &str) -> Result<Password, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read(&stdin);
    }
    let quiet = Quiet::on(&stdin)?;
    let first = typed(&stdin, &format!("New password for {}: ", crate::terminal::line(name)))?;
    let again = typed(&stdin, "The same again: ")?;
    drop(quiet);
    if first == again {
        Ok(first)
    } else {
        Err(Failure::new(exit::DATA, "the two are not the same: nothing changed"))
    }
}

fn typed(stdin: &Stdin, question: &str) -> Result<Password, Failure> {
    let mut terminal = io::stderr();
    let _ = terminal.write_all(question.as_bytes()).and_then(|()| terminal.flush());
    let password = read(stdin);
    // The line end that was typed is not shown either.
    let _ = terminal.write_all(b"\n");
    password
}

/// A line, without its end.
fn read(stdin: &Stdin) -> Result<Password, Failure> {
    let mut line = zeroize::Zeroizing::new(Vec::with_capacity(prepare::MAX + 2));
    let limit = u64::try_from(prepare::MAX + 2).unwrap_or(u64::MAX);
    stdin
        .lock()
        .take(limit)
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::new(exit::IO_ERROR, format!("cannot read the password: {error}")))?;
    let octets = line.strip_suffix(b"\n").unwrap_or(&line);
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    let refuse = |what: &str| Failure::new(exit::DATA, what);
    if octets.is_empty() {
        return Err(refuse("a password cannot be empty: nothing changed"));
    }
    if std::str::from_utf8(octets).is_ok_and(|text| text.chars().any(char::is_control)) {
        return Err(refuse("a password cannot have control characters: nothing changed"));
    }
    Password::new(octets).map_err(refuse)
}

/// While it lives the terminal does not show what is typed.
struct Quiet<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn on(terminal: &'a Stdin) -> Result<Self, Failure> {
        let failed = |error| Failure::new(exit::OS_ERROR, format!("cannot hide what is typed: {error}"));
        let before = tcgetattr(terminal).map_err(failed)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        // What was typed too early is not the password.
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet).map_err(failed)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, SetArg::TCSANOW, &self.before);
    }
}
