//! A run of tokens that attention reads where it lies.

use std::ops::Range;

use crate::tile::Reads;
use crate::{Format, Formats, HeadShape, KvBlock};

/// Consecutive tokens, stored contiguously.
#[derive(Debug, Clone)]
pub enum Run<'a> {
    /// Slots of a block, encoded in its formats.
    Block {
        /// The block.
        block: &'a KvBlock,
        /// The head of the block that is KV head 0 of this attention.
        first_head: usize,
        /// The tokens' slots.
        slots: Range<usize>,
        /// Position of the token in the first slot.
        first_position: usize,
    },
    /// Unencoded rows from the model.
    Rows {
        /// `[tokens, kv_heads, key_dim]`
        keys: &'a [f32],
        /// `[tokens, kv_heads, value_dim]`
        values: &'a [f32],
        /// Position of the first token.
        first_position: usize,
    },
}

impl Run<'_> {
    pub(crate) fn tokens(&self, shape: HeadShape) -> usize {
        match self {
            Run::Block { slots, .. } => slots.len(),
            Run::Rows { keys, .. } => keys.len() / (shape.kv_heads * shape.key_dim),
        }
    }

    /// Bytes that one KV head reads of a token.
    pub(crate) fn token_bytes(&self, shape: HeadShape, reads: Reads) -> usize {
        let formats = match self {
            Run::Block { block, .. } => block.formats(),
            Run::Rows { .. } => Formats::both(Format::F32),
        };
        let values = match reads {
            Reads::Keys => 0,
            Reads::KeysAndValues => formats.values.row_bytes(shape.value_dim),
        };
        formats.keys.row_bytes(shape.key_dim) + values
    }

    pub(crate) fn first_position(&self) -> usize {
        match self {
            Run::Block { first_position, .. } | Run::Rows { first_position, .. } => *first_position,
        }
    }
}
