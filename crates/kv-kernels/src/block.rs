//! A run of token slots in one format: the unit of memory that strategies own.

use std::ops::Range;

use crate::codec::{decode_channels, encode_channels};
use crate::rows::RowStart;
use crate::{BlockBytes, Format, Formats};

/// The rows of one token: the number of heads, and the dimensions of a key and a value of one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowShape {
    /// KV heads whose rows are in the block. For a block of several layers, those of all its layers.
    pub heads: usize,
    /// Values per key row.
    pub key_dim: usize,
    /// Values per value row.
    pub value_dim: usize,
}

/// Slots for the keys and values of a fixed number of tokens, encoded in [`Formats`].
///
/// The layout is `[heads, slots, row]`, with keys and values separate, so that attention reads one head's rows as a
/// stream. A block does not know which of its slots are filled. Its owner does.
#[derive(Debug, Clone)]
pub struct KvBlock {
    shape: RowShape,
    formats: Formats,
    slots: usize,
    keys: Rows,
    values: Rows,
}

impl KvBlock {
    /// A zeroed block of `slots` token slots. If the format encodes the keys of several tokens together, `slots` is
    /// rounded up to whole groups.
    ///
    /// # Panics
    /// If a row is not a whole number of the format's groups. Strategies check this when they are built.
    pub fn new(shape: RowShape, formats: Formats, slots: usize) -> KvBlock {
        formats.check_dims(shape.key_dim, shape.value_dim).expect("the strategy checked its formats");
        let slots = slots.next_multiple_of(formats.keys.key_tokens());
        KvBlock {
            shape,
            formats,
            slots,
            keys: Rows::new(shape.heads, slots, formats.keys.key_tokens(), formats.keys, shape.key_dim),
            values: Rows::new(shape.heads, slots, 1, formats.values, shape.value_dim),
        }
    }

    /// Bytes that [`new`](Self::new) allocates for the rows of `slots` token slots.
    pub fn bytes_for(shape: RowShape, formats: Formats, slots: usize) -> usize {
        let key_tokens = formats.keys.key_tokens();
        let slots = slots.saturating_add(key_tokens - 1) / key_tokens * key_tokens;
        let keys = Rows::words_for(shape.heads, slots, key_tokens, formats.keys.row_bytes(key_tokens * shape.key_dim));
        let values = Rows::words_for(shape.heads, slots, 1, formats.values.row_bytes(shape.value_dim));
        keys.saturating_add(values).saturating_mul(WORD)
    }

    /// What [`bytes`](Self::bytes) says of a block of `slots` token slots of which `filled` are filled, before it exists.
    /// Saturates.
    pub fn predicted_bytes(shape: RowShape, formats: Formats, slots: usize, filled: usize) -> BlockBytes {
        BlockBytes::of(shape, formats, KvBlock::bytes_for(shape, formats, slots), filled)
    }

    /// Token slots of a block that grew with [`make_room`](Self::make_room) and held at most `tokens` tokens, whatever the
    /// steps in which they came: 16, doubled until the tokens fit.
    pub fn grown_slots(tokens: usize) -> usize {
        match tokens {
            0 => 0,
            // A number of slots without a power of two above it is more than any memory.
            _ => tokens.max(FIRST_SLOTS).checked_next_power_of_two().unwrap_or(tokens),
        }
    }

    /// Token slots, filled or unfilled.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// How the block's memory is used if `filled` of its slots are filled.
    pub fn bytes(&self, filled: usize) -> BlockBytes {
        debug_assert!(filled <= self.slots, "{filled} filled slots of {}", self.slots);
        let allocated = WORD * (self.keys.words.len() + self.values.words.len());
        BlockBytes::of(self.shape, self.formats, allocated, filled)
    }

