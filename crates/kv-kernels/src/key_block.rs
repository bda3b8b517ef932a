//! A block of keys that are scored together, and their values: encoded rows at any addresses.

use std::ops::Range;

use crate::channel_scores::{KeyGroups, score_groups};
use crate::codec::{Bf16, Codec, F16, F32, Fp8E4m3, Q2_1, Q4_0, Q4_1, Q8_0, decode_channels};
use crate::integer_products::{self, add_codes};
use crate::integer_scores::score_codes;
use crate::lanes::{IntegerDots, Lanes};
use crate::products::{BlockStride, add_rows, decode_rows};
use crate::queries::{FEW_ROWS, Queries};
use crate::rows::{Ahead, RowList, RowStart, Rows, RowsInARow};
use crate::run::{StoredRows, Stretch};
use crate::scores::score_keys;
use crate::{Format, HeadShape, KvBlock, RowShape};

/// Maximum number of keys in a block.
pub(crate) const KEYS: usize = 256;

/// Up to [`KEYS`] keys of one KV head with their values.
pub(crate) struct KeyBlock<'a> {
    key_dim: usize,
    value_dim: usize,
    segments: Vec<Segment<'a>>,
    /// One row per key. For keys that are encoded together, a share of the group's bytes.
    keys: Vec<RowStart<'a>>,
    values: Vec<RowStart<'a>>,
    scratch: Vec<f32>,
    transposed: Vec<f32>,
    integers: integer_products::Scratch,
}

/// Consecutive tokens of a block that are stored in the same way.
pub(crate) struct Segment<'a> {
    /// The segment's columns in the block.
    pub(crate) columns: Range<usize>,
    /// The index of the first token among all keys of the attention.
    pub(crate) first_key: usize,
    pub(crate) first_position: usize,
    keys: StoredKeys<'a>,
    values: Format,
}

/// How a segment's keys are stored.
#[derive(Clone, Copy)]
enum StoredKeys<'a> {
    /// One row per key.
    Rows(Format),
    /// One row per channel and group of keys. The segment begins at `first_slot`.
    Channels { block: &'a KvBlock, head: usize, first_slot: usize },
}

/// Evaluates an expression with the codec that decodes a format in registers, or another expression if there is none.
macro_rules! with_codec {
    ($format:expr, $codec:ident => $body:expr, else $otherwise:expr) => {{
        macro_rules! with {
            ($name:ident) => {{
                type $codec = $name;
                $body
            }};
        }
        match $format {
            Format::F32 => with!(F32),
            // Value by value, the plain decoder is as fast. The constant keeps kernels that never run from being compiled.
            format => {
                if const { L::WIDTH == 1 } {
                    $otherwise
                } else {
                    match format {
                        Format::F16 => with!(F16),
                        Format::Bf16 => with!(Bf16),
                        Format::Fp8E4m3 => with!(Fp8E4m3),
                        Format::Q8 { group: Q8_0::GROUP } => with!(Q8_0),
                        Format::Q4 { group: Q4_0::GROUP } => with!(Q4_0),
                        Format::Q4_1 { group: Q4_1::GROUP } | Format::Kivi4 { group: Q4_1::GROUP } => with!(Q4_1),
                        Format::Kivi2 { group: Q2_1::GROUP } => with!(Q2_1),
                        _ => $otherwise,
                    }
                }
            }
        }
    }};
}

impl<'a> KeyBlock<'a> {
    pub(crate) fn new(shape: HeadShape) -> KeyBlock<'a> {
        let HeadShape { key_dim, value_dim, .. } = shape;
        KeyBlock {
            key_dim,
            value_dim,
            segments: vec![],
            keys: Vec::with_capacity(KEYS),
            values: Vec::with_capacity(KEYS),
            scratch: vec![],
            transposed: vec![],
            integers: integer_products::Scratch::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn clear(&mut self) {
        self.segments.clear();
        self.keys.clear();
        self.values.clear();
    }

    pub(crate) fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }

