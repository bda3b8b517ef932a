//! What the memory of a block is used for.

use std::ops::Add;

use crate::{Formats, RowShape};

/// The bytes of a block. Their sum is the size of the allocation for its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockBytes {
    /// Codes of the filled slots.
    pub codes: usize,
    /// Scales of the filled slots.
    pub scales: usize,
    /// Unfilled slots, and the padding to whole words.
    pub slack: usize,
}

impl Add for BlockBytes {
    type Output = BlockBytes;

    fn add(self, other: BlockBytes) -> BlockBytes {
        BlockBytes {
            codes: self.codes.saturating_add(other.codes),
            scales: self.scales.saturating_add(other.scales),
            slack: self.slack.saturating_add(other.slack),
        }
    }
}

impl BlockBytes {
    /// How `allocated` bytes are used if the rows of `filled` tokens are in them.
    pub(crate) fn of(shape: RowShape, formats: Formats, allocated: usize, filled: usize) -> BlockBytes {
        let Formats { keys, values } = formats;
        let rows = filled.saturating_mul(shape.heads);
        let (stored_keys, stored_values) = (rows.saturating_mul(shape.key_dim), rows.saturating_mul(shape.value_dim));
        let codes = keys.code_bytes(stored_keys).saturating_add(values.code_bytes(stored_values));
        let scales = keys.scale_bytes(stored_keys).saturating_add(values.scale_bytes(stored_values));
        BlockBytes { codes, scales, slack: allocated.saturating_sub(codes).saturating_sub(scales) }
    }
}