    /// Encodes tokens into consecutive slots of the given heads.
    ///
    /// # Shapes
    /// - keys: `[tokens, heads, key_dim]`
    /// - values: `[tokens, heads, value_dim]`
    ///
    /// # Panics
    /// If the slots or heads are outside the block, if the lengths of the slices do not match, or if the slots are not
    /// whole groups of a format that encodes the keys of several tokens together.
    pub fn write(&mut self, slots: Range<usize>, heads: Range<usize>, keys: &[f32], values: &[f32]) {
        let RowShape { key_dim, value_dim, .. } = self.shape;
        let rows = slots.len() * heads.len();
        assert!(slots.end <= self.slots, "slots {slots:?} of {}", self.slots);
        assert!(heads.end <= self.shape.heads, "heads {heads:?} of {}", self.shape.heads);
        assert_eq!((keys.len(), values.len()), (rows * key_dim, rows * value_dim), "rows of {} tokens", slots.len());
        let stride = heads.len();
        for (index, head) in heads.enumerate() {
            let value_rows = values.chunks_exact(value_dim).skip(index).step_by(stride);
            for (slot, value) in slots.clone().zip(value_rows) {
                self.formats.values.encode_row(value, self.values.range_mut(head, slot..slot + 1));
            }
            let mut key_rows = keys.chunks_exact(key_dim).skip(index).step_by(stride);
            if self.keys.tokens == 1 {
                for (slot, key) in slots.clone().zip(key_rows) {
                    self.formats.keys.encode_row(key, self.keys.range_mut(head, slot..slot + 1));
                }
                continue;
            }
            let mut group = Vec::with_capacity(self.keys.tokens);
            for first in slots.clone().step_by(self.keys.tokens) {
                group.clear();
                group.extend(key_rows.by_ref().take(self.keys.tokens));
                encode_channels(self.formats.keys, &group, self.keys.range_mut(head, first..first + group.len()));
            }
        }
    }

    /// Replaces the block with one of `slots` slots and keeps the first `filled` slots.
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
    /// A token is copied once on average. At most half of the slots are unused, beside the first 16 and those that complete a
    /// group of keys that are encoded together. How many there are depends on the tokens and not on the steps in which they
    /// came, so that memory can be predicted.
    pub fn make_room(&mut self, tokens: usize, filled: usize) {
        let slots = KvBlock::grown_slots(tokens).next_multiple_of(self.keys.tokens);
        if slots > self.slots {
            self.resize(slots, filled);
        }
    }

    /// Copies whole tokens from another block. If the formats differ, tokens are decoded and encoded again.
    ///
    /// # Panics
    /// If the shapes differ, if the slots are outside either block, or if they are not whole groups of a format that
    /// encodes the keys of several tokens together.
    pub fn copy_from(&mut self, first_slot: usize, source: &KvBlock, source_slots: Range<usize>) {
        assert_eq!(self.shape, source.shape, "blocks of one geometry");
        let slots = first_slot..first_slot + source_slots.len();
        assert!(slots.end <= self.slots, "slots {slots:?} of {}", self.slots);
        for head in 0..self.shape.heads {
            if self.formats == source.formats {
                self.keys.range_mut(head, slots.clone()).copy_from_slice(source.keys.range(head, source_slots.clone()));
                self.values.range_mut(head, slots.clone()).copy_from_slice(source.values.range(head, source_slots.clone()));
            } else {
                let (mut keys, mut values) = (vec![], vec![]);
                source.decode(head, source_slots.clone(), &mut keys, &mut values);
                self.write(slots.clone(), head..head + 1, &keys, &values);
            }
        }
    }

