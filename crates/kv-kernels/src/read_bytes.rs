//! Counts the encoded keys and values that attention reads, where it reads them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static READ: AtomicU64 = AtomicU64::new(0);

/// Bytes of keys and values, scales included, that attention has read since the process started, on all threads. A cache
/// whose count does not move attends in another way.
///
/// Rows are counted once for each tile of queries that reads them: in a decode step, once.
pub fn read_bytes() -> u64 {
    READ.load(Relaxed)
}

/// Adds what a tile has read.
pub(crate) fn add(bytes: usize) {
    READ.fetch_add(bytes as u64, Relaxed);
}
