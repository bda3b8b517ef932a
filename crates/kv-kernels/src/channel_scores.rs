//! Queries times groups of keys stored channel by channel (KIVI's keys).
//!
//! The queries are multiplied by the channels' scales first. The codes then only need to be weighted and summed. Each lane
//! is a key, so no sums across lanes are needed.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled, and name rows and vectors alike")]

use std::marker::PhantomData;

use crate::codec::{Channels, Codec, HALF, Nibbles, Q4_1, TwoBits, decode_channels};
use crate::factors::SIXTEEN;
use crate::integer_channel_scores::score_group_codes;
use crate::lanes::{Kernel, Lanes};
use crate::products::{TOGETHER, add_rows};
use crate::queries::Queries;
use crate::rows::{Ahead, RowsInARow};
use crate::{Format, codec};

/// Consecutive groups of keys in one format. A group is the keys that the format encodes together.
pub(crate) struct KeyGroups<'a> {
    pub(crate) format: Format,
    pub(crate) encoded: &'a [u8],
    /// The rows to prefetch, at most one per key.
    pub(crate) ahead: Ahead<'a>,
}

/// `scores[r][j] = queries[r] · keys[j]` for the keys of several groups.
///
/// # Shapes
/// - scores: `[rows, stride]` or more. The first columns are set, one per key. The last row may end with them.
#[inline(always)]
pub(crate) fn score_groups<L: Lanes>(
    lanes: L,
    queries: &Queries,
    keys: &KeyGroups<'_>,
    scores: &mut [f32],
    stride: usize,
    scratch: &mut Vec<f32>,
) {
    let KeyGroups { format, encoded, ahead } = *keys;
    let (dim, tokens) = (queries.dim, format.key_tokens());
    let is_in_registers = L::WIDTH > 1 && tokens == GROUP;
    if is_in_registers
        && dim.is_multiple_of(SIXTEEN)
        && let Some(dots) = lanes.integer_dots()
    {
        match format {
            Format::Kivi2 { .. } => score_group_codes::<_, TwoBits>(dots, queries, encoded, ahead, scores, stride, scratch),
            _ => score_group_codes::<_, Nibbles>(dots, queries, encoded, ahead, scores, stride, scratch),
        }
        return;
    }
    for (index, group) in encoded.chunks_exact(format.row_bytes(tokens * dim)).enumerate() {
        let first = index * tokens;
        ahead.prefetch_all(lanes, first..first + tokens);
        let scores = &mut scores[first..][..(queries.rows() - 1) * stride + tokens];
        if !is_in_registers {
            scratch.resize(dim * tokens, 0.0);
            decode_channels(format, dim, group, scratch);
            let channels = RowsInARow::new(bytemuck::cast_slice(scratch), size_of::<f32>() * tokens);
            scores.chunks_mut(stride).for_each(|row| row[..tokens].fill(0.0));
            add_rows::<L, codec::F32>(lanes, &queries.values, dim, channels, tokens, scores, stride);
            continue;
        }
        match format {
            Format::Kivi2 { .. } => score_codes::<L, TwoBits>(lanes, queries, group, scores, stride, scratch),
            _ => score_codes::<L, Nibbles>(lanes, queries, group, scores, stride, scratch),
        }
    }
}

#[inline(always)]
fn score_codes<L: Lanes, C: Codec>(lanes: L, queries: &Queries, group: &[u8], scores: &mut [f32], stride: usize, scratch: &mut Vec<f32>) {
    let dim = queries.dim;
    let channels = &Channels::of(dim, group);
    channels.check::<C>(dim, GROUP);
    assert!(dim.is_multiple_of(L::WIDTH), "{dim} channels");
    scratch.resize(TOGETHER * dim, 0.0);
    let rows = queries.rows();
    let together = rows.div_ceil(rows.div_ceil(TOGETHER));
    for (queries, scores) in queries.values.chunks(together * dim).zip(scores.chunks_mut(together * stride)) {
        let codec = PhantomData::<C>;
        match queries.len() / dim {
            1 => lanes.run(ScoreChannels::<C, 1> { queries, dim, channels, scores, stride, scaled: scratch, codec }),
            2 => lanes.run(ScoreChannels::<C, 2> { queries, dim, channels, scores, stride, scaled: scratch, codec }),
            3 => lanes.run(ScoreChannels::<C, 3> { queries, dim, channels, scores, stride, scaled: scratch, codec }),
            _ => lanes.run(ScoreChannels::<C, TOGETHER> { queries, dim, channels, scores, stride, scaled: scratch, codec }),
        }
    }
}