    /// Adds tokens. The first one has the index `first_key` among all keys.
    pub(crate) fn push(&mut self, shape: HeadShape, kv_head: usize, stretch: Stretch<'a>, first_key: usize) {
        let at = self.len();
        let Stretch { first_position, rows, .. } = stretch;
        let (keys, values) = match rows {
            StoredRows::Encoded { block, first_head, slots } => {
                let RowShape { key_dim, value_dim, .. } = block.shape();
                assert!((key_dim, value_dim) == (shape.key_dim, shape.value_dim), "rows of {key_dim} and {value_dim} values");
                let head = first_head + kv_head;
                let values = block.formats().values;
                self.values.extend(block.value_rows(head, slots.clone()));
                let keys = block.formats().keys;
                if keys.key_tokens() > 1 {
                    self.keys.extend(block.key_shares(head, slots.clone()));
                    (StoredKeys::Channels { block, head, first_slot: slots.start }, values)
                } else {
                    self.keys.extend(block.key_rows(head, slots));
                    (StoredKeys::Rows(keys), values)
                }
            }
            StoredRows::Plain { keys, values } => {
                let rows = |rows: &'a [f32], dim: usize| {
                    let rows = rows.chunks_exact(dim).skip(kv_head).step_by(shape.kv_heads);
                    rows.map(|row| RowStart::of(bytemuck::cast_slice(row)))
                };
                self.keys.extend(rows(keys, shape.key_dim));
                self.values.extend(rows(values, shape.value_dim));
                (StoredKeys::Rows(Format::F32), Format::F32)
            }
        };
        if let (Some(last), StoredKeys::Rows(format)) = (self.segments.last_mut(), keys)
            && last.continues_as(format, values, first_key, first_position)
        {
            last.columns.end = self.values.len();
        } else {
            self.segments.push(Segment { columns: at..self.values.len(), first_key, first_position, keys, values });
        }
    }

    /// Scores the keys for every query row.
    ///
    /// # Shapes
    /// - queries: `[rows, dim]`
    /// - scores: `[rows, KEYS]`, with `rows` rounded up to a multiple of four. The first [`len`](Self::len) columns
    ///   are set.
    #[inline(always)]
    pub(crate) fn score<L: Lanes>(&mut self, lanes: L, queries: &Queries, scores: &mut [f32]) {
        let dim = queries.dim;
        if queries.rows() > FEW_ROWS {
            let columns = self.transpose(lanes, dim);
            let scores = &mut scores[..queries.rows() * KEYS];
            scores.fill(0.0);
            add_rows::<L, F32>(lanes, &queries.values, dim, in_a_row(&self.transposed, columns), columns, scores, KEYS);
            return;
        }
        for segment in &self.segments {
            let columns = segment.columns.clone();
            let ahead = Ahead { starts: &self.values[columns.clone()], row_bytes: segment.values.row_bytes(self.value_dim) };
            match segment.keys {
                StoredKeys::Rows(format) => {
                    let scores = &mut scores[columns.start..];
                    let keys = rows(&self.keys[columns], format, dim, ahead);
                    if queries.rows() > 1
                        && let Some(dots) = lanes.integer_dots()
                    {
                        match format {
                            Format::Q8 { group: Q8_0::GROUP } => {
                                score_codes::<_, Q8_0>(dots, queries, keys, scores, KEYS);
                                continue;
                            }
                            Format::Q4 { group: Q4_0::GROUP } => {
                                score_codes::<_, Q4_0>(dots, queries, keys, scores, KEYS);
                                continue;
                            }
                            Format::Q4_1 { group: Q4_1::GROUP } => {
                                score_codes::<_, Q4_1>(dots, queries, keys, scores, KEYS);
                                continue;
                            }
                            _ => {}
                        }
                    }
                    with_codec!(format, C => score_keys::<L, C>(lanes, queries, keys, scores, KEYS), else {
                        decode_plainly(format, dim, keys, &mut self.scratch);
                        let decoded: Vec<_> = RowStart::each(bytemuck::cast_slice(&self.scratch), size_of::<f32>() * dim).collect();
                        score_keys::<L, F32>(lanes, queries, rows(&decoded, Format::F32, dim, Ahead::NOTHING), scores, KEYS);
                    });
                }
                StoredKeys::Channels { block, head, first_slot } => {
                    let format = block.formats().keys;
                    let tokens = format.key_tokens();
                    let slots = first_slot..first_slot + columns.len();
                    let mut slot = slots.start;
                    while slot < slots.end {
                        let first = block.first_of_group(slot);
                        let scores = &mut scores[columns.start + slot - slots.start..];
                        let whole = (slots.end - first) / tokens * tokens;
                        if slot == first && whole > 0 {
                            let (encoded, ahead) = (block.key_groups(head, first..first + whole), ahead.after(slot - slots.start));
                            let keys = KeyGroups { format, encoded, ahead };
                            score_groups(lanes, queries, &keys, scores, KEYS, &mut self.transposed);
                            slot += whole;
                            continue;
                        }
                        let encoded = block.key_groups(head, first..first + tokens);
                        let keys = KeyGroups { format, encoded, ahead: Ahead::NOTHING };
                        let sums = &mut self.scratch;
                        sums.resize(queries.rows() * tokens, 0.0);
                        score_groups(lanes, queries, &keys, sums, tokens, &mut self.transposed);
                        let wanted = slot - first..(slots.end - first).min(tokens);
                        for (scores, sums) in scores.chunks_mut(KEYS).zip(sums.chunks_exact(tokens)) {
                            scores[..wanted.len()].copy_from_slice(&sums[wanted.clone()]);
                        }
                        slot += wanted.len();
                    }
                }
            }
        }
    }

    /// Adds the weighted values to the output of every row, and prefetches the keys of `next`.
    ///
    /// # Shapes
    /// - weights: `[rows, KEYS]`, of which the first [`len`](Self::len) columns are read
    /// - out: `[rows, dim]`
    #[inline(always)]
    pub(crate) fn add_values<L: Lanes>(&mut self, lanes: L, next: &KeyBlock<'_>, weights: &[f32], out: &mut [f32]) {
        let dim = self.value_dim;
        let rows_are_few = out.len() / dim <= FEW_ROWS;
        for segment in &self.segments {
            let weights = &weights[segment.columns.start..];
            let format = segment.values;
            let values = rows(&self.values[segment.columns.clone()], format, dim, next.key_rows_ahead(segment.columns.clone()));
            if rows_are_few
                && out.len() > dim
                && let Some(dots) = lanes.integer_dots()
            {
                let scratch = &mut self.integers;
                match format {
                    Format::Q8 { group: Q8_0::GROUP } if <L::IntegerDots as IntegerDots>::ADDS_BYTES => {
                        add_codes::<_, Q8_0>(dots, weights, KEYS, values, dim, out, scratch);
                        continue;
                    }
                    Format::Q4 { group: Q4_0::GROUP } => {
                        add_codes::<_, Q4_0>(dots, weights, KEYS, values, dim, out, scratch);
                        continue;
                    }
                    Format::Q4_1 { group: Q4_1::GROUP } | Format::Kivi4 { group: Q4_1::GROUP } => {
                        add_codes::<_, Q4_1>(dots, weights, KEYS, values, dim, out, scratch);
                        continue;
                    }
                    Format::Kivi2 { group: Q2_1::GROUP } => {
                        add_codes::<_, Q2_1>(dots, weights, KEYS, values, dim, out, scratch);
                        continue;
                    }
                    _ => {}
                }
            }
            if rows_are_few || format == Format::F32 {
                with_codec!(format, C => {
                    add_rows::<L, C>(lanes, weights, BlockStride, values, dim, out, dim);
                    continue;
                }, else {});
            }
            with_codec!(format, C => {
                self.scratch.resize(values.count() * dim, 0.0);
                decode_rows::<L, C>(lanes, dim, values, &mut self.scratch);
            }, else {
                decode_plainly(format, dim, values, &mut self.scratch);
            });
            add_rows::<L, F32>(lanes, weights, BlockStride, in_a_row(&self.scratch, dim), dim, out, dim);
        }
    }

    /// The keys' rows, for prefetching. A row stored differently from the first may be prefetched only in part.
    fn key_rows_ahead(&self, columns: Range<usize>) -> Ahead<'_> {
        let (Some(first), Some(starts)) = (self.segments.first(), self.keys.get(columns)) else {
            return Ahead::NOTHING;
        };
        let format = match first.keys {
            StoredKeys::Rows(format) => format,
            StoredKeys::Channels { block, .. } => block.formats().keys,
        };
        Ahead { starts, row_bytes: format.row_bytes(self.key_dim) }
    }

    /// Decodes the keys into `transposed`, `[dim, columns]`, and returns the number of columns: the keys, padded to whole
    /// vectors.
    #[inline(always)]
    fn transpose<L: Lanes>(&mut self, lanes: L, dim: usize) -> usize {
        let stride = self.len().next_multiple_of(L::WIDTH);
        self.transposed.resize(dim * stride, 0.0);
        for segment in &self.segments {
            let columns = segment.columns.clone();
            match segment.keys {
                StoredKeys::Rows(format) => {
                    let keys = rows(&self.keys[columns.clone()], format, dim, Ahead::NOTHING);
                    with_codec!(format, C => {
                        self.scratch.resize(keys.count() * dim, 0.0);
                        decode_rows::<L, C>(lanes, dim, keys, &mut self.scratch);
                    }, else {
                        decode_plainly(format, dim, keys, &mut self.scratch);
                    });
                    // Transposes a few keys at a time, so that the written cache lines stay in the cache.
                    for (index, keys) in self.scratch.chunks(16 * dim).enumerate() {
                        for (channel, row) in self.transposed.chunks_exact_mut(stride).enumerate() {
                            let first = columns.start + 16 * index;
                            for (j, score) in row[first..first + keys.len() / dim].iter_mut().enumerate() {
                                *score = keys[j * dim + channel];
                            }
                        }
                    }
                }
                StoredKeys::Channels { block, head, first_slot } => {
                    let format = block.formats().keys;
                    let tokens = format.key_tokens();
                    let slots = first_slot..first_slot + columns.len();
                    for first in (block.first_of_group(slots.start)..slots.end).step_by(tokens) {
                        self.scratch.resize(dim * tokens, 0.0);
                        decode_channels(format, dim, block.key_groups(head, first..first + tokens), &mut self.scratch);
                        let wanted = slots.start.max(first)..slots.end.min(first + tokens);
                        let column = columns.start + wanted.start - slots.start;
                        for (row, channel) in self.transposed.chunks_exact_mut(stride).zip(self.scratch.chunks_exact(tokens)) {
                            row[column..column + wanted.len()].copy_from_slice(&channel[wanted.start - first..wanted.end - first]);
                        }
                    }
                }
            }
        }
        stride
    }
}

