//! A message's content from its file to the wire, in chunks. What has to be waited for is read off the async threads; what
//! was just written is in memory still, and is not worth waking another thread for.
//!
//! What is damaged is noticed before its last octets are handed out (see [`ContentReader`]), so the end of
//! data is never reached.

use super::client::Transparency;
use spool::content::ContentReader;
use spool::envelope::ContentFacts;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// Octets read at once.
const CHUNK: usize = 64 * 1024;

/// The content of a job; can be sent more than once.
#[derive(Debug)]
pub struct Content {
    file: Arc<File>,
    offset: u64,
    facts: ContentFacts,
}

impl Content {
    /// Content that begins at `offset` of `file`.
    pub fn new(file: File, offset: u64, facts: ContentFacts) -> Self {
        Self { file: Arc::new(file), offset, facts }
    }

    /// Octets as the server counts them: content that lacks its last line end gets one.
    pub fn size(&self) -> u64 {
        self.facts.length + if self.facts.ends_with_newline { 0 } else { 2 }
    }

    /// From the beginning.
    pub fn chunks(&self) -> Chunks {
        let reader = ContentReader::new(self.file.clone(), self.offset, &self.facts);
        Chunks(Some((reader, Transparency::default())))
    }
}

/// The wire form, the end of data included.
#[derive(Debug)]
pub struct Chunks(Option<(ContentReader, Transparency)>);

impl Chunks {
    /// The next octets; `None` after the end of data. After an error there is nothing more.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((mut reader, encoder)) = self.0.take() else { return Ok(None) };
        if let Some(content) = reader.cached(CHUNK)? {
            let (wire, rest) = encode(&content, reader, encoder);
            self.0 = rest;
            return Ok(Some(wire));
        }
        let read = tokio::task::spawn_blocking(move || chunk(reader, encoder));
        let (wire, rest) = read.await.map_err(io::Error::other)??;
        self.0 = rest;
        Ok(Some(wire))
    }
}

/// Room for content of this length, its stuffed dots and the end of data.
fn wire_buffer(length: usize) -> Vec<u8> {
    Vec::with_capacity(length + length / 32 + 16)
}

type Rest = Option<(ContentReader, Transparency)>;

fn chunk(mut reader: ContentReader, encoder: Transparency) -> io::Result<(Vec<u8>, Rest)> {
    let length = usize::try_from(reader.left()).unwrap_or(CHUNK).min(CHUNK);
    let mut content = Vec::with_capacity(length);
    reader.by_ref().take(length as u64).read_to_end(&mut content)?;
    Ok(encode(&content, reader, encoder))
}

/// The wire form of this content, with the end of data if nothing follows it.
fn encode(content: &[u8], reader: ContentReader, mut encoder: Transparency) -> (Vec<u8>, Rest) {
    let mut wire = wire_buffer(content.len());
    encoder.encode(content, &mut wire);
    if reader.left() > 0 {
        return (wire, Some((reader, encoder)));
    }
    encoder.finish(&mut wire);
    (wire, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spool::facts::FactsBuilder;
    use std::io::Write;

    async fn wire(content: &[u8], damage: bool) -> io::Result<Vec<u8>> {
        let mut facts = FactsBuilder::new();
        facts.feed(content);
        let mut file = tempfile::tempfile()?;
        file.write_all(b"head")?;
        file.write_all(content)?;
        if damage {
            std::os::unix::fs::FileExt::write_all_at(&file, b"!", 4 + content.len() as u64 / 2)?;
        }
        let mut chunks = Content::new(file, 4, facts.facts()).chunks();
        let mut wire = Vec::new();
        while let Some(part) = chunks.next().await? {
            wire.extend(part);
        }
        Ok(wire)
    }

    #[tokio::test]
    async fn content_goes_out_whole_or_not_at_all() {
        let line = b".a line of some length, so that chunks end anywhere in it\r\n";
        for length in [0, 1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            let content: Vec<u8> = line.iter().copied().cycle().take(length).collect();
            let mut expected = Vec::new();
            let mut encoder = Transparency::default();
            encoder.encode(&content, &mut expected);
            encoder.finish(&mut expected);
            assert!(wire(&content, false).await.unwrap() == expected, "{length}");
            if length > 0 {
                let error = wire(&content, true).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            }
        }
    }
}
