//! The bytes that a cache occupies and the tokens that it holds.

use std::iter::Sum;
use std::ops::AddAssign;

/// A cache's own account of its memory, over all open sequences and its pools.
///
/// `payload + metadata + slack` equals the allocator's count between steps. A row shared by several sequences
/// counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the codes of keys and values.
    pub payload_bytes: usize,
    /// Bytes of scales, block tables, position maps and other bookkeeping.
    pub metadata_bytes: usize,
    /// Bytes reserved but not filled.
    pub slack_bytes: usize,
    /// Peak bytes held only during the last step, including its rows before they were committed.
    pub scratch_peak_bytes: usize,
    /// The part of the payload that more than one sequence reads.
    pub shared_bytes: usize,
    /// Bytes on disk.
    pub disk_bytes: usize,
    /// Tokens ever appended to the open sequences.
    pub seen_tokens: usize,
    /// Tokens whose rows are held. A shared token counts once for each sequence.
    pub resident_tokens: usize,
}

impl Usage {
    /// Bytes allocated between steps.
    pub fn reserved_bytes(&self) -> usize {
        self.payload_bytes + self.metadata_bytes + self.slack_bytes
    }
}

impl Usage {
    /// The same usage with more bytes of metadata.
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
