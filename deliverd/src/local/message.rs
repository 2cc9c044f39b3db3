//! A message on its way into a mailbox: the fields on top, then the content as it is read, formatted piece
//! by piece.

use super::content::{Formatter, LoopSearch, Search};
use super::failure::Failure;
use super::fields::FieldFilter;
use super::template::Kind;
use common::address::Address;
use spool::content::ContentReader;
use spool::envelope::ContentFacts;
use std::fs::File;
use std::io::{self, Read, Write};

const PIECE: usize = 64 * 1024;

/// A message in an open file. Can be read again and again; the file's offset, which other processes share,
/// is not used.
#[derive(Debug)]
pub struct Message {
    file: File,
    offset: u64,
    facts: ContentFacts,
}

/// What went wrong while a message was copied.
#[derive(Debug)]
pub enum CopyError {
    /// The message cannot be read.
    Message(Failure),
    /// Its copy cannot be written.
    Write(io::Error),
}

impl Message {
    /// The content of `file` that begins at `offset`.
    pub fn new(file: File, offset: u64, facts: ContentFacts) -> Self {
        Self { file, offset, facts }
    }

    /// Octets of the content.
    pub fn length(&self) -> u64 {
        self.facts.length
    }

    /// Has it been delivered to this address before? Reads the header only.
    pub fn loops(&self, address: &Address) -> Result<bool, Failure> {
        let mut search = LoopSearch::new(address);
        let mut found = Search::More;
        self.read(|piece| {
            found = search.push(piece);
            Ok(found == Search::More)
        })
        .map_err(|error| match error {
            CopyError::Message(failure) => failure,
            CopyError::Write(error) => Failure::message(&error),
        })?;
        Ok(if found == Search::More { search.finish() } else { found } == Search::Loop)
    }

    /// Writes `top` and the content as this kind of mailbox holds it, without the fields that are not taken from outside. When the content is damaged this
    /// fails before the last of it is written.
    pub fn copy(&self, top: &str, kind: Kind, sink: &mut impl Write) -> Result<(), CopyError> {
        let (mut fields, mut formatter) = (FieldFilter::default(), Formatter::new(kind));
        let mut out = Vec::with_capacity(PIECE + top.len());
        out.extend_from_slice(top.as_bytes());
        self.read(|piece| {
            fields.push(piece, |kept| formatter.push(kept, &mut out));
            if out.len() >= PIECE {
                sink.write_all(&out)?;
                out.clear();
            }
            Ok(true)
        })?;
        fields.finish(|kept| formatter.push(kept, &mut out));
        formatter.finish(&mut out);
        sink.write_all(&out).map_err(CopyError::Write)
    }

    /// Hands the content to `take` until it says false. An error of `take` is one of writing.
    fn read(&self, mut take: impl FnMut(&[u8]) -> io::Result<bool>) -> Result<(), CopyError> {
        let failed = |error: &io::Error| CopyError::Message(Failure::message(error));
        let file = self.file.try_clone().map_err(|error| failed(&error))?;
        let mut reader = ContentReader::new(file, self.offset, &self.facts);
        let size = usize::try_from(self.facts.length).unwrap_or(PIECE).clamp(1, PIECE);
        let mut buffer = vec![0; size];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(got) => {
                    if !take(buffer.get(..got).unwrap_or_default()).map_err(CopyError::Write)? {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }
}
