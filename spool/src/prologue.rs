//! The first 64 octets of a queue file. Layout and versions: `doc/spool-format.md`.

use crate::envelope::{ContentFacts, MAX_ENVELOPE};

/// Octets of a prologue.
pub const PROLOGUE: usize = 64;
const MAGIC: &[u8; 8] = b"IRONPOST";
/// The version that is written. Those before it stay readable.
pub const VERSION: u16 = 3;
const OLDEST: u16 = 1;
const EIGHT_BIT: u16 = 1;
const LEADING_DOT: u16 = 2;
const ENDS_WITH_NEWLINE: u16 = 4;
const EIGHT_BIT_HEADER: u16 = 8;

/// Lengths, checksums and facts about the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prologue {
    /// The format of the envelope: [`VERSION`] in what we write, an older one in what we find.
    pub version: u16,
    /// Octets of the encoded envelope, which follows the prologue.
    pub envelope_length: u32,
    /// Its CRC-32.
    pub envelope_checksum: u32,
    /// The content follows the envelope; the journal follows the content.
    pub content: ContentFacts,
}

/// Why a prologue cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrologueError {
    /// Not a queue file.
    #[error("not a queue file (wrong magic)")]
    Magic,
    /// Written by a newer Ironpost.
    #[error("format version {0} is not known: it was written by a newer Ironpost")]
    Version(u16),
    /// Damaged.
    #[error("prologue damaged (wrong checksum)")]
    Checksum,
    /// An impossible length.
    #[error("impossible length of the envelope")]
    Length,
}

impl Prologue {
    /// Where the content begins.
    pub fn content_offset(&self) -> u64 {
        PROLOGUE as u64 + u64::from(self.envelope_length)
    }

    /// Where the journal begins.
    pub fn journal_offset(&self) -> u64 {
        self.content_offset().saturating_add(self.content.length)
    }

    /// The octets on disk.
    pub fn encode(&self) -> [u8; PROLOGUE] {
        let facts = &self.content;
        let mut flags = 0u16;
        for (set, bit) in [
            (facts.eight_bit, EIGHT_BIT),
            (facts.leading_dot, LEADING_DOT),
            (facts.ends_with_newline, ENDS_WITH_NEWLINE),
            (facts.eight_bit_header, EIGHT_BIT_HEADER),
        ] {
            flags |= if set { bit } else { 0 };
        }
        let mut out = Vec::with_capacity(PROLOGUE);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.envelope_length.to_le_bytes());
        out.extend_from_slice(&facts.length.to_le_bytes());
        out.extend_from_slice(&self.envelope_checksum.to_le_bytes());
        out.extend_from_slice(&facts.checksum.to_le_bytes());
        out.extend_from_slice(&facts.longest_line.to_le_bytes());
        out.resize(PROLOGUE - 4, 0);
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        let mut fixed = [0; PROLOGUE];
        fixed.copy_from_slice(&out);
        fixed
    }

    /// Reads and checks the octets.
    pub fn decode(bytes: &[u8; PROLOGUE]) -> Result<Self, PrologueError> {
        let (body, checksum) = bytes.split_at(PROLOGUE - 4);
        if !body.starts_with(MAGIC) {
            return Err(PrologueError::Magic);
        }
        // The version comes before the checksum: a newer format may have moved it.
        let version = u16::from_le_bytes(field(bytes, 8));
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(PrologueError::Version(version));
        }
        if checksum != crc32fast::hash(body).to_le_bytes() {
            return Err(PrologueError::Checksum);
        }
        let flags = u16::from_le_bytes(field(bytes, 10));
        let prologue = Self {
            version,
            envelope_length: u32::from_le_bytes(field(bytes, 12)),
            envelope_checksum: u32::from_le_bytes(field(bytes, 24)),
            content: ContentFacts {
                length: u64::from_le_bytes(field(bytes, 16)),
                checksum: u32::from_le_bytes(field(bytes, 28)),
                longest_line: u32::from_le_bytes(field(bytes, 32)),
                eight_bit: flags & EIGHT_BIT != 0,
                eight_bit_header: flags & EIGHT_BIT_HEADER != 0,
                leading_dot: flags & LEADING_DOT != 0,
                ends_with_newline: flags & ENDS_WITH_NEWLINE != 0,
            },
        };
        let sane = prologue.envelope_length as usize <= MAX_ENVELOPE && prologue.content.length < 1 << 50;
        if sane { Ok(prologue) } else { Err(PrologueError::Length) }
    }
}

fn field<const N: usize>(bytes: &[u8; PROLOGUE], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|slice| slice.try_into().ok()).unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damaged_octet_is_noticed() {
        let prologue = Prologue {
            version: VERSION,
            envelope_length: 77,
            envelope_checksum: 1,
            content: ContentFacts {
                length: 1 << 40,
                checksum: 2,
                longest_line: 998,
                eight_bit: true,
                eight_bit_header: true,
                leading_dot: false,
                ends_with_newline: true,
            },
        };
        let bytes = prologue.encode();
        assert_eq!(Prologue::decode(&bytes), Ok(prologue));
        for i in 0..PROLOGUE {
            let mut damaged = bytes;
            damaged[i] ^= 0x40;
            assert!(Prologue::decode(&damaged).is_err(), "octet {i}");
        }
        assert_eq!(prologue.journal_offset(), 64 + 77 + (1 << 40));
    }
}
