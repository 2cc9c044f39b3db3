//! Why a command could not do its work: a text for people and an exit code for programs.

use crate::exit;
use std::io;

/// A text and a sysexits(3) code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One of [`crate::exit`].
    pub code: u8,
    /// Says what to do, where something can be done; without the program's name.
    pub text: String,
}

impl Failure {
    /// A failure.
    pub fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Standard output does not take any more. A closed pipe (`| head`) is nobody's fault and says nothing.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(exit::OK, ""),
            _ => Self::new(exit::IO_ERROR, format!("cannot write: {error}")),
        }
    }

    /// Tells standard error, under the program's name, and gives the code. Control characters other than line
    /// ends do not reach the terminal.
    pub fn report(&self, program: &str) -> u8 {
        if !self.text.is_empty() {
            let lines: Vec<String> = self.text.lines().map(crate::terminal::line).collect();
            eprintln!("{program}: {}", lines.join("\n"));
        }
        self.code
    }
}
