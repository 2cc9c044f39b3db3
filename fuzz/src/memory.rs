//! How much memory something takes: an allocator that counts, per thread, what is in use and the most that was.
//!
//! A program that declares [`Counting`] as its global allocator has [`bounded`] checked; in others it checks nothing.
//! The one module of the project with `unsafe`: an allocator cannot be written without.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What decoding may take whatever the length of the input: serde sets at most a MiB aside for a list that only claims to be
/// long, and lists are nested three deep.
pub const DECODING: usize = 4 << 20;

thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, and a count beside it.
#[derive(Debug)]
pub struct Counting;

/// Runs `work` and panics when this thread has had more than `limit` octets more in use than before.
pub fn bounded<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let before = IN_USE.get();
    MOST.set(before);
    let result = work();
    let most = usize::try_from(MOST.get() - before).unwrap_or(0);
    assert!(most <= limit, "{most} octets of memory were in use, {limit} are allowed");
    result
}

fn count(octets: usize, sign: isize) {
    // Sizes of allocations never exceed isize::MAX. While a thread ends there is nobody left to count for.
    let change = sign * isize::try_from(octets).unwrap_or(isize::MAX);
    let _ = IN_USE.try_with(|in_use| {
        in_use.set(in_use.get().wrapping_add(change));
        let _ = MOST.try_with(|most| most.set(most.get().max(in_use.get())));
    });
}

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator with the very arguments that came; counting allocates nothing (the
// thread-locals are constants without destructors) and touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `dealloc`; `memory` came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, 1);
        count(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `realloc`; `memory` came from `System`.
        unsafe { System.realloc(memory, layout, size) }
    }
}
