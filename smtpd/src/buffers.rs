//! Read buffers: borrowed while there is something to read, so that thousands of idle sessions hold none.

use std::sync::{Mutex, PoisonError};

/// Size of a buffer, in octets.
pub const SIZE: usize = 32 * 1024;
/// Buffers kept for reuse.
const KEPT: usize = 64;

/// A stock of buffers.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// A buffer of [`SIZE`] octets, with anything in it.
    pub fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; SIZE])
    }

    /// Gives a buffer back.
    pub fn give(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}
