//! A run of token slots in one format: the unit in which strategies own memory.

use std::ops::{Add, Range};

use crate::Formats;

/// The rows of one token: how many heads, and how long a key and a value of one head are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowShape {
    /// KV heads whose rows lie in the block (for a block of several layers: of all its layers).
    pub heads: usize,
    /// Values in a key.
    pub key_dim: usize,
    /// Values in a value.
    pub value_dim: usize,
}

/// Slots for the keys and values of a fixed number of tokens, encoded in [`Formats`].
///
/// Laid out `[heads, slots, row]`, keys and values apart, so that attention reads one head's rows as a
/// stream. A block does not know which of its slots are filled; its owner does.
#[derive(Debug, Clone)]
pub struct KvBlock {
    shape: RowShape,
    formats: Formats,
    slots: usize,
    keys: Rows,
    values: Rows,
}

/// The bytes of a block; their sum is what it takes from the allocator for its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockBytes {
    /// Codes of the filled slots.
    pub codes: usize,
    /// Scales of the filled slots.
    pub scales: usize,
    /// Slots not filled, and what rounding to whole words adds.
    pub slack: usize,
}

impl Add for BlockBytes {
    type Output = BlockBytes;

    fn add(self, other: BlockBytes) -> BlockBytes {
        BlockBytes { codes: self.codes + other.codes, scales: self.scales + other.scales, slack: self.slack + other.slack }
    }
}

impl KvBlock {
    /// A block of `slots` token slots, zeroed.
    ///
    /// # Panics
    /// If a row is not a whole number of the format's groups; strategies check that when they are built.
    pub fn new(shape: RowShape, formats: Formats, slots: usize) -> KvBlock {
        formats.check_dims(shape.key_dim, shape.value_dim).expect("the strategy checked its formats");
        KvBlock {
            shape,
            formats,
            slots,
            keys: Rows::new(shape.heads, slots, formats.keys.row_bytes(shape.key_dim)),
            values: Rows::new(shape.heads, slots, formats.values.row_bytes(shape.value_dim)),
        }
    }

    /// Token slots, filled or not.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// What the block's memory is spent on if `filled` of its slots are in use.
    pub fn bytes(&self, filled: usize) -> BlockBytes {
        let RowShape { heads, key_dim, value_dim } = self.shape;
        let Formats { keys, values } = self.formats;
        let codes = filled * heads * (keys.code_bytes(key_dim) + values.code_bytes(value_dim));
        let scales = filled * heads * (keys.scale_bytes(key_dim) + values.scale_bytes(value_dim));
        let allocated = 4 * (self.keys.words.len() + self.values.words.len());
        BlockBytes { codes, scales, slack: allocated - codes - scales }
    }

    /// Encodes tokens into consecutive slots, for `heads` heads from `first_head` on.
    ///
    /// # Shapes
    /// - keys: `[tokens, heads, key_dim]`
    /// - values: `[tokens, heads, value_dim]`
    ///
    /// # Panics
    /// If the slots or heads lie outside the block or the slices disagree about the number of tokens.
    pub fn write(&mut self, slots: Range<usize>, heads: Range<usize>, keys: &[f32], values: &[f32]) {
        let RowShape { key_dim, value_dim, .. } = self.shape;
        let rows = slots.len() * heads.len();
        assert!(slots.end <= self.slots, "slots {slots:?} of {}", self.slots);
        assert!(heads.end <= self.shape.heads, "heads {heads:?} of {}", self.shape.heads);
        assert_eq!((keys.len(), values.len()), (rows * key_dim, rows * value_dim), "rows of {} tokens", slots.len());
        let mut key_rows = keys.chunks_exact(key_dim);
        let mut value_rows = values.chunks_exact(value_dim);
        for slot in slots {
            for head in heads.clone() {
                let (key, value) = (key_rows.next().expect("counted"), value_rows.next().expect("counted"));
                self.formats.keys.encode_row(key, self.keys.row_mut(head, slot));
                self.formats.values.encode_row(value, self.values.row_mut(head, slot));
            }
        }
    }

    /// Replaces the block by one of `slots` slots that keeps the first `filled`.
    ///
    /// # Panics
    /// If `filled` slots do not fit.
    pub fn resize(&mut self, slots: usize, filled: usize) {
        let mut resized = KvBlock::new(self.shape, self.formats, slots);
        resized.copy_from(0, self, 0..filled);
        *self = resized;
    }

    /// Makes room for `tokens` tokens by doubling, and keeps the first `filled` slots.
    ///
    /// A token is copied once on average, and at most half of the slots are unused.
    pub fn make_room(&mut self, tokens: usize, filled: usize) {
        if tokens > self.slots {
            self.resize(tokens.max(2 * self.slots).max(FIRST_SLOTS), filled);
        }
    }

    /// Copies whole tokens from another block: bytes if the formats agree, otherwise decoded and encoded.
    ///
    /// # Panics
    /// If the shapes differ or the slots lie outside either block.
    pub fn copy_from(&mut self, first_slot: usize, source: &KvBlock, source_slots: Range<usize>) {
        assert_eq!(self.shape, source.shape, "blocks of one geometry");
        let RowShape { heads, key_dim, value_dim } = self.shape;
        let slots = first_slot..first_slot + source_slots.len();
        assert!(slots.end <= self.slots, "slots {slots:?} of {}", self.slots);
        for head in 0..heads {
            let (keys, values) = (source.keys.range(head, source_slots.clone()), source.values.range(head, source_slots.clone()));
            if self.formats == source.formats {
                self.keys.range_mut(head, slots.clone()).copy_from_slice(keys);
                self.values.range_mut(head, slots.clone()).copy_from_slice(values);
                continue;
            }
            let mut row = vec![0.0; key_dim.max(value_dim)];
            let encoded = source.formats.keys.row_bytes(key_dim);
            for (slot, key) in slots.clone().zip(keys.chunks_exact(encoded)) {
                source.formats.keys.decode_rows(key_dim, key, &mut row[..key_dim]);
                self.formats.keys.encode_row(&row[..key_dim], self.keys.row_mut(head, slot));
            }
            let encoded = source.formats.values.row_bytes(value_dim);
            for (slot, value) in slots.clone().zip(values.chunks_exact(encoded)) {
                source.formats.values.decode_rows(value_dim, value, &mut row[..value_dim]);
                self.formats.values.encode_row(&row[..value_dim], self.values.row_mut(head, slot));
            }
        }
    }