    /// Copies whole tokens to other slots of the block.
    ///
    /// # Panics
    /// If slots are outside the block, or are not whole groups of a format that encodes the keys of several tokens
    /// together.
    pub fn copy_within(&mut self, source: Range<usize>, first_slot: usize) {
        for head in 0..self.shape.heads {
            for rows in [&mut self.keys, &mut self.values] {
                let to = rows.bytes_of(head, first_slot..first_slot + source.len());
                let from = rows.bytes_of(head, source.clone());
                bytemuck::cast_slice_mut::<u32, u8>(&mut rows.words).copy_within(from, to.start);
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
        let first_value = values.len();
        values.resize(first_value + slots.len() * value_dim, 0.0);
        self.formats.values.decode_rows(value_dim, self.values.range(head, slots.clone()), &mut values[first_value..]);
        let first_key = keys.len();
        keys.resize(first_key + slots.len() * key_dim, 0.0);
        if self.keys.tokens == 1 {
            self.formats.keys.decode_rows(key_dim, self.keys.range(head, slots), &mut keys[first_key..]);
        } else {
            self.decode_key_groups(head, slots, &mut keys[first_key..]);
        }
    }

    /// Decodes keys that are encoded channel by channel. `keys` is `[slots, key_dim]`.
    fn decode_key_groups(&self, head: usize, slots: Range<usize>, keys: &mut [f32]) {
        let (key_dim, tokens) = (self.shape.key_dim, self.keys.tokens);
        let mut channels = vec![0.0; key_dim * tokens];
        let mut decoded = None;
        for (key, slot) in keys.chunks_exact_mut(key_dim).zip(slots) {
            let first = self.first_of_group(slot);
            if decoded != Some(first) {
                decode_channels(self.formats.keys, key_dim, self.key_groups(head, first..first + self.keys.tokens), &mut channels);
                decoded = Some(first);
            }
            key.iter_mut().zip(channels.chunks_exact(tokens)).for_each(|(value, channel)| *value = channel[slot - first]);
        }
    }

    /// The shape of a token's rows.
    pub fn shape(&self) -> RowShape {
        self.shape
    }

    /// The formats of the rows.
    pub fn formats(&self) -> Formats {
        self.formats
    }

    /// The encoded keys, one row each in the format [`Formats::keys`], which must encode each key on its own.
    pub(crate) fn key_rows(&self, head: usize, slots: Range<usize>) -> impl ExactSizeIterator<Item = RowStart<'_>> {
        RowStart::each(self.keys.range(head, slots), self.keys.bytes)
    }

    /// The encoded values, one row each in the format [`Formats::values`].
    pub(crate) fn value_rows(&self, head: usize, slots: Range<usize>) -> impl ExactSizeIterator<Item = RowStart<'_>> {
        RowStart::each(self.values.range(head, slots), self.values.bytes)
    }

    /// The first slot whose key is encoded together with that of `slot`.
    pub(crate) fn first_of_group(&self, slot: usize) -> usize {
        slot - slot % self.keys.tokens
    }

    /// For keys that are encoded together, an equal share of the group's bytes for each key, for prefetching.
    pub(crate) fn key_shares(&self, head: usize, slots: Range<usize>) -> impl Iterator<Item = RowStart<'_>> {
        let (tokens, first) = (self.keys.tokens, self.first_of_group(slots.start));
        let groups = self.keys.range(head, first..slots.end.next_multiple_of(tokens));
        RowStart::each(groups, self.keys.bytes / tokens).skip(slots.start - first).take(slots.len())
    }

    /// The keys of whole groups that are encoded together, group by group.
    pub(crate) fn key_groups(&self, head: usize, slots: Range<usize>) -> &[u8] {
        self.keys.range(head, slots)
    }
}

/// Bytes per word.
const WORD: usize = size_of::<u32>();

/// Initial slots of a block that grows by doubling.
const FIRST_SLOTS: usize = 16;

/// Encoded rows, `[heads, slots / tokens, bytes]`, stored as words so that rows of floats are aligned.
#[derive(Debug, Clone)]
struct Rows {
    slots: usize,
    /// Tokens that are encoded together.
    tokens: usize,
    /// Bytes of the rows of `tokens` tokens.
    bytes: usize,
    words: Vec<u32>,
}

impl Rows {
    fn new(heads: usize, slots: usize, tokens: usize, format: Format, dim: usize) -> Rows {
        let bytes = format.row_bytes(tokens * dim);
        Rows { slots, tokens, bytes, words: vec![0; Rows::words_for(heads, slots, tokens, bytes)] }
    }

    /// Words of rows of which `tokens` take `bytes` bytes.
    fn words_for(heads: usize, slots: usize, tokens: usize, bytes: usize) -> usize {
        (heads.saturating_mul(slots) / tokens).saturating_mul(bytes).div_ceil(WORD)
    }

    fn bytes_of(&self, head: usize, slots: Range<usize>) -> Range<usize> {
        assert!(slots.end <= self.slots, "slots {slots:?} of {}", self.slots);
        if self.tokens == 1 {
            // Without a division, because this is called for every page.
            return (head * self.slots + slots.start) * self.bytes..(head * self.slots + slots.end) * self.bytes;
        }
        let is_whole = slots.start.is_multiple_of(self.tokens) && slots.end.is_multiple_of(self.tokens);
        assert!(is_whole, "slots {slots:?} are not whole groups of {} tokens", self.tokens);
        let first = head * self.slots;
        (first + slots.start) / self.tokens * self.bytes..(first + slots.end) / self.tokens * self.bytes
    }