/// Keys of a group.
pub(crate) const GROUP: usize = Q4_1::GROUP;

struct ScoreChannels<'a, C, const ROWS: usize> {
    queries: &'a [f32],
    dim: usize,
    channels: &'a Channels<'a>,
    scores: &'a mut [f32],
    stride: usize,
    /// Scratch for `[ROWS, dim]`.
    scaled: &'a mut [f32],
    codec: PhantomData<C>,
}

impl<C: Codec, const ROWS: usize> Kernel for ScoreChannels<'_, C, ROWS> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        /// Vectors of keys that are summed together.
        const VECTORS: usize = 2;
        let offsets = scale_queries::<L, ROWS>(lanes, self.queries, self.channels, self.scaled);
        let codes = self.channels.codes.as_ptr();
        for first in (0..GROUP).step_by(VECTORS * L::WIDTH) {
            let mut sums = [[lanes.splat(0.0); VECTORS]; ROWS];
            for r in 0..ROWS {
                sums[r] = [lanes.splat(offsets[r]); VECTORS];
            }
            for channel in 0..self.dim {
                let row = codes.wrapping_add(channel * C::row_bytes(GROUP));
                let mut keys = [lanes.splat(0.0); VECTORS];
                for v in 0..VECTORS {
                    // SAFETY: `Channels::check` checked that there is one row of codes per channel.
                    keys[v] = unsafe { C::codes(lanes, row, 0, first + v * L::WIDTH) };
                }
                for r in 0..ROWS {
                    // SAFETY: `scale_queries` sliced `ROWS` rows of `dim` values.
                    let weight = lanes.splat(unsafe { *self.scaled.get_unchecked(r * self.dim + channel) });
                    for v in 0..VECTORS {
                        sums[r][v] = lanes.mul_add(weight, keys[v], sums[r][v]);
                    }
                }
            }
            for r in 0..ROWS {
                for v in 0..VECTORS {
                    let scores = &mut self.scores[r * self.stride + first + v * L::WIDTH..][..L::WIDTH];
                    // SAFETY: `WIDTH` values.
                    unsafe { lanes.store(sums[r][v], scores.as_mut_ptr()) };
                }
            }
        }
    }
}

/// Multiplies the queries by the channels' scales into `scaled`. Returns the part of each query's scores that does not depend
/// on the codes.
///
/// # Shapes
/// - queries, scaled: `[ROWS, dim]`, where `dim` is the number of channels that [`Channels::check`] checked, in whole vectors
#[inline(always)]
fn scale_queries<L: Lanes, const ROWS: usize>(lanes: L, queries: &[f32], channels: &Channels<'_>, scaled: &mut [f32]) -> [f32; TOGETHER] {
    let dim = channels.scales.len() / HALF;
    let (queries, scaled) = (&queries[..ROWS * dim], &mut scaled[..ROWS * dim]);
    let mut offsets = [lanes.splat(0.0); TOGETHER];
    let halves = channels.scales.chunks_exact(HALF * L::WIDTH).zip(channels.minima.chunks_exact(HALF * L::WIDTH));
    for (vector, (scales, minima)) in halves.enumerate() {
        // SAFETY: `WIDTH` halves.
        let scales = unsafe { lanes.load_f16(scales.as_ptr()) };
        // SAFETY: `WIDTH` halves.
        let minima = unsafe { lanes.load_f16(minima.as_ptr()) };
        for r in 0..ROWS {
            let at = r * dim + vector * L::WIDTH;
            // SAFETY: `ROWS` times `dim` values were sliced, of which this is a vector.
            let query = unsafe { lanes.load_f32(queries.as_ptr().wrapping_add(at).cast()) };
            offsets[r] = lanes.mul_add(query, minima, offsets[r]);
            // SAFETY: as above.
            unsafe { lanes.store(lanes.mul(query, scales), scaled.as_mut_ptr().wrapping_add(at)) };
        }
    }
    lanes.sums(offsets)
}