    /// Decodes one head's rows and appends them to `keys` and `values`.
    ///
    /// # Shapes
    /// - keys: grows by `[slots, key_dim]`
    /// - values: grows by `[slots, value_dim]`
    pub fn decode(&self, head: usize, slots: Range<usize>, keys: &mut Vec<f32>, values: &mut Vec<f32>) {
        let RowShape { key_dim, value_dim, .. } = self.shape;
        let (first_key, first_value) = (keys.len(), values.len());
        keys.resize(first_key + slots.len() * key_dim, 0.0);
        values.resize(first_value + slots.len() * value_dim, 0.0);
        self.formats.keys.decode_rows(key_dim, self.key_bytes(head, slots.clone()), &mut keys[first_key..]);
        self.formats.values.decode_rows(value_dim, self.value_bytes(head, slots), &mut values[first_value..]);
    }

    /// What a token of this block is made of.
    pub fn shape(&self) -> RowShape {
        self.shape
    }

    /// How the block encodes its rows.
    pub fn formats(&self) -> Formats {
        self.formats
    }

    pub(crate) fn key_bytes(&self, head: usize, slots: Range<usize>) -> &[u8] {
        self.keys.range(head, slots)
    }

    pub(crate) fn value_bytes(&self, head: usize, slots: Range<usize>) -> &[u8] {
        self.values.range(head, slots)
    }
}

/// Slots of a block that grows by doubling, when its first token comes.
const FIRST_SLOTS: usize = 16;

/// Encoded rows, `[heads, slots, row_bytes]`, over words so that a row of floats is aligned.
#[derive(Debug, Clone)]
struct Rows {
    slots: usize,
    row_bytes: usize,
    words: Vec<u32>,
}

impl Rows {
    fn new(heads: usize, slots: usize, row_bytes: usize) -> Rows {
        Rows { slots, row_bytes, words: vec![0; (heads * slots * row_bytes).div_ceil(4)] }
    }

    fn bytes_of(&self, head: usize, slots: Range<usize>) -> Range<usize> {
        assert!(slots.end <= self.slots, "slots {slots:?} of {}", self.slots);
        let first = head * self.slots;
        (first + slots.start) * self.row_bytes..(first + slots.end) * self.row_bytes
    }

    fn range(&self, head: usize, slots: Range<usize>) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[self.bytes_of(head, slots)]
    }

    fn range_mut(&mut self, head: usize, slots: Range<usize>) -> &mut [u8] {
        let bytes = self.bytes_of(head, slots);
        &mut bytemuck::cast_slice_mut(&mut self.words)[bytes]
    }

    fn row_mut(&mut self, head: usize, slot: usize) -> &mut [u8] {
        self.range_mut(head, slot..slot + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    const SHAPE: RowShape = RowShape { heads: 3, key_dim: 4, value_dim: 2 };

    fn ramp(tokens: usize) -> (Vec<f32>, Vec<f32>) {
        let keys = (0..tokens * 12).map(|i| i as f32).collect();
        let values = (0..tokens * 6).map(|i| -(i as f32)).collect();
        (keys, values)
    }

    #[test]
    fn rows_come_back_by_head() {
        let mut block = KvBlock::new(SHAPE, Formats::F32, 5);
        let (keys, values) = ramp(3);
        block.write(1..4, 0..3, &keys, &values);
        let (mut head_keys, mut head_values) = (vec![], vec![]);
        block.decode(1, 2..4, &mut head_keys, &mut head_values);
        assert_eq!(head_keys, [16.0, 17.0, 18.0, 19.0, 28.0, 29.0, 30.0, 31.0], "head 1 of tokens 1 and 2");
        assert_eq!(head_values, [-8.0, -9.0, -14.0, -15.0]);
    }

    #[test]
    fn copying_into_another_format_encodes() {
        let (keys, values) = ramp(2);
        let mut exact = KvBlock::new(SHAPE, Formats::F32, 2);
        exact.write(0..2, 0..3, &keys, &values);
        let quantised = Formats { keys: Format::Q8 { group: 4 }, values: Format::Bf16 };
        let (mut copied, mut written) = (KvBlock::new(SHAPE, quantised, 4), KvBlock::new(SHAPE, quantised, 4));
        copied.copy_from(1, &exact, 0..2);
        written.write(1..3, 0..3, &keys, &values);
        for head in 0..3 {
            assert_eq!(copied.key_bytes(head, 0..4), written.key_bytes(head, 0..4));
            assert_eq!(copied.value_bytes(head, 0..4), written.value_bytes(head, 0..4));
        }
    }

    #[test]
    fn bytes_add_up() {
        let block = KvBlock::new(RowShape { heads: 3, key_dim: 64, value_dim: 64 }, Formats::both(Format::Q8 { group: 32 }), 10);
        assert_eq!(block.bytes(7), BlockBytes { codes: 7 * 3 * 128, scales: 7 * 3 * 8, slack: 3 * 3 * 136 });
    }
}
