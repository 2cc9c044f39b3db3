//! Queue IDs: the names of messages in every queue, log line and reply.
//!
//! An ID is 16 characters: the time of arrival in microseconds (10 digits to base 52) and the inode of the queue file (6 digits). IDs of one spool
//! therefore sort by time as text, and two processes cannot make the same one: an inode number belongs to one existing file. Should
//! one still be taken, `link` fails and the message is not acknowledged: nothing is ever overwritten.
//! The alphabet has digits and consonants only (no words, and log tools made for Postfix's long IDs read them).

use common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Characters of an ID.
pub const LENGTH: usize = 16;
const TIME_DIGITS: usize = 10;
const INODE_DIGITS: u32 = 6;
const ALPHABET: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

/// The name of one message: 16 characters of an alphabet without `.` or `/`, so it is a safe file name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueId([u8; LENGTH]);

/// Text that is no queue ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a queue ID")]
pub struct BadQueueId;

impl QueueId {
    /// The ID of a file with this inode that arrived at `time`.
    pub fn new(time: Timestamp, inode: u64) -> Self {
        let mut id = [b'0'; LENGTH];
        let mut put = |range: std::ops::Range<usize>, mut value: u64| {
            for digit in id.get_mut(range).into_iter().flatten().rev() {
                *digit =
                    usize::try_from(value % 52).ok().and_then(|i| ALPHABET.get(i)).copied().unwrap_or(b'0');
                value /= 52;
            }
        };
        put(0..TIME_DIGITS, u64::try_from(time.0).unwrap_or(0));
        put(TIME_DIGITS..LENGTH, inode % 52u64.pow(INODE_DIGITS));
        Self(id)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }

    /// The time of arrival that the ID encodes.
    pub fn time(&self) -> Timestamp {
        let digits = self.0.iter().take(TIME_DIGITS);
        Timestamp(digits.fold(0i64, |n, b| n.saturating_mul(52).saturating_add(value(*b).unwrap_or(0))))
    }

    /// The sub-folder of `deferred/` that holds it: two characters that change quickly, so that folders fill evenly.
    pub fn folder(&self) -> &str {
        self.as_str().get(TIME_DIGITS - 4..TIME_DIGITS - 2).unwrap_or("00")
    }
}

/// Is this a name that [`QueueId::folder`] can give?
pub fn is_folder_name(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|b| value(b).is_some())
}

fn value(digit: u8) -> Option<i64> {
    ALPHABET.binary_search(&digit).ok().and_then(|i| i64::try_from(i).ok())
}

impl FromStr for QueueId {
    type Err = BadQueueId;
    fn from_str(text: &str) -> Result<Self, BadQueueId> {
        let id: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| BadQueueId)?;
        if id.iter().all(|b| value(*b).is_some()) { Ok(Self(id)) } else { Err(BadQueueId) }
    }
}

impl TryFrom<String> for QueueId {
    type Error = BadQueueId;
    fn try_from(text: String) -> Result<Self, BadQueueId> {
        text.parse()
    }
}

impl From<QueueId> for String {
    fn from(id: QueueId) -> String {
        id.as_str().to_owned()
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_say_it() {
        let times = [0, 1, 51, 52, 1_795_358_702_123_456, 1_795_358_702_123_457, 9_000_000_000_000_000];
        let ids: Vec<_> = times.iter().map(|t| QueueId::new(Timestamp(*t), 77)).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1] && w[0].as_str() < w[1].as_str()));
        assert!(
            ids.iter().zip(times).all(|(id, t)| id.time() == Timestamp(t) && id.as_str().len() == LENGTH)
        );
        assert_ne!(QueueId::new(Timestamp(5), 1), QueueId::new(Timestamp(5), 2));
    }

    #[test]
    fn only_ids_are_read_as_ids() {
        let id = QueueId::new(Timestamp(1_795_358_702_123_456), u64::MAX);
        assert_eq!(id.as_str().parse(), Ok(id));
        for text in
            ["", "short", "../../etc/passwd", "0123456789BCDFG.", "0123456789BCDFGA", "0123456789BCDFGHJ"]
        {
            assert_eq!(text.parse::<QueueId>(), Err(BadQueueId), "{text}");
        }
        assert!(is_folder_name(id.folder()) && !is_folder_name("a0") && !is_folder_name("000"));
    }
}