impl Segment<'_> {
    /// Whether a token with these formats and indexes can extend the segment.
    fn continues_as(&self, keys: Format, values: Format, first_key: usize, first_position: usize) -> bool {
        let is_alike = matches!(self.keys, StoredKeys::Rows(format) if format == keys) && self.values == values;
        let tokens = self.columns.len();
        is_alike && self.first_key + tokens == first_key && self.first_position + tokens == first_position
    }
}

/// A segment's rows of keys or of values.
fn rows<'a>(starts: &'a [RowStart<'a>], format: Format, dim: usize, ahead: Ahead<'a>) -> Rows<'a> {
    // SAFETY: a segment's rows are in its format, and `push` checked that those of a block have the shape's length.
    unsafe { Rows::new(starts, format.row_bytes(dim), ahead) }
}

/// Contiguous values, as rows of `dim`.
fn in_a_row(values: &[f32], dim: usize) -> RowsInARow<'_> {
    RowsInARow::new(bytemuck::cast_slice(values), size_of::<f32>() * dim)
}

/// Decodes rows in plain Rust into `scratch`, `[rows, dim]`, for formats that no codec decodes in registers.
fn decode_plainly(format: Format, dim: usize, rows: Rows<'_>, scratch: &mut Vec<f32>) {
    scratch.clear();
    for row in rows.slices() {
        let first = scratch.len();
        scratch.resize(first + dim, 0.0);
        format.decode_rows(dim, row, &mut scratch[first..]);
    }
}
