//! What a cache occupies, in bytes, and what it holds, in tokens.

use std::iter::Sum;
use std::ops::AddAssign;

/// A cache's own account of its memory, over all open sequences and its pools.
///
/// `payload + metadata + slack` is what the allocator sees between steps; a row shared by several
/// sequences counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the keys' and values' codes.
    pub payload_bytes: usize,
    /// Bytes of scales, block tables, position maps and other bookkeeping.
    pub metadata_bytes: usize,
    /// Bytes reserved but not filled.
    pub slack_bytes: usize,
    /// The most bytes held only during the last step, its rows before they were committed included.
    pub scratch_peak_bytes: usize,
    /// Of the payload: bytes that more than one sequence reads.
    pub shared_bytes: usize,
    /// Bytes on disk.
    pub disk_bytes: usize,
    /// Tokens ever appended to the open sequences.
    pub seen_tokens: usize,
    /// Tokens whose rows are held; a shared token counts once for each sequence.
    pub resident_tokens: usize,
}

impl Usage {
    /// Bytes taken from the allocator between steps.
    pub fn reserved_bytes(&self) -> usize {
        self.payload_bytes + self.metadata_bytes + self.slack_bytes
    }
}

impl Usage {
    /// The same with more bytes of bookkeeping.
    #[must_use]
    pub fn with_metadata(mut self, bytes: usize) -> Usage {
        self.metadata_bytes += bytes;
        self
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.payload_bytes += other.payload_bytes;
        self.metadata_bytes += other.metadata_bytes;
        self.slack_bytes += other.slack_bytes;
        self.scratch_peak_bytes += other.scratch_peak_bytes;
        self.shared_bytes += other.shared_bytes;
        self.disk_bytes += other.disk_bytes;
        self.seen_tokens += other.seen_tokens;
        self.resident_tokens += other.resident_tokens;
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Usage>>(usages: I) -> Usage {
        usages.fold(Usage::default(), |mut total, usage| {
            total += usage;
            total
        })
    }
}