    fn range(&self, head: usize, slots: Range<usize>) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[self.bytes_of(head, slots)]
    }

    fn range_mut(&mut self, head: usize, slots: Range<usize>) -> &mut [u8] {
        let bytes = self.bytes_of(head, slots);
        &mut bytemuck::cast_slice_mut(&mut self.words)[bytes]
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
    fn bytes_are_foretold_and_do_not_overflow() {
        let shape = RowShape { heads: 3, key_dim: 64, value_dim: 32 };
        for format in ["f32", "f16", "fp8_e4m3", "q8_0", "q4_1_g16", "kivi2_g16"] {
            let formats = Formats::both(format.parse().unwrap());
            for slots in [0, 1, 15, 16, 17, 100] {
                let BlockBytes { codes, scales, slack } = KvBlock::new(shape, formats, slots).bytes(0);
                assert_eq!(KvBlock::bytes_for(shape, formats, slots), codes + scales + slack, "{format}, {slots} slots");
            }
            for (slots, filled) in [(0, 0), (16, 0), (16, 16), (64, 48)] {
                let actual = KvBlock::new(shape, formats, slots).bytes(filled);
                assert_eq!(KvBlock::predicted_bytes(shape, formats, slots, filled), actual, "{format}, {filled} of {slots} slots");
            }
            assert!(KvBlock::bytes_for(shape, formats, usize::MAX) > usize::MAX / 256, "{format}");
            let BlockBytes { codes, .. } = KvBlock::predicted_bytes(shape, formats, usize::MAX, usize::MAX);
            assert!(codes > usize::MAX / 256, "{format}");
        }
    }

    #[test]
    fn a_block_grows_to_the_same_slots_whatever_the_steps_are() {
        let shape = RowShape { heads: 1, key_dim: 2, value_dim: 2 };
        for (keys, group) in [(Format::F32, 1), ("kivi2_g48".parse().unwrap(), 48)] {
            for tokens in 0..200usize {
                let slots = |steps: &[usize]| {
                    let mut block = KvBlock::new(shape, Formats { keys, values: Format::F32 }, 0);
                    steps.iter().fold(0, |filled, step| {
                        block.make_room(filled + step, filled);
                        filled + step
                    });
                    block.slots()
                };
                let expected = KvBlock::grown_slots(tokens).next_multiple_of(group);
                assert!((tokens..=2 * tokens.max(16) + group).contains(&expected) || tokens == 0, "{tokens} tokens in {expected} slots");
                let half = tokens / 2;
                for steps in [vec![1; tokens], vec![tokens], vec![half, tokens - half]] {
                    // The copied part is whole groups, as a strategy's is.
                    if group == 1 || steps.len() == 1 {
                        assert_eq!(slots(&steps), expected, "{tokens} tokens, groups of {group}");
                    }
                }
            }
        }
        assert_eq!(KvBlock::grown_slots(usize::MAX), usize::MAX);
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
            assert_eq!(copied.keys.range(head, 0..4), written.keys.range(head, 0..4));
            assert_eq!(copied.values.range(head, 0..4), written.values.range(head, 0..4));
        }
    }

    #[test]
    fn tokens_are_copied_within() {
        let (keys, values) = ramp(5);
        let mut block = KvBlock::new(SHAPE, Formats::F32, 5);
        block.write(0..5, 0..3, &keys, &values);
        let rows = |block: &KvBlock, slots| {
            let (mut keys, mut values) = (vec![], vec![]);
            (0..3).for_each(|head| block.decode(head, Range::clone(&slots), &mut keys, &mut values));
            (keys, values)
        };
        let (first, last) = (rows(&block, 0..2), rows(&block, 2..3));
        block.copy_within(0..2, 3);
        assert_eq!((rows(&block, 3..5), rows(&block, 0..2), rows(&block, 2..3)), (first.clone(), first, last));
    }

    #[test]
    fn bytes_add_up() {
        let block = KvBlock::new(RowShape { heads: 3, key_dim: 64, value_dim: 64 }, Formats::both(Format::Q8 { group: 32 }), 10);
        assert_eq!(block.bytes(7), BlockBytes { codes: 7 * 3 * 128, scales: 7 * 3 * 8, slack: 3 * 3 * 136 });
    }
}
