//! Reading a message's content so that nothing damaged is ever delivered.

use crate::envelope::ContentFacts;
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Reads the content and checks it on the way: when the checksum is wrong or the file too short, `InvalidData` comes *instead of* the
/// last octets, so that whoever copies cannot complete a damaged message. Does not move the file's offset, which processes may share.
#[derive(Debug)]
pub struct ContentReader {
    file: Arc<File>,
    at: u64,
    left: u64,
    crc: crc32fast::Hasher,
    expected: u32,
}

impl ContentReader {
    /// Content that begins at `offset` of `file` and is as `facts` say.
    pub fn new(file: impl Into<Arc<File>>, offset: u64, facts: &ContentFacts) -> Self {
        Self {
            file: file.into(),
            at: offset,
            left: facts.length,
            crc: crc32fast::Hasher::new(),
            expected: facts.checksum,
        }
    }

    /// Octets still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next octets, `most` of them or all that are left, if they are in memory already and can be had without waiting for the disk; `None` if not, and
    /// nothing has changed then.
    pub fn cached(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        let mut content = vec![0; length];
        let mut buffers = [io::IoSliceMut::new(&mut content)];
        match rustix::io::preadv2(&*self.file, &mut buffers, self.at, ReadWriteFlags::NOWAIT) {
            Ok(got) if got == length => self.took(&content).map(|()| Some(content)),
            // Also where the file system cannot tell.
            _ => Ok(None),
        }
    }

    fn took(&mut self, part: &[u8]) -> io::Result<()> {
        self.crc.update(part);
        self.at += part.len() as u64;
        self.left -= part.len() as u64;
        if self.left == 0 { self.end() } else { Ok(()) }
    }

    /// All has come: is it what was stored?
    fn end(&self) -> io::Result<()> {
        if self.crc.clone().finalize() == self.expected { Ok(()) } else { Err(damaged("wrong checksum")) }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("message content damaged: {what}"))
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            // Content of no length has its checksum, too; and an error does not become an end when it is asked again.
            return self.end().map(|()| 0);
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..wanted).filter(|part| !part.is_empty()) else { return Ok(0) };
        let got = self.file.read_at(part, self.at)?;
        if got == 0 {
            return Err(damaged("file too short"));
        }
        self.took(part.get(..got).unwrap_or_default()).map(|()| got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_content_never_ends_well() {
        let content = vec![b'x'; 1000];
        let facts =
            ContentFacts { length: 1000, checksum: crc32fast::hash(&content), ..ContentFacts::default() };
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&content, 3).unwrap();
        let mut out = Vec::new();
        ContentReader::new(file.try_clone().unwrap(), 3, &facts).read_to_end(&mut out).unwrap();
        assert_eq!(out, content);
        for (damage, octets) in [(&b"y"[..], 999), (b"", 700)] {
            file.set_len(octets + 3).unwrap();
            file.write_all_at(damage, octets + 3).unwrap();
            let mut out: Vec<u8> = Vec::new();
            let mut reader = ContentReader::new(file.try_clone().unwrap(), 3, &facts);
            let mut small = [0; 300];
            let error = loop {
                match reader.read(&mut small) {
                    Ok(n) => out.extend(&small[..n]),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(out.len() < 1000);
            assert!(reader.read(&mut small).is_err(), "nor when it is asked again");
        }
    }

    #[test]
    fn content_of_no_length_has_its_checksum_too() {
        for (checksum, good) in [(0, true), (1, false)] {
            let facts = ContentFacts { checksum, ..ContentFacts::default() };
            let mut reader = ContentReader::new(tempfile::tempfile().unwrap(), 3, &facts);
            assert_eq!(reader.read(&mut [0; 10]).is_ok(), good);
            assert_eq!(ContentReader::new(tempfile::tempfile().unwrap(), 3, &facts).cached(9).is_ok(), good);
        }
    }
}
