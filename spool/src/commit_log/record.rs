//! Records of the commit log: a queue file each, whole, as it will lie in the spool. Pure.
//!
//! ```text
//! offset  octets
//!      0       8  magic "IPLOG\x01\0\0"
//!      8       8  epoch of the segment's use, little-endian, as all numbers
//!     16       4  length of the image
//!     20       4  CRC-32 of everything behind it but the padding
//!     24      16  queue ID
//!     40       n  the image: prologue, envelope, content
//!             0-7 zeros up to a multiple of 8
//! ```
//!
//! An empty image takes the message of that ID back: it got no file, and whoever sent it was told so.
//!
//! A segment is used again and again, so what stands behind the last record of this use is left over from an earlier one: it has another
//! epoch. The first thing that is no record of the segment's epoch ends it. Nothing acknowledged stands behind that: records are appended one batch
//! after the other, and a batch is acknowledged when it is on stable storage.

use crate::id::QueueId;

/// Octets before the image.
pub const HEADER: usize = 40;
const MAGIC: [u8; 8] = *b"IPLOG\x01\0\0";
const ALIGNMENT: usize = 8;

/// How many octets of a segment an image of this length takes.
pub fn room(image: usize) -> usize {
    (HEADER + image).next_multiple_of(ALIGNMENT)
}

/// Appends a record.
pub fn encode(epoch: u64, id: QueueId, image: &[u8], out: &mut Vec<u8>) {
    let end = out.len() + room(image.len());
    let mut crc = crc32fast::Hasher::new();
    crc.update(id.as_str().as_bytes());
    crc.update(image);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&epoch.to_le_bytes());
    // Images are far shorter; one that were not would not be read back, and is not written (see `Log::append`).
    out.extend_from_slice(&u32::try_from(image.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out.extend_from_slice(id.as_str().as_bytes());
    out.extend_from_slice(image);
    out.resize(end, 0);
}

/// The records of a segment: `(name, queue file)`, in the order in which they were written.
pub fn records(segment: &[u8]) -> Records<'_> {
    Records { rest: segment, epoch: None }
}

/// See [`records`].
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    epoch: Option<u64>,
}

impl<'a> Iterator for Records<'a> {
    type Item = (QueueId, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (epoch, id, image) = first(self.rest)?;
        if *self.epoch.get_or_insert(epoch) != epoch {
            return None;
        }
        self.rest = self.rest.get(room(image.len())..).unwrap_or_default();
        Some((id, image))
    }
}

fn first(bytes: &[u8]) -> Option<(u64, QueueId, &[u8])> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (epoch, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let covered = rest.get(..length.checked_add(HEADER - 24)?)?;
    if *magic != MAGIC || crc32fast::hash(covered) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (id, image) = covered.split_at_checked(HEADER - 24)?;
    Some((u64::from_le_bytes(*epoch), std::str::from_utf8(id).ok()?.parse().ok()?, image))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::time::Timestamp;

    fn id(n: u64) -> QueueId {
        QueueId::new(Timestamp(1_795_358_702_123_456), n)
    }

    #[test]
    fn what_is_written_is_read_back_until_it_is_cut_or_damaged() {
        let images: Vec<Vec<u8>> = [0, 1, 7, 8, 9, 300].iter().map(|n| vec![b'x'; *n]).collect();
        let mut segment = Vec::new();
        for (n, image) in (0..).zip(&images) {
            encode(7, id(n), image, &mut segment);
        }
        let read = |bytes: &[u8]| -> Vec<(QueueId, Vec<u8>)> {
            records(bytes).map(|(id, image)| (id, image.to_vec())).collect()
        };
        let all: Vec<_> = (0..).map(id).zip(images.clone()).collect();
        assert_eq!(read(&segment), all);
        assert_eq!(read(&[segment.clone(), vec![0; 4096]].concat()), all, "zeros follow");
        for cut in 0..segment.len() {
            let read = read(&segment[..cut]);
            assert!(read.len() < all.len() || cut + 8 > segment.len(), "cut at {cut}");
            assert_eq!(read, all[..read.len()]);
        }
        let mut at = 0;
        for (n, image) in images.iter().enumerate() {
            for i in at..at + HEADER + image.len() {
                let mut damaged = segment.clone();
                damaged[i] ^= 1;
                // The epoch of the first one is taken as it is: then it is the others that do not fit.
                let wanted = if n == 0 && (8..16).contains(&i) { 1 } else { n };
                assert_eq!(read(&damaged).len(), wanted, "octet {i}");
            }
            at += room(image.len());
        }
    }

    #[test]
    fn what_an_earlier_use_left_behind_is_no_record() {
        let mut old = Vec::new();
        (0..10).for_each(|n| encode(1, id(n), b"old", &mut old));
        let mut new = Vec::new();
        encode(2, id(20), b"new", &mut new);
        old[..new.len()].copy_from_slice(&new);
        assert_eq!(records(&old).collect::<Vec<_>>(), [(id(20), &b"new"[..])]);
        old[..HEADER].fill(0);
        assert_eq!(records(&old).count(), 0, "given back");
    }

    #[test]
    fn hostile_lengths_are_no_records() {
        let mut segment = Vec::new();
        encode(1, id(1), b"x", &mut segment);
        for length in [u32::MAX, u32::MAX - 20, 2, 0] {
            segment[16..20].copy_from_slice(&length.to_le_bytes());
            assert_eq!(records(&segment).count(), 0, "{length}");
        }
    }
}
